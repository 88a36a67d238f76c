"""Sums of products in twice the digits of the dtype, as unevaluated pairs `high + low`.

A product is split into four that are exact (Dekker 1971, Numerische Mathematik 18), so that it does
not matter whether a compiler fuses one of them with an addition; they are added with the rounding
error of each addition carried along (Knuth's two-sum).
"""

import jax.numpy as jnp
from jax import lax


def _halves(x):
    """`(high, low)` with x = high + low, of at most half the digits each."""
    info = jnp.finfo(x.dtype)
    high = lax.reduce_precision(x, info.nexp, (info.nmant + 1) // 2 - 1)
    return high, x - high


def _add(a, b):
    """The sum of two pairs, as a pair."""
    high = a[0] + b[0]
    moved = high - a[0]
    lost = (a[0] - (high - moved)) + (b[0] - moved)
    low = lost + a[1] + b[1]
    total = high + low
    return total, low - (total - high)


def doubled_sum(values, axis, low=None):
    """Σ values along an axis, as a pair; `low` are the low parts of `values`, None: all 0."""
    low = jnp.zeros_like(values) if low is None else low
    zero = jnp.zeros((), values.dtype)
    return lax.reduce((values, low), (zero, zero), _add, (axis,))


def doubled_products(a, b, low=None):
    """[5, ...] numbers whose exact sum is a (b + low), to twice the digits; `low` None: 0."""
    a, b = jnp.broadcast_arrays(a, b)
    a_high, a_low = _halves(a)
    b_high, b_low = _halves(b)
    last = jnp.zeros_like(a) if low is None else a * low
    return jnp.stack([a_high * b_high, a_high * b_low, a_low * b_high, a_low * b_low, last])
