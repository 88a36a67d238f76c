"""A random permutation of [0, n) computed index by index, without sorting and without memory.

The numbers below a b ≥ n are written as pairs (left, right) of [0, a) × [0, b), and a Feistel
network mixes the pairs::

    left  <- left  + hash(right, key_1)  mod a
    right <- right + hash(left,  key_2)  mod b
    ...

Each line can be undone whatever the hash is, so that the whole is a bijection. The few numbers from
n up to a b are skipped: an index that lands on one goes on from there until it lands below n (cycle
walking), which leaves a bijection of [0, n).

Sources: Black and Rogaway 2002, "Ciphers with arbitrary finite domains", for networks on [0, a) ×
[0, b) and for cycle walking; Mitchell et al. 2021, "Bandwidth-optimal random shuffling for GPUs",
for shuffling with them.
"""

import functools
import math
import operator

import jax
import jax.numpy as jnp
from jax import Array

_ROUNDS = 6
_FEW = 64  # up to here the permutation is exactly uniform, at n comparisons an index


def shuffled_index(key: Array, n: int, position: Array | int) -> Array:
    """Which of n examples stands at a position of the random order that `key` stands for.

    `shuffled_index(key, n, jnp.arange(n))` is a permutation of 0, ..., n - 1, and any part of it
    can be asked for alone: it costs time and memory for the positions that are asked for, gives
    the same numbers on every device, and passes through `jit` and `vmap`. Fold the epoch into the
    key for a fresh order every epoch.

    Args:
      key: a JAX random key.
      n: how many examples, 1 to 2³¹ - 1.
      position: integers from 0 up to n - 1, any shape; others give meaningless numbers.

    Returns:
      int32 in [0, n), shaped as `position`.

    Raises:
      TypeError: n is not an integer known while tracing, or the positions are not integers.
      ValueError: n is not in [1, 2³¹ - 1].

    Example:
      >>> order = shuffled_index(jax.random.key(0), 5, jnp.arange(5))
      >>> sorted(order.tolist())
      [0, 1, 2, 3, 4]
    """
    try:
        n = operator.index(n)
    except TypeError:
        raise TypeError(
            f"n must be a Python integer, got {n!r}: the number of examples is part of the "
            "compiled program, pass X.shape[0]"
        ) from None
    if not 1 <= n < 2**31:
        raise ValueError(f"n must be from 1 to 2**31 - 1, got {n}: positions are int32")
    position = jnp.asarray(position)
    if not jnp.issubdtype(position.dtype, jnp.integer):
        raise TypeError(f"position must hold integers, got {position.dtype}")
    position = position.astype(jnp.uint32)
    index = _rank(key, n, position) if n <= _FEW else _walk(key, n, position)
    return index.astype(jnp.int32)


def _rank(key, n, position):
    """The rank of one of n different random numbers: every order is equally likely."""
    low = jnp.uint32(_FEW - 1)  # the low bits hold the position, so that no two are equal
    number = jax.random.bits(key, (n,), jnp.uint32) & ~low | jnp.arange(n, dtype=jnp.uint32)
    return jnp.sum(number < number[position][..., None], axis=-1)


def _walk(key, n, position):
    """The network on [0, a b), the numbers from n on skipped."""
    a, b = _sides(n)
    round_keys = jax.random.bits(key, (_ROUNDS,), jnp.uint32)
    landing = _network(round_keys, a, b, position)
    # The walk without a loop: each number to spare is taken out of the cycle that it is in.
    onward = _network(round_keys, a, b, jnp.arange(n, a * b, dtype=jnp.uint32))
    for i in reversed(range(a * b - n)):
        landing = jnp.where(landing == n + i, onward[i], landing)
        onward = jnp.where(onward == n + i, onward[i], onward)
    return landing


@functools.cache
def _sides(n):
    """(a, b) with a b ≥ n, the fewest numbers to spare, and neither side over twice the other."""
    root = math.isqrt(n - 1) + 1
    spare, a = min((-n % a, -a) for a in range(math.isqrt(n // 2) + 1, root + 1))
    return -a, -(n // a)


def _network(round_keys, a, b, number):
    left, right = number // b, number % b
    for i in range(0, _ROUNDS, 2):
        left = (left + _hash(right, round_keys[i]) % a) % a
        right = (right + _hash(left, round_keys[i + 1]) % b) % b
    return left * b + right


def _hash(x, key):
    """32 mixed bits: the finaliser of MurmurHash3 on x with a key before it and between."""
    x = (x ^ key) * jnp.uint32(0x9E3779B1)
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
