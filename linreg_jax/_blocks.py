"""Sums over the rows of a data set, block by block."""

import jax
import jax.numpy as jnp
from jax import lax


def sum_over_blocks(term, rows, block_rows):
    """Σ term(block) over consecutive blocks of rows, each read once and used while in cache.

    The sum over the blocks is compensated (Neumaier 1974, ZAMM 54): its rounding does not grow with
    their number. No array is padded: the last, partial block is taken by itself.

    Args:
      term: block -> pytree of sums over its rows; `block` is like `rows`, with fewer rows.
      rows: pytree of arrays [n, ...].
      block_rows: rows in a block, at least 1.

    Returns:
      The pytree of sums.
    """
    n = jax.tree.leaves(rows)[0].shape[0]
    num_blocks, remaining = divmod(n, block_rows)

    def term_at(start, size):
        return term(jax.tree.map(lambda rows: lax.dynamic_slice_in_dim(rows, start, size), rows))

    def add_block(carry, i):
        total, lost = carry
        amount = term_at(i * block_rows, block_rows)
        moved = jax.tree.map(jnp.add, total, amount)
        lost = jax.tree.map(_lost_in_adding, total, amount, moved, lost)
        return (moved, lost), None

    if remaining:
        first, blocks = term_at(n - remaining, remaining), jnp.arange(num_blocks)
    else:
        first, blocks = term_at(0, block_rows), jnp.arange(1, num_blocks)
    start = first, jax.tree.map(jnp.zeros_like, first)
    (total, lost), _ = lax.scan(add_block, start, blocks)
    # Beyond the largest number, what was lost is inf - inf: the total stays as it is.
    return jax.tree.map(lambda t, l: jnp.where(jnp.isfinite(t), t + l, t), total, lost)


def _lost_in_adding(total, amount, moved, lost):
    """`lost` and what rounding took from `moved = total + amount`; the larger term comes first."""
    total_larger = jnp.abs(total) >= jnp.abs(amount)
    larger = jnp.where(total_larger, total, amount)
    smaller = jnp.where(total_larger, amount, total)
    return lost + ((larger - moved) + smaller)
