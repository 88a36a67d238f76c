"""The loss of one target in coordinates where least squares would be trivial.

With R the triangular factor of the weighted, centred rows A and z = R theta::

    r = Qᵀz - y        Q S Qᵀ = I, whatever the units and correlations of the features
    loss / factor = Σ s rho(r) + zᵀPz / 2 + c z + constant

Where X is rank-deficient the rows of Q that nothing determines are 0, and so is z there.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Bool, Float


class Problem(NamedTuple):
    """One target, by columns.

    Attributes:
      Q: [p, n] what each parameter moves.
      y: [n] the target.
      s: [n] sample weights.
      P: [p, p] what ridge adds to the Hessian.
      is_free: [p] whether a parameter moves nothing, and stays 0.
      by_weight: [d, p] a gradient by z as one by the weights of a lasso, over their strengths;
        None: there is no lasso.
      c, constant: [p] and [], what rows that are settled add: c z + constant, beside a part of P.
      squares: [] of the residuals of these rows.
    """

    Q: Float[Array, "p n"]
    y: Float[Array, " n"]
    s: Float[Array, " n"]
    P: Float[Array, "p p"]
    is_free: Bool[Array, " p"]
    by_weight: Float[Array, "d p"] | None = None
    c: Float[Array, " p"] | float = 0.0
    constant: Float[Array, ""] | float = 0.0
    squares: Float[Array, ""] | float = 0.0

    def residuals(self, z: Float[Array, " p"]) -> Float[Array, " n"]:
        """[n] predictions less targets."""
        return matmul(z, self.Q) - self.y

    def gradient(self, z: Float[Array, " p"], u: Float[Array, " n"]) -> Float[Array, " p"]:
        """[p] Q S u + P z + c: the gradient, where u is the slope of each row."""
        return matmul(self.Q, self.s * u) + matmul(self.P, z) + self.c

    def penalty(self, z: Float[Array, " p"]) -> Float[Array, ""]:
        """[] zᵀPz / 2."""
        return jnp.sum(z * matmul(self.P, z)) / 2

    def line(self, z: Float[Array, " p"]) -> Float[Array, ""]:
        """[] c z + constant."""
        return jnp.sum(self.c * z) + self.constant

    def missing(
        self, e: Float[Array, " p"], r: Float[Array, " n"], value: Float[Array, ""]
    ) -> Float[Array, ""]:
        """[] how much less than at z a loss with the gradient e can be, as `Point` says.

        With a lasso the sizes of the weights, by their strengths, are a part of the value, at the
        minimum as at z, so that the weights' part of e can take no more than twice their product.
        """
        reach = 2 * self.length(r)
        missing = reach * jnp.sqrt(jnp.sum(e * e))
        if self.by_weight is None:
            return missing
        steepest = jnp.max(jnp.abs(matmul(self.by_weight, e)))
        return jnp.fmin(missing, reach * jnp.abs(e[0]) + 2 * value * steepest)

    def length(self, r: Float[Array, " n"]) -> Float[Array, ""]:
        """[] of residuals; that of z is the same where predictions are meant."""
        return jnp.sqrt(jnp.sum(self.s * r * r) + self.squares)


class Scaled(NamedTuple):
    """A loss of residuals in units: rho(unit r) / unit, so that its slope is psi(unit r).

    Attributes:
      loss: what is scaled.
      unit: [] of the residuals, as a power of 2.
      num_weights: how many of the last rows are weights, which cost their size: `absolute`.
    """

    loss: Loss
    unit: Float[Array, ""]
    num_weights: int = 0

    def rho(self, r: Float[Array, " n"]) -> Float[Array, " n"]:
        """[n] what each residual costs."""
        n = r.shape[0] - self.num_weights
        costs = self.loss.rho(self.unit * r[:n]) / self.unit
        return jnp.concatenate([costs, jnp.abs(r[n:])]) if self.num_weights else costs

    def psi(self, r: Float[Array, " n"]) -> Float[Array, " n"]:
        """[n] the slope of rho."""
        return self.loss.psi(self.unit * r)

    def slope_and_curvature(
        self, r: Float[Array, " n"]
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """`(psi, its slope)`, [n] each; the slope is 0 where it is none."""
        u, h = jax.jvp(self.psi, (r,), (jnp.ones_like(r),))
        return u, jnp.where(h > 0, h, 0)

    def value(self, problem: Problem, z: Float[Array, " p"]) -> Float[Array, ""]:
        """[] Σ s rho(r) + zᵀPz / 2 + c z + constant."""
        costs = problem.s * self.rho(problem.residuals(z))
        return jnp.sum(costs) + problem.penalty(z) + problem.line(z)


def solve_positive(H: Float[Array, "p p"], right: Float[Array, " p"]) -> Float[Array, " p"]:
    """H⁻¹ right for a symmetric H with no negative eigenvalues, which may be as good as singular.

    Scaled to a diagonal of ones, and then a few roundings are added to it: what rounding leaves of
    an eigenvalue of 0 is not divided by.
    """
    diagonal = jnp.diagonal(H)
    root = jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1))
    scaled = H / (root[:, None] * root[None, :])
    more = 4 * H.shape[0] * jnp.finfo(H.dtype).eps
    factor = jax.scipy.linalg.cho_factor(scaled + more * jnp.eye(H.shape[0], dtype=H.dtype))

    def correct(_: Array, found: Array) -> Array:
        left = right - matmul(H, found)
        return found + jax.scipy.linalg.cho_solve(factor, left / root) / root

    return lax.fori_loop(0, 2, correct, jnp.zeros_like(right))
