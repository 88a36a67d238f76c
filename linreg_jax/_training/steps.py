"""The steps of a run: what a program is made for, and the loop over the steps of a period.

The body of the loop is the same whatever the number of steps, so that a run in two parts gives the
numbers of the run in one.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AbstractMesh, Mesh
from jax.typing import ArrayLike

from linreg_jax._training.updates import make_updater
from linreg_jax.batching import batches_per_epoch, mini_batches
from linreg_jax.dataset import Dataset
from linreg_jax.model import Params
from linreg_jax.records import Status

_GATHERED = 2**19  # numbers of X gathered at once: 2 MB of float32, shared out among the cores
# XLA on the CPU runs the parts of a loop's body one after the other, without the cost of handing
# them out to threads, where none of the arrays they touch is larger than this.
_SMALL_BYTES = 512


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
    tolerance: ArrayLike | None
    patience: ArrayLike | None
    average_from: ArrayLike | None


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
      mesh: where the rows lie in equal parts, or None.
      num_shards: in how many parts the rows are shuffled, each within itself.
    """

    num_steps: int
    batch_size: int | None
    optimizer: Callable
    gradient: Callable
    record_every: int
    record_params: bool
    unroll: int
    num_turns: int | None
    mesh: Mesh | AbstractMesh | None
    num_shards: int


class Record(NamedTuple):
    """What a step leaves behind.

    Attributes:
      numbers: [2] the loss and the gradient's norm, in one array because XLA on the CPU writes to
        each array of a history in a kernel of its own.
      path: the `Params` it started from, or None.
    """

    numbers: Array
    path: Params | None


class Histories(NamedTuple):
    """What is recorded: the validation losses once a period, the others at every step or record."""

    losses: Array
    gradient_norms: Array
    path: Params | None
    validation_losses: Array | None


def period_length(problem, settings):
    """Steps in a period: from one validation loss to the next, or whole records without any."""
    every, num_steps = settings.record_every, settings.num_steps
    if problem.validation is not None:
        if settings.batch_size is not None:
            every = batches_per_epoch(problem.data.X.shape[0], settings.batch_size)
        return min(every, num_steps)
    if settings.num_turns is not None:
        wanted = -(-num_steps // settings.num_turns)
    else:
        wanted = num_steps if every == 1 else 1
    wanted = max(wanted, _steps_at_once(problem, settings))
    return min(every * -(-wanted // every), num_steps)


def _steps_at_once(problem, settings):
    """Steps whose mini-batches are gathered together."""
    if settings.batch_size is None:
        return 1
    return max(_GATHERED // (settings.batch_size * problem.data.X.shape[1]), 2)


def scan_steps(problem, state, settings, length, last_step):
    """`(state, Histories)` after steps, one entry of the histories a step."""
    if length == 1 and (settings.num_steps == 1 or period_length(problem, settings) > 1):
        # A loop of one turn is not compiled as a loop, and rounds otherwise than one of many: take
        # a second step that changes nothing.
        only = state.step + 1 if last_step is None else jnp.minimum(state.step + 1, last_step)
        state, recorded = scan_steps(problem, state, settings, 2, only)
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
            num_shards=settings.num_shards,
            mesh=settings.mesh,
        )
        return lax.scan(take, state, batches, unroll=min(settings.unroll, number))

    at_once = min(length, _steps_in_a_loop(problem, settings, length))
    whole, rest = divmod(length, at_once)
    if whole == 1:
        state, recorded = steps(state, at_once)
    else:
        state, recorded = lax.scan(lambda state, _: steps(state, at_once), state, length=whole)
        recorded = jax.tree.map(lambda part: part.reshape((-1, *part.shape[2:])), recorded)
    histories = Histories(recorded.numbers[:, 0], recorded.numbers[:, 1], recorded.path, None)
    if rest:
        state, last = scan_steps(problem, state, settings, rest, last_step)
        histories = jax.tree.map(lambda *parts: jnp.concatenate(parts), histories, last)
    return state, histories


def _steps_in_a_loop(problem, settings, length):
    """Steps in the innermost loop, out of `length`."""
    if settings.batch_size is not None:
        return _steps_at_once(problem, settings)
    most = _SMALL_BYTES // (2 * problem.data.X.dtype.itemsize)  # whose records are small
    divisor = next(number for number in range(most, 0, -1) if length % number == 0)
    return length if divisor < most // 4 else divisor


def _make_step(problem, settings, last_step):
    """`(state, batch) -> (state, Record)`: one step, or none where the run has ended."""
    updater = updater_of(problem, settings)

    def step(state, batch):
        value, norm, params, optimizer_state = updater.update(
            state.params, state.optimizer_state, batch, state.step
        )
        running = is_running(state, last_step)
        finite = jnp.isfinite(value) & _all_finite(params)
        moves = running & finite
        status = jnp.where(running & ~finite, Status.DIVERGED, state.status)
        if problem.tolerance is not None and problem.patience is None:
            converged = norm <= problem.tolerance
            status = jnp.where(moves & converged, Status.CONVERGED, status)
            moves = moves & ~converged

        def record(array):
            return jnp.where(running, array, jnp.nan)

        recorded = Record(
            numbers=record(jnp.stack([value, norm])),
            path=jax.tree.map(record, state.params) if settings.record_params else None,
        )
        moved = state._replace(params=params, optimizer_state=optimizer_state, step=state.step + 1)
        if problem.average_from is not None:
            moved = _average(problem, moved)
        state = select(moves, moved, state)
        return state._replace(status=status.astype(jnp.int32)), recorded

    return step


def updater_of(problem, settings):
    """The `Updater` of a problem."""
    return make_updater(
        problem.loss, settings.optimizer, settings.gradient, problem.learning_rate, settings.mesh
    )


def is_running(state, last_step):
    """[] bool, whether a step is taken; not from `last_step` on, where it is given."""
    running = state.status == Status.RUNNING
    return running if last_step is None else running & (state.step < last_step)


def _average(problem, state):
    """The mean of the iterates with this one in it."""
    counts = state.step > problem.average_from
    num_averaged = state.num_averaged + counts.astype(jnp.int32)

    def take_in(mean, new):
        share = counts / jnp.maximum(num_averaged, 1).astype(mean.dtype)
        return mean + share * (new - mean)

    average = jax.tree.map(take_in, state.average, state.params)
    return state._replace(average=average, num_averaged=num_averaged)


def _all_finite(params):
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]
    return functools.reduce(jnp.logical_and, finite)


def select(condition, new, old):
    """`new` where the condition holds, leaf by leaf, in the dtypes of `old`."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b).astype(b.dtype), new, old)
