"""The exact minimiser of a squared loss."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from linreg_jax._algebra.implicit import differentiable_minimum
from linreg_jax._algebra.least_squares import corrected, factors, in_units_of_data
from linreg_jax._algebra.linalg import Centring, target_columns
from linreg_jax._algebra.quadratic import (
    absolute_strength,
    as_squares,
    penalty_curvature,
    require_quadratic,
)
from linreg_jax._arithmetic.blocks import sum_over_blocks
from linreg_jax._arithmetic.centring import power_of_two, without_zero_weight
from linreg_jax._kernels import matmul, placed
from linreg_jax._lasso.implicit import differentiable_lasso
from linreg_jax._lasso.minimum import lasso_minimum
from linreg_jax._loss import Loss, example_share
from linreg_jax._typing import Array, Float
from linreg_jax._validation import flag, shape_text
from linreg_jax.dataset import Dataset, as_dataset, bias_multipliers, check_dataset, mean_divisor
from linreg_jax.losses import mse
from linreg_jax.model import Params


class Solution(NamedTuple):
    """What `solve` found.

    Attributes:
      params: `Params` at the minimum; the shortest weights where there are several minima.
      value: [] the least loss. Where features lie far from 0, `loss(params, data)` may be larger,
        by what rounding takes from weights, bias and predictions.
      rank: [] of the features, centred on their means where there is an intercept. Less than d: a
        feature is constant or made up of others, or there are too few examples.
      condition_number: [] the largest singular value over the smallest that is not 0.
      singular_values: [min(n, d)] or [d], of the features centred and then scaled to length 1,
        with what ridge adds to them.
      gap: [] how far `value` is above a proven lower bound; NaN without a lasso.
      unique: [] whether it is proven that no other weights are as good; of all targets.
      status: [] int32, 0 where the minimum was reached, 1 where the most steps were taken.
      num_iterations: [] int32 steps of a lasso: columns that came in or left; 0 without one.
    """

    params: Params
    value: Array
    rank: Array
    condition_number: Array
    singular_values: Array
    gap: Array
    unique: Array
    status: Array
    num_iterations: Array


def solve(data: Dataset, loss: Loss = mse, *, intercept: bool = True) -> Solution:
    """The parameters where a squared loss is least, without a step of descent.

    With R the triangular factor of the weighted, centred and scaled rows, U diag(s) Vᵀ its singular
    value decomposition and z the targets' part of it::

        weights = V diag(1/s) Uᵀ z           over the s that are not 0
        weights = weights + (RᵀR)⁻¹ Xᵀ r     with r = y - X weights - bias, until nothing changes

    Nothing squares the condition number, and the corrections take the gradient Xᵀr in twice the
    digits of the dtype, so that its rounding is not what the answer is made of. Columns are centred
    exactly before they are rounded, so that a feature far from 0 (a date, a time in seconds) gives
    the slope that its floats hold. Where X is
    rank-deficient the shortest weights are taken (the bias does not count), as scikit-learn's
    LinearRegression does. All scalings of the squared error have the same minimum; with ridge the
    loss is minimised as it stands, `sse + ridge(alpha)` being scikit-learn's Ridge(alpha).

    `params` and `value` have derivatives of any order, forward and in reverse, with respect to X,
    y, the sample weights and the strength of ridge: the equation of the minimum is differentiated,
    which takes one more solve with the same factor. Where X is rank-deficient, those with respect
    to X are NaN (any change of the rank makes the shortest minimum jump); the others are those of
    the shortest one. `rank`, `condition_number` and `singular_values` count as constants.

    With a lasso, columns come in and leave one at a time until no correlation with the residuals is
    larger than it may be. The factor decides which, and then the rows themselves in twice the
    digits, until `gap` is what rounding leaves; n plays no part but in those passes. Where several
    weights are as good, as of equal features, it is one of them and `unique` is False. Derivatives
    are those of the active weights, with respect to the strength of the lasso too.

    Args:
      data: a `Dataset`; X [n, d], y [n] or [n, k].
      loss: `mse`, `half_mse`, `sse` or `half_sse`, with ridge and lasso penalties or none.
      intercept: whether the model has a bias.

    Returns:
      A `Solution`.

    Raises:
      TypeError: not a `Dataset`, not a loss of this package, or an intercept that is no bool.
      ValueError: a loss that is not squared, or a penalty that is neither ridge nor lasso.

    Example:
      >>> solve(as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])).params
      Params(weights=Array([5.], dtype=float32), bias=Array(30., dtype=float32))
    """
    check_dataset(data)
    require_quadratic(loss, "solve", or_absolute=True)
    compiled = _solve if absolute_strength(loss) is None else _solve_lasso
    return compiled(placed(loss), data, flag("intercept", intercept))


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
    return _line(data.X[:, 0], data.y, data.sample_weight)


@jax.jit
def _line(
    x: Float[Array, " n"], y: Float[Array, " n"], weight: Float[Array, " n"] | None
) -> Params:
    weight = jnp.ones_like(x) if weight is None else weight
    # From the heaviest point: what is left of equal x is exactly 0, and little of large ones.
    origin = jnp.argmax(weight)
    from_origin = x - x[origin], y - y[origin]
    total = jnp.sum(weight)
    mean_x, mean_y = (jnp.sum(weight * values) / total for values in from_origin)
    dx, dy = from_origin[0] - mean_x, from_origin[1] - mean_y
    squares = jnp.sum(weight * dx * dx)
    slope = jnp.sum(weight * dx * dy) / jnp.where(squares > 0, squares, 1)
    bias = y[origin] + mean_y - slope * (x[origin] + mean_x)
    return Params(slope[None], bias)


@functools.partial(jax.jit, static_argnums=2)
def _solve(loss: Loss, data: Dataset, intercept: bool) -> Solution:
    columns = data._replace(y=target_columns(data.y))
    per_square = jnp.asarray(loss.curvature_bound, data.X.dtype) / 2 * example_share(loss, data)
    if data.sample_weight is not None:
        # Small weights would take the second words of double-word products below what there is.
        unit = lax.stop_gradient(power_of_two(data.sample_weight)[0])
        columns = columns._replace(sample_weight=data.sample_weight / unit)
        per_square = per_square * unit
    strength = penalty_curvature(loss)
    if strength is not None:
        strength = jnp.asarray(strength, data.X.dtype) / 2
        strength = strength / jnp.where(per_square > 0, per_square, 1)
    fixed, fixed_strength = lax.stop_gradient((columns, strength))
    factored, h = factors(fixed, fixed_strength, intercept=intercept)
    theta, low = corrected(factored, h, fixed, intercept=intercept)
    theta = jnp.where(jnp.isnan(mean_divisor(data)), jnp.nan, theta)
    of_strength = jnp.zeros((), data.X.dtype) if strength is None else strength
    theta = differentiable_minimum(theta, factored, columns, of_strength, intercept)
    params = in_units_of_data(factored.rows, (theta, low), intercept=intercept)
    if data.y.ndim == 1:
        params = jax.tree.map(lambda leaf: leaf[..., 0], params)
    return Solution(
        params=params,
        value=per_square * _squares(columns, factored.rows, theta) + loss.penalty(params),
        rank=factored.rank,
        condition_number=factored.condition_number(),
        singular_values=factored.s,
        gap=jnp.full((), jnp.nan, data.X.dtype),
        unique=factored.rank == data.X.shape[1],
        status=jnp.zeros((), jnp.int32),
        num_iterations=jnp.zeros((), jnp.int32),
    )


@functools.partial(jax.jit, static_argnums=2)
def _solve_lasso(loss: Loss, data: Dataset, intercept: bool) -> Solution:
    squares = as_squares(loss, data)
    fixed = lax.stop_gradient(squares)
    factored, h = factors(fixed.data, fixed.ridge, intercept=intercept)
    found = lasso_minimum(fixed.data, factored, h, fixed.absolute, intercept=intercept)
    theta, low = found.theta
    theta = jnp.where(jnp.isnan(mean_divisor(data)), jnp.nan, theta)
    theta = differentiable_lasso(theta, found.active, factored, squares, intercept)
    params = in_units_of_data(factored.rows, (theta, low), intercept=intercept)
    if data.y.ndim == 1:
        params = jax.tree.map(lambda leaf: leaf[..., 0], params)
    certificate, unit = found.certificate, factored.rows.y.unit
    sum_of_squares = _squares(squares.data, factored.rows, theta)
    return Solution(
        params=params,
        value=squares.share * sum_of_squares + loss.penalty(params),
        rank=factored.rank,
        condition_number=factored.condition_number(),
        singular_values=factored.s,
        gap=2 * fixed.share * jnp.sum(certificate.gap * unit * unit),
        unique=jnp.all(certificate.is_unique),
        status=(~certificate.is_done).astype(jnp.int32),
        num_iterations=certificate.num_steps,
    )


def _squares(data: Dataset, rows: Centring, theta: Array) -> Array:
    """[] Σ sample_weight r² at theta, from residuals about the origin."""

    def squares(block: Dataset) -> Array:
        b = block.bias_column
        r = matmul(rows.X.differences(block.X, b), theta[:-1]) - rows.y.differences(block.y, b)
        r = r + bias_multipliers(block)[:, None] * theta[-1:]
        if block.sample_weight is not None:
            r = without_zero_weight(r, block.sample_weight)
            return jnp.sum(block.sample_weight[:, None] * r * r, axis=0)
        return jnp.sum(r * r, axis=0)

    total = sum_over_blocks(squares, data._replace(total_weight=None))
    return jnp.sum(total * rows.y.unit * rows.y.unit)
