"""The minimum of a smooth loss, from the least-squares fit, in the coordinates of its factor.

With predictions changed by q phi the Hessian Σ s psi'(r) q qᵀ is never more than the curvature of
psi, whatever the units of X, so that Newton's steps are right in float32 too.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from linreg_jax._algebra.quadratic import penalty_curvature
from linreg_jax._arithmetic.blocks import sum_over_blocks
from linreg_jax._inference.covariances import sum_of_outer
from linreg_jax._inference.fitted import Fitted, coefficients_of, weights_and_q
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss, example_share
from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset

_MOST_STEPS = 200
_MIXTURES = (0.0, 0.01, 0.1, 1.0)  # how much of reweighted least squares is in a Newton's step
_SHARES = (1.0, 0.25)  # of each step
_CLOSE = 0.01  # a step so short beside the scores' size needs no search


class Ridge(NamedTuple):
    """Ridge in the coordinates of q: curvature Σ weights² / 2 beside Σ s rho, in units of the data.

    Attributes:
      B: [d, p] weights change by B dphi.
      curvature: [] 0 without a ridge.
      weights: [d, k] where phi is 0.
    """

    B: Array
    curvature: Array
    weights: Array

    def gradient(self, phi: Float[Array, "p k"]) -> Float[Array, "p k"]:
        return self.curvature * matmul(self.B.T, self.weights + matmul(self.B, phi))

    def hessian(self) -> Float[Array, "p p"]:
        return self.curvature * matmul(self.B.T, self.B)

    def change(self, phi: Float[Array, "p k"], step: Float[Array, "p k"]) -> Float[Array, " k"]:
        """[k] of the penalty from phi to phi + step."""
        moved = matmul(self.B, step)
        middle = self.weights + matmul(self.B, phi) + moved / 2
        return self.curvature * jnp.sum(moved * middle, axis=0)


def ridge_of(loss: Loss, data: Dataset, fit: Fitted, weights: Float[Array, "d k"]) -> Ridge:
    """The `Ridge` of a loss's penalties."""
    B = coefficients_of(fit, intercept=False)
    curvature, share = penalty_curvature(loss), example_share(loss, data)
    c = jnp.asarray(0.0 if curvature is None else curvature, share.dtype)
    return Ridge(B, c / jnp.where(share > 0, share, 1), weights)


def slope(loss: Loss, r: Array) -> Array:
    """The derivative of psi where there is one, elementwise."""
    return jax.jvp(loss.psi, (r,), (jnp.ones_like(r),))[1]


def solve_active(H: Float[Array, "k p p"], g: Array, on: Array) -> Array:
    """H⁻¹ g of each target, g [k, p] or [k, p, p]; 0 in coordinates that are not `on` [p]."""
    both = on[:, None] & on[None, :]
    H = jnp.where(both[None], H, jnp.eye(len(on), dtype=H.dtype)[None])
    on = on.reshape((1, -1) + (1,) * (g.ndim - 2))
    return jax.vmap(jnp.linalg.solve)(H, jnp.where(on, g, 0))


def newton(
    loss: Loss, fit: Fitted, r0: Float[Array, "n k"], ridge: Ridge, on: Array, *, intercept: bool
) -> Float[Array, "p k"]:
    """phi that makes Σ s rho(r0 + q phi) and the ridge least; each target by itself.

    Each step is the best of some between Newton's and that of reweighted least squares, whose
    curvature is psi(r) / r in place of psi'(r): it always goes down where that falls with abs(r).

    Args:
      loss: a smooth one.
      fit: gives q.
      r0: [n, k] predictions less targets where phi is 0, in units of the data.
      ridge: the penalties.
      on: [p] which coordinates there are.
      intercept: whether there is a bias.
    """
    rows = (fit.rows[0], r0)
    eps = jnp.finfo(r0.dtype).eps

    def slopes(phi: Array) -> dict[str, Array]:
        return sum_over_blocks(lambda part: _slopes(loss, fit, part, phi, intercept), rows)

    def changes(phi: Array, steps: Array) -> Array:
        return sum_over_blocks(lambda part: _changes(loss, fit, part, phi, steps, intercept), rows)

    def improve(state: tuple) -> tuple:
        phi, count, _ = state
        sums = slopes(phi)
        g = (sums["gradient"] + ridge.gradient(phi)).T
        mixed = jnp.stack([(1 - a) * sums["hessian"] + a * sums["weights"] for a in _MIXTURES])
        mixed = mixed + ridge.hessian()[None, None]
        along = jax.vmap(lambda H: -solve_active(H, g, on).T)(mixed)
        steps = jnp.concatenate([t * along for t in _SHARES])
        change = changes(phi, steps) + jax.vmap(lambda step: ridge.change(phi, step))(steps)
        change = jnp.where(jnp.isnan(change), jnp.inf, change)
        best = jnp.argmin(change, axis=0)
        size = jnp.linalg.norm(along[0], axis=0)
        close = size < _CLOSE * jnp.sqrt(sums["squares"])
        step = jnp.take_along_axis(steps, jnp.where(close, 0, best)[None, None, :], axis=0)[0]
        goes_down = close | (jnp.min(change, axis=0) <= 0)
        phi = phi + jnp.where(goes_down[None] & jnp.isfinite(step), step, 0)
        done = size <= 16 * eps * jnp.sqrt(sums["squares"] + sums["rounded"])
        return phi, count + 1, ~jnp.all(done | ~goes_down)

    start = (jnp.zeros((len(on), r0.shape[1]), r0.dtype), 0, jnp.array(True))
    return lax.while_loop(lambda s: s[2] & (s[1] < _MOST_STEPS), improve, start)[0]


def _slopes(
    loss: Loss, fit: Fitted, rows: tuple[Dataset, Array], phi: Array, intercept: bool
) -> dict[str, Array]:
    block, r0 = rows
    s, q = weights_and_q(fit, block, intercept=intercept)
    s = s[:, None]
    r = jnp.where(s > 0, r0 + matmul(q, phi), 0)
    psi, curvature = loss.psi(r), slope(loss, r)
    weights = jnp.where(r != 0, psi / jnp.where(r != 0, r, 1), curvature)
    return {
        "gradient": matmul(q.T, s * psi),
        "hessian": sum_of_outer(s * curvature, q),
        "weights": sum_of_outer(s * weights, q),
        "squares": jnp.sum(s * psi * psi, axis=0),
        "rounded": jnp.sum(s * (curvature * r) ** 2, axis=0),
    }


def _changes(
    loss: Loss,
    fit: Fitted,
    rows: tuple[Dataset, Array],
    phi: Array,
    steps: Array,
    intercept: bool,
) -> Array:
    """[m, k] of Σ s rho over some rows, for m steps from phi."""
    block, r0 = rows
    s, q = weights_and_q(fit, block, intercept=intercept)
    s = s[:, None]
    r = jnp.where(s > 0, r0 + matmul(q, phi), 0)
    here = loss.rho(r)
    return jnp.stack([jnp.sum(s * (loss.rho(r + matmul(q, d)) - here), axis=0) for d in steps])
