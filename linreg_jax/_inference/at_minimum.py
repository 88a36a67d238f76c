"""Where a loss is least: parameters in the units of the data and of the factor, and residuals."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from linreg_jax._algebra.inverse import params_in_units
from linreg_jax._arithmetic.blocks import sum_over_blocks
from linreg_jax._arithmetic.double_word import add_pairs
from linreg_jax._inference.fitted import Fitted, q_rows, weights_and_q
from linreg_jax._inference.minimum import Ridge, newton, ridge_of
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset, bias_multipliers
from linreg_jax.model import Params, residuals

_ON_A_KINK = 64  # roundings of a target: residuals so small lie on the kink


class Point(NamedTuple):
    """Parameters.

    Attributes:
      theta: [p, k] with the bias first.
      h: [p, k] R theta, but for the bias's part of the mean.
      ridge: penalties about there.
      on: [p] which coordinates of q there are.
    """

    theta: Array
    h: Array
    ridge: Ridge
    on: Array


class AtMinimum(NamedTuple):
    """Residuals at the parameters, and the parameters.

    Attributes:
      r: [n, k] predictions less targets, in units of the data.
      point: where.
      density: [n, k] of the residuals where psi jumps; None: by a kernel.
    """

    r: Array
    point: Point
    density: Array | None = None


@functools.partial(jax.jit, static_argnames="intercept")
def least_squares_point(loss: Loss, data: Dataset, fit: Fitted, *, intercept: bool) -> Point:
    """Where least squares without penalties is least; the data may be compressed."""
    squares = sum_over_blocks(lambda part: _squares(fit, part[0], intercept), fit.rows)
    theta = params_in_units(fit.factored.rows, fit.theta, intercept=intercept)
    h = fit.h * jnp.sqrt(fit.weight_unit) * fit.factored.rows.y.unit[None, :]
    ridge = ridge_of(loss, data, fit, theta[int(intercept) :])
    return Point(theta, h, ridge, squares > 0.5)


@functools.partial(jax.jit, static_argnames="intercept")
def moved_by(fit: Fitted, start: Point, phi: Float[Array, "p k"], *, intercept: bool) -> Point:
    """The `Point` where predictions have changed by q phi since least squares."""
    rows = fit.factored.rows
    step = fit.factored.back(phi / jnp.sqrt(fit.weight_unit)) / rows.y.unit[None, :]
    theta = add_pairs(fit.theta, (step, jnp.zeros_like(step)))
    ridge = start.ridge._replace(weights=start.ridge.weights + matmul(start.ridge.B, phi))
    return Point(params_in_units(rows, theta, intercept=intercept), start.h + phi, ridge, start.on)


@functools.partial(jax.jit, static_argnames="intercept")
def at_minimum(
    loss: Loss, data: Dataset, fit: Fitted, params: Params | None, *, intercept: bool
) -> AtMinimum:
    """`AtMinimum` of params, or where a smooth loss is least.

    Args:
      loss: any.
      data: a `Dataset`.
      fit: least squares of it, without penalties.
      params: where the loss is least, or None.
      intercept: whether there is a bias.
    """
    start = least_squares_point(loss, data, fit, intercept=intercept)
    r0 = -fit.residuals * fit.factored.rows.y.unit[None, :]
    if params is None:
        phi = newton(loss, fit, r0, start.ridge, start.on, intercept=intercept)
        point = moved_by(fit, start, phi, intercept=intercept)
        # Of zero-weight rows too, so not by what is summed.
        b, multiplier = data.bias_column, bias_multipliers(data)
        r = r0 + matmul(q_rows(fit, data.X, b, multiplier, intercept=intercept), phi)
    else:
        r = residuals(params, data).reshape(fit.residuals.shape)
        weights = params.weights.reshape(-1, r.shape[1])
        bias = [] if params.bias is None else [jnp.reshape(params.bias, (1, -1))]
        s, q = weights_and_q(fit, fit.data, intercept=intercept)
        phi = matmul(q.T, s[:, None] * jnp.where(s[:, None] > 0, r - r0, 0))
        point = start._replace(
            theta=jnp.concatenate([*bias, weights]),
            h=start.h + phi,
            ridge=ridge_of(loss, data, fit, weights),
        )
    return AtMinimum(on_kinks(loss, r, fit.data.y), point)


def on_kinks(loss: Loss, r: Float[Array, "n k"], y: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """Residuals, put on a kink where no more than rounding lies between."""
    for kink in loss.kinks:
        at, size = jnp.asarray(kink, r.dtype), jnp.abs(y) + jnp.abs(r)
        r = jnp.where(jnp.abs(r - at) <= _ON_A_KINK * jnp.finfo(r.dtype).eps * size, at, r)
    return r


def _squares(fit: Fitted, block: Dataset, intercept: bool) -> Array:
    s, q = weights_and_q(fit, block, intercept=intercept)
    return jnp.sum(s[:, None] * q * q, axis=0)
