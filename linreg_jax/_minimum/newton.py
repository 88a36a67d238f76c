"""Newton steps towards the minimum of a smooth loss, each to where the loss is least along it.

Where few rows are curved the Hessian may be singular. A part of the largest curvature is added, as
small as the gradient is; finitely many steps end on the minimum of a Huber loss all the same.

Source: Madsen and Nielsen 1990, BIT 30, for the Huber loss.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from linreg_jax._algebra.settled import weighted_gram
from linreg_jax._kernels import matmul
from linreg_jax._minimum.point import Goal, Point, better, certified
from linreg_jax._minimum.problem import Problem, Scaled, solve_positive
from linreg_jax._typing import Array, Float, Int

_PATIENCE = 4  # iterations without a better point
_MOST_TRIALS = 40
_DAMPING = 1e-3


class _State(NamedTuple):
    z: Array
    best: Point
    num_steps: Array
    waited: Array


def newton(
    problem: Problem,
    scaled: Scaled,
    start: Point,
    goal: Goal,
    most: Int[Array, ""],
) -> tuple[Point, Int[Array, ""]]:
    """The best point found, and the number of iterations.

    Args:
      problem: a `Problem`.
      scaled: its loss, with a curvature_bound.
      start: where to start.
      goal: when to stop.
      most: [] iterations.
    """

    def cond_fun(state: _State) -> Array:
        is_left = ~state.best.is_within(goal) & (state.waited < _PATIENCE)
        return is_left & (state.num_steps < most)

    def body_fun(state: _State) -> _State:
        point, z = _point_and_next(problem, scaled, state.z)
        is_better = (point.gap < 0.9 * state.best.gap) | (point.value < state.best.value)
        waited = jnp.where(is_better, 0, state.waited + 1)
        return _State(z, better(state.best, point), state.num_steps + 1, waited)

    zero = jnp.zeros((), jnp.int32)
    state = lax.while_loop(cond_fun, body_fun, _State(start.z, start, zero, zero))
    return state.best, state.num_steps


def _point_and_next(
    problem: Problem, scaled: Scaled, z: Float[Array, " p"]
) -> tuple[Point, Float[Array, " p"]]:
    """What is proven of z, and the next one."""
    s, r = problem.s, problem.residuals(z)
    u, h = scaled.slope_and_curvature(r)
    e = problem.gradient(z, u)
    H = weighted_gram(problem.Q, s * h) + problem.P
    size = jnp.sqrt(jnp.sum(e * e)) / jnp.maximum(problem.length(u), jnp.finfo(z.dtype).tiny)
    steepest = jnp.asarray(scaled.loss.curvature_bound, z.dtype) * scaled.unit
    added = _DAMPING * steepest * jnp.minimum(size, 1)
    dz = -solve_positive(H + jnp.diag(jnp.where(problem.is_free, 1, added)), e)
    dr, pull = matmul(dz, problem.Q), matmul(problem.P, dz)

    def slope(length: Array) -> Array:
        along = jnp.sum(s * scaled.psi(r + length * dr) * dr)
        return along + jnp.sum(pull * (z + length * dz)) + jnp.sum(problem.c * dz)

    plain = certified(problem, scaled, z, u, r)
    ahead = _certified_ahead(problem, scaled, plain, r, h, dz, dr)
    return better(plain, ahead), z + _least(slope, jnp.sum(e * dz)) * dz


def _certified_ahead(
    problem: Problem, scaled: Scaled, point: Point, r: Array, h: Array, dz: Array, dr: Array
) -> Point:
    """What is proven of z by the slopes where the next step leads, if psi is straight until there.

    Of them the gradient is next to nothing, where that at z is what the rounding of r makes of it.
    """
    u = point.u + h * dr
    few = 8 * jnp.finfo(r.dtype).eps * (jnp.abs(point.u) + jnp.max(jnp.abs(point.u)))
    bend = jnp.abs(scaled.psi(r + dr) - u)
    is_straight = jnp.all((bend <= 0.1 * h * jnp.abs(dr) + few) | (problem.s == 0))
    e = problem.gradient(point.z + dz, u)
    excess = jnp.sum(problem.s * h * dr * dr) + problem.penalty(dz)
    gap = excess + 2 * jnp.sqrt(jnp.sum(e * e)) * problem.length(r)
    return point._replace(u=u, gap=jnp.where(is_straight & (gap >= 0), gap, jnp.inf))


def _least(slope: Callable[[Array], Array], at_0: Float[Array, ""]) -> Float[Array, ""]:
    """[] a length where a slope that never falls, and is negative at 0, is at most half as steep.

    The length 1 first, then twice as much as long as the slope is negative, then halfway between
    the secant and the middle.
    """

    def cond_fun(state: tuple) -> Array:
        _, steepness, _, _, count = state
        return (jnp.abs(steepness) > 0.5 * jnp.abs(at_0)) & (count < _MOST_TRIALS)

    def body_fun(state: tuple) -> tuple:
        length, steepness, (low, at_low), (high, at_high), count = state
        below = steepness < 0
        low, at_low = jnp.where(below, length, low), jnp.where(below, steepness, at_low)
        high, at_high = jnp.where(below, high, length), jnp.where(below, at_high, steepness)
        is_open = jnp.isinf(high)
        width = jnp.where(is_open, 0, high) - low
        secant = low - at_low * width / jnp.where(is_open, 1, at_high - at_low)
        between = (secant + low + width / 2) / 2
        length = jnp.where(is_open, 4 * length, between)
        return length, slope(length), (low, at_low), (high, at_high), count + 1

    one, zero = jnp.ones_like(at_0), jnp.zeros_like(at_0)
    infinity = jnp.full_like(at_0, jnp.inf)
    start = (one, slope(one), (zero, at_0), (infinity, infinity), 0)
    return lax.while_loop(cond_fun, body_fun, start)[0]
