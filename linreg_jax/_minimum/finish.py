"""The last steps: residuals put on their kinks exactly, and the slopes there that prove it.

Of the rows whose slope lies strictly within a jump as many are chosen as are independent. With C
their part of Q, and every other row on its piece, where H is what parabolas and ridge curve::

    [ H  C ] [ dz   ]   [ - (Q S u + P z) ]
    [ Cᵀ 0 ] [ s dv ] = [ kink - r        ]

Without any curvature that is a vertex: p rows are fitted exactly.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from linreg_jax._algebra.settled import weighted_gram
from linreg_jax._kernels import matmul
from linreg_jax._minimum.cells import Cells
from linreg_jax._minimum.point import Goal, Point, better, certified
from linreg_jax._minimum.problem import Problem, Scaled
from linreg_jax._typing import Array, Bool, Float, Int

_ROUNDS = 8
_CANDIDATES = 4  # times p


class Chosen(NamedTuple):
    """Rows on kinks, p of them or fewer.

    Attributes:
      cell: [p] and
      row: [p] where they stand.
      is_chosen: [p] whether there are so many.
    """

    cell: Int[Array, " p"]
    row: Int[Array, " p"]
    is_chosen: Bool[Array, " p"]


def finish(problem: Problem, scaled: Scaled, cells: Cells, point: Point, goal: Goal) -> Point:
    """The point, or a better one.

    Args:
      problem: a `Problem`.
      scaled: its loss.
      cells: the same.
      point: near the minimum.
      goal: when there is nothing to do.
    """
    height = cells.height
    inside = inside_cells(problem, cells, point)
    is_inside = inside > 0
    is_jump = cells.softness == 0
    chosen = _choose(problem, cells, point.z, jnp.where(is_jump, inside, 0))

    def cond_fun(state: tuple) -> Array:
        best, _, _, _, count = state
        return ~best.is_within(goal) & (count < _ROUNDS) & jnp.isfinite(point.gap)

    def body_fun(state: tuple) -> tuple:
        best, z, v, is_chosen, count = state
        z, v = _solve(problem, cells, chosen._replace(is_chosen=is_chosen), is_inside, z, v)
        r, within = problem.residuals(z), jnp.clip(v, 0, height)
        u = cells.floor + jnp.sum(within, axis=0)
        excess = cells.excess(cells.positions(r), within)
        found = certified(problem, scaled, z, u, r, excess, within)
        v, is_chosen = _without_those_that_leave(cells, chosen, v, is_chosen)
        return better(best, found), z, v, is_chosen, count + 1

    on_piece = jnp.where(point.v > height / 2, height, 0)
    start = (point, point.z, jnp.where(is_inside, point.v, on_piece), chosen.is_chosen, 0)
    return lax.while_loop(cond_fun, body_fun, start)[0]


def _without_those_that_leave(
    cells: Cells, chosen: Chosen, v: Float[Array, "m n"], is_chosen: Bool[Array, " p"]
) -> tuple[Float[Array, "m n"], Bool[Array, " p"]]:
    """v with the slopes that left their jump at its ends, and which rows stay on their kinks."""
    slope, height = v[chosen.cell, chosen.row], cells.height[chosen.cell, chosen.row]
    within = jnp.clip(slope, 0, height)
    leaves = is_chosen & (jnp.abs(slope - within) > jnp.finfo(v.dtype).eps ** 0.75 * height)
    v = v.at[chosen.cell, chosen.row].add(jnp.where(leaves, within - slope, 0))
    return v, is_chosen & ~leaves


def inside_cells(problem: Problem, cells: Cells, point: Point) -> Float[Array, "m n"]:
    """[m, n] how far v lies from the ends of its cell, at most 1/2, and 0 where it is at one.

    On the path to the minimum one of two is next to 0: this distance, or that of the residual from
    where v has it.
    """
    exists = (cells.height > 0) & (problem.s > 0)[None, :]
    height = jnp.where(cells.height > 0, cells.height, 1)
    v = point.v
    inside = jnp.minimum(v, height - v) / height
    off = jnp.abs(cells.positions(problem.residuals(point.z)) - cells.softness * v)
    is_inside = exists & (inside > jnp.finfo(v.dtype).eps ** 0.5) & (inside > off / _size(problem))
    return jnp.where(is_inside, inside, 0)


def _size(problem: Problem) -> Float[Array, ""]:
    size = jnp.max(jnp.abs(problem.y))
    return jnp.where(size > 0, size, 1)


def _choose(
    problem: Problem, cells: Cells, z: Float[Array, " p"], inside: Float[Array, "m n"]
) -> Chosen:
    """Independent rows, those nearest to their kink first, by Gram and Schmidt with pivots."""
    p, n = problem.Q.shape
    eps = jnp.finfo(z.dtype).eps
    off = jnp.abs(cells.positions(problem.residuals(z)))
    score = (inside / (off / _size(problem) + eps)).ravel()
    score, places = lax.top_k(score, min(_CANDIDATES * p, score.size))
    rows = problem.Q[:, places % n].T
    length = jnp.sqrt(jnp.sum(rows * rows, axis=1))
    rows = rows / jnp.where(length > 0, length, 1)[:, None]

    def pick(i: Array, state: tuple) -> tuple:
        rest, taken, is_taken = state
        left = jnp.sqrt(jnp.sum(rest * rest, axis=1))
        k = jnp.argmax(jnp.where(left > 1e3 * eps, score * left, 0))
        is_good = (score[k] > 0) & (left[k] > 1e3 * eps)
        direction = rest[k] / jnp.where(is_good, left[k], 1)
        off_direction = rest - jnp.outer(matmul(rest, direction), direction)
        rest = jnp.where(is_good, off_direction.at[k].set(0), rest)
        return rest, taken.at[i].set(places[k]), is_taken.at[i].set(is_good)

    start = (rows, jnp.zeros(p, places.dtype), jnp.zeros(p, bool))
    _, taken, is_chosen = lax.fori_loop(0, p, pick, start)
    return Chosen(taken // n, taken % n, is_chosen)


def _solve(
    problem: Problem,
    cells: Cells,
    chosen: Chosen,
    is_inside: Bool[Array, "m n"],
    z: Float[Array, " p"],
    v: Float[Array, "m n"],
) -> tuple[Float[Array, " p"], Float[Array, "m n"]]:
    """The next z and v."""
    p, w = problem.Q.shape[0], cells.softness
    x = cells.positions(problem.residuals(z))
    # On the ramp of a cell v follows the residual.
    is_on_ramp = is_inside & (w > 0)
    v = jnp.where(is_on_ramp, x / jnp.where(w > 0, w, 1), v)
    curvature = jnp.sum(jnp.where(is_on_ramp, 1 / jnp.where(w > 0, w, 1), 0), axis=0)
    H = weighted_gram(problem.Q, problem.s * curvature) + problem.P
    added = jnp.finfo(z.dtype).eps ** 0.5 * jnp.max(jnp.sum(cells.height, axis=0))
    added = added / _size(problem)
    H = H + jnp.diag(jnp.where(problem.is_free, 1, added))
    C = jnp.where(chosen.is_chosen[None, :], problem.Q[:, chosen.row], 0)
    corner = jnp.diag(jnp.where(chosen.is_chosen, 0, 1).astype(z.dtype))
    matrix = jnp.block([[H, C], [C.T, corner]])
    e = problem.gradient(z, cells.floor + jnp.sum(v, axis=0))
    off = jnp.where(chosen.is_chosen, -x[chosen.cell, chosen.row], 0)
    change = jnp.linalg.solve(matrix, jnp.concatenate([-e, off]))
    weight = problem.s[chosen.row]
    dv = jnp.where(chosen.is_chosen, change[p:] / jnp.where(weight > 0, weight, 1), 0)
    dz = change[:p]
    moved = matmul(dz, problem.Q)
    v = v.at[chosen.cell, chosen.row].add(dv)
    return z + dz, v + jnp.where(is_on_ramp, moved[None, :] / jnp.where(w > 0, w, 1), 0)
