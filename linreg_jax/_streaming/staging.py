"""Rows from the host to the device: laid out in blocks of one shape, and multiplied there.

A block holds weighted rows less a centre, Z = [b A - b centre] with A = [X y], so that large means
do not eat the digits of the products. While the device takes ZᵀZ of two blocks, the host reads the
next: calls into JAX return before their work is done.
"""

import dataclasses
import math
from collections import deque

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._kernels import matmul
from linreg_jax._streaming.chunks import Chunk, Kind, require_same
from linreg_jax._streaming.moments import (
    Moments,
    as_compressed,
    merge,
    moments_of_gram,
    no_moments,
    power_of_two,
)
from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset

_BLOCKS = 3
_SIZES = 8  # a block that is not full is padded to a multiple of an eighth: as many programs
_CACHED_ROWS = 4096  # laid out and looked at while in cache
_ALIGNMENT = 64  # bytes


@dataclasses.dataclass
class _Sum:
    """Moments that grow."""

    moments: Moments


@dataclasses.dataclass
class _InFlight:
    """A block on the device: its products to come, how they were taken, and where they belong."""

    block: Float[np.ndarray, "rows c"]
    num_rows: int
    centre: Float[np.ndarray, " m"]
    products: Float[Array, "parts c c"]
    goes_to: _Sum


