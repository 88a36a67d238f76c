"""Training on data that come in chunks: `fit` on one after the other."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from linreg_jax import _own_functions as own_functions
from linreg_jax._pytrees import as_pytree
from linreg_jax._streaming.chunks import Chunk, Kind, as_chunk, naming_chunk, require_same
from linreg_jax._training import arguments
from linreg_jax._training.debugging import run_watching_nans
from linreg_jax._training.loop import train
from linreg_jax._training.optimizers import check_optimizer, check_state, flat_state
from linreg_jax._training.prepare import Arguments, prepare
from linreg_jax._training.rates import current_rate
from linreg_jax._training.result import DivergedError, Fit, Status, TrainState
from linreg_jax._validation import positive_integer
from linreg_jax.dataset import Dataset
from linreg_jax.gradients import ValueAndGradient
from linreg_jax.losses import Loss, check_loss
from linreg_jax.model import Params


class ChunkState(NamedTuple):
    """Where a run over chunks is: `fit_chunks(loss, state, ...)` goes on from it.

    Attributes:
      state: `TrainState`; its `step` counts from the start of the run.
      epoch: [] int32 epochs that are complete.
      chunk: [] int32 chunks of the next epoch that are.
    """

    state: TrainState
    epoch: Array
    chunk: Array


class ChunkFit(NamedTuple):
    """The result of `fit_chunks`.

    Attributes:
      params: `Params`, the last iterate.
      losses: [c] for each chunk of this call but those of zero weight, the mean of its batches'
        losses, each measured before its step.
      status: [] int32, a `Status`: OUT_OF_STEPS; DIVERGED, and the last finite parameters kept; or
        INCREASED, where the last of `losses` is more than ten times the first.
      state: `ChunkState`, to go on from or to save; where the run diverged, that chunk is the next.
      last: the `Fit` of the last chunk; None where there was none left to train on.
    """

    params: Params
    losses: Array
    status: Array
    state: ChunkState
    last: Fit | None

    def raise_if_diverged(self) -> None:
        """Raises where the run diverged: see `Fit.raise_if_diverged`.

        Raises:
          DivergedError: it did, or its loss increased.
        """
        if int(self.status) == Status.INCREASED:
            raise DivergedError(
                "the run ended with a larger loss than it began with, "
                f"{float(self.losses[0]):.6g} -> {float(self.losses[-1]):.6g} (means over chunks): "
                "pass a smaller learning_rate, or standardize the features"
            )
        if self.last is not None:
            self.last.raise_if_diverged()


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

    An epoch takes one chunk after the other; the optimizer's state and the schedule's step go on
    from each to the next::

        for epoch, chunk: params <- fit(loss, params, chunk, num_epochs=1, ...).params

    A chunk's rows are shuffled among themselves, anew in each epoch, and cut into batches of which
    the last may be partial; rows of different chunks do not meet in a batch. (Chunk c of epoch e is
    shuffled as by `fit` with the key `fold_in(fold_in(key, e), c)`.) So chunks should be
    large and not sorted. While the device trains on one, the host reads the next: memory holds two.
    Chunks of as many rows run the same program: give them one size, but for the last. A chunk of
    zero-weight rows alone takes no step.

    Args:
      loss: as for `fit`.
      params: where to start, `Params`; or a `ChunkState` to go on from, with the other arguments as
        they were: the result is, bit for bit, that of the run that never stopped.
      chunks: an iterable of chunks as `compress_chunks` takes them, the same in each epoch; or a
        function, epoch (0, 1, ...) -> iterable.
      learning_rate: as for `fit`. "auto" looks at each chunk anew.
      num_epochs: how many in all, those that a `ChunkState` has behind it included.
      batch_size: examples in a mini-batch, fewer where a chunk has fewer; None: a chunk is a batch.
      key: a JAX random key, for the order; None with a `ChunkState`, which has it.
      optimizer, gradient: as for `fit`.
      after_chunk: called with the `ChunkState` after each chunk, to save it for instance.

    Returns:
      A `ChunkFit`.

    Raises:
      ChunkError: a chunk that cannot be used, or the iterable raised. It has the index of the chunk
        in its epoch, and in `so_far` the `ChunkState` before it.
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
    at = _checked_start(params, learning_rate, optimizer, key)
    expected = None if isinstance(params, Params) else _kind_of(at.state.params)
    if isinstance(chunks, Iterator) and num_epochs - int(at.epoch) > 1:
        raise ValueError(
            "chunks is an iterator, which one epoch uses up: pass a list, open_chunks(...) or a "
            "function, epoch -> iterable"
        )
    fitted: Fit | None = None
    losses = []

    def so_far():
        return at

    for epoch, index, data in _datasets(chunks, at, num_epochs, expected, so_far):
        # Looked at only now: the host has read this chunk while the device was at the one before.
        if fitted is not None and int(fitted.status) == Status.DIVERGED:
            break
        if data is None:
            at = ChunkState(at.state, _int32(epoch), _int32(index + 1))
        else:
            order = None if at.state.key is None else _order_key(at.state.key, epoch, index)
            fitted = _fit_chunk(
                loss,
                at.state,
                data,
                order,
                learning_rate=learning_rate,
                batch_size=None if batch_size is None else min(batch_size, data.X.shape[0]),
                optimizer=optimizer,
                gradient=gradient,
            )
            losses.append(jnp.mean(fitted.losses))
            moved = (fitted.status != Status.DIVERGED).astype(jnp.int32)
            at = ChunkState(fitted.state, _int32(epoch), index + moved)
        if after_chunk is not None:
            after_chunk(at)
    if fitted is None and isinstance(params, Params):
        raise ValueError("all chunks have zero weight: give some rows a positive sample_weight")
    status = _int32(Status.OUT_OF_STEPS) if fitted is None else fitted.status
    history = jnp.stack(losses) if losses else jnp.zeros(0, at.state.params.weights.dtype)
    if int(status) != Status.DIVERGED:
        at = at._replace(epoch=_int32(max(num_epochs, int(at.epoch))), chunk=_int32(0))
        if losses and float(history[-1]) > 10 * float(history[0]) > 0:
            status = _int32(Status.INCREASED)
    return ChunkFit(at.state.params, history, status, at, fitted)


_END = object()


def _int32(number: int | Array) -> Array:
    return jnp.asarray(number, jnp.int32)


def _datasets(
    chunks: Iterable[Any] | Callable[[int], Iterable[Any]],
    at: ChunkState,
    num_epochs: int,
    expected: Kind | None,
    so_far: Callable[[], ChunkState],
) -> Iterator[tuple[int, int, Dataset | None]]:
    """`(epoch, index, Dataset)` of the chunks that a run has before it; None: one of zero weight.

    Args:
      chunks, num_epochs: as for `fit_chunks`.
      at: the `ChunkState` that it starts from.
      expected: the `Kind` of its parameters, or None.
      so_far: gives the `ChunkState` that an error carries.
    """
    kind, skipped = None, int(at.chunk)
    for epoch in range(int(at.epoch), num_epochs):
        index = 0
        with naming_chunk(index, so_far, f" of epoch {epoch}"):
            iterator = iter(chunks(epoch) if callable(chunks) else chunks)
        while True:
            with naming_chunk(index, so_far, f" of epoch {epoch}"):
                value = next(iterator, _END)
                if value is _END:
                    break
                if index >= skipped:
                    chunk = as_chunk(value)
                    if kind is not None:
                        require_same(kind, chunk.kind)
                    elif expected is not None:
                        computed = chunk.kind._replace(dtype=chunk.kind.computed_in)
                        require_same(expected, computed)
                    kind, data = chunk.kind, _dataset(chunk)
            if index >= skipped:
                yield epoch, index, data
            index += 1
        if index < max(skipped, 1):
            raise ValueError(
                f"epoch {epoch} has {index} chunks, and {max(skipped, 1)} are expected at least: "
                "pass the same chunks in each epoch"
            )
        skipped = 0


def _dataset(chunk: Chunk) -> Dataset | None:
    """The rows on the device; None where each has zero weight and there is nothing to train on.

    Raises:
      ValueError: as `Chunk.dataset` says.
    """
    weight = chunk.sample_weight
    if weight is None or weight.any():
        return chunk.dataset()
    chunk._replace(sample_weight=None).dataset()  # its numbers are held to the same rules
    return None


def _checked_start(start, learning_rate, optimizer, key):
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


def _kind_of(params):
    """What chunks must be for parameters that were fitted to others."""
    return Kind(params.weights.shape[0], params.weights.shape[1:], params.weights.dtype)


def _order_key(key, epoch, index):
    """[2] uint32, what the order of a chunk's rows is drawn from."""
    key = jax.random.wrap_key_data(key, impl="threefry2x32")
    key = jax.random.fold_in(jax.random.fold_in(key, epoch), index)
    return jax.random.key_data(key)


