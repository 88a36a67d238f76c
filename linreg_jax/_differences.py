"""Difference quotients of a function rho, each argument moved as far as suits it."""

from collections.abc import Callable
from typing import TypeVar

import jax.numpy as jnp
import numpy as np

from linreg_jax._arithmetic.division import nonzero
from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Bool, Float
from linreg_jax.penalties import Penalty

Elementwise = Callable[[Array], Array]
Numbers = TypeVar("Numbers", Array, np.ndarray)


def reach_of(
    function: Loss | Penalty, r: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Bool[Array, "..."]]:
    """How far each argument of rho moves in one step, and whether it is on a kink; shaped as r."""
    gap, on_kink = jnp.full_like(r, jnp.inf), jnp.zeros(r.shape, bool)
    for kink in function.kinks:
        distance = jnp.abs(r - kink)
        on_kink = on_kink | (distance == 0)
        gap = jnp.minimum(gap, jnp.where(distance == 0, jnp.inf, distance))
    if function.is_piecewise_quadratic:
        return jnp.minimum(nonzero(jnp.abs(r)), gap / 2), on_kink
    return jnp.minimum(jnp.finfo(r.dtype).eps ** (1 / 9), gap / 8), on_kink


def slopes(
    function: Loss | Penalty,
    r: Float[Array, "..."],
    x: Float[Array, "..."],
    reach: Float[Array, "..."],
    on_kink: Bool[Array, "..."],
) -> Float[Array, "..."]:
    """The derivative of rho(r + t x) by t, at t = 0, with r moved by `reach`; see `reach_of`."""
    quotient = second_order if function.is_piecewise_quadratic else eighth_order
    h = reach / nonzero(jnp.abs(x))
    found = quotient(function.rho, r, x, h)
    if function.kinks:
        found = jnp.where(on_kink, least_norm_slope(function.rho, r, x, h), found)
    # Compilers fuse a² - b² to one rounding fewer on one side: not 0 even where a is b.
    return jnp.where(x == 0, 0, found)


def second_order(
    rho: Callable[[Numbers], Numbers], r: Numbers, x: Numbers | float, h: Numbers
) -> Numbers:
    """(rho(r + h x) - rho(r - h x)) / 2h, exact for a parabola."""
    return (rho(r + h * x) - rho(r - h * x)) / (2 * h)


def eighth_order(
    rho: Callable[[Numbers], Numbers], r: Numbers, x: Numbers | float, h: Numbers
) -> Numbers:
    """Four central differences, whose errors cancel up to h⁸."""

    def moved(m: int) -> Numbers:
        return rho(r + m * h * x) - rho(r - m * h * x)

    return (4 / 5 * moved(1) - 1 / 5 * moved(2) + 4 / 105 * moved(3) - 1 / 280 * moved(4)) / h


def least_norm_slope(
    rho: Elementwise, r: Float[Array, "..."], x: Float[Array, "..."] | float, h: Float[Array, "..."]
) -> Float[Array, "..."]:
    """0 between the one-sided slopes, or the one nearer to 0; each is exact for a parabola."""

    def one_sided(h: Float[Array, "..."]) -> Float[Array, "..."]:
        return (4 * rho(r + h * x) - 3 * rho(r) - rho(r + 2 * h * x)) / (2 * h)

    right, left = one_sided(h), one_sided(-h)
    return jnp.clip(0, jnp.minimum(left, right), jnp.maximum(left, right))


def penalty_difference(loss: Loss, w: Float[Array, " d *k"]) -> Float[Array, " d *k"] | float:
    """The derivative of the penalties by differences; 0.0 without any."""
    ones = jnp.ones_like(w)
    return sum((p.strength * slopes(p, w, ones, *reach_of(p, w)) for p in loss.penalties), 0.0)
