"""The compiled program behind `fit`: steps in periods, periods in a scan or until the run ends.

A period is `record_every` steps, or an epoch where mini-batches meet validation data: what is
measured once a period (the validation loss) stands outside the loop over its steps.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from linreg_jax._updates import current_rate, make_updater
from linreg_jax.batching import batches_per_epoch, mini_batch
from linreg_jax.dataset import Dataset
from linreg_jax.model import Params
from linreg_jax.records import Fit, Status, TrainState

_NUM_TURNS = 32  # how often a run that may end early is looked at


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
    """

    num_steps: int
    batch_size: int | None
    optimizer: Callable
    gradient: Callable
    record_every: int
    record_params: bool
    unroll: int


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
    state = begin(problem, start, key, settings=settings)
    first_step = state.step
    if problem.tolerance is None:
        state, histories = _scan_periods(problem, state, settings)
    else:
        _, num_periods = _periods(problem, settings)
        periods_per_turn = -(-num_periods // _NUM_TURNS)
        journey = set_out(problem, state, settings, periods_per_turn)
        last_turn = -(-num_periods // periods_per_turn)
        journey = advance(problem, journey, last_turn, settings, periods_per_turn)
        state, histories = journey.state, journey.histories
    return finish(problem, first_step, state, histories, settings=settings)


def begin(problem, start, key, *, settings) -> TrainState:
    """The state that a run starts from: a fresh one, or the one to go on from made ready."""
    if isinstance(start, TrainState):
        state = start if key is None else start._replace(key=key)
    else:
        updater = _updater(problem, settings)
        zero = jnp.zeros((), jnp.int32)
        state = TrainState(start, updater.init(start), key, zero, zero)
    if problem.average_from is None:
        state = state._replace(average=None, num_averaged=None)
    elif state.average is None:
        state = state._replace(average=state.params, num_averaged=jnp.zeros((), jnp.int32))
    if problem.patience is None:
        state = state._replace(best=None, best_loss=None, num_waited=None)
    elif state.best is None:
        loss = problem.loss(state.params, problem.validation)
        state = state._replace(
            best=state.params, best_loss=loss, num_waited=jnp.zeros((), jnp.int32)
        )
    return state._replace(status=jnp.asarray(Status.RUNNING, jnp.int32))


def _scan_periods(problem, state, settings):
    """All the steps in one scan, which reverse-mode differentiation can follow."""
    length, _ = _periods(problem, settings)
    whole, rest = divmod(settings.num_steps, length)
    period = _make_period(problem, settings)
    state, histories = lax.scan(lambda state, _: period(state, length), state, length=whole)
    histories = _join_periods(histories)
    if rest:
        state, last = period(state, rest)
        last = last._replace(validation_losses=_one(last.validation_losses))
        histories = jax.tree.map(lambda *parts: jnp.concatenate(parts), histories, last)
    return state, histories


def set_out(problem, state, settings, periods_per_turn) -> Journey:
    """A `Journey` at its start."""
    _, num_periods = _periods(problem, settings)
    num_turns = -(-num_periods // periods_per_turn)
    recorded = jax.eval_shape(_make_turn(problem, settings, periods_per_turn, state.step), state)[1]
    histories = jax.tree.map(
        lambda part: jnp.full((num_turns * part.shape[0], *part.shape[1:]), jnp.nan, part.dtype),
        recorded,
    )
    last_step = state.step + settings.num_steps
    return Journey(state, last_step, jnp.zeros((), jnp.int32), histories)


def advance(problem, journey: Journey, last_turn, settings, periods_per_turn) -> Journey:
    """Turns of `periods_per_turn` periods, until the run ends or `last_turn` turns are taken."""
    turn_of = _make_turn(problem, settings, periods_per_turn, journey.last_step)

    def goes_on(journey):
        return (journey.state.status == Status.RUNNING) & (journey.turn < last_turn)

    def take_turn(journey):
        state, recorded = turn_of(journey.state)

        def write(history, part):
            at = (journey.turn * part.shape[0], *[0] * (part.ndim - 1))
            return lax.dynamic_update_slice(history, part, at)

        histories = jax.tree.map(write, journey.histories, recorded)
        return journey._replace(state=state, turn=journey.turn + 1, histories=histories)

    return lax.while_loop(goes_on, take_turn, journey)


def finish(problem, first_step, state, histories, *, settings) -> Fit:
    """The `Fit` that a state and its histories make."""
    length, num_periods = _periods(problem, settings)
    kept = _kept_every(settings, length)
    num_kept = -(-settings.num_steps // kept)

    def thin(history):
        return history[:num_kept][:: settings.record_every // kept]

    ended = state.status == Status.RUNNING
    status = jnp.where(ended, Status.OUT_OF_STEPS, state.status).astype(jnp.int32)
    state = state._replace(status=status)
    validation_losses = histories.validation_losses
    dtype = state.params.weights.dtype
    num_steps = state.step - first_step
    diverged = status == Status.DIVERGED
    last_step = jnp.where(diverged, state.step, jnp.maximum(state.step - 1, 0))
    return Fit(
        params=state.params if state.best is None else state.best,
        losses=thin(histories.losses),
        gradient_norms=thin(histories.gradient_norms),
        validation_losses=None if validation_losses is None else validation_losses[:num_periods],
        path=jax.tree.map(thin, histories.path),
        num_steps=num_steps,
        status=status,
        learning_rate=current_rate(problem.learning_rate, last_step, dtype),
        largest_stable_rate=jnp.full((), jnp.nan, dtype),
        state=state,
    )


def _periods(problem, settings):
    """`(length, number)` of the periods; the last one may be shorter."""
    length = settings.record_every
    if problem.validation is not None and settings.batch_size is not None:
        length = batches_per_epoch(problem.data.X.shape[0], settings.batch_size)
    length = min(length, settings.num_steps)
    return length, -(-settings.num_steps // length)


def _kept_every(settings, length):
    """Steps between what a period keeps: `record_every` where periods are made of such."""
    return settings.record_every if length % settings.record_every == 0 else 1


def _join_periods(histories):
    """[periods, kept, ...] -> [periods kept, ...]; the validation losses are one a period."""
    joined = jax.tree.map(
        lambda part: part.reshape((-1, *part.shape[2:])),
        histories._replace(validation_losses=None),
    )
    return joined._replace(validation_losses=histories.validation_losses)


def _one(value):
    return None if value is None else value[None]


def _updater(problem, settings):
    return make_updater(problem.loss, settings.optimizer, settings.gradient, problem.learning_rate)


def _make_turn(problem, settings, periods_per_turn, last_step):
    """`state -> (state, Histories)` over several periods, still from `last_step` on."""
    length, _ = _periods(problem, settings)
    period = _make_period(problem, settings, last_step)

    def turn(state):
        state, recorded = lax.scan(
            lambda state, _: period(state, length), state, length=periods_per_turn
        )
        return state, _join_periods(recorded)

    return turn


def _make_period(problem, settings, last_step=None):
    """`(state, length) -> (state, Histories)` over the steps of one period."""
    step = _make_step(problem, settings, last_step)

    def period(state, length):
        was_running = _is_running(state, last_step)
        state, recorded = lax.scan(step, state, length=length, unroll=min(settings.unroll, length))
        kept = _kept_every(settings, length)
        recorded = jax.tree.map(lambda history: history[::kept], recorded)
        if problem.validation is None:
            return state, recorded
        validation_loss = problem.loss(state.params, problem.validation)
        if problem.patience is not None:
            state = _watch(problem, state, validation_loss, was_running)
        validation_loss = jnp.where(was_running, validation_loss, jnp.nan)
        return state, recorded._replace(validation_losses=validation_loss)

    return period


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


def _make_step(problem, settings, last_step):
    """`(state, _) -> (state, Histories)`: one step, or none where the run has ended."""
    updater = _updater(problem, settings)

    def step(state, _):
        batch = problem.data
        if settings.batch_size is not None:
            key = jax.random.wrap_key_data(state.key, impl="threefry2x32")
            batch = mini_batch(problem.data, key, state.step, settings.batch_size)
        value, norm, params, optimizer_state = updater.update(
            state.params, state.optimizer_state, batch, state.step
        )
        running = _is_running(state, last_step)
        finite = jnp.isfinite(value) & jnp.isfinite(norm) & _all_finite(params)
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


def _is_running(state, last_step):
    running = state.status == Status.RUNNING
    return running if last_step is None else running & (state.step < last_step)


def _average(problem, state):
    """The mean of the iterates with this one in it."""
    counts = state.step > problem.average_from
    num_averaged = state.num_averaged + counts.astype(jnp.int32)
    share = jnp.where(counts, 1 / jnp.maximum(num_averaged, 1), 0)
    average = jax.tree.map(
        lambda mean, new: mean + share.astype(mean.dtype) * (new - mean),
        state.average,
        state.params,
    )
    return state._replace(average=average, num_averaged=num_averaged)


def _all_finite(params):
    return functools.reduce(
        jnp.logical_and, [jnp.isfinite(p).all() for p in jax.tree.leaves(params)]
    )


def _select(condition, new, old):
    """`new` where the condition holds, leaf by leaf, in the dtypes of `old`."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b).astype(b.dtype), new, old)
