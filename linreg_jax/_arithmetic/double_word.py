"""Double-word arithmetic: sums of products as unevaluated pairs `high + low`.

A product is split into four that are exact (Dekker 1971, Numerische Mathematik 18), so that it does
not matter whether a compiler fuses one of them with an addition; they are added with the rounding
error of each addition carried along (Knuth's two-sum).
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from linreg_jax._host import is_on_host, reduced_precision
from linreg_jax._typing import AnyArray

Pair = tuple[AnyArray, AnyArray]


def _halves(x: AnyArray) -> Pair:
    """`(high, low)` with x = high + low, of at most half the digits each."""
    high = reduced_precision(x, (jnp.finfo(x.dtype).nmant + 1) // 2 - 1)
    return high, x - high


def two_sum(a: AnyArray, b: AnyArray) -> Pair:
    """`(sum, error)`: the rounded sum and exactly what rounding took from it."""
    total = a + b
    moved = total - a
    return total, (a - (total - moved)) + (b - moved)


def add_pairs(a: Pair, b: Pair) -> Pair:
    """The sum of two pairs, as a pair."""
    high, lost = two_sum(a[0], b[0])
    low = lost + a[1] + b[1]
    total = high + low
    return total, low - (total - high)


def add_product(pair: Pair, a: AnyArray, b: AnyArray, low: AnyArray | float) -> Pair:
    """`pair` + a (b + low), elementwise, in double words; the arrays broadcast to the pair."""
    total, lost = pair
    a_high, a_low = _halves(a)
    b_high, b_low = _halves(b)
    lost = lost + a * low
    for exact in (a_high * b_high, a_high * b_low, a_low * b_high, a_low * b_low):
        total, error = two_sum(total, exact)
        lost = lost + error
    return total, lost


def sum_pairs(pair: Pair, axis: int) -> Pair:
    """The sum of the pairs along an axis, as a pair."""
    if is_on_host(pair[0]):
        return _sum_by_halves(pair, axis)
    zero = jnp.zeros((), pair[0].dtype)
    return lax.reduce(pair, (zero, zero), add_pairs, (axis,))


def _sum_by_halves(pair: tuple[Any, Any], axis: int) -> Pair:
    """`sum_pairs` by NumPy: one half added to the other, until one pair is left."""
    high, low = (np.moveaxis(part, axis, 0) for part in pair)
    while high.shape[0] > 1:
        half = high.shape[0] // 2
        added = add_pairs((high[:half], low[:half]), (high[half : 2 * half], low[half : 2 * half]))
        high, low = (
            np.concatenate([part, last[2 * half :]])
            for part, last in zip(added, (high, low), strict=True)
        )
    return high[0], low[0]
