"""Sums over the rows of a data set, block by block."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from linreg_jax._arithmetic.double_word import add_pairs
from linreg_jax._host import is_on_host
from linreg_jax._kernels import devices_of

# An accelerator's block: each turn of a loop costs it as much time as reading megabytes.
_ACCELERATOR_BYTES = 2**25
_HOST_ROWS = 128  # NumPy adds up the rows of a block one by one


def sum_over_blocks(
    term: Callable[[Any], Any],
    rows: Any,
    *,
    block_rows: int | None = None,
    cache_bytes: int = 2**17,
    most_rows: int = 4096,
) -> Any:
    """Σ term(block) over blocks of consecutive rows, each read once and used while in cache.

    The blocks are added in double-word arithmetic, so that rounding does not grow with their
    number; a sum that overflows is NaN. No array is padded: the last, partial block is taken by
    itself. Rows that are sharded over devices are summed where they lie, and the devices' sums are
    added once.

    Args:
      term: block -> pytree of sums over its rows; `block` is like `rows`, with fewer rows.
      rows: pytree of arrays [n, ...].
      block_rows: most rows in a block, at least 1; None: chosen for the device.
      cache_bytes: about how large a block is on a CPU, where `block_rows` is None.
      most_rows: in such a block, whose own sum is a plain one.

    Returns:
      The pytree of sums.
    """

    if is_on_host(jax.tree.leaves(rows)[0]):
        return _sum_by_numpy(term, rows)

    def reduce(block_rows: int) -> Callable[[Any], Any]:
        def of_parts(rows: Any) -> Any:
            sums = by_parts(lambda part: _sum_here(term, part, block_rows), rows)
            return jax.tree.map(lambda parts: jnp.sum(parts, axis=0), sums)

        return of_parts

    if block_rows is not None:
        return reduce(block_rows)(rows)
    return _on_platform(reduce, rows, cache_bytes, most_rows)


def max_over_blocks(
    term: Callable[[Any], Any], rows: Any, *, cache_bytes: int = 2**21, most_rows: int = 2**14
) -> Any:
    """The largest of term(block) over blocks of consecutive rows, elementwise.

    Args:
      term: block -> pytree of arrays; `block` is like `rows`, with fewer rows.
      rows, cache_bytes, most_rows: as for `sum_over_blocks`.
    """

    if is_on_host(jax.tree.leaves(rows)[0]):
        return term(rows)

    def reduce(block_rows: int) -> Callable[[Any], Any]:
        def of_parts(rows: Any) -> Any:
            largest = by_parts(lambda part: _max_here(term, part, block_rows), rows)
            return jax.tree.map(lambda parts: jnp.max(parts, axis=0), largest)

        return of_parts

    return _on_platform(reduce, rows, cache_bytes, most_rows)


def _on_platform(
    reduce: Callable[[int], Callable[[Any], Any]], rows: Any, cache_bytes: int, most_rows: int
) -> Any:
    """`reduce(rows in a block)(rows)`, with blocks that suit the device."""
    arrays = jax.tree.leaves(rows)
    row_bytes = sum(array.size // array.shape[0] * array.dtype.itemsize for array in arrays)
    return lax.platform_dependent(
        rows,
        cpu=reduce(min(max(cache_bytes // row_bytes, 32), most_rows)),
        default=reduce(max(_ACCELERATOR_BYTES // row_bytes, 32)),
    )


def by_parts(function: Callable[[Any], Any], rows: Any) -> Any:
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


def _sum_by_numpy(term: Callable[[Any], Any], rows: Any) -> Any:
    n = jax.tree.leaves(rows)[0].shape[0]
    sums = [
        term(jax.tree.map(lambda array, at=start: array[at : at + _HOST_ROWS], rows))
        for start in range(0, n, _HOST_ROWS)
    ]
    return jax.tree.map(lambda *parts: np.sum(parts, axis=0), *sums)


def _sum_here(term: Callable[[Any], Any], rows: Any, block_rows: int) -> Any:
    term_at, first, starts = _blocks(term, rows, block_rows)
    if starts.size == 0:
        return first
    start, treedef = jax.tree.flatten(first)

    def add_block(totals: list[Any], at: Array) -> tuple[list[Any], None]:
        return [
            add_pairs(total, (amount, jnp.zeros_like(amount)))
            for total, amount in zip(totals, jax.tree.leaves(term_at(at)), strict=True)
        ], None

    totals, _ = lax.scan(
        add_block, [(total, jnp.zeros_like(total)) for total in start], jnp.asarray(starts)
    )
    return jax.tree.unflatten(treedef, [high + low for high, low in totals])


def _max_here(term: Callable[[Any], Any], rows: Any, block_rows: int) -> Any:
    term_at, first, starts = _blocks(term, rows, block_rows)
    if starts.size == 0:
        return first
    return lax.scan(
        lambda largest, at: (jax.tree.map(jnp.maximum, largest, term_at(at)), None),
        first,
        jnp.asarray(starts),
    )[0]


def _blocks(
    term: Callable[[Any], Any], rows: Any, block_rows: int
) -> tuple[Callable[[Array], Any], Any, np.ndarray]:
    """`term` of the block that starts at a row, of the first block, and where the others start.

    No array is padded: a partial block is the first by itself.
    """
    n = jax.tree.leaves(rows)[0].shape[0]
    block_rows = min(block_rows, n)
    num_blocks, remaining = divmod(n, block_rows)

    def term_at(start: Array | int, size: int = block_rows) -> Any:
        if size == n:
            return term(rows)
        return term(jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, start, size), rows))

    starts = block_rows * np.arange(num_blocks)
    if remaining:
        return term_at, term_at(n - remaining, remaining), starts
    return term_at, term_at(0), starts[1:]
