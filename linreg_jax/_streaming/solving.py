"""The minimum of a loss of lines over chunks: most rows as a few, those next to a kink one by one.

Rows that stay on one line of rho cost together what their weighted mean costs with all their
weight. So a pass near the minimum keeps the rows next to a kink, and of the others one row for each
line; what is found of these few is the minimum of all if the others are still on the lines that
they were counted for, which the next pass sees. `_minimum.many_rows` has it for data in memory.

Source: Portnoy and Koenker 1997, Statistical Science 12, whose "globs" the means are.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from linreg_jax._algebra.linalg import target_columns
from linreg_jax._loss import Loss
from linreg_jax._minimum.assembly import status_of
from linreg_jax._minimum.result import Solution, SolutionStatus
from linreg_jax._padding import pad
from linreg_jax._streaming.chunks import Chunk, as_chunk, naming_chunk
from linreg_jax._typing import Bool, Float
from linreg_jax.dataset import Dataset, as_dataset
from linreg_jax.exact import solve

_SAMPLED = 2**17  # rows at least, where there are as many, and at most twice as many
_BREADTH = 4.0  # of the errors that a sample leaves in residuals
_STEEP = 8.0  # times as long as a row usually is: one that may pull harder than those beside a kink
_MOST_ROUNDS = 8
_BLOCK_NUMBERS = 2**20  # of X that are looked at at a time

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # X [n, d], y [n], sample_weight [n]


class Sampled:
    """Chunks as they are read, of which every so many-th row is kept, twice `_SAMPLED` at most."""

    def __init__(self, chunks: Iterable[Any]) -> None:
        self._chunks, self._kept = chunks, list[Rows]()
        self.stride, self._seen, self._size = 1, 0, 0

    def __iter__(self) -> Iterator[Any]:
        for value in self._chunks:
            yield value
            self._add(as_chunk(value))

    def _add(self, chunk: Chunk) -> None:
        first = -self._seen % self.stride
        self._kept.append(_rows_of(chunk, slice(first, None, self.stride)))
        self._seen += len(chunk.X)
        self._size += len(self._kept[-1][0])
        while self._size > 2 * _SAMPLED:
            X, y, weight = self.rows()
            self._kept = [(X[::2].copy(), y[::2].copy(), weight[::2].copy())]
            self.stride, self._size = 2 * self.stride, len(self._kept[0][0])

    def rows(self) -> Rows:
        """Those that are kept."""
        return _joined(self._kept)


class Near(NamedTuple):
    """Which rows are kept about a point.

    Attributes:
      weights, bias: [d] and a number, the point.
      radius: of residuals from a kink.
      centre, scale: [d] of the features.
      longest: of rows, centred and scaled, that are not kept wherever they lie.
    """

    weights: Float[np.ndarray, " d"]
    bias: float
    radius: float
    centre: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    longest: float

    def residuals(self, X: np.ndarray, y: np.ndarray) -> Float[np.ndarray, " n"]:
        """[n] in float64."""
        return X @ self.weights + (self.bias - y)

    def keeps(self, X: np.ndarray, off: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """[n] whether each row, whose residual is so far from a kink, is looked at by itself."""
        scaled = (X - self.centre) / self.scale
        return (off <= self.radius) | (np.einsum("ij,ij->i", scaled, scaled) > self.longest**2)


class Pass(NamedTuple):
    """What a pass found.

    Attributes:
      rows: the kept rows, and the means of the others on each line.
      squares: Σ sample_weight r².
      moved: how many of the others of the pass before are on another line now.
    """

    rows: Rows
    squares: float
    moved: int


def solve_lines(
    loss: Loss, small: Dataset, sampled: Sampled, chunks: Iterable[Any], *, intercept: bool
) -> Solution:
    """The `Solution` of a loss of lines.

    Args:
      loss: made of lines; with penalties that `solve` takes.
      small: the chunks, compressed.
      sampled: these, read once.
      chunks: read twice or more often, unless the sample has all rows.
      intercept: whether there is a bias.
    """
    rows = sampled.rows()
    found = _solved(loss, rows, intercept)
    if sampled.stride == 1:
        return found
    count, before, few = int(found.num_iterations), None, rows
    kinks = np.sort([float(kink) for kink in loss.kinks])
    rank = solve(small, intercept=intercept)
    for _ in range(_MOST_ROUNDS):
        near = _near(found, rows, kinks)
        seen = _read(kinks, chunks, near, before)
        if before is not None and seen.moved == 0:
            return _proven(found, near, few, seen.squares, rank, count)
        few = seen.rows
        found = _solved(loss, few, intercept)
        count, before = count + int(found.num_iterations), near
    status = jnp.full_like(found.status, SolutionStatus.NOT_CONVERGED)
    return found._replace(gap=jnp.full_like(found.gap, jnp.inf), status=status)


def _solved(loss: Loss, rows: Rows, intercept: bool) -> Solution:
    """The `Solution` of rows, made up to a power of 2, so that few programs are compiled."""
    data = as_dataset(*rows)
    n = data.X.shape[0]
    return solve(pad(data, (1 << (n - 1).bit_length()) - n), loss, intercept=intercept)


def _near(found: Solution, sample: Rows, kinks: Float[np.ndarray, " q"]) -> Near:
    """About a minimum, as far as the sample says that it can be from that of all rows."""
    X, y, _ = sample
    weights = np.asarray(found.params.weights, np.float64)
    bias = 0.0 if found.params.bias is None else float(found.params.bias)
    centre, scale = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
    scale = np.where(scale > 0, scale, 1)
    off = _off(X @ weights + (bias - y), kinks)
    share = min(1.0, _BREADTH * ((X.shape[1] + 1) / len(X)) ** 0.5)
    scaled = (X - centre) / scale
    usual = float(np.sqrt(np.median(np.einsum("ij,ij->i", scaled, scaled))))
    return Near(weights, bias, float(np.quantile(off, share)), centre, scale, _STEEP * usual)


def _off(r: Float[np.ndarray, " n"], kinks: Float[np.ndarray, " q"]) -> Float[np.ndarray, " n"]:
    """[n] how far each residual is from a kink."""
    return np.min([np.abs(r - kink) for kink in kinks], axis=0)


def _read(
    kinks: Float[np.ndarray, " q"], chunks: Iterable[Any], near: Near, before: Near | None
) -> Pass:
    """One pass."""
    d, kept, moved = len(near.weights), list[Rows](), 0
    sums = np.zeros((len(kinks) + 1, d + 2))  # of the others on each line: s [X, y, 1]
    squares = 0.0
    for X, y, s in _all_rows(chunks):
        r = near.residuals(X, y)
        line, keeps = np.searchsorted(kinks, r), near.keeps(X, _off(r, kinks))
        if before is not None:
            r_before = before.residuals(X, y)
            others = ~before.keeps(X, _off(r_before, kinks)) & (s > 0)
            moved += int(np.sum(others & (np.searchsorted(kinks, r_before) != line)))
        squares += float(s @ (r * r))
        kept.append((X[keeps & (s > 0)], y[keeps & (s > 0)], s[keeps & (s > 0)]))
        for i in range(len(sums)):
            weight = np.where((line == i) & ~keeps, s, 0.0)
            sums[i] += np.concatenate([weight @ X, [weight @ y, weight.sum()]])
    sums = sums[sums[:, -1] > 0]
    dtype = kept[0][0].dtype
    means = (sums[:, :-1] / sums[:, -1:]).astype(dtype)
    kept.append((means[:, :-1], means[:, -1], sums[:, -1].astype(dtype)))
    rows = _joined(kept)
    return Pass(rows, squares, moved)


def _proven(
    found: Solution, near: Near, few: Rows, squares: float, rank: Solution, count: int
) -> Solution:
    """What was found of few rows as the `Solution` of all."""
    r = near.residuals(few[0], few[1])
    of_few = max(float(few[2] @ (r * r)), float(np.finfo(np.float64).tiny))
    # Minima are looked for within twice the length of the residuals: of all rows, not of the few.
    gap = found.gap * max(1.0, (squares / of_few) ** 0.5)
    status = status_of(found.value, gap, jnp.zeros_like(gap))
    return found._replace(
        gap=gap,
        status=jnp.maximum(status, found.status),
        num_iterations=jnp.asarray(count, jnp.int32),
        rank=rank.rank,
        condition_number=rank.condition_number,
        singular_values=rank.singular_values,
    )


def _all_rows(chunks: Iterable[Any]) -> Iterator[Rows]:
    """Those of all chunks, some at a time."""
    for index, value in enumerate(chunks):
        with naming_chunk(index, lambda: None):
            chunk = as_chunk(value)
        most = max(_BLOCK_NUMBERS // chunk.X.shape[1], 1)
        for first in range(0, len(chunk.X), most):
            yield _rows_of(chunk, slice(first, first + most))


def _rows_of(chunk: Chunk, which: slice) -> Rows:
    dtype, y = chunk.kind.dtype, target_columns(chunk.y)[which, 0]
    weight = np.ones(len(y)) if chunk.sample_weight is None else chunk.sample_weight[which]
    return chunk.X[which].astype(dtype), y.astype(dtype), weight.astype(dtype)


def _joined(parts: list[Rows]) -> Rows:
    X, y, weight = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return X, y, weight
