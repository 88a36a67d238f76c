"""Every strength at which the minimum of a lasso changes direction, from the largest down.

With columns F of length 1, targets z, a strength lambda and its share kappa_j for each weight::

    least of  length(z - F w)² / 2 + lambda Σ kappa abs(w)

While the active columns A and their signs s stay, the minimum is a line in lambda::

    w(lambda) = F_A⁺ z - lambda q        q = (F_AᵀF_A)⁻¹ (kappa s)_A

until a weight meets 0 or the correlation of another column meets lambda kappa: a knot. There the
next direction is sought among the columns whose correlation is at its bound. Those of weight 0 may
only move to their side, and must not move where their correlation falls fast enough by itself::

    least of  length(F q)² / 2 - Σ kappa s q      s q ≥ 0 where w = 0

One column comes or goes at a time, as in the non-negative least squares of Lawson and Hanson, so
that several which meet at one knot are told apart too.

Sources: Osborne, Presnell and Turlach 2000, IMA Journal of Numerical Analysis 20; Efron, Hastie,
Johnstone and Tibshirani 2004, Annals of Statistics 32.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from linreg_jax._arithmetic.division import divide
from linreg_jax._kernels import matmul
from linreg_jax._lasso.active_set import Active
from linreg_jax._lasso.inverse import polished, seen, with_column, without_column
from linreg_jax._typing import Array, Bool, Float, Int

_NOISE = 16  # times eps: of numbers that differ by less, rounding is all


class Problem(NamedTuple):
    """What the path is of.

    Attributes:
      F: [p, d] columns of length 1, or 0.
      z: [p] targets.
      kappa: [d] the share of each weight in the penalty.
    """

    F: Float[Array, "p d"]
    z: Float[Array, " p"]
    kappa: Float[Array, " d"]


class Path(NamedTuple):
    """The knots.

    Attributes:
      strengths: [m] falling; those behind the last knot repeat it.
      weights: [m, d] at each.
      num_knots: [] how many there are.
      is_complete: [] whether the path was followed to its end.
    """

    strengths: Float[Array, " m"]
    weights: Float[Array, "m d"]
    num_knots: Int[Array, ""]
    is_complete: Bool[Array, ""]


class _State(NamedTuple):
    path: Path
    strength: Array
    w: Array
    active: Active
    q: Array  # [d] the direction sought so far
    bound: Array  # [d] whether a correlation is at its bound, of those that are not active
    num_steps: Array
    done: Array


class _Line(NamedTuple):
    """The minimum as a line, w = base - strength q, and correlations c = rest + strength rate."""

    base: Array
    q: Array
    rest: Array
    rate: Array


def follow(problem: Problem, least: Float[Array, ""], max_knots: int) -> Path:
    """The `Path` down to the strength `least`.

    Args:
      problem: `Problem`.
      least: [] where it ends, at least 0.
      max_knots: how many knots there is room for.
    """
    F, z, kappa = problem
    c = matmul(z, F)
    first = jnp.max(jnp.abs(c) / kappa)
    nothing = jnp.zeros_like(kappa)
    path = Path(
        jnp.full(max_knots, jnp.maximum(first, least)),
        jnp.zeros((max_knots, kappa.shape[0]), F.dtype),
        jnp.ones((), jnp.int32),
        jnp.array(False),
    )
    state = _State(
        path,
        path.strengths[0],
        nothing,
        Active(nothing, jnp.zeros_like(F.T)),
        nothing,
        jnp.abs(c) >= (1 - _NOISE * jnp.finfo(F.dtype).eps) * first * kappa,
        jnp.zeros((), jnp.int32),
        ~(first > least),
    )
    most = 20 * max_knots + 100
    state = lax.while_loop(
        lambda state: ~state.done & (state.num_steps < most) & (state.path.num_knots <= max_knots),
        lambda state: _step(problem, least, state),
        state,
    )
    path = state.path._replace(
        is_complete=state.done & (state.path.num_knots <= max_knots),
        num_knots=jnp.minimum(state.path.num_knots, max_knots),
    )
    last = path.num_knots - 1
    place = jnp.minimum(jnp.arange(max_knots), last)
    return path._replace(strengths=path.strengths[place], weights=path.weights[place])


def _step(problem: Problem, least: Array, state: _State) -> _State:
    """One column comes or goes, or the strength falls to the next knot."""
    line = _line(problem, state.active)
    kappa, eps = problem.kappa, jnp.finfo(problem.F.dtype).eps
    signs = state.active.signs
    at_zero = (signs != 0) & (state.w == 0)
    wrong = at_zero & (signs * line.q < 0)
    c = line.rest + state.strength * line.rate
    slower = kappa - jnp.sign(c) * line.rate  # than the bound, where a correlation falls
    noise = _NOISE * eps * (kappa + jnp.sqrt(jnp.abs(jnp.sum(kappa * signs * line.q))))
    enters = state.bound & (signs == 0) & (slower > noise)
    branch = jnp.where(jnp.any(wrong), 0, jnp.where(jnp.any(enters), 1, 2))
    j = jnp.argmax(jnp.where(enters, slower, -jnp.inf))
    state = lax.switch(
        branch,
        [
            lambda: _turned(state, line, wrong),
            lambda: _entered(problem, state, line, j, jnp.sign(c[j])),
            lambda: _moved(problem, least, state, line),
        ],
    )
    return state._replace(num_steps=state.num_steps + 1)


def _line(problem: Problem, active: Active) -> _Line:
    F, z, kappa = problem
    signs, P = active
    goal = kappa * signs
    base, q = matmul(P, z), matmul(P, matmul(goal, P))
    # P has the rounding of all changes so far: what it leaves is taken once more.
    left = z - matmul(F, base)
    base = base + matmul(P, left)
    off = jnp.where(signs != 0, goal - matmul(matmul(F, q), F), 0)
    q = q + matmul(P, matmul(off, P))
    rest = matmul(z - matmul(F, base), F)
    eps = jnp.finfo(F.dtype).eps
    noise = _NOISE * eps * F.shape[0] ** 0.5 * (jnp.linalg.norm(z) + jnp.sum(jnp.abs(base)))
    rest = jnp.where(jnp.abs(rest) > noise, rest, 0)
    return _Line(base, q, rest, matmul(matmul(F, q), F))


def _turned(state: _State, line: _Line, wrong: Array) -> _State:
    """From one direction towards the next, until a weight of 0 would go to the wrong side."""
    signs, P = state.active
    along, goal = signs * state.q, signs * line.q
    shares = jnp.where(wrong, divide(along, along - goal), jnp.inf)
    i = jnp.argmin(shares)
    q = state.q + jnp.clip(shares[i], 0, 1) * (line.q - state.q)
    is_i = jnp.arange(signs.shape[0]) == i
    active = Active(jnp.where(is_i, 0, signs), without_column(P, i))
    return state._replace(active=active, q=jnp.where(is_i, 0, q), bound=state.bound | is_i)


def _entered(problem: Problem, state: _State, line: _Line, j: Array, sign: Array) -> _State:
    """Column j comes in; for one that it is made of, where there are such."""
    signs, P = state.active
    column = seen(P, problem.F, j)
    together = -sign * column.coefficients
    blocks = (signs != 0) & (state.w == 0) & (signs * together < 0)
    lengths = jnp.where(blocks, divide(signs * line.q, jnp.abs(together)), jnp.inf)
    i = jnp.argmin(lengths)
    swaps = ~column.is_independent & jnp.any(blocks)
    length = jnp.where(swaps, lengths[i], 0)
    is_i = (jnp.arange(signs.shape[0]) == i) & swaps
    is_j = jnp.arange(signs.shape[0]) == j
    comes = column.is_independent | swaps
    P = jnp.where(swaps, without_column(P, i), P)
    P = jnp.where(comes, with_column(P, j, seen(P, problem.F, j)), P)
    signs = jnp.where(is_i, 0, jnp.where(is_j & comes, sign, signs))
    q = jnp.where(is_i, 0, line.q + length * together)
    q = jnp.where(is_j, sign * length, q)
    # One that is made of others which cannot go stays out; so does, for now, one that is in.
    return state._replace(active=Active(signs, P), q=q, bound=(state.bound & ~is_j) | is_i)


def _moved(problem: Problem, least: Array, state: _State, line: _Line) -> _State:
    """The strength falls to the next knot, which is kept."""
    F, _, kappa = problem
    signs, P = state.active
    strength, eps = state.strength, jnp.finfo(F.dtype).eps
    shrinks = (signs * line.q < 0) & (state.w != 0)
    meets_zero = jnp.where(shrinks, divide(line.base, line.q), -jnp.inf)
    c = line.rest + strength * line.rate
    free = (signs == 0) & ~state.bound
    above = divide(line.rest, kappa - line.rate, at_zero=-jnp.inf)
    below = divide(-line.rest, kappa + line.rate, at_zero=-jnp.inf)
    # One at its bound may still cross over to the other.
    above = jnp.where((free | (c < 0)) & (kappa - line.rate > 0), above, -jnp.inf)
    below = jnp.where((free | (c > 0)) & (kappa + line.rate > 0), below, -jnp.inf)
    meets_bound = jnp.where(signs == 0, jnp.maximum(above, below), -jnp.inf)
    events = jnp.minimum(jnp.maximum(meets_zero, meets_bound), strength)
    following = jnp.max(events)
    is_last = ~(following > least)
    following = jnp.maximum(following, least)
    w = line.base - following * line.q
    tiny = jnp.abs(w) <= _NOISE * eps * (jnp.abs(line.base) + jnp.abs(following * line.q))
    at_event = (events >= following * (1 - _NOISE * eps)) & ~is_last
    w = jnp.where((signs == 0) | tiny | (at_event & shrinks), 0, w)
    c = line.rest + following * line.rate
    at_bound = jnp.abs(c) >= (1 - _NOISE * eps) * following * kappa
    bound = (signs == 0) & (at_bound | at_event)
    place = state.path.num_knots - (state.strength - following <= 4 * eps * strength)
    path = state.path._replace(
        strengths=state.path.strengths.at[place].set(following, mode="drop"),
        weights=state.path.weights.at[place].set(w, mode="drop"),
        num_knots=place + 1,
    )
    active = Active(signs, polished(P, F))
    return state._replace(
        path=path, strength=following, w=w, active=active, q=line.q, bound=bound, done=is_last
    )
