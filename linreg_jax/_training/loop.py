"""The compiled program behind `fit`: steps in periods, periods in a scan or until the run ends.

What is done once in several steps (thinning the records, measuring the validation loss, looking
whether the run has ended) is done at the end of a period, outside the loop over its steps.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from linreg_jax._training.rates import largest_stable_rate
from linreg_jax._training.steps import (
    Histories,
    Problem,
    Settings,
    is_running,
    period_length,
    scan_steps,
    select,
    updater_of,
)
from linreg_jax._training.updates import current_rate
from linreg_jax.model import Params
from linreg_jax.records import Fit, Status, TrainState


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
        optimizer_state = updater_of(problem, settings).init(start)
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
    else:  # who goes on after an early stop wants to wait again
        stopped = state.status == Status.STOPPED_EARLY
        num_waited = jnp.where(stopped, 0, jnp.asarray(state.num_waited))
        state = state._replace(num_waited=num_waited)
    return state._replace(status=jnp.asarray(Status.RUNNING, jnp.int32))


def set_out(problem, state, settings) -> Journey:
    """A `Journey` at its start."""
    last_step = state.step + settings.num_steps
    recorded = jax.eval_shape(_make_turn(problem, settings, last_step), state)[1]

    def unwritten(part):
        return jnp.full(
            (number_of_turns(problem, settings) * part.shape[0], *part.shape[1:]), jnp.nan
        )

    histories = jax.tree.map(lambda part: unwritten(part).astype(part.dtype), recorded)
    return Journey(state, last_step, jnp.zeros((), jnp.int32), histories)


def advance(problem, journey: Journey, until, settings) -> Journey:
    """Turns, until the run ends or `until` of them are taken; None: all there are."""
    take = _make_turn(problem, settings, journey.last_step)
    last_turn = number_of_turns(problem, settings) if until is None else until

    def goes_on(journey):
        return (journey.state.status == Status.RUNNING) & (journey.turn < last_turn)

    def take_turn(journey):
        state, recorded = take(journey.state)

        def write(history: Array, part: Array) -> Array:
            first = journey.turn * part.shape[0]
            return lax.dynamic_update_slice_in_dim(history, part, first, axis=0)

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
            : -(-settings.num_steps // period_length(problem, settings))
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
        largest_stable_rate=largest_stable_rate(
            problem.loss, problem.data, state.params, diverged, settings.mesh
        ),
        state=state,
    )


def _kept_every(problem, settings):
    """Steps from one record that a period keeps to the next: all where records do not fit in."""
    return (
        settings.record_every
        if period_length(problem, settings) % settings.record_every == 0
        else 1
    )


def _periods_per_turn(problem, settings):
    num_periods = -(-settings.num_steps // period_length(problem, settings))
    return -(-num_periods // settings.num_turns)


def number_of_turns(problem, settings) -> int:
    """How many turns a run that may end early has."""
    steps = _periods_per_turn(problem, settings) * period_length(problem, settings)
    return -(-settings.num_steps // steps)


def _scan_periods(problem, state, settings):
    """All the steps in one scan, which reverse-mode differentiation can follow."""
    length = period_length(problem, settings)
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
        return _period(problem, state, settings, period_length(problem, settings), last_step)

    if number == 1:
        return period(state, None)
    state, recorded = lax.scan(period, state, length=number)
    return state, jax.tree.map(lambda part: part.reshape((-1, *part.shape[2:])), recorded)


def _period(problem, state, settings, length, last_step):
    """`(state, Histories)` after one period, or as much of it as the run still takes."""
    was_running = is_running(state, last_step)
    state, recorded = scan_steps(problem, state, settings, length, last_step)
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
        best=select(better, state.params, state.best),
        best_loss=jnp.where(better, validation_loss, state.best_loss),
        num_waited=jnp.where(was_running, num_waited, state.num_waited),
        status=jnp.where(stop, Status.STOPPED_EARLY, state.status).astype(jnp.int32),
    )
