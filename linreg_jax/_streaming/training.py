"""Training on data that come in chunks: `fit` on one after the other.

There are two units of time: a chunk, on which `fit` takes its steps, and an epoch of chunks.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from linreg_jax import _own_functions as own_functions
from linreg_jax._pytrees import as_pytree
from linreg_jax._streaming.chunks import Kind
from linreg_jax._streaming.epochs import NumberedChunk, read_epochs
from linreg_jax._streaming.result import ChunkFit, ChunkState
from linreg_jax._training import arguments
from linreg_jax._training.debugging import run_watching_nans
from linreg_jax._training.loop import train
from linreg_jax._training.optimizers import check_optimizer, check_state, flat_state
from linreg_jax._training.prepare import Arguments, prepare
from linreg_jax._training.rates import current_rate
from linreg_jax._training.result import Fit, Status, TrainState
from linreg_jax._typing import Array, Float, Int, UInt32
from linreg_jax._validation import positive_integer
from linreg_jax.dataset import Dataset
from linreg_jax.gradients import ValueAndGradient
from linreg_jax.losses import Loss, check_loss
from linreg_jax.model import Params


def fit_chunks(
    loss: Callable[[Params, Dataset], Array],
    params: Params | ChunkState,
    chunks: Iterable[Any] | Callable[[int], Iterable[Any]],
    *,
    learning_rate: Any,
    num_epochs: int,
    batch_size: int | None,
    key: Array | None = None,
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.sgd,
    gradient: ValueAndGradient | None = None,
    after_chunk: Callable[[ChunkState], object] | None = None,
) -> ChunkFit:
    """`fit` by mini-batches on data that come in chunks, epoch after epoch.

    An epoch takes one chunk after the other; the optimizer's state and the schedule's step
    continue from each to the next::

        for epoch, chunk: params <- fit(loss, params, chunk, num_epochs=1, ...).params

    A chunk's rows are shuffled among themselves, anew in each epoch, and cut into batches of which
    the last may be partial; rows of different chunks do not meet in a batch. (Chunk c of epoch e is
    shuffled as by `fit` with the key `fold_in(fold_in(key, e), c)`.) So chunks should be
    large and not sorted. While the device trains on one, the host reads the next: memory holds two.
    Chunks of as many rows run the same program: give them one size, but for the last. A chunk of
    zero-weight rows alone takes no step.

    Args:
      loss: as for `fit`.
      params: where to start, `Params`; or a `ChunkState` to continue from, with the other arguments
        as they were: the result is, bit for bit, that of the run that never stopped.
      chunks: an iterable of chunks as `compress_chunks` takes them, the same in each epoch; or a
        function, epoch (0, 1, ...) -> iterable, of as many chunks in each epoch.
      learning_rate: as for `fit`. "auto" looks at each chunk anew.
      num_epochs: how many in all, those that a `ChunkState` has behind it included.
      batch_size: examples in a mini-batch, fewer where a chunk has fewer; None: a chunk is a batch.
      key: a JAX random key, for the order; None with a `ChunkState`, which has it.
      optimizer, gradient: as for `fit`.
      after_chunk: called with the `ChunkState` after each chunk, to save it for instance.

    Returns:
      A `ChunkFit`.

    Raises:
      ChunkError: a chunk that cannot be used, an epoch with more or fewer chunks than the first, or
        the iterable raised. It has the index of the chunk in its epoch, and in `so_far` the
        `ChunkState` before it.
      TypeError, ValueError: an argument that does not fit; an epoch without chunks; all chunks of
        zero weight.

    Example:
      >>> X, y = np.arange(12.0).reshape(6, 2) / 10, np.arange(6.0)
      >>> chunks = [(X[:4], y[:4]), (X[4:], y[4:])]
      >>> fitted = fit_chunks(mse, Params(jnp.zeros(2), jnp.array(0.0)), chunks, num_epochs=3,
      ...                     batch_size=2, learning_rate=0.1, key=jax.random.key(0))
      >>> fitted.losses.shape, int(fitted.state.state.step), int(fitted.state.epoch)
      ((6,), 9, 3)
    """
    num_epochs = positive_integer("num_epochs", num_epochs)
    if batch_size is not None:
        batch_size = positive_integer("batch_size", batch_size)
    check_loss(loss)
    gradient = own_functions.checked_gradient(gradient, loss)
    check_optimizer(loss, optimizer)
    settings = _Settings(loss, learning_rate, batch_size, optimizer, gradient)
    start = _checked_start(params, learning_rate, optimizer, key)
    if isinstance(chunks, Iterator) and num_epochs - int(start.epoch) > 1:
        raise ValueError(
            "chunks is an iterator, which one epoch uses up: pass a list, open_chunks(...) or a "
            "function, epoch -> iterable"
        )
    expected = None if isinstance(params, Params) else _kind_of(start.state.params)
    carry = _Carry(start, None, ())

    def so_far() -> ChunkState:
        return carry.at

    for chunk in read_epochs(chunks, start, num_epochs, expected, so_far):
        # Looked at only now: the host has read this chunk while the device was at the one before.
        if carry.fitted is not None and int(carry.fitted.status) == Status.DIVERGED:
            break
        carry = _step(settings, carry, chunk)
        if after_chunk is not None:
            after_chunk(carry.at)
    if carry.fitted is None and isinstance(params, Params):
        raise ValueError("all chunks have zero weight: give some rows a positive sample_weight")
    return _finish(carry, num_epochs)


class _Settings(NamedTuple):
    """What is the same for all chunks; see `fit_chunks`."""

    loss: Callable[[Params, Dataset], Array]
    learning_rate: Any
    batch_size: int | None
    optimizer: Callable[[Any], optax.GradientTransformation]
    gradient: ValueAndGradient | None


class _Carry(NamedTuple):
    """What goes from chunk to chunk.

    Attributes:
      at: `ChunkState`, where the run is.
      fitted: the `Fit` of the last chunk; None before the first.
      losses: [] each, the mean loss of the batches of each chunk.
    """

    at: ChunkState
    fitted: Fit | None
    losses: tuple[Float[Array, ""], ...]


def _step(settings: _Settings, carry: _Carry, chunk: NumberedChunk) -> _Carry:
    """The carry after one more chunk."""
    state, epoch = carry.at.state, _int32(chunk.epoch)
    if chunk.data is None:
        return carry._replace(at=ChunkState(state, epoch, _int32(chunk.number + 1)))
    fitted = _fit_chunk(settings, state, chunk.data, _order_key(state.key, chunk))
    # A chunk on which the run diverged is the next again.
    moved = (fitted.status != Status.DIVERGED).astype(jnp.int32)
    at = ChunkState(fitted.state, epoch, chunk.number + moved)
    return _Carry(at, fitted, (*carry.losses, jnp.mean(fitted.losses)))


def _finish(carry: _Carry, num_epochs: int) -> ChunkFit:
    """The `ChunkFit` that a carry makes."""
    at, fitted, losses = carry
    status = _int32(Status.OUT_OF_STEPS) if fitted is None else fitted.status
    history = jnp.stack(losses) if losses else jnp.zeros(0, at.state.params.weights.dtype)
    if int(status) != Status.DIVERGED:
        at = at._replace(epoch=_int32(max(num_epochs, int(at.epoch))), chunk=_int32(0))
        if losses and float(history[-1]) > 10 * float(history[0]) > 0:
            status = _int32(Status.INCREASED)
    return ChunkFit(at.state.params, history, status, at, fitted)


def _checked_start(
    start: Params | ChunkState,
    learning_rate: Any,
    optimizer: Callable[[Any], optax.GradientTransformation],
    key: Array | None,
) -> ChunkState:
    """The `ChunkState` to start from."""
    key = arguments.as_key_data(key)
    if isinstance(start, ChunkState):
        return start if key is None else start._replace(state=start.state._replace(key=key))
    if not isinstance(start, Params):
        raise TypeError(
            f"params must be Params or a ChunkState, got {type(start).__name__}: "
            "init_params(data) makes a start, and ChunkFit.state holds where a run was"
        )
    rate = 0.0 if isinstance(learning_rate, str) else learning_rate  # the state holds no rate
    check_state(start, optimizer, rate)
    none_yet = _int32(0)
    optimizer_state = flat_state(optimizer(rate).init(start))
    state = TrainState(start, optimizer_state, key, step=none_yet, status=none_yet)
    return ChunkState(state, none_yet, none_yet)


def _kind_of(params: Params) -> Kind:
    """What chunks must be for parameters that were fitted to others."""
    return Kind(params.weights.shape[0], params.weights.shape[1:], params.weights.dtype)


def _order_key(key: UInt32[Array, " 2"] | None, chunk: NumberedChunk) -> UInt32[Array, " 2"] | None:
    """What the order of a chunk's rows is drawn from; None: its order is kept."""
    if key is None:
        return None
    of_run = jax.random.wrap_key_data(key, impl="threefry2x32")
    of_chunk = jax.random.fold_in(jax.random.fold_in(of_run, chunk.epoch), chunk.number)
    return jax.random.key_data(of_chunk)


