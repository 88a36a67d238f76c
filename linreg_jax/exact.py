"""The exact minimiser of a squared loss."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from linreg_jax._doubled import doubled_products, doubled_sum
from linreg_jax._linalg import (
    centring,
    map_blocks,
    scale_columns,
    target_columns,
    triangular_factor,
)
from linreg_jax._numerics import matmul
from linreg_jax._quadratic import example_share, require_squared, ridge_strength
from linreg_jax._validation import shape_text
from linreg_jax.dataset import Dataset, as_dataset, check_dataset, multiplies_bias
from linreg_jax.losses import Loss, mse
from linreg_jax.model import Params

_BLOCK_ROWS = 1024
_MOST_CORRECTIONS = 5


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
      TypeError: not a loss of this package.
      ValueError: a loss that is not squared, or a lasso penalty.

    Example:
      >>> solve(as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])).params
      Params(weights=Array([5.], dtype=float32), bias=Array(30., dtype=float32))
    """
    require_squared(loss, "solve")
    check_dataset(data)
    return _solve(loss, data, bool(intercept))


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
        if jnp.ndim(values) != 1:
            shape = shape_text(jnp.shape(values))
            raise ValueError(f"{name} has shape {shape}: a line goes through x [n] and y [n]")
    X = jnp.expand_dims(x, 1) if isinstance(x, jax.Array) else [[value] for value in x]
    data = as_dataset(X, y, sample_weight)
    x, y = data.X[:, 0], data.y
    weight = jnp.ones_like(x) if data.sample_weight is None else data.sample_weight
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
    d = data.X.shape[1]
    columns = data._replace(y=target_columns(data.y))
    rows = centring(columns, intercept=intercept)
    R = triangular_factor(columns, intercept=intercept, prepare=rows.centred)
    if not intercept:
        R = jnp.pad(R, ((1, 0), (1, 0)))  # as with a bias that multiplies 0
    # [bias weights] solve   R00 bias + R0 weights = z0,   F weights = z
    R00, R0, z0 = jnp.where(R[0, 0] != 0, R[0, 0], 1), R[0, 1 : d + 1], R[0, d + 1 :]
    F, z = R[1:, 1 : d + 1], R[1:, d + 1 :]
    if F.shape[0] == 0:  # one example, which the bias alone fits
        F, z = jnp.zeros((1, d), R.dtype), jnp.zeros((1, z.shape[1]), R.dtype)
    is_constant = rows.is_constant(F, R00)
    F = jnp.where(is_constant[None, :], 0, F)

    root, strength = jnp.zeros(d, R.dtype), ridge_strength(loss)
    if strength is not None:  # strength Σ w² as d more rows
        per_square = loss.curvature / 2 * example_share(loss, data)
        root = jnp.sqrt(jnp.asarray(strength, R.dtype) / jnp.where(per_square > 0, per_square, 1))
        root = root / rows.unit
        more = jnp.concatenate([jnp.diag(root), jnp.zeros((d, z.shape[1]), R.dtype)], axis=1)
        stacked = jnp.concatenate([jnp.concatenate([F, z], axis=1), more])
        triangle = jnp.linalg.qr(stacked, mode="r")
        F, z = triangle[:d, :d], triangle[:d, d:]

    length, U, s, Vt, rank = scale_columns(F)
    positive = (jnp.arange(s.shape[0]) < rank)[:, None]
    inverse = jnp.where(positive, 1 / jnp.where(positive, s[:, None], 1), 0)

    def from_factor(h0, h):
        """`(weights, bias)` where R times them is [h0; U h]."""
        weights = _shortest(length, Vt, rank, rows.unit, inverse * h)
        return weights, (h0 - matmul(R0, weights)) / R00 - matmul(rows.mean, weights)

    def correct(state):
        """One more (RᵀR)⁻¹ times the gradient, where it is smaller than the last one."""
        weights, bias, last, count, _ = state
        g, g0 = _gradient(columns, rows, weights, bias)
        g0 = g0 if intercept else jnp.zeros_like(g0)
        h0 = g0 / R00
        g = g - jnp.outer(rows.mean, g0) - jnp.outer(R0, h0) - (root * root)[:, None] * weights
        h = inverse * matmul(Vt, g / length[:, None])
        size = jnp.sqrt(h0**2 + jnp.sum(h**2, axis=0))
        better = size < last / 2
        dweights, dbias = from_factor(h0, h)
        weights = weights + jnp.where(better[None, :], dweights, 0)
        bias = bias + jnp.where(better, dbias, 0)
        return weights, bias, jnp.where(better, size, last), count + 1, jnp.any(better)

    h = jnp.where(positive, matmul(U.T, z), 0)
    weights, bias = from_factor(z0, h)
    size = jnp.sqrt(z0**2 + jnp.sum(h**2, axis=0))
    state = (weights, bias + rows.mean_y, size, 0, jnp.array(True))
    weights, bias, *_ = lax.while_loop(
        lambda state: state[-1] & (state[-2] < _MOST_CORRECTIONS), correct, state
    )

    weights = weights / rows.unit[:, None] * rows.unit_y[None, :]
    bias = bias * rows.unit_y
    if data.y.ndim == 1:
        weights, bias = weights[:, 0], bias[0]
    params = Params(weights, bias if intercept else None)
    smallest = jnp.min(jnp.where(positive[:, 0], s, jnp.inf))
    condition_number = jnp.where(rank > 0, s[0] / smallest, 1)
    return Solution(params, loss(params, data), rank, condition_number, s)


