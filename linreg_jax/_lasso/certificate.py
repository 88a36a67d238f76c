"""What proves the minimum of a lasso: a lower bound of the loss, and columns that are independent.

With columns F of length 1, c = Fᵀr their correlations with the residuals r and lambda the
strengths, no parameters give less than the dual function at a multiple of r (Kim, Koh, Lustig,
Boyd and Gorinevsky 2007, IEEE Journal of Selected Topics in Signal Processing 1), which leaves::

    length(r)² (1 - t)² / 2 + Σ (lambda abs(w) - t w c)      t = min(1, lambda / abs(c))

nor less than least squares do without the penalty, which leaves::

    length(part of r that weights can take away)² / 2 + Σ lambda abs(w)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from linreg_jax._typing import Array, Bool, Float, Int

_ROUNDINGS = 1000  # times eps: a correlation so near its bound may be there


class Certificate(NamedTuple):
    """What is known of a minimum.

    Attributes:
      gap: [k] how far the loss is above a lower bound, in units of the targets.
      is_unique: [k] whether it is proven that no other weights are as good.
      num_steps: [] columns that came in or left; of the target with most.
      is_done: [] False: the most steps were taken.
    """

    gap: Float[Array, " k"]
    is_unique: Bool[Array, " k"]
    num_steps: Int[Array, ""]
    is_done: Bool[Array, ""]


def gap_of(
    w: Float[Array, "d k"],
    c: Float[Array, "d k"],
    h: Float[Array, "p_and_1 k"],
    rest: Float[Array, " k"],
    strengths: Float[Array, "d k"],
) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """How far the loss is above a lower bound, and the loss: [k] each.

    Args:
      w: [d, k] weights of the columns of length 1.
      c: [d, k] their correlations with the residuals.
      h: [1 + p, k] the part of the residuals that the bias (first) and weights can take away.
      rest: [k] the squares of the other part.
      strengths: [d, k] of the penalty.
    """
    on_bias, reducible = h[0] * h[0] / 2, jnp.sum(h[1:] * h[1:], axis=0) / 2
    size = jnp.abs(c)
    t = jnp.min(jnp.where(size > strengths, strengths / jnp.where(size > 0, size, 1), 1), axis=0)
    penalty = strengths * jnp.abs(w)
    complementary = jnp.maximum(penalty - t[None, :] * w * c, 0)
    squares = reducible + rest / 2
    by_scaling = squares * (1 - t) ** 2 + jnp.sum(complementary, axis=0)
    by_least_squares = reducible + jnp.sum(penalty, axis=0)
    gap = on_bias + jnp.minimum(by_scaling, by_least_squares)
    return gap, on_bias + squares + jnp.sum(penalty, axis=0)


def is_unique(
    F: Float[Array, "p d"], strengths: Float[Array, "d k"], c: Float[Array, "d k"]
) -> Bool[Array, " k"]:
    """[k] whether the columns whose correlation is as large as it may be are independent.

    Others have weight 0 at every minimum, and these then have one solution (Tibshirani 2013,
    Electronic Journal of Statistics 7).
    """
    eps = jnp.finfo(F.dtype).eps

    def of_target(strength: Array, c: Array) -> Array:
        on_boundary = jnp.abs(c) >= (1 - _ROUNDINGS * eps) * strength
        s = jnp.linalg.svd(jnp.where(on_boundary[None, :], F, 0), compute_uv=False)
        smallest = 4 * F.shape[1] ** 0.5 * eps * s[0]
        return jnp.sum(s > smallest) == jnp.sum(on_boundary)

    return jax.vmap(of_target, in_axes=1)(strengths, c)
