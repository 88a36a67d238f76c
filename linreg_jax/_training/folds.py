"""A loop of full batches that reads few rows: it folds the others where that pays.

A run stands at a level. At level 0 every row is read; each further level folds the rows of the one
before about an anchor, and holds while the parameters are within its radius. Nothing but the
parameters of the anchors is kept from one call to the next: whoever continues a run folds there
again, to the bit.

Steps on the rows of a level go on until `wait` of them are taken. Then a fold has to last as long
as what it costs, at the pace of those steps; where it would not, or did not, the next one waits
twice as long.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from linreg_jax._algebra.settled import Rows, as_theta, distance, reached
from linreg_jax._loss import Loss
from linreg_jax._training.parts import select
from linreg_jax._training.result import Anchor, Status, TrainState
from linreg_jax._training.views import View, folded
from linreg_jax._typing import Array, Bool, Float, Int

_SHARES = (8, 64)  # one row in so many is kept at each level
_PAYS = 48  # steps on the rows of a level, which folding them costs
_FIRST_WAIT, _LONGEST_WAIT = 16, 1024  # steps until a fold is considered, after one that failed
_LOOKS_AFTER = 32  # steps at most, after a sample of the rows promised too little
_SAMPLED, _FEWEST_SAMPLED = 16, 512  # one row in so many, but not so few

Records = Any  # what a step records, a pytree


class Run(NamedTuple):
    """Where a run is in a period.

    Attributes:
      state: `TrainState`.
      records: of the period, a pytree of arrays [period, ...].
    """

    state: TrainState
    records: Records


def init_anchors(state: TrainState) -> tuple[Anchor, ...]:
    """The anchors that a run starts with: those of the state that it continues from, or none."""
    return (_fresh(state),) * len(_SHARES) if state.anchors is None else state.anchors


def _fresh(state: TrainState) -> Anchor:
    """An `Anchor` from here on, that nothing is folded at."""
    return Anchor(
        params=state.params,
        is_folded=jnp.zeros((), bool),
        step=state.step,
        wait=jnp.full((), _FIRST_WAIT, jnp.int32),
        reach=jnp.zeros((), state.params.weights.dtype),
    )


def take_steps(
    take_step: Callable[[TrainState, View], tuple[TrainState, Records]],
    loss: Loss,
    view: View,
    state: TrainState,
    end: Int[Array, ""],
    length: int,
) -> tuple[TrainState, Records]:
    """Steps until the run has ended or is at `end`, no more than `length`, and what they record.

    Args:
      take_step: `(state, view) -> (state, record)`.
      loss: made of parabolas and lines.
      view: of all rows.
      state: with anchors.
      end: [] int32.
      length: of the records; those of steps that were not taken are NaN.
    """
    shapes = jax.eval_shape(take_step, state, view)[1]
    unwritten = jax.tree.map(
        lambda leaf: jnp.full((length, *leaf.shape), jnp.nan, leaf.dtype), shapes
    )
    first = state.step

    def is_on(run: Run) -> Array:
        return (run.state.status == Status.RUNNING) & (run.state.step < end)

    def take(view: View, run: Run) -> Run:
        place = run.state.step - first
        moved, record = take_step(run.state, view)
        return Run(
            moved,
            jax.tree.map(
                lambda history, number: lax.dynamic_update_index_in_dim(history, number, place, 0),
                run.records,
                record,
            ),
        )

    run = _at_level(0, take, loss, view, is_on)(Run(state, unwritten))
    return run.state, run.records


def _at_level(
    level: int,
    take: Callable[[View, Run], Run],
    loss: Loss,
    view: View,
    is_on: Callable[[Run], Array],
) -> Callable[[Run], Run]:
    """What takes steps on the rows of a view, or of fewer, for as long as the run is on."""
    if level == len(_SHARES):
        return lambda run: lax.while_loop(is_on, lambda run: take(view, run), run)
    most, sample = _rows_kept(view.rows.A.shape[1], level), _sample(view.rows)

    def step(run: Run) -> Run:
        run = take(view, run)
        anchor = _anchor(run, level)
        reach = jnp.maximum(anchor.reach, _moved(run, level))
        return _with_anchors(run, level, anchor._replace(reach=reach))

    def waits(run: Run) -> Array:
        anchor = _anchor(run, level)
        is_waiting = run.state.step - anchor.step < anchor.wait
        return is_on(run) & ~anchor.is_folded & is_waiting

    def fold_if_it_pays(run: Run) -> Run:
        run = _look(run, level, loss, sample)

        def read_fewer(run: Run) -> Run:
            at = as_theta(_anchor(run, level).params)
            found = reached(loss, view.rows, at, most)

            def is_within(run: Run) -> Array:
                return is_on(run) & (distance(as_theta(run.state.params), at) < found.radius)

            fewer = folded(loss, view, at, found, most)
            run = _at_level(level + 1, take, loss, fewer, is_within)(run)
            return select(is_on(run) & ~is_within(run), _leave(run, level), run)

        return lax.cond(_anchor(run, level).is_folded, read_fewer, lambda run: run, run)

    def turn(run: Run) -> Run:
        run = lax.while_loop(waits, step, run)
        return lax.cond(is_on(run), fold_if_it_pays, lambda run: run, run)

    return lambda run: lax.while_loop(is_on, turn, run)


def _look(run: Run, level: int, loss: Loss, sample: Rows) -> Run:
    """The run with what a sample of the rows decides about a fold here, if none goes on."""
    state, anchor = run.state, _anchor(run, level)
    most = _rows_kept(sample.A.shape[1], level)
    radius = reached(loss, sample, as_theta(state.params), most).radius
    pays = (radius >= _needed(anchor, state.step)) & (radius > 0)
    longer = jnp.clip(2 * anchor.wait, _FIRST_WAIT, _LOOKS_AFTER)
    wait = jnp.where(pays, anchor.wait, jnp.maximum(anchor.wait, longer))
    return select(anchor.is_folded, run, _begin(run, level, pays, wait))


def _sample(rows: Rows) -> Rows:
    """One row in so many, or all of a few."""
    n = rows.A.shape[1]
    stride = min(max(n // _FEWEST_SAMPLED, 1), _SAMPLED)
    return Rows(*(columns[..., ::stride] for columns in rows))


def _needed(anchor: Anchor, step: Int[Array, ""]) -> Float[Array, ""]:
    """[] the radius of a fold that lasts as long as what it costs, at the pace since the anchor.

    After a fold that lasted it need not reach as far as that one did; after steps that swing it has
    to reach over all of them.
    """
    least = jnp.where(anchor.wait == 0, 0, 1)
    steps = jnp.maximum(step - anchor.step, 1).astype(anchor.reach.dtype)
    return anchor.reach * jnp.maximum(least, _PAYS / steps)


def _rows_kept(num_rows: int, level: int) -> int:
    """How many rows the next level keeps, of those of this one."""
    share = _SHARES[level] // (_SHARES[level - 1] if level else 1)
    return -(-num_rows // share)


def _anchor(run: Run, level: int) -> Anchor:
    anchors = run.state.anchors
    assert anchors is not None  # as `init_anchors` made them
    return anchors[level]


def _moved(run: Run, level: int) -> Array:
    """[] how far the parameters are from those of the anchor."""
    return distance(as_theta(run.state.params), as_theta(_anchor(run, level).params))


def _with_anchors(run: Run, level: int, *anchors: Anchor) -> Run:
    """The run with other anchors from a level on."""
    before = run.state.anchors or ()
    all_levels = (*before[:level], *anchors, *before[level + len(anchors) :])
    return run._replace(state=run.state._replace(anchors=all_levels))


def _begin(run: Run, level: int, folds: Bool[Array, ""], wait: Int[Array, ""]) -> Run:
    """From here on a fold, or steps on the same rows for so long; the inner levels afresh."""
    fresh = _fresh(run.state)
    here = fresh._replace(is_folded=folds, wait=wait)
    return _with_anchors(run, level, here, *[fresh] * (len(_SHARES) - level - 1))


def _leave(run: Run, level: int) -> Run:
    """Out of the radius: the next fold at once if this one has paid, or after a longer wait."""
    anchor = _anchor(run, level)
    has_paid = run.state.step - anchor.step >= _PAYS
    paid = anchor._replace(
        is_folded=jnp.zeros((), bool), wait=jnp.zeros((), jnp.int32), reach=_moved(run, level)
    )
    longer = jnp.clip(2 * anchor.wait, _FIRST_WAIT, _LONGEST_WAIT)
    waits = _fresh(run.state)._replace(wait=longer)
    kept = jax.tree.map(lambda a, b: jnp.where(has_paid, a, b), paid, waits)
    return _with_anchors(run, level, kept)
