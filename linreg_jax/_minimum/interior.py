"""Interior points: Newton steps towards a loss made of cells, with every row kept off its kinks.

With v, g = height - v, t and t' more than 0, the path to the minimum is, mu to 0::

    Q S (floor + Σ_j v_j) + P z = 0      r - start = softness v + t - t'      t g = t' v = mu

Each step is a weighted least-squares problem whose weights are 1 / (softness + t / g + t' / v):
much for rows on a kink, next to nothing for others.

Source: Portnoy and Koenker 1997, Statistical Science 12; the predictor and corrector are Mehrotra's
(1992, SIAM Journal on Optimization 2), with a bound on the corrector, without which outliers halt
the steps.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from linreg_jax._algebra.settled import weighted_gram
from linreg_jax._kernels import matmul
from linreg_jax._minimum.barrier import Iterate, Rows, start
from linreg_jax._minimum.cells import Cells
from linreg_jax._minimum.point import Goal, Point, better, certified
from linreg_jax._minimum.problem import Problem, Scaled, solve_positive
from linreg_jax._typing import Array, Bool, Float, Int

_MOST_ITERATIONS = 100
_PATIENCE = 8  # iterations without a better point, once mu has halved;
_FIRST_PATIENCE = 25  # before that outliers may leave room for small steps only
_TO_THE_BOUNDARY = 0.9995
_LARGEST_CORRECTOR = 10.0  # of the mu aimed at


class _State(NamedTuple):
    iterate: Iterate
    best: Point
    mu: Array  # the least when something had last moved
    e: Array  # the length of the gradient, the same
    num_steps: Array
    waited: Array


def interior(
    problem: Problem,
    scaled: Scaled,
    cells: Cells,
    z: Float[Array, " p"],
    goal: Goal,
    is_wanted: Bool[Array, ""],
) -> tuple[Point, Int[Array, ""]]:
    """The best point found and the number of iterations.

    Args:
      problem: a `Problem`.
      scaled: its loss.
      cells: the same, or what is near it.
      z: [p] where to start.
      goal: when to stop.
      is_wanted: [] False: not a step is taken.
    """
    rows = Rows.of(problem, cells)

    def point_at(z: Array, v: Array) -> Point:
        r = problem.residuals(z)
        v = rows.only_live(jnp.clip(v, 0, cells.height))
        excess = cells.excess(cells.positions(r), v)
        return certified(problem, scaled, z, rows.slopes(v), r, excess, v)

    def at_rest(z: Array) -> Point:
        return point_at(z, cells.nearest(cells.positions(problem.residuals(z))))

    def cond_fun(state: _State) -> Array:
        patience = jnp.where(state.mu < first_mu / 2, _PATIENCE, _FIRST_PATIENCE)
        is_left = ~state.best.is_within(goal) & (state.waited < patience)
        return is_wanted & is_left & (state.num_steps < _MOST_ITERATIONS)

    def body_fun(state: _State) -> _State:
        iterate, mu, e = _step(problem, rows, state.iterate)
        point = point_at(iterate.z, iterate.v)
        # Where mu is far below the gap, rounding is what is left of it.
        is_nearer = (mu < 0.9 * state.mu) & (mu * rows.total > 0.01 * state.best.gap)
        is_more_balanced = e < 0.97 * state.e
        has_moved = (point.gap < 0.9 * state.best.gap) | is_nearer | is_more_balanced
        waited = jnp.where(has_moved, 0, state.waited + 1)
        # Kept until they have fallen by so much: small steps add up.
        mu, e = (
            jnp.where(has_moved, jnp.fmin(new, old), old)
            for new, old in ((mu, state.mu), (e, state.e))
        )
        return _State(iterate, better(state.best, point), mu, e, state.num_steps + 1, waited)

    # Where z fits every row, or 0 does, there is nothing to do, and nothing to be scaled by.
    best = better(at_rest(z), at_rest(jnp.zeros_like(z)))
    zero, infinity = jnp.zeros((), jnp.int32), jnp.full((), jnp.inf, z.dtype)
    state = _State(start(problem, rows, z), best, infinity, infinity, zero, zero)
    first_mu = rows.mean_product(state.iterate)
    state = lax.while_loop(cond_fun, body_fun, state)
    return state.best, state.num_steps


def _step(problem: Problem, rows: Rows, at: Iterate) -> tuple[Iterate, Array, Array]:
    """The next iterate, and of this one mu and the length of the gradient."""
    s, w = problem.s, rows.cells.softness
    z, v, g, t, t_below = at
    e = problem.gradient(z, rows.slopes(v))
    missing = rows.cells.positions(problem.residuals(z)) - w * v - (t - t_below)
    q = rows.only_live(1 / (w + t / g + t_below / v))
    H = weighted_gram(problem.Q, s * jnp.sum(q, axis=0)) + problem.P
    H = H + jnp.diag(problem.is_free.astype(H.dtype))

    def direction(change: Array, change_below: Array) -> Iterate:
        """That in which t g and t' v change by so much."""
        rest = missing - change / g + change_below / v
        dz = solve_positive(H, -e - matmul(problem.Q, s * jnp.sum(q * rest, axis=0)))
        dv = q * (matmul(dz, problem.Q)[None, :] + rest)
        dt, dt_below = (change + t * dv) / g, (change_below - t_below * dv) / v
        return Iterate(dz, dv, -dv, dt, dt_below)

    d = direction(-t * g, -t_below * v)
    mu = rows.mean_product(at)
    primal, dual = (jnp.minimum(1, length) for length in rows.lengths(problem, at, d))
    aim = mu * (rows.mean_product(at.moved(d, primal, dual)) / mu) ** 3
    most = _LARGEST_CORRECTOR * aim
    product, product_below = (jnp.clip(a, -most, most) for a in (d.t * d.g, d.t_below * d.v))
    d = direction(aim - t * g - product, aim - t_below * v - product_below)
    primal, dual = (
        jnp.minimum(1, _TO_THE_BOUNDARY * length) for length in rows.lengths(problem, at, d)
    )
    return at.moved(d, primal, dual), mu, jnp.sqrt(jnp.sum(e * e))
