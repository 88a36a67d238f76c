"""The exact minimiser of a loss, with a bound on what is missing."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from linreg_jax._algebra.implicit import differentiable_minimum
from linreg_jax._algebra.least_squares import corrected, factors
from linreg_jax._algebra.quadratic import absolute_strength, as_squares, as_sums
from linreg_jax._host import computed, held, is_on_host, namespace_of
from linreg_jax._kernels import placed
from linreg_jax._lasso.implicit import differentiable_lasso
from linreg_jax._lasso.minimum import lasso_minimum
from linreg_jax._loss import Loss, example_share, example_weights
from linreg_jax._minimum.assembly import as_solution, params_of, status_of
from linreg_jax._minimum.many_rows import find_among_many, has_many_rows
from linreg_jax._minimum.requirements import require_solvable
from linreg_jax._minimum.result import Solution, SolutionStatus
from linreg_jax._minimum.solving import find
from linreg_jax._minimum.sparse import find_sparse
from linreg_jax._minimum.squared import squares_at
from linreg_jax._typing import Array
from linreg_jax._validation import flag, is_traced, shape_text
from linreg_jax.dataset import Dataset, as_dataset, check_dataset, mean_divisor
from linreg_jax.losses import mse
from linreg_jax.model import Params


def solve(data: Dataset, loss: Loss = mse, *, intercept: bool = True) -> Solution:
    """The parameters where a convex loss is least, without a step of descent.

    A squared loss is least squares. With R the triangular factor of the weighted, centred and
    scaled rows, U diag(s) Vᵀ its singular value decomposition and z the targets' part of it::

        weights = V diag(1/s) Uᵀ z           over the s that are not 0
        weights = weights + (RᵀR)⁻¹ Xᵀ r     with r = y - X weights - bias, until nothing changes

    Nothing squares the condition number, and the corrections take the gradient Xᵀr in twice the
    digits of the dtype, so that its rounding is not what the answer is made of. Columns are centred
    exactly before they are rounded, so that a feature far from 0 (a date, a time in seconds) gives
    the slope that its floats hold. Where X is
    rank-deficient the shortest weights are taken (the bias does not count), as scikit-learn's
    LinearRegression does. All scalings of the squared error have the same minimum; with ridge the
    loss is minimised as it stands, `sse + ridge(alpha)` being scikit-learn's Ridge(alpha).

    With a lasso, columns come in and leave one at a time until no correlation with the residuals is
    larger than it may be. The factor decides which, and then the rows themselves in twice the
    digits, until `gap` is what rounding leaves; n plays no part but in those passes.

    A smooth loss (`huber`, `log_cosh`, one of your own that is convex and states its
    curvature_bound) takes Newton's steps, and one with kinks (`mae`, `quantile`,
    `epsilon_insensitive`, one of your own that is made of parabolas and lines) those of an interior
    point, a dozen or two weighted least-squares problems in the coordinates R theta. A lasso beside
    one made of parabolas and lines (`huber` too) is d rows more, whose residuals are the weights;
    those that end on their kink are 0.

    `gap` is half of gradientᵀ H⁻¹ gradient for a squared loss, and the duality gap with a lasso.
    For the other losses it is the duality gap of the rows' slopes, plus what is left of the
    gradient times twice the length of the residuals: a bound for every minimum within that
    distance. It is computed in the dtype of the data, and so is only as good as its rounding.

    For squared losses `params` and `value` have derivatives of any order, forward and in reverse,
    with respect to X, y, the sample weights and the strength of ridge: the equation of the minimum
    is differentiated, which takes one more solve with the same factor. Where X is rank-deficient,
    those with respect to X are NaN (any change of the rank makes the shortest minimum jump); the
    others are those of the shortest one. With a lasso derivatives are those of the active weights,
    with respect to its strength too. For smooth losses they are with respect to the settings of the
    loss too, of as high an order as the loss has them. For losses with kinks `value` has first
    derivatives; those of `params`, and second ones, are NaN. Where a loss that is not squared has
    several minima, all are NaN but those of `value` with respect to y. With a lasso the derivatives
    of `params` are NaN where the loss is not squared. Whatever else is in a
    `Solution` counts as a constant.

    Outside of `jit` on a CPU, a squared loss of at most 8,192 numbers n (d + 1) k is minimised by
    NumPy, by the same lines: it takes milliseconds, and a program a second to compile. In a loop
    over many data sets of one shape, `jax.jit(solve)` is five to ten times as fast, once compiled.

    Args:
      data: a `Dataset`; X [n, d], y [n] or [n, k].
      loss: any convex loss, with ridge penalties or none; a squared one, and one made of parabolas
        and lines, with a lasso too.
      intercept: whether the model has a bias.

    Returns:
      A `Solution`.

    Raises:
      TypeError: not a `Dataset`, not a loss of this package, or an intercept that is no bool.
      ValueError: a loss that is not known to be convex, or neither smooth nor made of parabolas and
        lines; a penalty that is neither ridge nor lasso, or a lasso of another smooth loss, such as
        `log_cosh`; compressed data and a loss that is not squared.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> solve(data).params
      Params(weights=Array([5.], dtype=float32), bias=Array(30., dtype=float32))
      >>> ages = as_dataset([[0.0], [0.0], [0.0]], [1.0, 2.0, 90.0])
      >>> found = solve(ages, mae)
      >>> f"{found.params.bias:.4f}", SolutionStatus(int(found.status)).name, bool(found.unique)
      ('2.0000', 'CONVERGED', False)
    """
    check_dataset(data)
    require_solvable(loss, "solve")
    loss, intercept = placed(loss), flag("intercept", intercept)
    if not loss.is_quadratic:
        return _solve_without_squares(loss, data, intercept)
    if absolute_strength(loss) is not None:
        return _solve_lasso(loss, data, intercept)
    size = data.X.shape[0] * (data.X.shape[1] + 1) * math.prod(data.y.shape[1:])
    return computed(_solve_squares, loss, data, intercept, size=size, static_argnums=(2,))


def solve_line(x: Any, y: Any, sample_weight: Any = None) -> Params:
    """The line through points, from means: the closed form with one feature.

    With means over the examples (weighted, where there are weights)::

        slope     = Σ (x - mean x) (y - mean y) / Σ (x - mean x)²
        intercept = mean y - slope mean x

    Where all x are equal every slope fits as well, and the shortest is 0.

    Args:
      x: [n] the feature.
      y: [n] the targets.
      sample_weight: [n] weights, or None: 1 each.

    Returns:
      `Params` with the slope as weights [1] and the intercept as bias [].

    Raises:
      TypeError, ValueError: as `as_dataset` says, and x or y that is not [n].

    Example:
      >>> solve_line([0.0, 2.0, 4.0], [30.0, 40.0, 50.0])
      Params(weights=Array([5.], dtype=float32), bias=Array(30., dtype=float32))
    """
    for name, values in [("x", x), ("y", y)]:
        if np.ndim(values) != 1:
            shape = shape_text(np.shape(values))
            raise ValueError(f"{name} has shape {shape}: a line goes through x [n] and y [n]")
    as_column = jnp.expand_dims if isinstance(x, jax.Array) else np.expand_dims
    data = as_dataset(as_column(x, 1), y, sample_weight)
    return computed(_line_through, data, size=data.X.size)


def _line_through(data: Dataset) -> Params:
    x, y, weight, xp = data.X[:, 0], data.y, data.sample_weight, namespace_of(data.X)
    weight = xp.ones_like(x) if weight is None else weight
    # From the heaviest point: what is left of equal x is exactly 0, and little of large ones.
    origin = xp.argmax(weight)
    from_origin = x - x[origin], y - y[origin]
    total = xp.sum(weight)
    mean_x, mean_y = (xp.sum(weight * values) / total for values in from_origin)
    dx, dy = from_origin[0] - mean_x, from_origin[1] - mean_y
    squares = xp.sum(weight * dx * dx)
    slope = xp.sum(weight * dx * dy) / xp.where(squares > 0, squares, 1)
    bias = y[origin] + mean_y - slope * (x[origin] + mean_x)
    return Params(slope[None], bias)


def _solve_squares(loss: Loss, data: Dataset, intercept: bool) -> Solution:
    xp = namespace_of(data.X)
    columns, per_square, strength, _ = as_squares(loss, data)
    fixed, fixed_strength = held((columns, strength))
    factored, h = factors(fixed, fixed_strength, intercept=intercept)
    (theta, low), left = corrected(factored, h, fixed, intercept=intercept)
    theta = xp.where(xp.isnan(mean_divisor(data)), xp.nan, theta)
    if not is_on_host(theta):
        of_strength = jnp.zeros((), data.X.dtype) if strength is None else strength
        theta = differentiable_minimum(theta, factored, columns, of_strength, intercept)
    params = params_of(factored.rows, (theta, low), data, intercept)
    squares = squares_at(columns, factored.rows, theta)
    unit = factored.rows.y.unit
    # The loss is quadratic: above its least value by half of gradient H⁻¹ gradient.
    gap = held(per_square * xp.sum(left * left * unit * unit))
    # Of an exact fit this is left, squares of roundings of what the parameters explain.
    explained = xp.sum(xp.sum(h * h, axis=0) * unit * unit)
    rounding = jnp.finfo(h.dtype).eps * per_square * explained
    value = per_square * squares + loss.penalty(params)
    return Solution(
        params=params,
        value=value,
        gap=gap,
        unique=factored.rank == data.X.shape[1],
        status=status_of(value, gap, held(rounding)),
        num_iterations=xp.zeros((), xp.int32),
        rank=factored.rank,
        condition_number=factored.condition_number(),
        singular_values=factored.s,
    )


def _solve_without_squares(loss: Loss, data: Dataset, intercept: bool) -> Solution:
    """By Newton's steps alone, if they are enough, as they nearly always are for a smooth loss.

    What comes after them otherwise is a program twice as large, which most never have to compile.
    While the call is traced nobody knows yet, so that the program holds all. Of many rows of a loss
    of lines, by those next to a kink.
    """
    is_known = not any(is_traced(leaf) for leaf in jax.tree.leaves((loss, data)))
    if is_known and absolute_strength(loss) is None and has_many_rows(loss, data):
        found_so = _solve_among_many(loss, data, intercept)
        if found_so is not None:
            return found_so
    if is_known and loss.curvature_bound is not None and absolute_strength(loss) is None:
        found = _solve_convex(loss, data, intercept, True)
        if int(found.status) != SolutionStatus.NOT_CONVERGED:
            return found
    return _solve_convex(loss, data, intercept, False)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _solve_convex(loss: Loss, data: Dataset, intercept: bool, only_newton: bool) -> Solution:
    example_weights(loss, data)  # raises where several settings were not mapped over
    columns, share, strength, absolute = as_sums(loss, data, example_share(loss, data))
    of_strength = jnp.zeros((), data.X.dtype) if strength is None else strength
    if absolute_strength(loss) is None:
        found = find(loss, columns, of_strength, intercept=intercept, only_newton=only_newton)
    else:
        found = find_sparse(loss, columns, of_strength, absolute, intercept=intercept)
    return as_solution(loss, data, columns, share, found, intercept)


def _solve_among_many(loss: Loss, data: Dataset, intercept: bool) -> Solution | None:
    """By the rows next to a kink, in several programs; None where that led to no minimum."""
    columns, share, strength = _as_columns(loss, data)
    found = find_among_many(loss, columns, strength, intercept=intercept)
    if found is None:
        return None
    solution = as_solution(loss, data, columns, share, found, intercept)
    return solution if int(solution.status) == SolutionStatus.CONVERGED else None


@jax.jit
def _as_columns(loss: Loss, data: Dataset) -> tuple[Dataset, Array, Array]:
    example_weights(loss, data)  # raises where several settings were not mapped over
    columns, share, strength, _ = as_sums(loss, data, example_share(loss, data))
    return columns, share, jnp.zeros((), data.X.dtype) if strength is None else strength


@functools.partial(jax.jit, static_argnums=2)
def _solve_lasso(loss: Loss, data: Dataset, intercept: bool) -> Solution:
    squares = as_squares(loss, data)
    fixed = lax.stop_gradient(squares)
    factored, h = factors(fixed.data, fixed.ridge, intercept=intercept)
    found = lasso_minimum(fixed.data, factored, h, fixed.absolute, intercept=intercept)
    theta, low = found.theta
    theta = jnp.where(jnp.isnan(mean_divisor(data)), jnp.nan, theta)
    theta = differentiable_lasso(theta, found.active, factored, squares, intercept)
    params = params_of(factored.rows, (theta, low), data, intercept)
    certificate, unit = found.certificate, factored.rows.y.unit
    value = squares.share * squares_at(squares.data, factored.rows, theta) + loss.penalty(params)
    status = jnp.where(certificate.is_done, SolutionStatus.CONVERGED, SolutionStatus.NOT_CONVERGED)
    status = jnp.where(jnp.isfinite(value), status, SolutionStatus.NOT_FINITE)
    return Solution(
        params=params,
        value=value,
        gap=2 * fixed.share * jnp.sum(certificate.gap * unit * unit),
        unique=jnp.all(certificate.is_unique),
        status=status.astype(jnp.int32),
        num_iterations=certificate.num_steps,
        rank=factored.rank,
        condition_number=factored.condition_number(),
        singular_values=factored.s,
    )
