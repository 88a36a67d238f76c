"""How many steps of gradient descent it takes, along given curvatures.

A step multiplies what is left of the way along curvature h by 1 - rate h.
"""

from jax.typing import ArrayLike

from linreg_jax._host import namespace_of
from linreg_jax._typing import AnyArray, Float


def or_one(value: AnyArray) -> AnyArray:
    """`value`, or 1 where it is 0 and something is divided by it."""
    return namespace_of(value).where(value > 0, value, 1)


def _log_left(x: AnyArray) -> AnyArray:
    """log abs(1 - x), with its digits near x = 0 and x = 2."""
    xp = namespace_of(x)
    return xp.where(x < 1, xp.log1p(-xp.minimum(x, 1)), xp.log1p(xp.maximum(x, 1) - 2))


def steps_at(
    accuracy: ArrayLike,
    L: Float[AnyArray, ""],
    mu: Float[AnyArray, ""],
    rates: Float[AnyArray, "*r"],
) -> Float[AnyArray, "*r"]:
    """[] or [r] steps at rates until `accuracy` is left of any way between L and mu."""
    slowest = namespace_of(L).maximum(_log_left(rates * L), _log_left(rates * mu))
    return _steps(accuracy, slowest)


def steps_at_best(
    accuracy: ArrayLike, L: Float[AnyArray, ""], mu: Float[AnyArray, ""]
) -> Float[AnyArray, ""]:
    """[] the same at the best constant rate, 2 / (L + mu)."""
    # 1 - best_rate mu without the rounding of best_rate, which is all there is where mu is small.
    return _steps(accuracy, _log_left(2 * mu / or_one(L + mu)))


def _steps(accuracy: ArrayLike, shrinking: Float[AnyArray, "*r"]) -> Float[AnyArray, "*r"]:
    """The least t ≥ 1 with exp(t shrinking) ≤ accuracy; infinity where nothing shrinks."""
    xp = namespace_of(shrinking)
    left = xp.log(xp.asarray(accuracy, shrinking.dtype))
    steps = xp.ceil(left / xp.where(shrinking < 0, shrinking, -1))
    return xp.where(shrinking < 0, xp.maximum(steps, 1), xp.inf)


def overflow_step(
    curvatures: Float[AnyArray, " p"], size: Float[AnyArray, " p"], rates: Float[AnyArray, "*r"]
) -> Float[AnyArray, "*r"]:
    """[] or [r] steps at rates until a number size_j (1 - rate curvature_j)^(2t) overflows."""
    xp = namespace_of(curvatures)
    growth = xp.abs(1 - xp.multiply.outer(rates, curvatures))  # [p] or [r, p]
    size = xp.broadcast_to(size, growth.shape)
    grows = (growth > 1) & (size > 0)
    margin = xp.log(xp.finfo(size.dtype).max) - xp.log(xp.where(grows, size, 1))
    steps = xp.floor(margin / (2 * xp.log(xp.where(grows, growth, 2)))) + 1
    return xp.min(xp.where(grows, xp.maximum(steps, 0), xp.inf), axis=-1)
