"""Columns centred exactly before anything is rounded.

Floats that are neighbours differ by a float: x - origin is exact where x and origin, the value in
one of the rows, lie within a factor of 2 of each other. So a column far from 0 beside its spread is
measured from such an origin first, and only the differences are averaged::

    x - mean x = (x - origin) - mean (x - origin)

Without an intercept's ones, b is what multiplies the bias in each row, and b origin takes the place
of the origin.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from linreg_jax._algebra.doubled import Pair, add_product, two_sum
from linreg_jax._numerics import devices_of

# What two roundings each of b x, b and x / b leave of equal x, and twice as much.
_ROUNDINGS = 8


class Centre(NamedTuple):
    """How columns are scaled by powers of 2, exactly, and then centred.

    Attributes:
      unit: [m] largest size of each column, as a power of 2.
      origin: [m] the column in one of the rows, in units; 0 without an intercept.
      mean: [m] weighted mean of what is left, in units; 0 without an intercept.
      constant: [m] whether nothing is left; whether the column is 0, without an intercept.
    """

    unit: Array
    origin: Array
    mean: Array
    constant: Array

    def scaled(self, columns: Array) -> Array:
        """Columns [n, m] in units."""
        return columns / self.unit[None, :]

    def differences(self, columns: Array, b: Array | None) -> Array:
        """[n, m] columns / unit - b origin, rounded once."""
        if b is None:
            return self.scaled(columns) - self.origin[None, :]
        return self.exact_differences(columns, b)[0]

    def exact_differences(self, columns: Array, b: Array | None) -> Pair:
        """The same with double-word arithmetic, a pair of [n, m]."""
        scaled, origin = self.scaled(columns), self.origin[None, :]
        if b is None:
            return two_sum(scaled, -origin)
        return two_sum(*add_product((scaled, jnp.zeros_like(scaled)), b[:, None], -origin, 0))

    def centred(self, columns: Array, b: Array | None) -> Array:
        """[n, m] columns / unit - b (origin + mean)."""
        centred = self.differences(columns, b) - _times_b(self.mean, b)
        return jnp.where(self.constant[None, :], 0, centred)


def centre_of(
    columns: Array, b: Array | None, sample_weight: Array | None, *, intercept: bool = True
) -> Centre:
    """The `Centre` of columns [n, m], along b [n] (None: ones).

    A column is constant where all its differences from the origin are 0, over the rows that weigh
    something. Rows with a b of their own hold rounded products b x, whose differences count from
    8 eps of their size on.
    """
    s = sample_weight
    if s is not None:
        columns = without_zero_weight(columns, s)
        s = s / power_of_two(s[:, None])  # or the sums below might under- or overflow
    # Each pass over the columns reads them as they are or makes one sum: nothing of their size is
    # kept in memory.
    unit = power_of_two(columns)
    zero = jnp.zeros_like(unit)
    if not intercept:
        only_0 = jnp.maximum(jnp.max(columns, axis=0), -jnp.min(columns, axis=0)) == 0
        return Centre(unit, zero, zero, only_0)
    along = jnp.ones(columns.shape[0], columns.dtype) if b is None else b
    weight = along if s is None else s * along
    heaviest = None if b is None and s is None else jnp.argmax(weight * along)
    origin = _row_at(columns, heaviest) / unit
    if b is not None:
        b_there = _row_at(b[:, None], heaviest)
        origin = jnp.where(b_there != 0, origin / jnp.where(b_there != 0, b_there, 1), 0)
    centre = Centre(unit, origin, zero, zero > 0)
    left = centre.differences(columns, b)
    if s is not None:
        left = without_zero_weight(left, s)
    if b is None:
        constant = ~_varies(columns, s)
    else:
        rounding = _ROUNDINGS * jnp.finfo(columns.dtype).eps * jnp.abs(centre.scaled(columns))
        constant = ~jnp.any(jnp.abs(left) > jnp.where(b[:, None] != 0, rounding, 0), axis=0)
    # Sums and not products: one reads the columns several times faster, sharded rows too.
    squares = jnp.sum(weight * along)
    mean = jnp.sum(weight[:, None] * left, axis=0) / jnp.where(squares > 0, squares, 1)
    return centre._replace(mean=jnp.where(constant, 0, mean), constant=constant)


def without_zero_weight(columns: Array, sample_weight: Array) -> Array:
    """Columns [n, m] with 0 in zero-weight rows, whatever stood there."""
    return jnp.where((sample_weight > 0)[:, None], columns, 0)


def power_of_two(columns: Array) -> Array:
    """[m] a power of 2 near half a column's largest entry, which cannot overflow; 1 for 0."""
    half = jnp.maximum(jnp.max(columns, axis=0), -jnp.min(columns, axis=0)) / 2
    rounded = lax.reduce_precision(half, jnp.finfo(half.dtype).nexp, 0)
    return jnp.where(rounded > 0, rounded, 1)


def _varies(columns: Array, s: Array | None) -> Array:
    """[m] whether a column holds two numbers, in rows that weigh something."""
    if s is None:
        return jnp.max(columns, axis=0) != jnp.min(columns, axis=0)
    counts = (s > 0)[:, None]
    largest = jnp.max(columns, axis=0, initial=-jnp.inf, where=counts)
    return largest > jnp.min(columns, axis=0, initial=jnp.inf, where=counts)


def _times_b(row: Array, b: Array | None) -> Array:
    """[1, m] or [n, m] b times a row [m]."""
    return row[None, :] if b is None else b[:, None] * row[None, :]


def _row_at(columns: Array, index: Array | None) -> Array:
    """[m] one row, the first for None; the same on all devices that share the rows."""
    if devices_of(columns) == 1:
        return columns[0 if index is None else index]
    # A sum of one row and zeros, or every device would fetch the rows of all others.
    chosen = jnp.arange(columns.shape[0]) == (0 if index is None else index)
    return jnp.sum(jnp.where(chosen[:, None], columns, 0), axis=0)
