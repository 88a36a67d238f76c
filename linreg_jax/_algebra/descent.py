"""How many steps of gradient descent it takes, along given curvatures.

A step multiplies what is left of the way along curvature h by 1 - rate h.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linreg_jax._typing import Array, Float


def or_one(value: Array) -> Array:
    """`value`, or 1 where it is 0 and something is divided by it."""
    return jnp.where(value > 0, value, 1)


def _log_left(x: Array) -> Array:
    """log abs(1 - x), with its digits near x = 0 and x = 2."""
    return jnp.where(x < 1, jnp.log1p(-jnp.minimum(x, 1)), jnp.log1p(jnp.maximum(x, 1) - 2))


@jax.jit
def steps_at(
    accuracy: ArrayLike, L: Float[Array, ""], mu: Float[Array, ""], rates: Float[Array, "*r"]
) -> Float[Array, "*r"]:
    """[] or [r] steps at rates until `accuracy` is left of any way between L and mu."""
    return _steps(accuracy, jnp.maximum(_log_left(rates * L), _log_left(rates * mu)))


@jax.jit
def steps_at_best(
    accuracy: ArrayLike, L: Float[Array, ""], mu: Float[Array, ""]
) -> Float[Array, ""]:
    """[] the same at the best constant rate, 2 / (L + mu)."""
    # 1 - best_rate mu without the rounding of best_rate, which is all there is where mu is small.
    return _steps(accuracy, _log_left(2 * mu / or_one(L + mu)))


def _steps(accuracy: ArrayLike, shrinking: Float[Array, "*r"]) -> Float[Array, "*r"]:
    """The least t ≥ 1 with exp(t shrinking) ≤ accuracy; infinity where nothing shrinks."""
    steps = jnp.ceil(jnp.log(accuracy) / jnp.where(shrinking < 0, shrinking, -1))
    return jnp.where(shrinking < 0, jnp.maximum(steps, 1), jnp.inf)


@jax.jit
def overflow_step(
    curvatures: Float[Array, " p"], size: Float[Array, " p"], rates: Float[Array, "*r"]
) -> Float[Array, "*r"]:
    """[] or [r] steps at rates until a number size_j (1 - rate curvature_j)^(2t) overflows."""
    growth = jnp.abs(1 - jnp.multiply.outer(rates, curvatures))  # [p] or [r, p]
    size = jnp.broadcast_to(size, growth.shape)
    grows = (growth > 1) & (size > 0)
    margin = jnp.log(jnp.finfo(size.dtype).max) - jnp.log(jnp.where(grows, size, 1))
    steps = jnp.floor(margin / (2 * jnp.log(jnp.where(grows, growth, 2)))) + 1
    return jnp.min(jnp.where(grows, jnp.maximum(steps, 0), jnp.inf), axis=-1)
