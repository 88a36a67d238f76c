"""The least value of a loss, and its derivatives.

At a minimum the loss is flat: how the parameters move as data and settings change adds nothing to
the first derivative of the least value (the envelope theorem), only to the higher ones. Where there
are many minima, only the targets move the values of all of them alike.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from linreg_jax._algebra.least_squares import in_units_of_data
from linreg_jax._algebra.linalg import Centring
from linreg_jax._arithmetic.blocks import sum_over_blocks
from linreg_jax._arithmetic.centring import finite_or_weighted
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Bool, Float
from linreg_jax.dataset import Dataset, bias_multipliers

_ROUNDING = 1e-5  # of the steepest slope


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def least_value(
    intercept: bool,
    theta: Float[Array, "d_and_1 k"],
    fixed: tuple[Centring, Float[Array, "n k"], Bool[Array, ""]],
    inputs: tuple[Loss, Dataset, Float[Array, ""]],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`(value, costs)` at a minimum: share costs + the penalties, and Σ sample_weight rho(r).

    Args:
      intercept: whether there is a bias.
      theta: [d + 1, k] the minimum, about the origin; the bias last.
      fixed: how the rows are centred; [n, k] the slope of each residual, one of many on a kink; []
        whether the minimum is the only one. Where it is not, only y has a derivative.
      inputs: the loss; a `Dataset` with y [n, k]; [] the share.
    """
    return _value(intercept, theta, fixed, inputs)


def _value(intercept: bool, theta: Array, fixed: tuple, inputs: tuple) -> tuple[Array, Array]:
    (rows, u, _), (loss, data, share) = fixed, inputs
    params = in_units_of_data(rows, (theta, jnp.zeros_like(theta)), intercept=intercept)
    costs = _costs(loss, data, rows, theta, u)
    return share * costs + loss.penalty(params), lax.stop_gradient(costs)


def _derivative(intercept: bool, primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    theta, fixed, inputs = primals
    is_known = jnp.where(fixed[2], 1, jnp.nan).astype(theta.dtype)

    def instantiated(dot: Any, factor: Array | float = 1.0) -> Any:
        if isinstance(dot, SymbolicZero):
            return jnp.zeros(dot.shape, dot.dtype)
        return dot * factor

    moves = jax.tree.map(
        functools.partial(instantiated, factor=is_known),
        tangents[2],
        is_leaf=lambda dot: isinstance(dot, SymbolicZero),
    )
    of_y = instantiated(tangents[2][1].y)
    moves = moves[0], moves[1]._replace(y=of_y), moves[2]
    of_inputs = functools.partial(_value, intercept, theta, fixed)
    _, moved = jax.jvp(of_inputs, (inputs,), (moves,))
    return least_value(intercept, theta, fixed, inputs), moved


least_value.defjvp(_derivative, symbolic_zeros=True)


def _costs(
    loss: Loss,
    data: Dataset,
    rows: Centring,
    theta: Float[Array, "d_and_1 k"],
    u: Float[Array, "n k"],
) -> Float[Array, ""]:
    """[] Σ sample_weight rho(r) at theta, from residuals about the origin.

    With kinks, its derivative with respect to a residual is u, on one too, where the residual moves
    with the kink as the settings change.
    """

    def of_block(rows_of_block: tuple[Dataset, Array]) -> Array:
        block, u = rows_of_block
        b = block.bias_column
        r = matmul(rows.X.differences(block.X, b), theta[:-1]) - rows.y.differences(block.y, b)
        r = (r + bias_multipliers(block)[:, None] * theta[-1:]) * rows.y.unit[None, :]
        if block.sample_weight is not None:
            r = finite_or_weighted(r, block.sample_weight)
        if loss.curvature_bound is None:
            costs = _with_slopes(loss, r, u, block.sample_weight)
        else:
            costs = loss.rho(r)
        if block.sample_weight is not None:
            costs = finite_or_weighted(costs, block.sample_weight)
            costs = block.sample_weight[:, None] * costs
        return jnp.sum(costs, axis=0)

    return jnp.sum(sum_over_blocks(of_block, (data._replace(total_weight=None), u)))


def _with_slopes(
    loss: Loss,
    r: Float[Array, "n k"],
    u: Float[Array, "n k"],
    sample_weight: Float[Array, " n"] | None,
) -> Float[Array, "n k"]:
    """rho(r), whose derivative with respect to a residual is u.

    One whose slope is none that psi has beside it stays on its kink, wherever the kink moves.
    """
    fixed = lax.stop_gradient(r)
    psi = loss.psi(fixed)
    is_on = jnp.abs(u - psi) > _ROUNDING * jnp.max(jnp.abs(psi))
    if sample_weight is not None:  # the slopes of the others are not known
        is_on = is_on & (sample_weight > 0)[:, None]
    origin = jnp.where(is_on, _nearest_kink(loss, fixed), fixed)
    straight = loss.rho(origin) + u * (r - origin)
    return lax.stop_gradient(loss.rho(r)) + (straight - lax.stop_gradient(straight))


def _nearest_kink(loss: Loss, r: Float[Array, "n k"]) -> Float[Array, "n k"]:
    kinks = [jnp.asarray(kink, r.dtype) * jnp.ones_like(r) for kink in loss.kinks]
    return functools.reduce(
        lambda one, other: jnp.where(jnp.abs(r - other) < jnp.abs(r - one), other, one), kinks
    )
