"""Zero-weight rows: padding that no loss of this package sees."""

import functools

import jax
import jax.numpy as jnp

from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset


@functools.partial(jax.jit, static_argnames="num_rows")
def pad(data: Dataset, num_rows: int) -> Dataset:
    """The same examples and zero-weight rows after them: the losses of this package are the same.

    Args:
      data: a `Dataset` of n rows.
      num_rows: how many to add.

    Returns:
      A `Dataset` of n + num_rows rows, with a `sample_weight`.

    Example:
      >>> pad(as_dataset([[2.0]], [4.0]), 2).sample_weight.tolist()
      [1.0, 0.0, 0.0]
    """
    weight = data.sample_weight
    if weight is None:
        weight = jnp.ones(data.X.shape[0], data.X.dtype)

    def padded(column: Float[Array, "..."]) -> Float[Array, "..."]:
        if column.ndim == 0:  # total_weight
            return column
        return jnp.pad(column, [(0, num_rows), *[(0, 0)] * (column.ndim - 1)])

    longer: Dataset = jax.tree.map(padded, data._replace(sample_weight=weight))
    return longer
