"""The training loop: `init`, `step`, `period`, `is_done`.

`train` is the whole run in one compiled program; `progress` calls the same parts from the host, and
`outcome.finish` makes a `Fit` of the last carry.
"""

import functools
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax

from linreg_jax._pytrees import as_function
from linreg_jax._training.batches import scan_batches
from linreg_jax._training.folds import init_anchors, take_steps
from linreg_jax._training.layout import (
    Problem,
    Settings,
    batch_for_step,
    smooth_part,
    value_and_gradient,
)
from linreg_jax._training.optimizers import flat_state, transformation_of, update_params
from linreg_jax._training.outcome import Carry, Histories, Record, finish
from linreg_jax._training.parts import (
    add_to_average,
    init_average,
    init_best,
    look_at_validation,
    measured_on,
    select,
)
from linreg_jax._training.rates import current_rate, euclidean_norm
from linreg_jax._training.result import Fit, Status, TrainState
from linreg_jax._training.views import View
from linreg_jax._typing import Array, Bool, Float, Int
from linreg_jax.dataset import Dataset
from linreg_jax.losses import Loss
from linreg_jax.model import Params


@functools.partial(jax.jit, static_argnames="settings")
def train(
    problem: Problem, start: Params | TrainState, key: Array | None, *, settings: Settings
) -> Fit:
    """A whole run in one program."""
    carry = init(problem, start, key, settings)
    take_period = functools.partial(period, problem, settings)
    if problem.can_end_early:
        carry = lax.while_loop(lambda carry: ~is_done(carry, settings), take_period, carry)
    else:  # a loop of known length, through which reverse-mode differentiation can go
        carry = lax.fori_loop(0, settings.num_periods, lambda _, carry: take_period(carry), carry)
    return finish(problem, carry, settings)


