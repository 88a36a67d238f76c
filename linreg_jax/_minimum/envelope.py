"""The least value of a loss, and its derivatives.

At a minimum the loss is flat: what the parameters do as data and settings change adds nothing to
the first derivative of the least value, whether they move smoothly, jump, or are one choice of many
(the envelope theorem). Higher derivatives have it.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from linreg_jax._algebra.least_squares import in_units_of_data
from linreg_jax._algebra.linalg import Centring
from linreg_jax._arithmetic.blocks import sum_over_blocks
from linreg_jax._arithmetic.centring import without_zero_weight
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset, bias_multipliers


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def parts_of_value(
    intercept: bool,
    theta: Float[Array, "d_and_1 k"],
    fixed: tuple[Centring, Float[Array, "n k"]],
    inputs: tuple[Loss, Dataset],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`(Σ sample_weight rho(r), the penalties)` at a minimum; their sum is what is flat there.

    Args:
      intercept: whether there is a bias.
      theta: [d + 1, k] the minimum, about the origin; the bias last.
      fixed: how the rows are centred; [n, k] the slope of each residual, one of many on a kink.
      inputs: the loss, and a `Dataset` with y [n, k].
    """
    return _parts(intercept, theta, fixed, inputs)


def _parts(intercept: bool, theta: Array, fixed: tuple, inputs: tuple) -> tuple:
    (rows, u), (loss, data) = fixed, inputs
    params = in_units_of_data(rows, (theta, jnp.zeros_like(theta)), intercept=intercept)
    penalty = jnp.asarray(loss.penalty(params), theta.dtype)
    return _costs(loss, data, rows, theta, u), penalty


@parts_of_value.defjvp
def _derivative(intercept: bool, primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    theta, fixed, inputs = primals
    of_inputs = functools.partial(_parts, intercept, theta, fixed)
    _, moved = jax.jvp(of_inputs, (inputs,), (tangents[2],))
    return parts_of_value(intercept, theta, fixed, inputs), moved


def _costs(
    loss: Loss,
    data: Dataset,
    rows: Centring,
    theta: Float[Array, "d_and_1 k"],
    u: Float[Array, "n k"],
) -> Float[Array, ""]:
    """[] Σ sample_weight rho(r) at theta, from residuals about the origin.

    With kinks, its derivative with respect to a residual is u, on one too.
    """

    def of_block(rows_of_block: tuple[Dataset, Array]) -> Array:
        block, u = rows_of_block
        b = block.bias_column
        r = matmul(rows.X.differences(block.X, b), theta[:-1]) - rows.y.differences(block.y, b)
        r = (r + bias_multipliers(block)[:, None] * theta[-1:]) * rows.y.unit[None, :]
        if block.sample_weight is not None:
            r = without_zero_weight(r, block.sample_weight)
        if loss.curvature_bound is None:
            fixed = lax.stop_gradient(r)
            costs = loss.rho(fixed) + u * (r - fixed)
        else:
            costs = loss.rho(r)
        if block.sample_weight is not None:
            costs = block.sample_weight[:, None] * costs
        return jnp.sum(costs, axis=0)

    return jnp.sum(sum_over_blocks(of_block, (data._replace(total_weight=None), u)))
