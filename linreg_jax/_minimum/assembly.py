"""From what was found of a minimum to a `Solution`."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from linreg_jax._algebra.least_squares import in_units_of_data
from linreg_jax._algebra.linalg import Centring
from linreg_jax._arithmetic.double_word import Pair
from linreg_jax._host import held, namespace_of
from linreg_jax._loss import Loss
from linreg_jax._minimum.envelope import least_value
from linreg_jax._minimum.result import Solution, SolutionStatus
from linreg_jax._minimum.solving import Found
from linreg_jax._typing import AnyArray, Array
from linreg_jax.dataset import Dataset
from linreg_jax.model import Params


@functools.partial(jax.jit, static_argnums=5)
def as_solution(
    loss: Loss, data: Dataset, columns: Dataset, share: Array, found: Found, intercept: bool
) -> Solution:
    """The `Solution` that was found of columns whose costs count by share."""
    divisor = loss.divisor(data)
    theta = jnp.where(jnp.isnan(divisor), jnp.nan, found.theta)
    params = params_of(found.factored.rows, (theta, jnp.zeros_like(theta)), data, intercept)
    fixed = found.factored.rows, found.u, found.is_unique
    value, costs = least_value(intercept, found.theta, fixed, (loss, columns, share))
    fixed_share = lax.stop_gradient(share)
    # What rounding of the parameters costs is a part of the gap.
    gap = found.gap + jnp.maximum(lax.stop_gradient(costs) - found.costs, 0)
    gap = lax.stop_gradient(fixed_share * gap)
    status = status_of(value, gap, fixed_share * found.scale)
    is_known = status != SolutionStatus.NOT_FINITE
    params = jax.tree.map(lambda leaf: jnp.where(is_known, leaf, jnp.nan), params)
    return Solution(
        params=params,
        value=jnp.where(is_known, value, jnp.nan),
        gap=jnp.where(is_known, gap, jnp.inf),
        unique=found.is_unique & is_known,
        status=status,
        num_iterations=found.num_iterations,
        rank=found.factored.rank,
        condition_number=found.factored.condition_number(),
        singular_values=found.factored.s,
    )


def status_of(value: AnyArray, gap: AnyArray, scale: AnyArray) -> AnyArray:
    """[] int32, a `SolutionStatus`; `scale` is the loss of a poor model."""
    eps, xp = jnp.finfo(value.dtype).eps, namespace_of(value)
    relative = 1e-12 if eps < 1e-9 else 1e-5
    is_small = gap <= xp.maximum(relative * xp.abs(value), 100 * eps * scale)
    status = xp.where(is_small, SolutionStatus.CONVERGED, SolutionStatus.NOT_CONVERGED)
    status = xp.where(xp.isfinite(value), status, SolutionStatus.NOT_FINITE)
    return held(status.astype(xp.int32))


def params_of(rows: Centring, theta: Pair, data: Dataset, intercept: bool) -> Params:
    """The parameters from the double words about the origin, of as many targets as the data."""
    params = in_units_of_data(rows, theta, intercept=intercept)
    if data.y.ndim == 1:
        params = jax.tree.map(lambda leaf: leaf[..., 0], params)
    return params
