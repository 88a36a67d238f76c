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
NUM_PROPOSED = len(_MIXTURES) * len(_SHARES)
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

    def improve(state: tuple) -> tuple:
        phi, count, _ = state
        sums = sum_over_blocks(lambda part: slopes(loss, fit, part, phi, intercept), rows)
        ahead = proposed(sums, ridge, phi, on)
        change = sum_over_blocks(
            lambda part: changes(loss, fit, part, phi, ahead.steps, intercept), rows
        )
        step, goes_down = ahead.best(change, ridge, phi)
        return phi + step, count + 1, ~jnp.all(ahead.is_last | ~goes_down)

    start = (jnp.zeros((len(on), r0.shape[1]), r0.dtype), 0, jnp.array(True))
    return lax.while_loop(lambda s: s[2] & (s[1] < _MOST_STEPS), improve, start)[0]


class Proposed(NamedTuple):
    """Steps to choose from, the first of them Newton's.

    Attributes:
      steps: [m, p, k].
      size: [k] the length of Newton's, beside that of the scores.
      is_close: [k] whether Newton's needs no search.
      is_last: [k] whether it is no more than rounding.
    """

    steps: Array
    size: Array
    is_close: Array
    is_last: Array

    def best(
        self, change: Float[Array, "m k"], ridge: Ridge, phi: Array
    ) -> tuple[Float[Array, "p k"], Array]:
        """The step that costs least, 0 where all cost more, and [k] whether one goes down.

        Args:
          change: of Σ s rho by each step.
          ridge: the penalties.
          phi: where the steps begin.
        """
        change = self._with_ridge(change, ridge, phi)
        best = jnp.where(self.is_close, 0, jnp.argmin(change, axis=0))
        step = jnp.take_along_axis(self.steps, best[None, None, :], axis=0)[0]
        goes_down = self.is_close | (jnp.min(change, axis=0) <= 0)
        return jnp.where(goes_down[None] & jnp.isfinite(step), step, 0), goes_down

    def newton_is_good(self, change: Float[Array, "m k"], ridge: Ridge, phi: Array) -> Array:
        """[k] whether Newton's step takes off at least half of what the best one does."""
        change = self._with_ridge(change, ridge, phi)
        least = jnp.minimum(jnp.min(change, axis=0), 0)
        return self.is_close | ((change[0] <= least / 2) & (least < 0))

    def _with_ridge(self, change: Float[Array, "m k"], ridge: Ridge, phi: Array) -> Array:
        """The change of the penalties too; infinite where it is not a number."""
        change = change + jax.vmap(lambda step: ridge.change(phi, step))(self.steps)
        return jnp.where(jnp.isnan(change), jnp.inf, change)


def proposed(sums: dict[str, Array], ridge: Ridge, phi: Float[Array, "p k"], on: Array) -> Proposed:
    """The steps from phi, where the sums are those of `slopes`."""
    eps = jnp.finfo(phi.dtype).eps
    g = (sums["gradient"] + ridge.gradient(phi)).T
    mixed = jnp.stack([(1 - a) * sums["hessian"] + a * sums["weights"] for a in _MIXTURES])
    mixed = mixed + ridge.hessian()[None, None]
    along = jax.vmap(lambda H: -solve_active(H, g, on).T)(mixed)
    size, scores = jnp.linalg.norm(along[0], axis=0), jnp.sqrt(sums["scores"])
    return Proposed(
        jnp.concatenate([t * along for t in _SHARES]),
        size / jnp.where(scores > 0, scores, 1),
        size < _CLOSE * scores,
        size <= 16 * eps * jnp.sqrt(sums["scores"] + sums["rounded"]),
    )


def slopes(
    loss: Loss, fit: Fitted, rows: tuple[Dataset, Array], phi: Array, intercept: bool
) -> dict[str, Array]:
    """What Newton's step at phi needs of some rows, and of the residuals r0 where phi is 0."""
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
        "scores": jnp.sum(s * psi * psi, axis=0),
        "rounded": jnp.sum(s * (curvature * r) ** 2, axis=0),
    }


def changes(
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