def _fit_chunk(
    settings: _Settings, state: TrainState, data: Dataset, order: UInt32[Array, " 2"] | None
) -> Fit:
    """The `Fit` of one chunk, the steps of its state counted from the start of the run."""
    loss, learning_rate, batch_size, optimizer, gradient = settings
    # The steps of a fit say which batch comes next, so that each chunk's are counted from 0. The
    # optimizer has a count of its own; where a lasso reads the rate off the step, both start anew.
    fresh = state._replace(step=_int32(0), key=order)
    has_prox = isinstance(loss, Loss) and bool(loss.proximal_penalties)
    counts_anew = callable(learning_rate) and has_prox
    rate = learning_rate
    if counts_anew:
        rate = jax.tree_util.Partial(_later, as_pytree(learning_rate), state.step)
        counts = jax.tree.map(jnp.zeros_like, state.optimizer_state)
        fresh = fresh._replace(optimizer_state=counts)
    problem, start, key, plan = prepare(
        Arguments(
            loss,
            fresh,
            data,
            learning_rate=rate,
            num_epochs=1,
            compress=False,
            batch_size=None if batch_size is None else min(batch_size, data.X.shape[0]),
            optimizer=optimizer,
            gradient=gradient,
        )
    )
    plan = plan._replace(measures_losses=False)
    fitted = run_watching_nans(lambda: train(problem, start, key, settings=plan), problem, plan)
    ended = fitted.state._replace(step=state.step + fitted.state.step, key=state.key)
    if counts_anew:
        counts = jax.tree.map(jnp.add, state.optimizer_state, ended.optimizer_state)
        ended = ended._replace(optimizer_state=counts)
    elif callable(learning_rate):
        last = jnp.where(fitted.status == Status.DIVERGED, ended.step, ended.step - 1)
        here = current_rate(learning_rate, last, data.X.dtype)
        fitted = fitted._replace(learning_rate=here)
    return fitted._replace(state=ended)


def _later(schedule: Callable[[Array], Array], first: Array, step: Array) -> Array:
    """The rate of a schedule that began `first` steps before."""
    return schedule(first + step)


def _int32(number: int | Array) -> Int[Array, ""]:
    return jnp.asarray(number, jnp.int32)
