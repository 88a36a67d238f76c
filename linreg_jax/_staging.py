"""Rows from the host to the device: laid out in blocks of one shape, and multiplied there.

A block holds the weighted rows Z = [b X y]. While the device takes the products ZᵀZ of two blocks,
the host reads the next: calls into JAX return before their work is done.
"""

import dataclasses
import math
from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from linreg_jax._chunks import Chunk, Kind, require_same
from linreg_jax._moments import (
    Moments,
    as_compressed,
    merge,
    moments_of_gram,
    no_moments,
    power_of_two,
)
from linreg_jax._numerics import matmul
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

    block: np.ndarray
    num_rows: int
    products: Array
    centre: np.ndarray
    unit: np.ndarray
    goes_to: _Sum


class Stage:
    """Adds up the moments of rows chunk by chunk, each chunk as a whole or not at all.

    A chunk that fits is laid behind those before it; one that does not is cut into blocks. Its rows
    are looked at before they count, so that one that is not finite leaves the sum as it was.
    """

    def __init__(self, kind: Kind, moments: Moments, max_bytes: int):
        """A stage that goes on from moments.

        Args:
          kind: that of the chunks.
          moments: of their columns.
          max_bytes: for the rows under way: the blocks here, and as much where they are multiplied.

        Raises:
          ValueError: not one row fits in.
        """
        m = 1 + len(moments.mean)
        self._kind, self._dtype = kind, kind.computed_in
        row_bytes = 2 * _BLOCKS * m * self._dtype.itemsize
        rows = max_bytes // row_bytes
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
        self._block = self._free.pop()
        self._filled, self._sums = 0, np.zeros(m)
        self._unit = np.ones(m - 1)
        self._in_flight: deque[_InFlight] = deque()
        self._whole = _Sum(moments)

    def add(self, chunk: Chunk) -> None:
        """Counts the rows of a chunk, or none of them where it raises.

        Raises:
          TypeError, ValueError: another kind, a number that is not finite, a negative weight.
        """
        require_same(self._kind, chunk.kind)
        n, room = len(chunk.X), len(self._block)
        if n > room - self._filled:
            self._send(self._whole)
        if n <= room:
            self._sums += self._lay_out(chunk, 0, n)
            self._filled += n
        else:
            part = _Sum(no_moments(len(self._unit)))
            for start in range(0, n, room):
                stop = min(start + room, n)
                self._sums = self._lay_out(chunk, start, stop)
                self._filled = stop - start
                self._send(part)
            for block in self._in_flight:
                if block.goes_to is part:
                    block.goes_to = self._whole
            self._whole.moments = merge(self._whole.moments, part.moments)
        moments = self._whole.moments
        self._whole.moments = moments._replace(count=moments.count + chunk.count)

    def compressed(self) -> Dataset:
        """All chunks so far, a compressed `Dataset`."""
        self._send(self._whole)
        while self._in_flight:
            self._receive()
        d, targets, _ = self._kind
        return as_compressed(self._whole.moments, d, targets, self._dtype)

    def _lay_out(self, chunk, start, stop):
        """Fills in rows of a chunk behind those there are; returns bᵀ[b A] of them."""
        sums = np.zeros(self._block.shape[1])
        for first in range(start, stop, _CACHED_ROWS):
            last = min(first + _CACHED_ROWS, stop)
            at = self._filled + first - start
            piece = self._block[at : at + last - first]
            chunk.lay_out(first, last, piece)
            with np.errstate(over="ignore", invalid="ignore"):  # looked at below
                new = piece[:, 0] @ piece
            if not np.isfinite(new).all():
                chunk.check(first, last)
                new = np.where(np.isfinite(new), new, 0)  # finite, and their sum is not
            sums += new
        return sums

    def _send(self, goes_to):
        """Hands the block to the device, and takes back the one before the last."""
        if self._filled == 0:
            return
        num_rows = min(-(-self._filled // self._step) * self._step, len(self._block))
        self._block[self._filled : num_rows] = 0
        centre = self._sums[1:] / (self._sums[0] if self._sums[0] > 0 else 1)
        self._in_flight.append(self._multiply(self._block, num_rows, centre, self._unit, goes_to))
        if not self._free:
            self._receive()
        self._block = self._free.pop()
        self._filled, self._sums = 0, np.zeros_like(self._sums)

    def _multiply(self, block, num_rows, centre, unit, goes_to):
        """Starts the products of the first rows of a block, `centre` in the units of the data."""
        centre, inverse = (centre / unit).astype(self._dtype), (1 / unit).astype(self._dtype)
        products = _products(
            block[:num_rows],
            np.concatenate([[0], centre], dtype=centre.dtype),
            np.concatenate([[1], inverse], dtype=inverse.dtype),
        )
        return _InFlight(block, num_rows, products, centre.astype(np.float64), unit, goes_to)

    def _receive(self):
        """Adds the products of the oldest block to where they belong."""
        sent = self._in_flight.popleft()
        G = np.asarray(sent.products).sum(axis=0, dtype=np.float64)
        unit = self._fitting_unit(sent, np.diagonal(G)[1:])
        if (unit != sent.unit).any():
            centre = sent.centre * sent.unit
            sent = self._multiply(sent.block, sent.num_rows, centre, unit, sent.goes_to)
            G = np.asarray(sent.products).sum(axis=0, dtype=np.float64)
            self._unit = unit
        eps = np.finfo(self._dtype).eps
        moments = moments_of_gram(G, sent.centre, sent.unit, eps)
        sent.goes_to.moments = merge(sent.goes_to.moments, moments)
        self._free.append(sent.block)

    def _fitting_unit(self, sent, squares):
        """[m] the unit, another one for columns whose squares have over- or underflown."""
        smallest = np.finfo(self._dtype).tiny ** 0.6
        unit, b = sent.unit.copy(), sent.block[: sent.num_rows, 0]
        for j in np.flatnonzero(~(np.isfinite(squares) & (squares > smallest))):
            column = sent.block[: sent.num_rows, 1 + j]
            largest = np.abs(column / unit[j] - b * sent.centre[j]).max()  # float64
            if largest > 0:
                unit[j] = power_of_two(largest * unit[j], self._dtype)
        return unit


@jax.jit
def _products(Z, centre, inverse):
    """[p, 1 + m, 1 + m] the inner products of the columns Z inverse - b centre over p parts.

    Args:
      Z: [n, 1 + m] the rows [b A].
      centre, inverse: [1 + m] the means and one over the units of b (0 and 1) and of A.
    """
    n, m = Z.shape
    rows = Z * inverse[None, :] - Z[:, :1] * centre[None, :]
    batch = _batch_rows(m) if n % _batch_rows(m) == 0 else n
    batches = rows.reshape(-1, batch, m)
    G = matmul(jnp.swapaxes(batches, 1, 2), batches)
    # The host adds up in float64; here no more than so many rows.
    together = math.gcd(n // batch, max(_CACHED_ROWS // batch, 1))
    return jnp.sum(G.reshape(-1, together, m, m), axis=1)


def _batch_rows(m):
    """Rows that are multiplied at once: few columns go faster in many small products."""
    return 256 if m <= 64 else _CACHED_ROWS


def _aligned(shape, dtype):
    """An array that JAX on a CPU takes as it stands, without a copy of it."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
