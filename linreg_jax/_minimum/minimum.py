"""From a loss and a start to its minimum: which method, in which order, and whether it is alone."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from linreg_jax._algebra.settled import weighted_gram
from linreg_jax._minimum.absolute import with_weights
from linreg_jax._minimum.cells import cells_of, ramp_like
from linreg_jax._minimum.finish import finish, inside_cells
from linreg_jax._minimum.interior import interior
from linreg_jax._minimum.newton import newton
from linreg_jax._minimum.point import Goal, Point, better, certified
from linreg_jax._minimum.problem import Problem, Scaled
from linreg_jax._typing import Array, Bool, Float, Int

_FIRST_STEPS, _LAST_STEPS = 25, 60


class Minimum(NamedTuple):
    """The minimum of one target.

    Attributes:
      point: the best `Point`.
      is_unique: [] whether no other z is as good.
      num_iterations: [] weighted least-squares problems that were solved.
      at_zero: [] the loss where z is 0, the scale of a value that is 0.
    """

    point: Point
    is_unique: Bool[Array, ""]
    num_iterations: Int[Array, ""]
    at_zero: Float[Array, ""]


def minimum(
    problem: Problem, scaled: Scaled, z: Float[Array, " p"], *, only_newton: bool = False
) -> Minimum:
    """The `Minimum` of a problem, from z on.

    Smooth losses by Newton's steps, which few need more than a dozen of; where they end elsewhere,
    as on a loss that is all but made of lines, from an interior point on, unless `only_newton`. The
    others by interior points.
    """
    at_zero = scaled.value(problem, jnp.zeros_like(z))
    eps = jnp.finfo(z.dtype).eps
    goal = Goal(jnp.asarray(8 * eps, z.dtype), eps * at_zero)
    if scaled.loss.curvature_bound is None or scaled.num_weights:
        cells = cells_of(scaled.loss, scaled.unit)
        if scaled.num_weights:
            cells = with_weights(cells, problem.y.shape[0] - scaled.num_weights, scaled.num_weights)
        point, count = interior(problem, scaled, cells, z, goal, jnp.array(True))
        point = finish(problem, scaled, cells, point, goal)
        inside = inside_cells(problem, cells, point)
        weight = jnp.any(inside > 0, axis=0).astype(z.dtype)
    else:
        method = _by_newton if only_newton else _smooth
        point, count = method(problem, scaled, z, goal)
        _, weight = scaled.slope_and_curvature(problem.residuals(point.z))
    return Minimum(point, _is_unique(problem, weight), count, at_zero)


def _by_newton(
    problem: Problem, scaled: Scaled, z: Float[Array, " p"], goal: Goal
) -> tuple[Point, Int[Array, ""]]:
    """Newton's steps from z on."""
    start = _point_at(problem, scaled, z)
    return newton(problem, scaled, start, goal, jnp.asarray(_FIRST_STEPS))


def _smooth(
    problem: Problem, scaled: Scaled, z: Float[Array, " p"], goal: Goal
) -> tuple[Point, Int[Array, ""]]:
    """Newton's steps from z on, and where that is not enough from an interior point on."""
    is_made_of_cells = scaled.loss.is_piecewise_quadratic
    cells = (cells_of if is_made_of_cells else ramp_like)(scaled.loss, scaled.unit)
    enough = Goal(100 * goal.relative, 100 * goal.absolute)

    def cond_fun(state: tuple) -> Array:
        best, _, round_, _ = state
        return (round_ == 0) | ((round_ == 1) & ~best.is_within(enough))

    def body_fun(state: tuple) -> tuple:
        best, _, round_, count = state
        inside, more = interior(problem, scaled, cells, best.z, goal, round_ > 0)
        z = jnp.where((round_ > 0) & (inside.value < best.value), inside.z, best.z)
        start = _point_at(problem, scaled, z)
        most = jnp.where(round_ > 0, _LAST_STEPS, _FIRST_STEPS)
        found, steps = newton(problem, scaled, start, goal, most)
        return better(best, found), inside, round_ + 1, count + more + steps

    start = _point_at(problem, scaled, z)
    like = jnp.zeros((cells.height.shape[0], *start.u.shape), z.dtype)
    nowhere = start._replace(gap=jnp.full_like(start.gap, jnp.inf), v=like)
    zero = jnp.zeros((), jnp.int32)
    best, inside, _, count = lax.while_loop(cond_fun, body_fun, (start, nowhere, zero, zero))
    if is_made_of_cells:
        # Slopes of their own prove more where residuals are mostly rounding beside their kinks.
        best = better(best._replace(v=like), finish(problem, scaled, cells, inside, goal))
    return best, count


def _point_at(problem: Problem, scaled: Scaled, z: Float[Array, " p"]) -> Point:
    """What the slopes at z prove of it."""
    r = problem.residuals(z)
    return certified(problem, scaled, z, scaled.psi(r), r)


def _is_unique(problem: Problem, weight: Float[Array, " n"]) -> Bool[Array, ""]:
    """[] whether curvature, kinks and ridge hold z in every direction."""
    H = weighted_gram(problem.Q, problem.s * weight) + jnp.diag(problem.is_free * 1.0)

    def of_size_1(H: Array) -> Array:
        size = jnp.max(jnp.abs(H))
        return H / jnp.where(size > 0, size, 1)

    p = H.shape[0]
    eigenvalues = jnp.linalg.eigvalsh(of_size_1(H) + of_size_1(problem.P))
    return eigenvalues[0] > 16 * p * jnp.finfo(H.dtype).eps
