"""Data larger than memory, or that comes in pieces: chunk after chunk."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from linreg_jax._inference.result import Inference
from linreg_jax._loss import Loss
from linreg_jax._minimum.requirements import require_solvable
from linreg_jax._minimum.result import Solution
from linreg_jax._streaming import inference
from linreg_jax._streaming.chunks import ChunkError, Kind, as_chunk, naming_chunk, require_same
from linreg_jax._streaming.files import open_chunks
from linreg_jax._streaming.moments import Moments, moments_of_rows, no_moments
from linreg_jax._streaming.result import ChunkFit, ChunkState
from linreg_jax._streaming.solving import Sampled, solve_lines
from linreg_jax._streaming.staging import Stage
from linreg_jax._streaming.training import fit_chunks
from linreg_jax._typing import Array
from linreg_jax._validation import flag, positive_integer
from linreg_jax.dataset import Dataset, check_dataset, is_compressed, mean_divisor
from linreg_jax.exact import solve
from linreg_jax.losses import mse

__all__ = [
    "ChunkError",
    "ChunkFit",
    "ChunkState",
    "compress_chunks",
    "fit_chunks",
    "infer_chunks",
    "open_chunks",
    "solve_chunks",
]


def compress_chunks(
    chunks: Iterable[Any], *, start: Dataset | None = None, max_bytes: int | None = None
) -> Dataset:
    """`compress` of data that come in chunks, none of which stays in memory.

    The d + 1 + k rows have the same squared losses, gradients and Hessians as all rows together.
    While the device takes the products of one block of rows, the host reads the next::

        total, mean, scatter  <-  those of the rows so far and of the block, in float64

    Rows are laid out in blocks, small chunks together and large ones in parts, so that chunks of
    any number of rows run the same few programs. Within a block, rows are centred and multiplied in
    their own dtype, at least float32; blocks, and the count of rows, are added in float64. So the
    accuracy is that of `compress(data, method="gram")` or better, at any number of rows.

    Args:
      chunks: an iterable of chunks, each (X, y), (X, y, sample_weight) or a `Dataset`, X [n, d], of
        anything that `numpy.asarray` reads: a list of memory maps, a generator, a PyTorch
        `DataLoader`, `open_chunks(...)`. n may be another in each chunk.
      start: a compressed `Dataset` to continue from, what an earlier call returned or `so_far` of
        its error.
      max_bytes: what the rows under way may take in memory, in six blocks, beside the caller's own
        chunk and a few arrays of (d + 1 + k)² numbers; None: 16 MB, or d + 1 + k rows a block where
        that is more. A large memory map is read a block at a time.

    Returns:
      A compressed `Dataset` of d + 1 + k rows, as `compress` returns.

    Raises:
      ChunkError: a chunk with other columns or another dtype than before, with no rows, with NaN or
        infinity; or the iterable raised. It has the index of the chunk and what there was before.
      TypeError: chunks is no iterable; start is no `Dataset`.
      ValueError: no chunk at all, or only rows of zero weight; start is not compressed; max_bytes
        does not hold one row.

    Example:
      >>> first, second = ([[0.0], [2.0]], [30.0, 40.0]), ([[4.0]], [50.0])
      >>> small = compress_chunks([first, second])
      >>> small.X.shape, float(small.total_weight), f"{solve(small).params.bias:.3f}"
      ((3, 1), 3.0, '30.000')
    """
    if isinstance(chunks, Dataset):
        raise TypeError("chunks is one Dataset: pass [data], or compress(data)")
    if max_bytes is not None:
        max_bytes = positive_integer("max_bytes", max_bytes)
    if start is not None:
        check_dataset(start)
        if not is_compressed(start):
            raise ValueError("start is not compressed: pass what compress_chunks returned")
    stage: Stage | None = None
    index = 0

    def so_far() -> Dataset | None:
        return start if stage is None or index == 0 else stage.compressed()

    iterator, end = iter(chunks), object()
    while True:
        with naming_chunk(index, so_far):
            value = next(iterator, end)
            if value is end:
                break
            chunk = as_chunk(value)
            if stage is None:
                moments = _first_moments(start, chunk.kind)
        if stage is None:
            stage = Stage(chunk.kind, moments, max_bytes)
        with naming_chunk(index, so_far):
            stage.add(chunk)
        index += 1
    small = so_far()
    if small is None:
        raise ValueError("chunks is empty: there is nothing to compress")
    if not float(mean_divisor(small)) > 0:
        raise ValueError("all chunks have zero weight: give some rows a positive sample_weight")
    return small


def _first_moments(start: Dataset | None, kind: Kind) -> Moments:
    """What to continue from when a chunk of that kind comes."""
    if start is None:
        return no_moments(kind.num_columns)
    given = Kind(start.X.shape[1], start.y.shape[1:], start.X.dtype)
    require_same(given, kind._replace(dtype=kind.computed_in))
    return moments_of_rows(start)


def infer_chunks(
    chunks: Iterable[Any],
    loss: Loss = mse,
    *,
    intercept: bool = True,
    covariance: Literal["classical", "hc0", "hc1", "hc2", "hc3", "cluster"] = "classical",
    level: float | Array = 0.95,
    clusters: Iterable[Any] | None = None,
    weights: Literal["frequency", "precision"] = "frequency",
) -> Inference:
    """`infer` of data that come in chunks, none of which stays in memory.

    How often the chunks are read::

        squared losses   once, as `compress_chunks` does
        other smooth     once, then once more than Newton's steps from least squares: four to eight
                         times in all for `huber` and `log_cosh` on most data
        covariances      hc2, hc3 and clusters once more, which need residuals and leverages at the
                         minimum; hc0 and hc1 of squared losses too

    A Newton's step that takes off less than half of what the best of a few others would costs a
    reading of its own. Blocks are added in float64. Of clusters one row of p numbers each is kept.

    One device of one process takes the blocks. Several processes can each compress their own chunks
    and `combine` them, and data that fit in the memories of many devices together are `infer`'s,
    after `shard` or `shard_from_process`.

    Args:
      chunks: as for `compress_chunks`; unless it is read once, a list, `open_chunks(...)` or
        another object that starts anew each time.
      loss: a smooth one (squared, `huber`, `log_cosh`, your own), with ridge penalties or none.
      intercept, covariance, level, weights: as for `infer`.
      clusters: for "cluster", an iterable of arrays, each naming the cluster of every example of
        the chunk that it stands beside.

    Returns:
      An `Inference`.

    Raises:
      ChunkError: as `compress_chunks`.
      ValueError: chunks that can be read once where more is needed; a loss whose derivative jumps;
        clusters that do not fit the chunks; and as `infer`.

    Example:
      >>> chunks = [([[0.0], [1.0]], [1.0, 3.0]), ([[2.0], [3.0]], [4.0, 7.0])]
      >>> found = infer_chunks(chunks, covariance="hc1")
      >>> f"{found.params.weights[0]:.3f} ± {found.standard_errors.weights[0]:.3f}"
      '1.900 ± 0.203'
      >>> found = infer_chunks(chunks, huber(0.3))
      >>> f"{found.params.weights[0]:.3f} ± {found.standard_errors.weights[0]:.3f}"
      '1.957 ± 0.176'
    """
    return inference.infer_chunks(
        compress_chunks,
        chunks,
        loss,
        intercept=intercept,
        covariance=covariance,
        level=level,
        clusters=clusters,
        weights=weights,
    )


def solve_chunks(chunks: Iterable[Any], loss: Loss = mse, *, intercept: bool = True) -> Solution:
    """`solve` of data that come in chunks, none of which stays in memory.

    How often the chunks are read::

        squared losses                          once, as `compress_chunks` does
        mae, quantile, epsilon_insensitive      three times, seldom more often; once where they have
                                                less than 262,144 rows

    Of a loss of lines a sample is solved first, some 200,000 rows. Then the rows next to a kink,
    a few in a hundred and all that lie on one, are kept in memory, and of the others one weighted
    mean for each line. The last pass sees that these are still on their lines, so that the minimum
    is that of all rows: as exact as `solve` says it.

    Args:
      chunks: as for `compress_chunks`; unless it is read once, a list, `open_chunks(...)` or
        another object that starts anew each time.
      loss: a squared one or one of lines, with the penalties that `solve` takes.
      intercept: whether the model has a bias.

    Returns:
      A `Solution`; NOT_CONVERGED with a gap of infinity where eight rounds were not enough.

    Raises:
      ChunkError: as `compress_chunks`.
      TypeError: not a loss of this package.
      ValueError: another loss: a smooth one's minimum is `infer_chunks(chunks, loss).params`;
        chunks that can be read once where more is needed; several targets beside a loss of lines.

    Example:
      >>> chunks = [([[0.0], [1.0]], [1.0, 3.0]), ([[2.0], [3.0], [4.0]], [4.0, 7.0, 90.0])]
      >>> found = solve_chunks(chunks, mae)
      >>> f"{found.params.weights[0]:.3f}", f"{found.params.bias:.3f}"
      ('2.000', '1.000')
    """
    known = require_solvable(loss, "solve_chunks")
    intercept = flag("intercept", intercept)
    if known.is_quadratic:
        return solve(compress_chunks(chunks), known, intercept=intercept)
    if not (known.is_piecewise_linear and known.kinks):
        raise ValueError(
            f"solve_chunks needs a squared loss or one made of lines, got {loss}: "
            "infer_chunks(chunks, loss).params is the minimum of a smooth one"
        )
    if isinstance(chunks, Iterator):
        raise ValueError(
            f"chunks can be read once, and {loss} needs them more often: pass a list, "
            "open_chunks(...), or an object whose __iter__ starts anew"
        )
    sampled = Sampled(chunks)
    small = compress_chunks(sampled)
    if small.y.ndim == 2 and small.y.shape[1] > 1:
        raise ValueError(
            f"y has {small.y.shape[1]} targets, and of {loss} solve_chunks takes one: pass them "
            "one after the other"
        )
    return solve_lines(known, small, sampled, chunks, intercept=intercept)
