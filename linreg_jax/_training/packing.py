"""Gathering the rows of mini-batches, on a CPU in the form that XLA makes fast code of.

Milliseconds for an epoch of 1,000,000 rows in batches of 1,024, and of 100,000 × 100 in batches of
256, by how the rows lie in memory; c is d and what else belongs to an example, rounded up (float32,
two CPU cores, jax 0.10.1 and 0.12.0.1):

| rows               | X [n, d], y  | X [n, d / 4, 4], y | packed [n, 8, c / 8]   |
|--------------------|--------------|--------------------|------------------------|
| 1,000,000 × 30     | 141, 115     | –                  | 95, 46                 |
| 1,000,000 × 32     | 160, 119     | 113, 39            | 77, 48                 |
| 100,000 × 100      | 25, 7        | 38, 7              | 24, 8 (as [n, c])      |

Packing is a pass over the data that takes 35 to 45 ms at 1,000,000 × 32, mostly for new memory.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from linreg_jax._kernels import platform_of
from linreg_jax._typing import Array, Float, Int
from linreg_jax.dataset import Dataset

_WIDE = 64  # features: rows of more are gathered as they are
_GROUP = 4  # numbers that are read at once
_ALIGNED = 8  # the lengths of packed rows are multiples of it
_GATHERS_GROUPS = jax.__version_info__ >= (0, 11)


def packs(data: Dataset) -> bool:
    """Whether a CPU gathers rows faster from a packed copy of the data."""
    d = data.X.shape[1]
    if d > _WIDE or any(part.dtype != data.X.dtype for part in _parts(data)):
        return False
    return d % _GROUP != 0 or not _GATHERS_GROUPS


@jax.jit
def pack(data: Dataset) -> Float[Array, " n *row"]:
    """[n, 8, c / 8] of the rows [x y sample_weight b 0 ...], whatever the data set has of it."""
    n = data.X.shape[0]
    columns = [jnp.reshape(part, (n, -1)) for part in _parts(data)]
    width = sum(column.shape[1] for column in columns)
    padding = jnp.zeros((n, -width % _ALIGNED), data.X.dtype)
    return jnp.concatenate([*columns, padding], axis=1).reshape(n, _ALIGNED, -1)


def gather_rows(data: Dataset, packed: Array | None, index: Int[Array, " m"]) -> Dataset:
    """The `Dataset` of some rows.

    Args:
      data: a `Dataset` without a total weight.
      packed: `pack(data)`, or None.
      index: [m] integers from 0 to n - 1.
    """

    def rows(column: Array) -> Array:
        # Every index is below n: saying so spares a test of each.
        return column.at[index].get(mode="promise_in_bounds")

    if packed is not None:
        return _unpacked(rows(packed).reshape(index.shape[0], -1), data)
    n, d = data.X.shape
    in_groups = d <= _WIDE and d % _GROUP == 0 and platform_of(data.X) == "cpu"
    X = data.X.reshape(n, -1, _GROUP) if in_groups else data.X
    chosen: Dataset = jax.tree.map(rows, data._replace(X=X))
    # The barrier keeps the reshape out of the gather, which XLA would write as one of rows [d].
    return chosen._replace(X=lax.optimization_barrier(chosen.X).reshape(-1, d))


def _unpacked(rows: Float[Array, " m c"], like: Dataset) -> Dataset:
    found, first = [], 0
    for part in _parts(like):
        width = math.prod(part.shape[1:])
        found.append(rows[:, first : first + width].reshape(-1, *part.shape[1:]))
        first += width
    rest = iter(found)
    return Dataset(
        X=next(rest),
        y=next(rest),
        sample_weight=None if like.sample_weight is None else next(rest),
        bias_column=None if like.bias_column is None else next(rest),
    )


def _parts(data: Dataset) -> list[Array]:
    """What a data set holds of each example, arrays [n, ...]."""
    parts = [data.X, data.y, data.sample_weight, data.bias_column]
    return [part for part in parts if part is not None]
