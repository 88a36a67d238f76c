"""The minimum of a loss of parabolas and lines with a lasso."""

import jax
import jax.numpy as jnp
from jax import lax

from linreg_jax._arithmetic.centring import power_of_two
from linreg_jax._loss import Loss
from linreg_jax._minimum.absolute import WeightRows
from linreg_jax._minimum.minimum import Minimum, minimum
from linreg_jax._minimum.problem import Scaled
from linreg_jax._minimum.reduction import reduced
from linreg_jax._minimum.solving import (
    Found,
    map_targets,
    typical_curvature,
    without_derivatives,
)
from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset


def find_sparse(
    loss: Loss,
    data: Dataset,
    strength: Float[Array, ""],
    absolute: Float[Array, ""],
    *,
    intercept: bool,
) -> Found:
    """The `Found` of a loss with a lasso, whose weights that rounding keeps from 0 are 0.

    Args:
      loss: made of parabolas and lines; not squared.
      data: a `Dataset` with y [n, k] and weights that neither over- nor underflow.
      strength: [] of the ridge, in units of Σ sample_weight rho(r) + strength Σ weights².
      absolute: [] of the lasso, in the same units.
      intercept: whether there is a bias.
    """
    fixed_loss, fixed, *strengths = lax.stop_gradient((loss, data, strength, absolute))
    curvature = typical_curvature(fixed_loss, fixed) / 2
    held = strengths[1] > 0
    reduction = reduced(fixed, strengths[0], curvature, intercept=intercept, held=held)
    units, (n, d) = reduction.factored.rows.y.unit, data.X.shape
    weights = WeightRows.of(reduction, strengths[1])
    extended = weights.added_to(reduction.problem)

    def of_target(y: Array, unit: Array, z: Array) -> Minimum:
        problem = extended._replace(y=y, P=unit * extended.P)
        return minimum(problem, Scaled(fixed_loss, unit, d), z)

    found = map_targets(of_target, (extended.y, units, reduction.start))
    z = found.point.z
    are_zero = weights.are_zero(z, found.point.v[:, 0, n:])
    theta = reduction.theta(z)
    theta = theta.at[:-1].set(jnp.where(are_zero.T, 0, theta[:-1]))
    ridges = jax.vmap(reduction.problem.penalty)(z) * units * units
    penalties = ridges + weights.costs(z) * units
    return Found(
        factored=reduction.plain,
        theta=without_derivatives(lax.stop_gradient(theta), (loss, data)),
        u=found.point.u.T[:n],
        costs=jnp.sum(found.point.value * units - penalties),
        gap=jnp.sum(found.point.gap * units),
        scale=jnp.sum(found.at_zero * units) + _rounding(fixed_loss, fixed, reduction.problem.s),
        is_unique=jnp.all(found.is_unique & (held | (reduction.plain.rank == d))),
        num_iterations=jnp.max(found.num_iterations),
    )


def _rounding(loss: Loss, data: Dataset, s: Float[Array, " n"]) -> Float[Array, ""]:
    """[] what the rounding of the targets costs where a fit is exact."""
    size = power_of_two(data.y, data.sample_weight)
    slope = jnp.max(jnp.abs(loss.psi(jnp.stack([-size, size]))), axis=0)
    return jnp.finfo(size.dtype).eps * jnp.sum(s) * jnp.sum(slope * size)
