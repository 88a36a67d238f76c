"""The minimum of a loss that is not squared, for all targets, with what is proven of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from linreg_jax._algebra.least_squares import Factors
from linreg_jax._algebra.settled import weighted_gram
from linreg_jax._arithmetic.centring import power_of_two
from linreg_jax._loss import Loss
from linreg_jax._minimum.implicit import differentiable_smooth
from linreg_jax._minimum.minimum import Minimum, minimum
from linreg_jax._minimum.problem import Scaled
from linreg_jax._minimum.reduction import Reduction, reduced
from linreg_jax._typing import Array, Bool, Float, Int
from linreg_jax.dataset import Dataset

_FAR = 64.0  # in sizes of the targets


class Found(NamedTuple):
    """The minima of k targets.

    Attributes:
      factored: `Factors` of the data, with ridge as it would be beside a squared loss.
      theta: [d + 1, k] parameters about the origin, the bias last; those of a smooth loss have
        derivatives with respect to loss, data and strength, those of others are NaN.
      u: [n, k] the slope of each residual.
      costs: [] Σ sample_weight rho(r), where theta had not been rounded yet.
      gap: [] how much larger than the least loss its value can be, in units of the costs.
      scale: [] the costs of the best constant, nearly.
      is_unique: [] whether no other parameters are as good.
      num_iterations: [] of the target that took most.
    """

    factored: Factors
    theta: Float[Array, "d_and_1 k"]
    u: Float[Array, "n k"]
    costs: Float[Array, ""]
    gap: Float[Array, ""]
    scale: Float[Array, ""]
    is_unique: Bool[Array, ""]
    num_iterations: Int[Array, ""]


def find(
    loss: Loss,
    data: Dataset,
    strength: Float[Array, ""],
    *,
    intercept: bool,
    only_newton: bool = False,
) -> Found:
    """The `Found` of a convex loss.

    Args:
      loss: not squared; smooth, or made of parabolas and lines.
      data: a `Dataset` with y [n, k] and weights that neither over- nor underflow.
      strength: [] of the ridge, in units of Σ sample_weight rho(r) + strength Σ weights².
      intercept: whether there is a bias.
      only_newton: whether a smooth loss is given up where Newton's steps do not end in a minimum.
    """
    fixed_loss, fixed, fixed_strength = lax.stop_gradient((loss, data, strength))
    curvature = typical_curvature(fixed_loss, fixed) / 2
    reduction = reduced(fixed, fixed_strength, curvature, intercept=intercept)
    units = reduction.factored.rows.y.unit

    def of_target(y: Array, unit: Array, z: Array) -> Minimum:
        problem = reduction.problem._replace(y=y, P=unit * reduction.problem.P)
        return minimum(problem, Scaled(fixed_loss, unit), z, only_newton=only_newton)

    found = map_targets(of_target, (reduction.problem.y, units, reduction.start))
    factored = reduction.factored
    is_unique = found.is_unique & (factored.rank == data.X.shape[1])
    theta, u = lax.stop_gradient((reduction.theta(found.point.z), found.point.u.T))
    if loss.curvature_bound is not None:
        H = lax.stop_gradient(_hessians(reduction, fixed_loss, found.point.z))
        theta = differentiable_smooth(
            theta, H, is_unique, factored, loss, data, strength, intercept
        )
    else:
        theta = without_derivatives(theta, (loss, data))
    pulls = jax.vmap(reduction.problem.penalty)(found.point.z) * units * units
    return Found(
        factored=factored,
        theta=theta,
        u=u,
        costs=jnp.sum(found.point.value * units - pulls),
        gap=jnp.sum(found.point.gap * units),
        scale=jnp.sum(found.at_zero * units),
        is_unique=jnp.all(is_unique),
        num_iterations=jnp.max(found.num_iterations),
    )


def _hessians(reduction: Reduction, loss: Loss, z: Float[Array, "k p"]) -> Float[Array, "k p p"]:
    """[k, p, p] of a smooth loss at z."""
    problem = reduction.problem

    def of_target(y: Array, unit: Array, z: Array) -> Array:
        r = problem._replace(y=y).residuals(z)
        _, h = Scaled(loss, unit).slope_and_curvature(r)
        held = weighted_gram(problem.Q, problem.s * h) + unit * problem.P
        return held + jnp.diag(problem.is_free.astype(z.dtype))

    return jax.vmap(of_target)(problem.y, reduction.factored.rows.y.unit, z)


def map_targets(function: Callable[..., Minimum], of_targets: tuple[Array, ...]) -> Minimum:
    """The function of each target; of one without `vmap`, with which it compiles longer."""
    if of_targets[0].shape[0] > 1:
        return jax.vmap(function)(*of_targets)
    return jax.tree.map(lambda leaf: leaf[None], function(*(a[0] for a in of_targets)))


def typical_curvature(loss: Loss, data: Dataset) -> Float[Array, ""]:
    """[] the largest one of a smooth loss, else what psi rises by over the size of the targets."""
    if loss.curvature_bound is not None:
        curvature = jnp.asarray(loss.curvature_bound, data.X.dtype)
    else:
        size = jnp.max(power_of_two(data.y, data.sample_weight))
        low, high = loss.psi(jnp.stack([-_FAR * size, _FAR * size]))
        curvature = (high - low) / size
    return jnp.where(curvature > 0, curvature, 1)


@jax.custom_jvp
def without_derivatives(theta: Array, inputs: Any) -> Array:
    """The parameters, whose derivatives with respect to the inputs are NaN: they are not known."""
    return theta


@without_derivatives.defjvp
def _nan_derivatives(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """NaN times the inputs' tangents: linear, so that it can be transposed."""
    theta, _ = primals
    known = [t for t in jax.tree.leaves(tangents[1]) if jnp.issubdtype(t.dtype, jnp.floating)]
    nan = jnp.nan * sum(jnp.sum(t) for t in known)
    return theta, jnp.broadcast_to(nan, theta.shape).astype(theta.dtype)
