"""The chunks of a run, epoch after epoch: each checked, and on the device before it is used."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from linreg_jax._streaming.chunks import Chunk, Kind, as_chunk, naming_chunk, require_same
from linreg_jax._streaming.result import ChunkState
from linreg_jax.dataset import Dataset

_END = object()


class NumberedChunk(NamedTuple):
    """A chunk and its place in a run.

    Attributes:
      epoch, number: from 0; the number starts anew in each epoch.
      data: `Dataset`; None where each row has zero weight, and there is nothing to train on.
    """

    epoch: int
    number: int
    data: Dataset | None


def read_epochs(
    chunks: Iterable[Any] | Callable[[int], Iterable[Any]],
    start: ChunkState,
    num_epochs: int,
    expected: Kind | None,
    so_far: Callable[[], ChunkState],
) -> Iterator[NumberedChunk]:
    """The chunks that a run has before it.

    Args:
      chunks, num_epochs: as for `fit_chunks`.
      start: where the run starts; what it has behind it is read and not used.
      expected: what the chunks must be for its parameters; None: anything.
      so_far: gives the `ChunkState` that an error carries.

    Raises:
      ChunkError: as `fit_chunks` says.
      ValueError: the first epoch has no chunks, or fewer than the run has behind it.
    """
    first, skipped = int(start.epoch), int(start.chunk)
    kind: Kind | None = None
    num_chunks: int | None = None
    for epoch in range(first, num_epochs):
        iterator, index = None, 0
        while True:
            with naming_chunk(index, so_far, f" of epoch {epoch}"):
                if iterator is None:
                    iterator = iter(chunks(epoch) if callable(chunks) else chunks)
                value = next(iterator, _END)
                _require_same_number(index, num_chunks, is_last=value is _END)
                if value is _END:
                    break
                if epoch > first or index >= skipped:
                    chunk = as_chunk(value)
                    _require_kind(chunk.kind, kind, expected)
                    kind, data = chunk.kind, _dataset(chunk)
            if epoch > first or index >= skipped:
                yield NumberedChunk(epoch, index, data)
            index += 1
        if epoch == first and index < max(skipped, 1):
            raise ValueError(
                f"epoch {epoch} has {index} chunks, and {max(skipped, 1)} are expected at least: "
                "pass the same chunks in each epoch"
            )
        num_chunks = index


def _require_same_number(index: int, num_chunks: int | None, *, is_last: bool) -> None:
    """Raises where an epoch has more or fewer chunks than the first.

    Args:
      index: how many chunks it has had.
      num_chunks: how many the first had; None: this is the first.
      is_last: whether there are no more.
    """
    if num_chunks is None or (index < num_chunks if not is_last else index == num_chunks):
        return
    has = f"has {index} chunks" if is_last else f"has {index + 1} chunks or more"
    raise ValueError(
        f"the epoch {has}, but the first had {num_chunks}: pass as many chunks in each epoch"
    )


def _require_kind(new: Kind, kind: Kind | None, expected: Kind | None) -> None:
    """Raises where a chunk is not of the kind of those before it, or of the parameters."""
    if kind is not None:
        require_same(kind, new)
    elif expected is not None:
        require_same(expected, new._replace(dtype=new.computed_in))


def _dataset(chunk: Chunk) -> Dataset | None:
    """The rows on the device; None where each has zero weight.

    Raises:
      ValueError: as `Chunk.dataset` says.
    """
    weight = chunk.sample_weight
    if weight is None or weight.any():
        return chunk.dataset()
    chunk._replace(sample_weight=None).dataset()  # its numbers are held to the same rules
    return None
