"""Difference quotients of a penalty rho, each residual moved as far as suits it."""

import jax.numpy as jnp


def reach_of(loss, r):
    """How far each residual moves in one step, and whether it sits on a kink; both shaped as r."""
    gap, on_kink = jnp.full_like(r, jnp.inf), jnp.zeros(r.shape, bool)
    for kink in loss.kinks:
        distance = jnp.abs(r - kink)
        on_kink = on_kink | (distance == 0)
        gap = jnp.minimum(gap, jnp.where(distance == 0, jnp.inf, distance))
    if loss.pieces == "quadratic":
        size = jnp.where(r == 0, 1, jnp.abs(r))
        return jnp.minimum(size, gap / 2), on_kink
    return jnp.minimum(jnp.finfo(r.dtype).eps ** (1 / 9), gap / 8), on_kink


def second_order(rho, r, x, h):
    return (rho(r + h * x) - rho(r - h * x)) / (2 * h)


def eighth_order(rho, r, x, h):
    coefficients = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
    moved = (c * (rho(r + m * h * x) - rho(r - m * h * x)) for m, c in enumerate(coefficients, 1))
    return sum(moved) / h


def least_norm_slope(rho, r, x, h):
    """0 between the one-sided slopes, or the one nearer to 0; each is exact for a parabola."""

    def one_sided(h):
        return (4 * rho(r + h * x) - 3 * rho(r) - rho(r + 2 * h * x)) / (2 * h)

    right, left = one_sided(h), one_sided(-h)
    return jnp.clip(0, jnp.minimum(left, right), jnp.maximum(left, right))


def penalty_difference(loss, w):
    """The penalties' derivative by central differences that step halfway to the kink at 0."""
    h = jnp.where(w == 0, 1, jnp.abs(w) / 2)
    return sum(p.strength * second_order(p.rho, w, 1, h) for p in loss.penalties)