def _shortest(length, Vt, rank, unit, values):
    """The shortest weights with Vt[:rank] diag(length) weights = `values`, shortest in X's units.

    Args:
      length: [d] of the columns.
      Vt: [p, d].
      rank: [] how many rows of Vt count.
      unit: [d] what X was divided by: the weights of X are weights / unit.
      values: [p, k], 0 beyond the rank.

    Returns:
      [d, k] weights.
    """
    p, d = Vt.shape
    any_will_do = matmul(Vt.T, values) / length[:, None]
    # With M = diag(length unit) Vt[:rank]ᵀ = Q T, the shortest weights / unit are Q T⁻ᵀ values.
    scale = length * unit
    largest = jnp.max(scale)
    Q, T = jnp.linalg.qr((scale / largest)[:, None] * Vt.T)
    counts = jnp.arange(p) < rank
    T = jnp.where(counts[None, :], T, jnp.eye(p, dtype=T.dtype))
    inside = jax.scipy.linalg.solve_triangular(T, values, trans="T")
    shortest = matmul(Q, jnp.where(counts[:, None], inside, 0)) / largest * unit[:, None]
    return jnp.where(rank == d, any_will_do, shortest)


def _gradient(data, rows, weights, bias):
    """[X b]ᵀ S (y - X weights - b bias), rounded once: `([d, k], [k])`, of the scaled rows.

    The residuals and the sums have twice the digits of the dtype, so that nothing is lost where
    large products cancel, as all of them do at the minimum.
    """

    def of_block(block):
        block = rows.scaled(block)
        A = jnp.concatenate([block.X, multiplies_bias(block)[:, None]], axis=1)  # [B, d + 1]

        def of_target(y, theta):
            products = doubled_products(A, -theta[None, :])  # [5, B, d + 1]
            terms = jnp.concatenate([y[:, None], *products], axis=1)
            r, r_low = doubled_sum(terms, axis=1)
            if block.sample_weight is not None:
                r, r_low = doubled_sum(doubled_products(block.sample_weight, r, r_low), axis=0)
            terms = jnp.concatenate(doubled_products(A, r[:, None], r_low[:, None]))
            return doubled_sum(terms, axis=0)

        theta = jnp.concatenate([weights, bias[None, :]])
        return jax.vmap(of_target, in_axes=1, out_axes=1)(block.y, theta)

    high, low = map_blocks(of_block, data, _BLOCK_ROWS)  # [blocks, d + 1, k] each
    gradient, _ = doubled_sum(high, axis=0, low=low)
    return gradient[:-1], gradient[-1]