class Stage:
    """Adds up the moments of rows chunk by chunk, each chunk as a whole or not at all.

    A chunk that fits is laid behind those before it; one that does not is cut into blocks. Its rows
    are looked at before they count, so that one that is not finite leaves the sum as it was.
    """

    def __init__(self, kind: Kind, moments: Moments, max_bytes: int | None):
        """A stage that continues from moments.

        Args:
          kind: that of the chunks.
          moments: of their columns.
          max_bytes: for the rows under way: the blocks here, and as much where they are multiplied;
            None: 16 MB, or m rows a block where that is more.

        Raises:
          ValueError: not one row fits in.
        """
        m = 1 + len(moments.mean)
        self._kind, self._dtype = kind, kind.computed_in
        row_bytes = 2 * _BLOCKS * m * self._dtype.itemsize
        rows = max(2**24 // row_bytes, m) if max_bytes is None else max_bytes // row_bytes
        if rows < 1:
            raise ValueError(
                f"max_bytes is {max_bytes}, and one row of {m} columns of {self._dtype} under way "
                f"takes {row_bytes}: pass at least that"
            )
        batch = _batch_rows(m)
        self._step = -(-rows // _SIZES)
        if rows >= batch:
            self._step = -(-self._step // batch) * batch
            rows = rows // self._step * self._step
        self._free = [_aligned((rows, m), self._dtype) for _ in range(_BLOCKS)]
        self._block, self._filled = self._free.pop(), 0
        self._centre, self._is_centred = np.zeros(m - 1, self._dtype), False
        self._in_flight: deque[_InFlight] = deque()
        self._whole = _Sum(moments)

    def add(self, chunk: Chunk) -> None:
        """Counts the rows of a chunk, or none of them where it raises.

        Raises:
          TypeError, ValueError: another kind, a number that is not finite, a negative weight.
        """
        require_same(self._kind, chunk.kind)
        n, capacity = len(chunk.X), len(self._block)
        if n > capacity - self._filled:
            self._send(self._whole)
        if n <= capacity:
            self._lay_out(chunk, 0, n)
        else:
            part = _Sum(no_moments(self._kind.num_columns))
            for start in range(0, n, capacity):
                self._lay_out(chunk, start, min(start + capacity, n))
                self._send(part)
            for block in self._in_flight:
                if block.goes_to is part:
                    block.goes_to = self._whole
            self._whole.moments = merge(self._whole.moments, part.moments)
        moments = self._whole.moments
        self._whole.moments = moments._replace(
            total_weight=moments.total_weight + chunk.total_weight
        )

    def compressed(self) -> Dataset:
        """All chunks so far, a compressed `Dataset`."""
        self._send(self._whole)
        while self._in_flight:
            self._receive()
        d, targets, _ = self._kind
        return as_compressed(self._whole.moments, d, targets, self._dtype)

    def _lay_out(self, chunk: Chunk, start: int, stop: int) -> None:
        """Fills in rows of a chunk behind those there are, once they are found finite."""
        if not self._is_centred:
            self._centre, self._is_centred = self._first_centre(chunk), True
        for first in range(start, stop, _CACHED_ROWS):
            last = min(first + _CACHED_ROWS, stop)
            at = self._filled + first - start
            piece = self._block[at : at + last - first]
            with np.errstate(over="ignore", invalid="ignore"):  # found below, with its place
                chunk.lay_out(first, last, self._centre, piece)
                squares = np.vdot(piece, piece)
            if not np.isfinite(squares):
                chunk.check(first, last)
        self._filled += stop - start

    def _first_centre(self, chunk: Chunk) -> Float[np.ndarray, " m"]:
        """[m] the mean of the first rows, for want of a better one."""
        rows = min(len(chunk.X), _CACHED_ROWS, len(self._block))
        piece = np.empty((rows, self._block.shape[1]), self._dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            chunk.lay_out(0, rows, np.zeros(piece.shape[1] - 1, self._dtype), piece)
            sums = piece[:, 0].astype(np.float64) @ piece
            centre = (sums[1:] / (sums[0] if sums[0] > 0 else 1)).astype(self._dtype)
        return np.where(np.isfinite(centre), centre, 0)

    def _send(self, goes_to: _Sum) -> None:
        """Hands the block to the device, and takes back the one before the last."""
        if self._filled == 0:
            return
        num_rows = min(-(-self._filled // self._step) * self._step, len(self._block))
        self._block[self._filled : num_rows] = 0
        products = _products(self._block[:num_rows])
        self._in_flight.append(_InFlight(self._block, num_rows, self._centre, products, goes_to))
        if not self._free:
            self._receive()
        self._block, self._filled = self._free.pop(), 0

    def _receive(self) -> None:
        """Adds the products of the oldest block to where they belong."""
        sent = self._in_flight.popleft()
        moments = self._moments_of(sent)
        sent.goes_to.moments = merge(sent.goes_to.moments, moments)
        # Means of this block serve the next.
        with np.errstate(over="ignore"):
            mean = (moments.unit * moments.mean).astype(self._dtype)
        self._centre = np.asarray(np.where(np.isfinite(mean), mean, 0))
        self._free.append(sent.block)

    def _moments_of(self, sent: _InFlight) -> Moments:
        """The moments of a block; its products are taken anew where they have lost digits."""
        G = np.asarray(sent.products).sum(axis=0, dtype=np.float64)
        unit = np.ones(len(sent.centre))
        centre, rounding = sent.centre.astype(np.float64), np.finfo(self._dtype)
        total, bA, squares = G[0, 0], G[0, 1:], np.diagonal(G)[1:]
        offset = bA / (total if total > 0 else 1)
        with np.errstate(over="ignore", invalid="ignore"):
            # Squares that have over- or underflown, and means too far from the centre (a feature
            # that grows evenly from block to block is 12/13 of its squares away from the last).
            fine = (squares > rounding.tiny**0.6) & (offset * bA <= 15 / 16 * squares)
        fine &= np.isfinite(squares)
        if not fine.all():
            Z = sent.block[: sent.num_rows]
            offset = np.where(np.isfinite(offset), offset, 0).astype(self._dtype)
            wrong = np.flatnonzero(~fine)
            largest = np.array([np.abs(Z[:, 1 + j] - Z[:, 0] * offset[j]).max() for j in wrong])
            if largest.any():  # not only columns that do not vary
                unit[wrong] = power_of_two(largest, self._dtype)
                rows = _recentred(Z, offset, (1 / unit).astype(self._dtype))
                G = np.asarray(_products(rows)).sum(axis=0, dtype=np.float64)
                centre = (centre + offset) / unit
        return moments_of_gram(G, centre, unit, float(rounding.eps))


@jax.jit
def _products(Z: Float[Array | np.ndarray, "n m"]) -> Float[Array, "p m m"]:
    """[p, m, m] the inner products of the columns of Z [n, m], over p parts of the rows."""
    n, m = Z.shape
    batch = _batch_rows(m) if n % _batch_rows(m) == 0 else n
    batches = Z.reshape(-1, batch, m)
    G = matmul(jnp.swapaxes(batches, 1, 2), batches)
    # The host adds up in float64; here no more than so many rows.
    together = math.gcd(n // batch, max(_CACHED_ROWS // batch, 1))
    return jnp.sum(G.reshape(-1, together, m, m), axis=1)


@jax.jit
def _recentred(
    Z: Float[Array | np.ndarray, "n c"],
    offset: Float[Array | np.ndarray, " m"],
    inverse: Float[Array | np.ndarray, " m"],
) -> Float[Array, "n c"]:
    """[b (A - b offset) inverse] of Z = [b A]."""
    b = Z[:, :1]
    return jnp.concatenate([b, (Z[:, 1:] - b * offset[None, :]) * inverse[None, :]], axis=1)


def _batch_rows(m: int) -> int:
    """Rows that are multiplied at once: as many as XLA on the CPU takes least time over."""
    return 512 if m <= 128 else max(1024, m)


def _aligned(shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """An array that JAX on a CPU takes as it stands, without a copy of it."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
