"""A fit without one of its examples, from the factor of all of them.

With q the example's row in the coordinates of the factor, H = Σ s psi' q qᵀ and the ridge,
v = H⁻¹ q and h = s psi' qᵀv its leverage, one step of Newton without the example moves phi by
v s psi / (1 - h)::

    theta - theta without i = -J v s psi / (1 - h)

which is exact for squared losses (Sherman and Morrison), where psi is r and H is the identity.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from linreg_jax._algebra.inverse import params_in_units
from linreg_jax._algebra.quadratic import penalty_curvature
from linreg_jax._inference.at_minimum import AtMinimum
from linreg_jax._inference.fitted import Fitted, coefficients_of, identified, q_rows
from linreg_jax._inference.minimum import slope
from linreg_jax._inference.scores import inverse_hessian
from linreg_jax._inference.sparsity import jumps, kernel_density
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset, bias_multipliers


class Deletion(NamedTuple):
    """What follows when an example is left out.

    Attributes:
      s: [n] weights.
      spare: [] rows that have a weight, but for one.
      r, psi, curvature, leverages: [n, k] predictions less targets, psi, psi' and leverages; where
        psi jumps by the density of residuals, and no leverages.
      step: [n, k, p] v, in the coordinates of q.
      gram: [p, p] Σ s q qᵀ.
      q: [n, p].
      J: [p, p], NaN in rows of coefficients that are not identified.
    """

    s: Array
    spare: Array
    r: Array
    psi: Array
    curvature: Array
    leverages: Array
    step: Array
    gram: Array
    q: Array
    J: Array

    def per_left_out(self) -> Float[Array, "n k"]:
        """[n, k] s psi / (1 - h); NaN where nothing but the example determines a direction."""
        return self.s[:, None] * self.psi / remaining(self.leverages)

    def alike(self, degrees: Array) -> Float[Array, " k"]:
        """The variance of errors that are alike, so that of phi is that times the inverse of gram.

        σ² for squared losses; Huber's for others, as `infer` has it.
        """
        s = self.s[:, None]
        total = jnp.sum(s)
        mean = jnp.sum(s * self.curvature, axis=0) / total
        spread = jnp.sum(s * self.curvature**2, axis=0) / total - mean**2
        n = jnp.sum((s > 0).astype(s.dtype))
        correction = 1 + (n - degrees) / n * spread / mean**2
        squares = jnp.sum(jnp.where(s > 0, s * self.psi**2, 0), axis=0)
        return (correction / mean) ** 2 * squares / degrees

    def coefficients(self, factor: Float[Array, "n k"]) -> Float[Array, "n p k"]:
        """J v times a factor, of each example."""
        moved = matmul(self.step * factor[:, :, None], self.J.T)
        return jnp.swapaxes(moved, 1, 2)


def remaining(leverages: Array) -> Array:
    """1 - h, NaN where rounding is all that is left of it."""
    left = 1 - leverages
    return jnp.where(left > 64 * jnp.finfo(left.dtype).eps, left, jnp.nan)


@functools.partial(jax.jit, static_argnames="intercept")
def deletion(
    loss: Loss, data: Dataset, fit: Fitted, found: AtMinimum | None, *, intercept: bool
) -> tuple[Deletion, Float[Array, "p k"]]:
    """`Deletion` at the minimum, and theta there, NaN where not identified.

    `found` is None for squared losses, whose fit it is.
    """
    s = jnp.ones_like(data.X[:, 0]) if data.sample_weight is None else data.sample_weight
    q = q_rows(fit, data.X, data.bias_column, bias_multipliers(data), intercept=intercept)
    weighted = jnp.where(s[:, None] > 0, s[:, None] * q, 0)
    gram = matmul(weighted.T, jnp.where(s[:, None] > 0, q, 0))
    k, p = fit.residuals.shape[1], q.shape[1]
    if found is None:
        r = -fit.residuals * fit.factored.rows.y.unit[None, :]
        psi, curvature = r, jnp.ones_like(r)
        theta = params_in_units(fit.factored.rows, fit.theta, intercept=intercept)
        inverse = jnp.broadcast_to(jnp.eye(p, dtype=q.dtype), (k, p, p))
    else:
        theta = found.point.theta
        r, psi, curvature = found.r, loss.psi(found.r), slope(loss, found.r)
        if not loss.is_smooth:
            counted = [jnp.where(s[:, None] > 0, a, 0) for a in (r, fit.data.y)]
            for jump in jumps(loss, counted[0], counted[1], s):
                curvature = curvature + jump.size * kernel_density(r, jump)
        at = jnp.where(s[:, None] > 0, s[:, None] * curvature, 0)
        H = jnp.stack([matmul((at[:, j, None] * q).T, q) for j in range(k)])
        inverse = inverse_hessian({"hessian": H}, found.point)
    step = jnp.stack([matmul(q, one) for one in inverse], axis=1)
    along = jnp.sum(step * q[:, None, :], axis=2)
    known = identified(fit.factored, intercept=intercept)
    if penalty_curvature(loss) is not None:
        known = jnp.ones_like(known)
    J = jnp.where(known[:, None], coefficients_of(fit, intercept=intercept), jnp.nan)
    leverages = jnp.where((s[:, None] > 0) & loss.is_smooth, s[:, None] * curvature * along, 0)
    theta = jnp.where(known[:, None], theta, jnp.nan)
    spare = jnp.sum((s > 0).astype(s.dtype)) - 1
    return Deletion(s, spare, r, psi, curvature, leverages, step, gram, q, J), theta
