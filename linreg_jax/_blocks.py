"""Sums over the rows of a data set, block by block."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType

from linreg_jax._doubled import doubled_add

# An accelerator's block: each turn of a loop costs it as much time as reading megabytes.
_ACCELERATOR_BYTES = 2**25


def sum_over_blocks(term, rows, *, block_rows=None, cache_bytes=2**19):
    """Σ term(block) over blocks of consecutive rows, each read once and used while in cache.

    The blocks are added in twice the digits, so that rounding does not grow with their number; a
    sum that overflows is NaN. No array is padded: the last, partial block is taken by itself. Rows
    that are sharded over devices are summed where they lie, and the devices' sums are added once.

    Args:
      term: block -> pytree of sums over its rows; `block` is like `rows`, with fewer rows.
      rows: pytree of arrays [n, ...].
      block_rows: most rows in a block, at least 1; None: chosen for the device.
      cache_bytes: about how large a block is on a CPU, where `block_rows` is None.

    Returns:
      The pytree of sums.
    """
    if block_rows is not None:
        return _sum_of_parts(term, rows, block_rows)
    arrays = jax.tree.leaves(rows)
    row_bytes = sum(array.size // array.shape[0] * array.dtype.itemsize for array in arrays)
    # Sums within a block are plain ones: on a CPU, up to 4096 terms.
    return lax.platform_dependent(
        rows,
        cpu=lambda rows: _sum_of_parts(term, rows, min(max(cache_bytes // row_bytes, 32), 4096)),
        default=lambda rows: _sum_of_parts(term, rows, max(_ACCELERATOR_BYTES // row_bytes, 32)),
    )


def _sum_of_parts(term, rows, block_rows):
    """The sum on every part of the rows by itself, and then of the parts."""
    n = jax.tree.leaves(rows)[0].shape[0]
    num_parts = _num_parts(rows, n)
    if num_parts == 1:
        return _sum_here(term, rows, min(block_rows, n))
    part_rows = n // num_parts
    # The axis of parts lies on the devices, so no step of the loop within a part needs another's.
    parts = jax.tree.map(lambda a: a.reshape(num_parts, part_rows, *a.shape[1:]), rows)
    sums = jax.vmap(lambda part: _sum_here(term, part, min(block_rows, part_rows)))(parts)
    return jax.tree.map(lambda of_parts: jnp.sum(of_parts, axis=0), sums)


def _num_parts(rows, n):
    """Into how many equal parts to divide n rows so that no edge of a shard cuts one.

    How rows lie on a mesh is unknown while tracing. That the shards are equal is sure, so what
    divides both the rows and the devices is a multiple of the number of shards.
    """
    mesh = jax.typeof(jax.tree.leaves(rows)[0]).sharding.mesh
    axes = zip(mesh.axis_sizes, mesh.axis_types, strict=True)
    return math.gcd(n, math.prod(size for size, kind in axes if kind == AxisType.Auto))


def _sum_here(term, rows, block_rows):
    n = jax.tree.leaves(rows)[0].shape[0]
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