def _fit_chunk(loss, state, data, order, *, learning_rate, **settings) -> Fit:
    """The `Fit` of one chunk, the steps of its state counted from the start of the run."""
    # The steps of a fit say which batch comes next, so that each chunk's are counted from 0. The
    # optimizer has a count of its own; where a lasso reads the rate off the step, both start anew.
    start = state._replace(step=_int32(0), key=order)
    is_proximal = isinstance(loss, Loss) and bool(loss.proximal_penalties)
    rate, shifted = learning_rate, callable(learning_rate) and is_proximal
    if shifted:
        rate = jax.tree_util.Partial(_later, as_pytree(learning_rate), state.step)
        counts = jax.tree.map(jnp.zeros_like, state.optimizer_state)
        start = start._replace(optimizer_state=counts)
    given = Arguments(
        loss, start, data, learning_rate=rate, num_epochs=1, compress=False, **settings
    )
    problem, start, key, plan = prepare(given)
    plan = plan._replace(measures_losses=False)
    fitted = run_watching_nans(lambda: train(problem, start, key, settings=plan), problem, plan)
    ended = fitted.state._replace(step=state.step + fitted.state.step, key=state.key)
    if shifted:
        counts = jax.tree.map(jnp.add, state.optimizer_state, ended.optimizer_state)
        ended = ended._replace(optimizer_state=counts)
    elif callable(learning_rate):
        last = jnp.where(fitted.status == Status.DIVERGED, ended.step, ended.step - 1)
        dtype = data.X.dtype
        fitted = fitted._replace(learning_rate=current_rate(learning_rate, last, dtype))
    return fitted._replace(state=ended)


def _later(schedule, first, step):
    """The rate of a schedule that began `first` steps before."""
    return schedule(first + step)
