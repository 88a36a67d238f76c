"""Linear algebra on the weighted rows [b X y] of a data set, without a copy of them.

b is what multiplies the bias (1, or `bias_column`), S the diagonal of the sample weights, and y is
[n, k] in what follows unless it says otherwise. Everything a squared loss knows of the data is
[b X y]ᵀ S [b X y], and its triangular factor keeps digits that the matrix itself would square away.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from linreg_jax._arithmetic.blocks import by_parts
from linreg_jax._arithmetic.centring import Centre, centre_of, power_of_two, without_zero_weight
from linreg_jax._host import is_on_host, namespace_of
from linreg_jax._kernels import matmul
from linreg_jax._typing import AnyArray, Array, Float, Int
from linreg_jax.dataset import Dataset, bias_multipliers

Columns = TypeVar("Columns", AnyArray, np.ndarray)


def target_columns(y: Columns) -> Columns:
    """Targets [n] or [n, k] as [n, k]."""
    return y[:, None] if y.ndim == 1 else y


def weighted_rows(
    data: Dataset,
) -> tuple[Float[AnyArray, " n"], Float[AnyArray, "n d"], Float[AnyArray, "n k"]]:
    """The rows times the square root of their weight: `(b [n], X [n, d], y [n, k])`."""
    b, X, y = bias_multipliers(data), data.X, target_columns(data.y)
    if data.sample_weight is None:
        return b, X, y
    root = namespace_of(data.sample_weight).sqrt(data.sample_weight)
    return root * b, root[:, None] * X, root[:, None] * y


def _block(data: Dataset, index: Int[Array, ""], block_rows: int) -> Dataset:
    """The `index`-th block of rows, a `Dataset`.

    The last block reaches back into the one before, so that all have one shape; the rows that they
    share have zero weight in it.
    """
    n = data.X.shape[0]
    first = index * block_rows
    start = jnp.minimum(first, n - block_rows)

    def rows(column: Array) -> Array:
        return lax.dynamic_slice_in_dim(column, start, block_rows) if column.ndim else column

    block = jax.tree.map(rows, data)
    if n % block_rows == 0:
        return block
    new = (start + jnp.arange(block_rows) >= first).astype(data.X.dtype)
    weight = new if block.sample_weight is None else new * block.sample_weight
    return block._replace(sample_weight=weight)


def map_blocks(function: Callable[[Dataset], Any], data: Dataset, block_rows: int) -> Any:
    """`function` of one block of rows after the other.

    Args:
      function: `Dataset` of `block_rows` rows (of n, if there are fewer) -> a pytree of arrays.
      data: a `Dataset` of n rows.
      block_rows: how many rows are worked on at a time.

    Returns:
      What `function` returned, stacked along a new leading axis.
    """
    n = data.X.shape[0]
    if n <= block_rows or is_on_host(data.X):
        return jax.tree.map(lambda array: array[None], function(data))
    num_blocks = -(-n // block_rows)
    return lax.map(lambda i: function(_block(data, i, block_rows)), jnp.arange(num_blocks))


def fold_blocks(
    function: Callable[[Any, Dataset], Any], start: Any, data: Dataset, block_rows: int
) -> Any:
    """`function(total, block) -> total` from `start` over the blocks, as `map_blocks` has them."""
    n = data.X.shape[0]
    if n <= block_rows or is_on_host(data.X):
        return function(start, data)
    num_blocks = -(-n // block_rows)
    return lax.fori_loop(
        0, num_blocks, lambda i, total: function(total, _block(data, i, block_rows)), start
    )


def triangular_factor(
    data: Dataset,
    *,
    intercept: bool = True,
    prepare: Callable[[Dataset], Dataset] | None = None,
    block_rows: int | None = None,
) -> Float[AnyArray, "q m"]:
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

    def factor_of_block(block: Dataset) -> AnyArray:
        b, X, y = weighted_rows(block if prepare is None else prepare(block))
        columns = [b[:, None], X, y] if intercept else [X, y]
        xp = namespace_of(X)
        return xp.linalg.qr(xp.concatenate(columns, axis=1), mode="r")

    def factor_of_part(part: Dataset) -> AnyArray:
        return _stacked_factor(map_blocks(factor_of_block, part, block_rows), block_rows)

    return _stacked_factor(by_parts(factor_of_part, data._replace(total_weight=None)), block_rows)


def _stacked_factor(factors: Float[AnyArray, "t p m"], block_rows: int) -> Float[AnyArray, "q m"]:
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
    """How rows are scaled by powers of 2 and centred, with targets [n, k]."""

    X: Centre
    y: Centre

    def centred(self, data: Dataset) -> Dataset:
        """`data` in these units, less b times the origins and means; 0 in zero-weight rows."""
        X, y = (
            centre.centred(columns, data.bias_column)
            for centre, columns in zip(self, (data.X, data.y), strict=True)
        )
        if data.sample_weight is not None:
            X, y = (without_zero_weight(columns, data.sample_weight) for columns in (X, y))
        return data._replace(X=X, y=y)

    def undo(self, R: AnyArray, *, intercept: bool = True) -> AnyArray:
        """The triangular factor of the rows as they were, from that of the centred ones.

        What is below its first row stays as it is, but for the units.
        """
        xp = namespace_of(R)
        unit, origin, mean, _ = (xp.concatenate(parts) for parts in zip(*self, strict=True))
        if not intercept:
            return R * unit[None, :]
        columns = R[:, 1:] + xp.outer(R[:, 0], mean) + xp.outer(R[:, 0], origin)
        return xp.concatenate([R[:, :1], columns * unit[None, :]], axis=1)


def centring(data: Dataset, *, intercept: bool = True) -> Centring:
    """The `Centring` of data whose targets are [n, k]."""
    b, s = data.bias_column, data.sample_weight
    return Centring(
        *(centre_of(columns, b, s, intercept=intercept) for columns in (data.X, data.y))
    )


def centred_factor(
    data: Dataset, *, intercept: bool = True, least_rows: int = 0
) -> tuple[Centring, AnyArray]:
    """How the rows of data, targets [n, k], are centred, and `triangular_factor` of them then.

    Args:
      data: a `Dataset`; X [n, d], y [n, k].
      intercept: whether b is there.
      least_rows: rows of 0 are added to the factor until it has so many.
    """
    rows = centring(data, intercept=intercept)
    R = triangular_factor(data, intercept=intercept, prepare=rows.centred)
    return rows, namespace_of(R).pad(R, ((0, max(least_rows - R.shape[0], 0)), (0, 0)))


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

    length: AnyArray
    U: AnyArray
    singular_values: AnyArray
    Vt: AnyArray
    rank: AnyArray


def scale_columns(F: Float[AnyArray, "q d"]) -> ScaledColumns:
    """`ScaledColumns` of F [q, d]."""
    xp = namespace_of(F)
    length = xp.linalg.norm(F, axis=0)
    length = xp.where(length > 0, length, 1)
    U, s, Vt = xp.linalg.svd(F / length[None, :], full_matrices=False)
    # Of a matrix with unit columns, this is what rounding leaves where a singular value is 0.
    smallest = 4 * F.shape[1] ** 0.5 * jnp.finfo(F.dtype).eps * s[0]
    return ScaledColumns(length, U, s, Vt, xp.sum(s > smallest))


def graded_svd(F: AnyArray) -> tuple[AnyArray, AnyArray, AnyArray]:
    """The singular value decomposition, with the digits of singular values of very different size.

    With the columns in order of their length the triangular factor falls off from row to row, and
    the rounding of the large singular values does not reach the small ones, as it otherwise would
    where features are badly scaled or far from 0. The factor is taken with columns of one length
    and with the largest rows first, so that small rows keep their own digits.

    Source: Cox and Higham 1998, BIT 38, for QR with rows of different size.
    """
    xp, length = namespace_of(F), power_of_two(F)
    columns = xp.argsort(-xp.linalg.norm(F, axis=0), stable=True)
    F, length = (F / length[None, :])[:, columns], length[columns]
    rows = xp.argsort(-xp.max(xp.abs(F), axis=1), stable=True)
    Q, R = xp.linalg.qr(F[rows])
    U, s, Vt = xp.linalg.svd(R * length[None, :], full_matrices=False)
    return matmul(Q, U)[xp.argsort(rows)], s, Vt[:, xp.argsort(columns)]
