"""Sums over the rows of a data set, block by block."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from linreg_jax._algebra.doubled import doubled_add
from linreg_jax._numerics import devices_of

# An accelerator's block: each turn of a loop costs it as much time as reading megabytes.
_ACCELERATOR_BYTES = 2**25


def sum_over_blocks(
    term: Callable[[Any], Any],
    rows: Any,
    *,
    block_rows: int | None = None,
    cache_bytes: int = 2**17,
    most_rows: int = 4096,
) -> Any:
    """Σ term(block) over blocks of consecutive rows, each read once and used while in cache.

    The blocks are added in twice the digits, so that rounding does not grow with their number; a
    sum that overflows is NaN. No array is padded: the last, partial block is taken by itself. Rows
    that are sharded over devices are summed where they lie, and the devices' sums are added once.

    Args:
      term: block -> pytree of sums over its rows; `block` is like `rows`, with fewer rows.
      rows: pytree of arrays [n, ...].
      block_rows: most rows in a block, at least 1; None: chosen for the device.
      cache_bytes: about how large a block is on a CPU, where `block_rows` is None.
      most_rows: in such a block, whose own sum is a plain one.

    Returns:
      The pytree of sums.
    """
    if block_rows is not None:
        return _sum_of_parts(term, rows, block_rows)
    arrays = jax.tree.leaves(rows)
    row_bytes = sum(array.size // array.shape[0] * array.dtype.itemsize for array in arrays)
    cached_rows = min(max(cache_bytes // row_bytes, 32), most_rows)
    return lax.platform_dependent(
        rows,
        cpu=lambda rows: _sum_of_parts(term, rows, cached_rows),
        default=lambda rows: _sum_of_parts(term, rows, max(_ACCELERATOR_BYTES // row_bytes, 32)),
    )


def _sum_of_parts(term, rows, block_rows):
    """The sum on every part of the rows by itself, and then of the parts."""
    sums = by_parts(lambda part: _sum_here(term, part, block_rows), rows)
    return jax.tree.map(lambda of_parts: jnp.sum(of_parts, axis=0), sums)


def by_parts(function, rows):
    """`function` of equal parts of the rows, none of which lies on two devices.

    How rows lie on a mesh is unknown while tracing. That the shards are equal is sure, so what
    divides both the rows and the devices is a multiple of the number of shards.

    Args:
      function: part -> pytree of arrays; `part` is like `rows`, with fewer rows.
      rows: pytree of arrays [n, ...].

    Returns:
      What `function` returned, stacked along a new leading axis that lies on the devices; of length
      1 where there is one device.
    """
    arrays = jax.tree.leaves(rows)
    parts = math.gcd(arrays[0].shape[0], devices_of(arrays[0]))
    if parts == 1:
        return jax.tree.map(lambda array: array[None], function(rows))
    return jax.vmap(function)(jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), rows))


def _sum_here(term, rows, block_rows):
    n = jax.tree.leaves(rows)[0].shape[0]
    block_rows = min(block_rows, n)
    num_blocks, remaining = divmod(n, block_rows)

    def term_at(start, size):
        return term(jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, start, size), rows))

    def add_block(totals, i):
        amounts = term_at(i * block_rows, block_rows)
        return [
            doubled_add(total, (amount, jnp.zeros_like(amount)))
            for total, amount in zip(totals, jax.tree.leaves(amounts), strict=True)
        ], None

    if remaining:
        first, others = term_at(n - remaining, remaining), jnp.arange(num_blocks)
    else:
        first, others = term_at(0, block_rows), jnp.arange(1, num_blocks)
    start, treedef = jax.tree.flatten(first)
    totals, _ = lax.scan(add_block, [(total, jnp.zeros_like(total)) for total in start], others)
    return jax.tree.unflatten(treedef, [high + low for high, low in totals])
