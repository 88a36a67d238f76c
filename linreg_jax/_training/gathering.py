"""Gathering the rows of mini-batches, on a CPU in the form that XLA makes fast code of.

Milliseconds for an epoch of 1,000,000 rows in batches of 1,024, and of 100,000 × 100 in batches of
256, by the shape of X before the program, a view of the same memory (float32, two CPU cores, jax
0.10.1 and 0.12.0.1):

| rows            | X [n, d] | [n, d / g, g]        |
|-----------------|----------|----------------------|
| 1,000,000 × 32  | 61, 50   | g = 4, 8: 38, 23     |
| 1,000,000 × 30  | 60, 64   | g = 6: 42, 33 to 58  |
| 1,000,000 × 30  | 60, 64   | g = 2: 55, 41 to 62  |
| 100,000 × 100   | 6, 5     | g = 4: 11, 5         |
"""

import jax
from jax import lax

from linreg_jax._typing import Array, Float, Int
from linreg_jax._validation import is_traced
from linreg_jax.dataset import Dataset

_WIDE = 64  # features: rows of more are gathered as they are
_GROUPS = (4, 6, 5, 3, 2, 7)  # numbers that are read at once, the best first


def group_size(d: int) -> int:
    """How many numbers of a row are read at once; d where it is gathered as it is."""
    if d > _WIDE:
        return d
    return next((size for size in _GROUPS if d % size == 0), d)


def in_groups(X: Array) -> Float[Array, "n groups size"]:
    """X [n, d] as [n, d / g, g]: the same memory where it is on one device, else a copy."""
    n, d = X.shape
    size = group_size(d)
    if is_traced(X) or len(X.devices()) > 1:
        return X.reshape(n, d // size, size)
    (device,) = X.devices()
    return jax.device_put(jax.device_get(X).reshape(n, d // size, size), device)


def gather_rows(data: Dataset, grouped: Array | None, index: Int[Array, " m"]) -> Dataset:
    """The `Dataset` of some rows.

    Args:
      data: a `Dataset` without a total weight.
      grouped: `in_groups(data.X)`, or None.
      index: [m] integers from 0 to n - 1.
    """

    def rows(column: Array) -> Array:
        # Every index is below n: saying so spares a test of each.
        return column.at[index].get(mode="promise_in_bounds")

    if grouped is None:
        return jax.tree.map(rows, data)
    chosen: Dataset = jax.tree.map(rows, data._replace(X=grouped))
    # The barrier keeps the reshape out of the gather, which XLA would write as one of rows [d].
    return chosen._replace(X=lax.optimization_barrier(chosen.X).reshape(-1, data.X.shape[1]))
