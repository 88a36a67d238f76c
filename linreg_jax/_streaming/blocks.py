"""Rows of chunks on the device, block by block, and sums over them in float64 on the host."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from linreg_jax._algebra.linalg import target_columns
from linreg_jax._inference.fitted import Fitted
from linreg_jax._streaming.chunks import ChunkError, as_chunk, naming_chunk
from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset

_BLOCK_NUMBERS = 2**20  # of X that are on the device at a time
_FEWEST_ROWS = 256


class Block(NamedTuple):
    """Some rows of a chunk.

    Attributes:
      chunk: its number.
      rows: which of its rows.
      data: those, y [B, k], zero-weight rows making up a block.
    """

    chunk: int
    rows: slice
    data: Dataset


class Counted:
    """Chunks as they are read, and how many of their rows have a weight."""

    def __init__(self, chunks: Iterable[Any]) -> None:
        self._chunks, self.rows, self.log_weight = chunks, 0, 0.0

    def __iter__(self) -> Iterator[Any]:
        for value in self._chunks:
            yield value
            chunk = as_chunk(value)
            if chunk.sample_weight is None:
                self.rows += len(chunk.X)
                continue
            positive = chunk.sample_weight[chunk.sample_weight > 0].astype(float)
            self.rows += len(positive)
            self.log_weight += float(np.log(positive).sum())


def blocks(chunks: Iterable[Any], fit: Fitted) -> Iterator[Block]:
    """All rows of all chunks in blocks of a few shapes, their weights in units of the fit's."""
    d, k, dtype = fit.data.X.shape[1], fit.data.y.shape[1], fit.data.X.dtype
    most = max(_BLOCK_NUMBERS // (d + k), _FEWEST_ROWS)
    for index, value in enumerate(chunks):
        with naming_chunk(index, lambda: None):
            chunk = as_chunk(value)
        if chunk.bias_column is not None:
            raise ChunkError(f"chunk {index} is compressed: pass the original", index, None)
        n = len(chunk.X)
        for start in range(0, n, most):
            rows = slice(start, min(start + most, n))
            length = rows.stop - start
            size = _rows_of_block(length, most)
            X, y, s = np.zeros((size, d), dtype), np.zeros((size, k), dtype), np.zeros(size, dtype)
            X[:length], y[:length] = chunk.X[rows], target_columns(chunk.y)[rows]
            s[:length] = 1 if chunk.sample_weight is None else chunk.sample_weight[rows]
            s = s / np.asarray(fit.weight_unit)
            yield Block(index, rows, Dataset(jnp.asarray(X), jnp.asarray(y), jnp.asarray(s)))


def _rows_of_block(length: int, most: int) -> int:
    """The least of most, most / 2, most / 4, ... that holds so many rows."""
    size = most
    while size // 2 >= max(length, _FEWEST_ROWS):
        size //= 2
    return size


def sum_over_chunks(
    term: Callable[[Dataset], dict[str, Array]], chunks: Iterable[Any], fit: Fitted
) -> dict[str, Float[np.ndarray, "..."]]:
    """Σ term(block) in float64, in one pass; the device works while the host reads."""
    total: dict[str, np.ndarray] = {}
    waiting: dict[str, Array] = {}

    def add() -> None:
        for name, value in waiting.items():
            total[name] = total.get(name, 0.0) + np.asarray(value, np.float64)

    for block in blocks(chunks, fit):
        found = term(block.data)
        add()
        waiting = found
    add()
    return total


def sums_of_clusters(
    scores_of: Callable[[Dataset], Array],
    chunks: Iterable[Any],
    fit: Fitted,
    clusters: Iterable[Any],
) -> dict[str, Any]:
    """Σ u uᵀ over clusters and how many there are; one row of k p numbers for each is kept.

    Args:
      scores_of: block -> [B, k p], whose sum over the rows of a cluster is u.
      chunks, fit: what `blocks` takes.
      clusters: an iterable of arrays, one for each chunk.
    """
    k, p = fit.data.y.shape[1], fit.h.shape[0]
    totals: dict[Any, np.ndarray] = {}
    labels = iter(clusters)
    last, of_chunk = -1, np.zeros(0)
    for index, rows, block in blocks(chunks, fit):
        if index != last:
            last, of_chunk = index, np.asarray(next(labels, np.zeros(0)))
        if rows.stop > len(of_chunk):
            raise ValueError(
                f"clusters of chunk {index} has shape {list(of_chunk.shape)}: one cluster for each "
                "example of each chunk, in their order"
            )
        scores = np.asarray(scores_of(block), np.float64)
        counted = np.asarray(block.sample_weight)[: rows.stop - rows.start] > 0
        names, codes = np.unique(of_chunk[rows][counted], return_inverse=True)
        sums = np.zeros((len(names), k * p))
        np.add.at(sums, codes, scores[: rows.stop - rows.start][counted])
        for name, row in zip(names.tolist(), sums, strict=True):
            totals[name] = totals[name] + row if name in totals else row
    if len(totals) < 2:
        raise ValueError(f"clusters holds {len(totals)} clusters: their covariance needs 2 or more")
    u = np.stack(list(totals.values())).reshape(-1, k, p)
    return {"meat": np.einsum("gkp,gkq->kpq", u, u), "clusters": len(totals)}