def init(
    problem: Problem, start: Params | TrainState, key: Array | None, settings: Settings
) -> Carry:
    """The carry at the start: of a fresh run, or of one that continues from a state."""
    zero = jnp.zeros((), jnp.int32)
    loss = as_function(problem.loss)
    if isinstance(start, TrainState):
        state = start if key is None else start._replace(key=key)
    else:
        optimizer = transformation_of(settings.optimizer, problem.learning_rate)
        optimizer_state = flat_state(optimizer.init(start))
        state = TrainState(start, optimizer_state, key, step=zero, status=zero)
    state = state._replace(
        status=jnp.asarray(Status.RUNNING, jnp.int32),
        average=init_average(problem, state),
        best=init_best(problem, state),
        anchors=None if problem.rows is None else init_anchors(state),
    )
    if state.best is not None:
        is_finite = jnp.isfinite(state.best.loss)
        status = jnp.where(is_finite, state.status, Status.VALIDATION_NOT_FINITE)
        state = state._replace(status=status.astype(jnp.int32))
    nan = jnp.full((), jnp.nan, state.params.weights.dtype)
    initial_loss = nan
    if settings.measures_losses and settings.batch_size is not None:
        initial_loss = loss(state.params, problem.data)
    number = settings.num_periods * (settings.period // settings.kept_every)
    unwritten = functools.partial(jnp.full, fill_value=jnp.nan, dtype=nan.dtype)
    steps = Record(
        numbers=unwritten((number, 2)),
        params=jax.tree.map(lambda leaf: unwritten((number, *leaf.shape)), state.params)
        if settings.record_params
        else None,
    )
    validation_losses = None if problem.validation is None else unwritten((settings.num_periods,))
    return Carry(state, state.step, zero, Histories(steps, validation_losses), initial_loss)


def is_done(carry: Carry, settings: Settings) -> Bool[Array, ""]:
    """[] bool, whether the run has ended or taken all its steps."""
    ended = carry.state.status != Status.RUNNING
    return ended | (carry.state.step >= carry.first_step + settings.num_steps)


def period(problem: Problem, settings: Settings, carry: Carry) -> Carry:
    """The carry after one more period: its steps, and what is done once in so many."""
    state, first = carry.state, carry.first_step
    end = first + jnp.minimum((carry.period + 1) * settings.period, settings.num_steps)
    was_running = (state.status == Status.RUNNING) & (state.step < end)
    state, records = _take_steps(problem, settings, end, state)
    records = jax.tree.map(lambda part: part[: settings.period : settings.kept_every], records)
    steps, validation_losses = carry.histories
    steps = jax.tree.map(lambda history, part: _write(history, part, carry.period), steps, records)
    if problem.validation is not None and validation_losses is not None:
        validation_loss = measured_on(problem.validation, problem.loss, state.params)
        state = look_at_validation(problem, state, validation_loss, was_running)
        measured = jnp.where(was_running, validation_loss, jnp.nan)
        validation_losses = _write(validation_losses, measured[None], carry.period)
    return carry._replace(
        state=state, period=carry.period + 1, histories=Histories(steps, validation_losses)
    )


def _take_steps(
    problem: Problem, settings: Settings, end: Int[Array, ""], state: TrainState
) -> tuple[TrainState, Record]:
    """The steps of a period and their records: of folded rows, full batches or mini-batches."""
    take_step = functools.partial(step, problem, settings, end)
    if problem.rows is not None:
        rows, loss = View.of(problem.rows), cast(Loss, smooth_part(problem))
        return take_steps(take_step, loss, rows, state, end, settings.period)
    if settings.batch_size is None or state.key is None:
        return lax.scan(
            lambda state, _: take_step(state, problem.data),
            state,
            length=settings.period,
            unroll=min(settings.unroll, settings.period),
        )
    return scan_batches(
        lambda state, batch: take_step(state, batch_for_step(problem, settings, batch)),
        state,
        problem.data,
        jax.random.wrap_key_data(state.key, impl="threefry2x32"),
        state.step,
        settings.period,
        settings.batch_size,
        grouped=problem.grouped,
        unroll=settings.unroll,
        num_shards=settings.num_shards,
        mesh=settings.mesh,
    )


def step(
    problem: Problem,
    settings: Settings,
    end: Int[Array, ""],
    state: TrainState,
    batch: Dataset | View,
) -> tuple[TrainState, Record]:
    """One step on a batch, or none where the run has ended or is at `end`."""
    loss = as_function(problem.loss)
    value, gradient, params, optimizer_state = update_params(
        settings.optimizer,
        problem.learning_rate,
        value_and_gradient(problem, settings),
        smooth_part(problem),
        state.params,
        state.optimizer_state,
        batch,
    )
    if isinstance(loss, Loss) and loss.proximal_penalties:
        rate = current_rate(problem.learning_rate, state.step, value.dtype)
        value = value + sum(penalty(state.params.weights) for penalty in loss.proximal_penalties)
        params = _proximal_step(loss, params, rate)
        gradient = _gradient_mapping(gradient, state.params, params, rate)

    norm = euclidean_norm(gradient)
    running = (state.status == Status.RUNNING) & (state.step < end)
    finite = functools.reduce(
        jnp.logical_and, [jnp.isfinite(leaf).all() for leaf in (value, *jax.tree.leaves(params))]
    )
    moves = running & finite
    status = jnp.where(running & ~finite, Status.DIVERGED, state.status)
    if problem.tolerance is not None:
        converged = norm <= jnp.asarray(problem.tolerance)
        status = jnp.where(moves & converged, Status.CONVERGED, status)
        moves = moves & ~converged

    record = Record(
        numbers=jnp.where(running, jnp.stack([value, norm]), jnp.nan),
        params=select(running, state.params, jax.tree.map(lambda p: p * jnp.nan, state.params))
        if settings.record_params
        else None,
    )
    moved = state._replace(params=params, optimizer_state=optimizer_state, step=state.step + 1)
    if state.average is not None and problem.average_from is not None:
        moved = moved._replace(average=add_to_average(state.average, moved, problem.average_from))
    state = select(moves, moved, state)
    return state._replace(status=status.astype(jnp.int32)), record


def _proximal_step(loss: Loss, params: Params, rate: Float[Array, ""]) -> Params:
    """The parameters after the `prox` of each penalty that is not smooth, one after the other."""
    weights = params.weights
    for penalty in loss.proximal_penalties:
        weights = penalty.prox(weights, rate)
    return params._replace(weights=weights)


def _write(history: Array, part: Array, period: Array) -> Array:
    """The history with the records of a period at their place."""
    return lax.dynamic_update_slice_in_dim(history, part, period * part.shape[0], axis=0)


def _gradient_mapping(smooth: Params, params: Params, moved: Params, rate: Array) -> Params:
    """(params - moved) / rate: what a gradient is to a proximal step, 0 at the minimum.

    At a rate of 0, where nothing moves, the gradient of the smooth part.
    """
    inverse = 1 / jnp.where(rate > 0, rate, 1)
    return jax.tree.map(
        lambda slope, old, new: jnp.where(rate > 0, (old - new) * inverse, slope),
        smooth,
        params,
        moved,
    )
