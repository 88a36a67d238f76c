"""The compiled program behind `fit`: steps in periods, periods in a scan or until the run ends.

What is done once in several steps (thinning the records, measuring the validation loss, looking
whether the run has ended) is done at the end of a period, outside the loop over its steps. The
body of that loop is the same whatever the number of steps, so that a run in two parts gives the
numbers of the run in one.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from linreg_jax._updates import current_rate, make_updater
from linreg_jax.batching import batches_per_epoch, mini_batches
from linreg_jax.dataset import Dataset
from linreg_jax.model import Params
from linreg_jax.records import Fit, Status, TrainState

_GATHERED = 2**19  # numbers of X gathered at once: 2 MB of float32, shared out among the cores


class Problem(NamedTuple):
    """What a program takes as values: others of the same shapes do not compile again.

    Attributes:
      loss: `(params, data) -> scalar`, a pytree.
      data: `Dataset` to train on.
      learning_rate: [] or a schedule, a pytree.
      validation: `Dataset` or None.
      tolerance: [] or None: the run takes all its steps.
      patience: [] int32 validation losses without improvement that end the run; None: the tolerance
        is on the gradient's norm.
      average_from: [] int32 the first step whose iterate is averaged, or None.
    """

    loss: Any
    data: Dataset
    learning_rate: Any
    validation: Dataset | None
    tolerance: Array | None
    patience: Array | None
    average_from: Array | None


class Settings(NamedTuple):
    """What a program is compiled for; hashable.

    Attributes:
      num_steps: steps to take, at most.
      batch_size: None for full batches.
      optimizer, gradient: the factories given to `fit`.
      record_every: steps from one record to the next.
      record_params: whether the parameters are recorded too.
      unroll: of the scan over a period's steps.
      num_turns: how often to look whether the run has ended; None: never, one scan to the end.
    """

    num_steps: int
    batch_size: int | None
    optimizer: Callable
    gradient: Callable
    record_every: int
    record_params: bool
    unroll: int
    num_turns: int | None


class Histories(NamedTuple):
    """What is recorded: the validation losses once a period, the others at every step or record."""

    losses: Array
    gradient_norms: Array
    path: Params | None
    validation_losses: Array | None


class Journey(NamedTuple):
    """A run that may end early, under way.

    Attributes:
      state: where it is.
      last_step: [] int32 the step that it ends at, at the latest.
      turn: [] int32 turns taken.
      histories: NaN where it has not come yet.
    """

    state: TrainState
    last_step: Array
    turn: Array
    histories: Histories


@functools.partial(jax.jit, static_argnames="settings")
def train(problem: Problem, start: Params | TrainState, key, *, settings: Settings) -> Fit:
    """A whole run in one program."""
    state = begin(problem, start, key, settings)
    first_step = state.step
    if settings.num_turns is None:
        state, histories = _scan_periods(problem, state, settings)
    else:
        journey = advance(problem, set_out(problem, state, settings), None, settings)
        state, histories = journey.state, journey.histories
    return finish(problem, first_step, state, histories, settings)


def begin(problem, start, key, settings) -> TrainState:
    """The state that a run starts from: a fresh one, or the one to go on from made ready."""
    none_yet = jnp.zeros((), jnp.int32)
    if isinstance(start, TrainState):
        state = start if key is None else start._replace(key=key)
    else:
        optimizer_state = _updater(problem, settings).init(start)
        state = TrainState(start, optimizer_state, key, step=none_yet, status=none_yet)
    if problem.average_from is None:
        state = state._replace(average=None, num_averaged=None)
    elif state.average is None:
        state = state._replace(average=state.params, num_averaged=none_yet)
    if problem.patience is None:
        state = state._replace(best=None, best_loss=None, num_waited=None)
    elif state.best is None:
        best_loss = problem.loss(state.params, problem.validation)
        state = state._replace(best=state.params, best_loss=best_loss, num_waited=none_yet)
    return state._replace(status=jnp.asarray(Status.RUNNING, jnp.int32))


def set_out(problem, state, settings) -> Journey:
    """A `Journey` at its start."""
    last_step = state.step + settings.num_steps
    recorded = jax.eval_shape(_make_turn(problem, settings, last_step), state)[1]

    def unwritten(part):
        return jnp.full((_turns(problem, settings) * part.shape[0], *part.shape[1:]), jnp.nan)

    histories = jax.tree.map(lambda part: unwritten(part).astype(part.dtype), recorded)
    return Journey(state, last_step, jnp.zeros((), jnp.int32), histories)


def advance(problem, journey: Journey, until, settings) -> Journey:
    """Turns, until the run ends or `until` of them are taken; None: all there are."""
    take = _make_turn(problem, settings, journey.last_step)
    last_turn = _turns(problem, settings) if until is None else until

    def goes_on(journey):
        return (journey.state.status == Status.RUNNING) & (journey.turn < last_turn)

    def take_turn(journey):
        state, recorded = take(journey.state)

        def write(history, part):
            at = (journey.turn * part.shape[0], *[0] * (part.ndim - 1))
            return lax.dynamic_update_slice(history, part, at)

        histories = jax.tree.map(write, journey.histories, recorded)
        return journey._replace(state=state, turn=journey.turn + 1, histories=histories)

    return lax.while_loop(goes_on, take_turn, journey)


def finish(problem, first_step, state, histories, settings) -> Fit:
    """The `Fit` that a state and its histories make."""
    kept = _kept_every(problem, settings)
    num_kept = -(-settings.num_steps // kept)

    def thin(history):
        return history[:num_kept][:: settings.record_every // kept]

    status = jnp.where(state.status == Status.RUNNING, Status.OUT_OF_STEPS, state.status)
    status = status.astype(jnp.int32)
    state = state._replace(status=status)
    validation_losses = histories.validation_losses
    if validation_losses is not None:
        validation_losses = validation_losses[
            : -(-settings.num_steps // _length(problem, settings))
        ]
    dtype = state.params.weights.dtype
    diverged = status == Status.DIVERGED
    last_step = jnp.where(diverged, state.step, jnp.maximum(state.step - 1, 0))
    return Fit(
        params=state.params if state.best is None else state.best,
        losses=thin(histories.losses),
        gradient_norms=thin(histories.gradient_norms),
        validation_losses=validation_losses,
        path=jax.tree.map(thin, histories.path),
        num_steps=state.step - first_step,
        status=status,
        learning_rate=current_rate(problem.learning_rate, last_step, dtype),
        largest_stable_rate=jnp.full((), jnp.nan, dtype),
        state=state,
    )


def _length(problem, settings):
    """Steps in a period: from one validation loss to the next, or whole records without any."""
    every, num_steps = settings.record_every, settings.num_steps
    if problem.validation is not None:
        if settings.batch_size is not None:
            every = batches_per_epoch(problem.data.X.shape[0], settings.batch_size)
        return min(every, num_steps)
    if every == 1:
        wanted = num_steps if settings.num_turns is None else -(-num_steps // settings.num_turns)
    else:
        wanted = _steps_at_once(problem, settings)
    return min(every * -(-wanted // every), num_steps)


def _steps_at_once(problem, settings):
    """Steps whose mini-batches are gathered together."""
    if settings.batch_size is None:
        return 1
    return max(_GATHERED // (settings.batch_size * problem.data.X.shape[1]), 2)


def _kept_every(problem, settings):
    """Steps from one record that a period keeps to the next: all where records do not fit in."""
    return settings.record_every if _length(problem, settings) % settings.record_every == 0 else 1


def _periods_per_turn(problem, settings):
    num_periods = -(-settings.num_steps // _length(problem, settings))
    return -(-num_periods // settings.num_turns)


def _turns(problem, settings):
    steps = _periods_per_turn(problem, settings) * _length(problem, settings)
    return -(-settings.num_steps // steps)


def _scan_periods(problem, state, settings):
    """All the steps in one scan, which reverse-mode differentiation can follow."""
    length = _length(problem, settings)
    whole, rest = divmod(settings.num_steps, length)
    state, histories = _several_periods(problem, state, settings, whole, None)
    if rest:
        state, last = _period(problem, state, settings, rest, None)
        histories = jax.tree.map(lambda *parts: jnp.concatenate(parts), histories, last)
    return state, histories


def _make_turn(problem, settings, last_step):
    """`state -> (state, Histories)` over the periods from one look to the next."""
    periods = _periods_per_turn(problem, settings)
    return lambda state: _several_periods(problem, state, settings, periods, last_step)


def _several_periods(problem, state, settings, number, last_step):
    """`(state, Histories)` after whole periods."""

    def period(state, _):
        return _period(problem, state, settings, _length(problem, settings), last_step)

    if number == 1:
        return period(state, None)
    state, recorded = lax.scan(period, state, length=number)
    return state, jax.tree.map(lambda part: part.reshape((-1, *part.shape[2:])), recorded)


def _period(problem, state, settings, length, last_step):
    """`(state, Histories)` after one period, or as much of it as the run still takes."""
    was_running = _is_running(state, last_step)
    state, recorded = _scan_steps(problem, state, settings, length, last_step)
    recorded = jax.tree.map(lambda part: part[:: _kept_every(problem, settings)], recorded)
    if problem.validation is None:
        return state, recorded
    validation_loss = problem.loss(state.params, problem.validation)
    if problem.patience is not None:
        state = _watch(problem, state, validation_loss, was_running)
    measured = jnp.where(was_running, validation_loss, jnp.nan)
    return state, recorded._replace(validation_losses=measured[None])


def _watch(problem, state, validation_loss, was_running):
    """The best parameters so far, and whether to wait for better ones any longer."""
    better = was_running & (validation_loss < state.best_loss)
    enough = validation_loss < state.best_loss - problem.tolerance
    num_waited = jnp.where(enough, 0, state.num_waited + 1)
    stop = was_running & (num_waited >= problem.patience) & (state.status == Status.RUNNING)
    return state._replace(
        best=_select(better, state.params, state.best),
        best_loss=jnp.where(better, validation_loss, state.best_loss),
        num_waited=jnp.where(was_running, num_waited, state.num_waited),
        status=jnp.where(stop, Status.STOPPED_EARLY, state.status).astype(jnp.int32),
    )


def _scan_steps(problem, state, settings, length, last_step):
    """`(state, Histories)` after steps, one entry of the histories a step."""
    if length == 1 and (settings.num_steps == 1 or _length(problem, settings) > 1):
        # A loop of one turn is not compiled as a loop, and rounds otherwise than one of many: take
        # a second step that changes nothing.
        only = state.step + 1 if last_step is None else jnp.minimum(state.step + 1, last_step)
        state, recorded = _scan_steps(problem, state, settings, 2, only)
        return state, jax.tree.map(lambda part: part[:1], recorded)
    take = _make_step(problem, settings, last_step)

    def steps(state, number):
        if settings.batch_size is None:
            return lax.scan(
                lambda state, _: take(state, problem.data),
                state,
                length=number,
                unroll=min(settings.unroll, number),
            )
        batches = mini_batches(
            problem.data,
            jax.random.wrap_key_data(state.key, impl="threefry2x32"),
            state.step + jnp.arange(number, dtype=jnp.int32),
            settings.batch_size,
        )
        return lax.scan(take, state, batches, unroll=min(settings.unroll, number))

    at_once = length if settings.batch_size is None else _steps_at_once(problem, settings)
    if length <= at_once:
        return steps(state, length)
    whole, rest = divmod(length, at_once)
    state, recorded = lax.scan(lambda state, _: steps(state, at_once), state, length=whole)
    recorded = jax.tree.map(lambda part: part.reshape((-1, *part.shape[2:])), recorded)
    if rest:
        state, last = _scan_steps(problem, state, settings, rest, last_step)
        recorded = jax.tree.map(lambda *parts: jnp.concatenate(parts), recorded, last)
    return state, recorded


def _make_step(problem, settings, last_step):
    """`(state, batch) -> (state, Histories)`: one step, or none where the run has ended."""
    updater = _updater(problem, settings)

    def step(state, batch):
        value, norm, params, optimizer_state = updater.update(
            state.params, state.optimizer_state, batch, state.step
        )
        running = _is_running(state, last_step)
        finite = jnp.isfinite(value) & _all_finite(params)
        moves = running & finite
        status = jnp.where(running & ~finite, Status.DIVERGED, state.status)
        if problem.tolerance is not None and problem.patience is None:
            converged = norm <= problem.tolerance
            status = jnp.where(moves & converged, Status.CONVERGED, status)
            moves = moves & ~converged

        def record(array):
            return jnp.where(running, array, jnp.nan)

        recorded = Histories(
            losses=record(value),
            gradient_norms=record(norm),
            path=jax.tree.map(record, state.params) if settings.record_params else None,
            validation_losses=None,
        )
        moved = state._replace(params=params, optimizer_state=optimizer_state, step=state.step + 1)
        if problem.average_from is not None:
            moved = _average(problem, moved)
        state = _select(moves, moved, state)
        return state._replace(status=status.astype(jnp.int32)), recorded

    return step


def _updater(problem, settings):
    return make_updater(problem.loss, settings.optimizer, settings.gradient, problem.learning_rate)


def _is_running(state, last_step):
    running = state.status == Status.RUNNING
    return running if last_step is None else running & (state.step < last_step)


def _average(problem, state):
    """The mean of the iterates with this one in it."""
    counts = state.step > problem.average_from
    num_averaged = state.num_averaged + counts.astype(jnp.int32)
    share = jnp.where(counts, 1 / jnp.maximum(num_averaged, 1), 0)

    def take_in(mean, new):
        return mean + share.astype(mean.dtype) * (new - mean)

    average = jax.tree.map(take_in, state.average, state.params)
    return state._replace(average=average, num_averaged=num_averaged)


def _all_finite(params):
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]
    return functools.reduce(jnp.logical_and, finite)


def _select(condition, new, old):
    """`new` where the condition holds, leaf by leaf, in the dtypes of `old`."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b).astype(b.dtype), new, old)
