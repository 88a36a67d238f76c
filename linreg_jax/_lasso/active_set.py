"""The minimum of a lasso of few rows, by the columns whose weights are not 0.

With columns F of length 1, weights w and a strength lambda_j for each of them::

    least of  length(z - F w)² / 2 + Σ lambda abs(w)

is where F_jᵀ(z - F w) is lambda_j sign(w_j) for every weight that is not 0, and no larger than
lambda_j in size for the others. Given which weights are not 0, and their signs, that is a linear
system. So weights move to its solution until one of them meets 0, which leaves; at the solution the
column that breaks the rule most enters. One that is made of the others moves with them, along a
line on which the squares stay and the penalty falls, until one of them meets 0. The loss falls from
one solution to the next, so none comes twice, and it ends.

Sources: Osborne, Presnell and Turlach 2000, IMA Journal of Numerical Analysis 20; Lee, Battle,
Raina and Ng 2006, NIPS 19 (feature-sign search).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from linreg_jax._kernels import matmul
from linreg_jax._lasso.inverse import polished, seen, with_column, without_column
from linreg_jax._typing import Array, Bool, Float, Int

_NOISE = 4  # times sqrt(p) eps: correlations that differ by less are equal
_STEPS_A_COLUMN = 30


class Active(NamedTuple):
    """Which weights are not 0.

    Attributes:
      signs: [d] 1 or -1; 0 where the weight is 0.
      inverse: [d, p] the pseudoinverse of their columns, 0 in other rows.
    """

    signs: Float[Array, " d"]
    inverse: Float[Array, "d p"]


class Found(NamedTuple):
    """The minimum.

    Attributes:
      active: `Active`.
      change: [d] of the weights, from where they started.
      num_steps: [] columns that entered or left, and steps in between.
      is_done: [] False: the most steps were taken.
    """

    active: Active
    change: Float[Array, " d"]
    num_steps: Int[Array, ""]
    is_done: Bool[Array, ""]


class _State(NamedTuple):
    active: Active
    change: Array
    settled: Array  # whether the weights solve the linear system
    refused: Array  # [d] columns that rounding alone would let in
    num_steps: Array
    done: Array


def minimise(
    F: Float[Array, "p d"],
    strengths: Float[Array, " d"],
    c: Float[Array, " d"],
    rounding: Float[Array, ""],
    start: Float[Array, " d"],
    active: Active,
) -> Found:
    """The minimum, from weights that are given by the correlations that they leave.

    Args:
      F: [p, d] columns of length 1, or 0.
      strengths: [d] of the penalty.
      c: [d] correlations of the columns with the residual z - F start.
      rounding: [] of c.
      start: [d] weights.
      active: those that are not 0, with their signs.
    """
    active = active._replace(inverse=polished(active.inverse, F))
    nothing = jnp.zeros_like(start)
    state = _State(
        active,
        nothing,
        jnp.array(False),
        nothing > 0,
        jnp.zeros((), jnp.int32),
        jnp.array(False),
    )
    most = _STEPS_A_COLUMN * F.shape[1] + 100
    state = lax.while_loop(
        lambda state: ~state.done & (state.num_steps < most),
        lambda state: _step(F, strengths, (c, rounding), start, state),
        state,
    )
    return Found(state.active, state.change, state.num_steps, state.done)


def newton_step(
    c: Float[Array, " d"], strengths: Float[Array, " d"], active: Active
) -> Float[Array, " d"]:
    """[d] from the weights to the solution of the linear system of the active ones."""
    signs, P = active
    return matmul(P, matmul(jnp.where(signs != 0, c - strengths * signs, 0), P))


def _step(
    F: Array, strengths: Array, at_start: tuple[Array, Array], start: Array, state: _State
) -> _State:
    signs, P = state.active
    w = start + state.change
    c, rounding = at_start
    moved = matmul(F, state.change)
    c = c - matmul(moved, F)
    # Towards the solution of the linear system, if the weights are not there.
    towards = newton_step(c, strengths, state.active)
    # Else with the column that breaks the rule most, as far as its correlation says.
    eps = jnp.finfo(F.dtype).eps
    size = jnp.sum(jnp.abs(state.change))
    noise = rounding + _NOISE * eps * (F.shape[0] ** 0.5 * size + strengths)
    excess = jnp.abs(c) - strengths
    breaks = (signs == 0) & ~state.refused & (excess > noise)
    j = jnp.argmax(jnp.where(breaks, excess, -jnp.inf))
    enters = state.settled & jnp.any(breaks)
    column, sign = seen(P, F, j), jnp.sign(c[j])
    is_j = jnp.arange(w.shape[0]) == j
    together = sign * jnp.where(is_j, 1, -column.coefficients)
    direction = jnp.where(state.settled, together, towards)
    alone = jnp.where(column.is_independent, excess[j] / column.squares, jnp.inf)
    length, blocked, i = _until_zero(w, direction, signs, jnp.where(state.settled, alone, 1))
    possible = jnp.isfinite(length)
    moves = (~state.settled | enters) & possible
    change = jnp.where(moves, state.change + length * direction, state.change)
    leaves = (jnp.arange(w.shape[0]) == i) & blocked & moves
    change = jnp.where(leaves, -start, change)
    signs = jnp.where(leaves, 0, signs)
    P = jnp.where(jnp.any(leaves), without_column(P, i), P)
    column = seen(P, F, j)
    enters_now = enters & moves & (column.is_independent | (length > 0))
    P = jnp.where(enters_now, with_column(P, j, column), P)
    signs = jnp.where(is_j & enters_now, sign, signs)
    return _State(
        Active(signs, P),
        change,
        ~(blocked & moves),
        state.refused | (is_j & enters & ~possible),
        state.num_steps + 1,
        state.settled & ~enters,
    )


def _until_zero(
    w: Array, direction: Array, signs: Array, most: Array
) -> tuple[Array, Array, Array]:
    """How far along a direction until an active weight meets 0, whether one does, and which."""
    falls = signs * direction < 0
    lengths = jnp.where(falls, jnp.maximum(signs * w, 0) / jnp.abs(direction), jnp.inf)
    i = jnp.argmin(lengths)
    blocked = lengths[i] < most
    return jnp.minimum(lengths[i], most), blocked, i
