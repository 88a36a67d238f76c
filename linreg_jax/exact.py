"""The exact minimiser of a squared loss."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from linreg_jax._algebra.least_squares import corrected, factors
from linreg_jax._algebra.linalg import target_columns
from linreg_jax._algebra.quadratic import example_share, require_squared, ridge_strength
from linreg_jax._numerics import placed
from linreg_jax._validation import flag, shape_text
from linreg_jax.dataset import Dataset, as_dataset, check_dataset
from linreg_jax.losses import Loss, mse
from linreg_jax.model import Params


class Solution(NamedTuple):
    """What `solve` found.

    Attributes:
      params: `Params` at the minimum; the shortest weights where there are several minima.
      value: [] the loss there.
      rank: [] of the features, centred on their means where there is an intercept. Less than d: a
        feature is constant or made up of others, or there are too few examples.
      condition_number: [] the largest singular value over the smallest that is not 0.
      singular_values: [min(n, d)] or [d], of the features centred and then scaled to length 1,
        with what ridge adds to them.
    """

    params: Params
    value: Array
    rank: Array
    condition_number: Array
    singular_values: Array


def solve(data: Dataset, loss: Loss = mse, *, intercept: bool = True) -> Solution:
    """The parameters where a squared loss is least, without a step of descent.

    With R the triangular factor of the weighted, centred and scaled rows, U diag(s) Vᵀ its singular
    value decomposition and z the targets' part of it::

        weights = V diag(1/s) Uᵀ z           over the s that are not 0
        weights = weights + (RᵀR)⁻¹ Xᵀ r     with r = y - X weights - bias, until nothing changes

    Nothing squares the condition number, and the corrections take the gradient Xᵀr in twice the
    digits of the dtype, so that its rounding is not what the answer is made of. Where X is
    rank-deficient the shortest weights are taken (the bias does not count), as scikit-learn's
    LinearRegression does. All scalings of the squared error have the same minimum; with ridge the
    loss is minimised as it stands, `sse + ridge(alpha)` being scikit-learn's Ridge(alpha).

    Args:
      data: a `Dataset`; X [n, d], y [n] or [n, k].
      loss: `mse`, `half_mse`, `sse` or `half_sse`, with ridge penalties or none.
      intercept: whether the model has a bias.

    Returns:
      A `Solution`.

    Raises:
      TypeError: not a `Dataset`, not a loss of this package, or an intercept that is no bool.
      ValueError: a loss that is not squared, or a lasso penalty.

    Example:
      >>> solve(as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])).params
      Params(weights=Array([5.], dtype=float32), bias=Array(30., dtype=float32))
    """
    check_dataset(data)
    require_squared(loss, "solve")
    return _solve(placed(loss), data, flag("intercept", intercept))


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
def _line(x, y, weight):
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
def _solve(loss, data, intercept):
    columns = data._replace(y=target_columns(data.y))
    strength = ridge_strength(loss)
    if strength is not None:
        per_square = loss.curvature / 2 * example_share(loss, data)
        strength = jnp.asarray(strength, data.X.dtype) / jnp.where(per_square > 0, per_square, 1)
    factored, h = factors(columns, strength, intercept=intercept)
    theta = corrected(factored, h, columns, intercept=intercept)
    weights = theta[:-1] / factored.rows.unit[:, None] * factored.rows.unit_y[None, :]
    bias = theta[-1] * factored.rows.unit_y
    if data.y.ndim == 1:
        weights, bias = weights[:, 0], bias[0]
    params = Params(weights, bias if intercept else None)
    return Solution(
        params=params,
        value=loss(params, data),
        rank=factored.rank,
        condition_number=factored.condition_number(),
        singular_values=factored.s,
    )
