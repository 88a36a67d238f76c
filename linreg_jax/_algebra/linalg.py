"""Linear algebra on the weighted rows [b X y] of a data set, without a copy of them.

b is what multiplies the bias (1, or `bias_column`), S the diagonal of the sample weights, and y is
[n, k] in what follows unless it says otherwise. Everything a squared loss knows of the data is
[b X y]ᵀ S [b X y], and its triangular factor keeps twice the digits of the matrix itself.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from linreg_jax._algebra.blocks import by_parts, sum_over_blocks
from linreg_jax.dataset import Dataset, multiplies_bias


def target_columns(y):
    """Targets [n] or [n, k] as [n, k]."""
    return y[:, None] if y.ndim == 1 else y


def weighted_rows(data):
    """The rows times the square root of their weight: `(b [n], X [n, d], y [n, k])`."""
    b, X, y = multiplies_bias(data), data.X, target_columns(data.y)
    if data.sample_weight is None:
        return b, X, y
    root = jnp.sqrt(data.sample_weight)
    return root * b, root[:, None] * X, root[:, None] * y


def _block(data, index, block_rows):
    """The `index`-th block of rows, a `Dataset`.

    The last block reaches back into the one before, so that all have one shape; the rows that they
    share weigh 0 in it.
    """
    n = data.X.shape[0]
    first = index * block_rows
    start = jnp.minimum(first, n - block_rows)

    def rows(column):
        return lax.dynamic_slice_in_dim(column, start, block_rows) if column.ndim else column

    block = jax.tree.map(rows, data)
    if n % block_rows == 0:
        return block
    new = (start + jnp.arange(block_rows) >= first).astype(data.X.dtype)
    weight = new if block.sample_weight is None else new * block.sample_weight
    return block._replace(sample_weight=weight)


def map_blocks(function, data, block_rows):
    """`function` of one block of rows after the other.

    Args:
      function: `Dataset` of `block_rows` rows (of n, if there are fewer) -> a pytree of arrays.
      data: a `Dataset` of n rows.
      block_rows: how many rows are worked on at a time.

    Returns:
      What `function` returned, stacked along a new leading axis.
    """
    n = data.X.shape[0]
    if n <= block_rows:
        return jax.tree.map(lambda array: array[None], function(data))
    num_blocks = -(-n // block_rows)
    return lax.map(lambda i: function(_block(data, i, block_rows)), jnp.arange(num_blocks))


def fold_blocks(function, start, data, block_rows):
    """`function(total, block) -> total` from `start` over the blocks, as `map_blocks` has them."""
    n = data.X.shape[0]
    if n <= block_rows:
        return function(start, data)
    num_blocks = -(-n // block_rows)
    return lax.fori_loop(
        0, num_blocks, lambda i, total: function(total, _block(data, i, block_rows)), start
    )


def triangular_factor(data, *, intercept=True, prepare=None, block_rows=None):
    """R, upper triangular, with RᵀR = [b X y]ᵀ S [b X y]: everything a squared loss knows.

    Blocks of rows are factored one by one and their factors stacked and factored again, as a tree:
    the rounding errors grow with its depth and not with n. With b first, the rows of R below the
    first are the factor of [X y] centred on its weighted means.

    Source: Demmel, Grigori, Hoemmen and Langou 2012, SIAM Journal on Scientific Computing 34.

    Args:
      data: a `Dataset`; X [n, d], y [n] or [n, k].
      intercept: whether b is there.
      prepare: `Dataset` -> `Dataset`, applied to each block as it is read; None: left as it is.
      block_rows: rows factored at a time; None: chosen by the number of columns.

    Returns:
      [min(n, m), m] with m = 1 + d + k columns: b (with an intercept), X, y.
    """
    m = int(intercept) + data.X.shape[1] + target_columns(data.y).shape[1]
    if block_rows is None:
        # On the CPU the QR of LAPACK is fastest in blocks so small that it starts no threads.
        block_rows = 8192 // m if m <= 64 else 8 * m

    def factor_of_block(block):
        b, X, y = weighted_rows(block if prepare is None else prepare(block))
        columns = [b[:, None], X, y] if intercept else [X, y]
        return jnp.linalg.qr(jnp.concatenate(columns, axis=1), mode="r")

    def factor_of_part(part):
        return _stacked_factor(map_blocks(factor_of_block, part, block_rows), block_rows)

    return _stacked_factor(by_parts(factor_of_part, data._replace(count=None)), block_rows)


def _stacked_factor(factors, block_rows):
    """[min(q p, m), m] the factor of factors [q, p, m] stacked, of about block_rows rows a time."""
    m = factors.shape[2]
    group = max(2, block_rows // m)
    while factors.shape[0] > 1:
        missing = -factors.shape[0] % min(group, factors.shape[0])
        factors = jnp.pad(factors, ((0, missing), (0, 0), (0, 0)))
        stacked = factors.reshape(-1, min(group, factors.shape[0]) * factors.shape[1], m)
        factors = jnp.linalg.qr(stacked, mode="r")
    return factors[0]


class Centring(NamedTuple):
    """How rows are scaled by powers of 2, exactly, and then centred: (X / unit) - b mean.

    Attributes:
      unit: [d] largest size of each feature, as a power of 2.
      unit_y: [k] that of each target.
      mean: [d] weighted mean of X / unit along b; 0 without an intercept.
      mean_y: [k] that of y / unit_y.
    """

    unit: Array
    unit_y: Array
    mean: Array
    mean_y: Array

    def scaled(self, data):
        """`data` (targets [n, k]) in these units."""
        return data._replace(X=data.X / self.unit[None, :], y=data.y / self.unit_y[None, :])

    def centred(self, data):
        """`data` (targets [n, k]) in these units, less b times the means."""
        data = self.scaled(data)
        b = multiplies_bias(data)[:, None]
        return data._replace(X=data.X - b * self.mean[None, :], y=data.y - b * self.mean_y[None, :])

    def undo(self, R):
        """The triangular factor of the rows as they were, from that of the centred ones."""
        mean, unit = (jnp.concatenate(parts) for parts in (self[2:], self[:2]))
        columns = (R[:, 1:] + jnp.outer(R[:, 0], mean)) * unit[None, :]
        return jnp.concatenate([R[:, :1], columns], axis=1)

    def is_constant(self, F, length_of_b):
        """[d] whether a centred feature, a column of F, varies by no more than its own rounding."""
        size = jnp.abs(length_of_b * self.mean)
        return jnp.linalg.norm(F, axis=0) <= 4 * jnp.finfo(F.dtype).eps * size


def centring(data: Dataset, *, intercept: bool = True) -> Centring:
    """The `Centring` of data whose targets are [n, k]."""
    b, s = multiplies_bias(data), data.sample_weight
    data = Dataset(data.X, data.y, s)
    units = [_power_of_two(size) for size in _largest_sizes(data)]
    rows = Centring(*units, *map(jnp.zeros_like, units))
    if not intercept:
        return rows

    # Sums and not products: one reads X several times faster, on rows that are sharded too.
    sb = b if s is None else s * b
    bb = jnp.sum(sb * b)
    bb = jnp.where(bb > 0, bb, 1)

    def sums(block: tuple[Array, Dataset]) -> tuple[Array, Array]:
        sb, scaled = block[0][:, None], rows.scaled(block[1])
        return jnp.sum(sb * scaled.X, axis=0), jnp.sum(sb * scaled.y, axis=0)

    # By blocks: jaxlib 0.10 writes what is summed to memory, a copy of X, before it adds it up.
    bX, by = sum_over_blocks(sums, (sb, data), cache_bytes=2**21, most_rows=2**14)
    return rows._replace(mean=bX / bb, mean_y=by / bb)


def _largest_sizes(data: Dataset) -> tuple[Array, Array]:
    """[d] and [k] the largest size of each feature and target; zero-weight rows do not count."""

    def of_rows(rows: Dataset) -> tuple[Array, Array]:
        X, y, s = rows.X, rows.y, rows.sample_weight
        if s is not None:
            X, y = (jnp.where((s > 0)[:, None], columns, 0) for columns in (X, y))
        # The two ends and not abs(X), of which jaxlib 0.10 would write a copy to memory.
        size_X, size_y = (jnp.maximum(jnp.max(c, axis=0), -jnp.min(c, axis=0)) for c in (X, y))
        return size_X, size_y

    if data.sample_weight is None:
        return of_rows(data)
    block_rows = max(2**19 // data.X.shape[1], 32)  # or the 0s would be written in a copy, too
    sizes = by_parts(lambda part: map_blocks(of_rows, part, block_rows), data)
    return jax.tree.map(lambda of_blocks: jnp.max(of_blocks, axis=(0, 1)), sizes)


def _power_of_two(size: Array) -> Array:
    """[m] a power of 2 near half of each size, so that it cannot overflow; 1 for 0."""
    rounded = lax.reduce_precision(size / 2, jnp.finfo(size.dtype).nexp, 0)
    return jnp.where(rounded > 0, rounded, 1)


class ScaledColumns(NamedTuple):
    """A matrix F [q, d] as U diag(singular_values) Vt diag(length), its columns scaled to length 1.

    Scaled so, the rank does not depend on the units of the features.

    Attributes:
      length: [d] of the columns; 1 for a column of zeros.
      U: [q, p], p = min(q, d).
      singular_values: [p], largest first.
      Vt: [p, d].
      rank: [] how many singular values count as more than 0.
    """

    length: Array
    U: Array
    singular_values: Array
    Vt: Array
    rank: Array


def scale_columns(F):
    """`ScaledColumns` of F [q, d]."""
    length = jnp.linalg.norm(F, axis=0)
    length = jnp.where(length > 0, length, 1)
    U, s, Vt = jnp.linalg.svd(F / length[None, :], full_matrices=False)
    # Of a matrix with unit columns, this is what rounding leaves where a singular value is 0.
    smallest = 4 * F.shape[1] ** 0.5 * jnp.finfo(F.dtype).eps * s[0]
    return ScaledColumns(length, U, s, Vt, jnp.sum(s > smallest))
