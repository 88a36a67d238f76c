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

from linreg_jax._arithmetic.blocks import max_over_blocks, sum_over_blocks
from linreg_jax._arithmetic.division import nonzero
from linreg_jax._arithmetic.double_word import Pair, add_product, two_sum
from linreg_jax._host import is_on_host, namespace_of, reduced_precision
from linreg_jax._kernels import devices_of
from linreg_jax._typing import AnyArray

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

    unit: AnyArray
    origin: AnyArray
    mean: AnyArray
    constant: AnyArray

    def scaled(self, columns: AnyArray) -> AnyArray:
        """Columns [n, m] in units."""
        return columns / self.unit[None, :]

    def differences(self, columns: AnyArray, b: AnyArray | None) -> AnyArray:
        """[n, m] columns / unit - b origin, rounded once."""
        if b is None:
            return self.scaled(columns) - self.origin[None, :]
        return self.exact_differences(columns, b)[0]

    def exact_differences(self, columns: AnyArray, b: AnyArray | None) -> Pair:
        """The same with double-word arithmetic, a pair of [n, m]."""
        scaled, origin = self.scaled(columns), self.origin[None, :]
        if b is None:
            return two_sum(scaled, -origin)
        zeros = namespace_of(scaled).zeros_like(scaled)
        return two_sum(*add_product((scaled, zeros), b[:, None], -origin, 0.0))

    def centred(self, columns: AnyArray, b: AnyArray | None) -> AnyArray:
        """[n, m] columns / unit - b (origin + mean)."""
        centred = self.differences(columns, b) - _times_b(self.mean, b)
        return namespace_of(centred).where(self.constant[None, :], 0, centred)


def centre_of(
    columns: AnyArray, b: AnyArray | None, sample_weight: AnyArray | None, *, intercept: bool = True
) -> Centre:
    """The `Centre` of columns [n, m], along b [n] (None: ones).

    A column is constant where all its differences from the origin are 0, over the rows that weigh
    something. Rows with a b of their own hold rounded products b x, whose differences count from
    8 eps of their size on.
    """
    s, xp = sample_weight, namespace_of(columns)
    if s is not None:
        s = s / power_of_two(s, s)  # or the sums below might under- or overflow
    # By blocks: jaxlib 0.10 writes a copy of what is summed or compared before it does either.
    highest, lowest = _extremes(columns, s)
    unit = _power_of_two(xp.maximum(highest, -lowest))
    zero = xp.zeros_like(unit)
    if not intercept:
        return Centre(unit, zero, zero, (highest == 0) & (lowest == 0))
    along = xp.ones(columns.shape[0], columns.dtype) if b is None else b
    weight = along if s is None else s * along
    heaviest = None if b is None and s is None else xp.argmax(weight * along)
    origin = _row_at(columns, heaviest) / unit
    if b is not None:
        b_there = _row_at(b[:, None], heaviest)
        origin = xp.where(b_there != 0, origin / nonzero(b_there), 0)
    centre = Centre(unit, origin, zero, zero > 0)
    constant = highest == lowest if b is None else _is_constant_along(centre, columns, b, s)

    def weighted_sum(rows: tuple[AnyArray, AnyArray, AnyArray | None]) -> AnyArray:
        columns, weight, b = rows
        left = centre.differences(columns, b)
        return xp.sum(xp.where((weight != 0)[:, None], weight[:, None] * left, 0), axis=0)

    # Sums and not products: one reads the columns several times faster, sharded rows too.
    total = sum_over_blocks(weighted_sum, (columns, weight, b), cache_bytes=2**21, most_rows=2**14)
    squares = xp.sum(weight * along)
    mean = total / xp.where(squares > 0, squares, 1)
    return centre._replace(mean=xp.where(constant, 0, mean), constant=constant)


def _extremes(columns: AnyArray, s: AnyArray | None) -> tuple[AnyArray, AnyArray]:
    """[m] the largest and the smallest number of each column, in rows that have a weight."""
    xp = namespace_of(columns)
    if s is None:
        return xp.max(columns, axis=0), xp.min(columns, axis=0)

    def of_rows(rows: tuple[AnyArray, AnyArray]) -> tuple[AnyArray, AnyArray]:
        columns, counts = rows[0], (rows[1] > 0)[:, None]
        return (
            xp.max(columns, axis=0, initial=-jnp.inf, where=counts),
            xp.max(-columns, axis=0, initial=-jnp.inf, where=counts),
        )

    highest, opposite = max_over_blocks(of_rows, (columns, s))
    return highest, -opposite


def _is_constant_along(
    centre: Centre, columns: AnyArray, b: AnyArray, s: AnyArray | None
) -> AnyArray:
    """[m] whether columns are b times a number, up to the rounding of such products."""
    xp = namespace_of(columns)

    def of_rows(rows: tuple[AnyArray, AnyArray, AnyArray | None]) -> AnyArray:
        columns, b, s = rows
        left = xp.abs(centre.differences(columns, b))
        rounding = _ROUNDINGS * jnp.finfo(columns.dtype).eps * xp.abs(centre.scaled(columns))
        varies = left > xp.where(b[:, None] != 0, rounding, 0)
        return xp.any(varies if s is None else varies & (s > 0)[:, None], axis=0)

    return ~max_over_blocks(of_rows, (columns, b, s))


def without_zero_weight(columns: AnyArray, sample_weight: AnyArray) -> AnyArray:
    """Columns [n, m] with 0 in zero-weight rows, whatever stood there."""
    return namespace_of(columns).where((sample_weight > 0)[:, None], columns, 0)


def finite_or_weighted(columns: AnyArray, sample_weight: AnyArray) -> AnyArray:
    """Columns [n, m] with 0 in place of what is not finite in zero-weight rows.

    Where `without_zero_weight` would hide a row from the derivative by its own weight.
    """
    xp = namespace_of(columns)
    return xp.where((sample_weight > 0)[:, None] | xp.isfinite(columns), columns, 0)


def power_of_two(columns: AnyArray, sample_weight: AnyArray | None = None) -> AnyArray:
    """[m] a power of 2 near half a column's largest entry, which cannot overflow; 1 for 0.

    Args:
      columns: [n, m], or [n] for one of them.
      sample_weight: [n] whose zero-weight rows do not count, or None.
    """
    columns = columns[:, None] if columns.ndim == 1 else columns
    highest, lowest = _extremes(columns, sample_weight)
    return _power_of_two(namespace_of(columns).maximum(highest, -lowest))


def _power_of_two(size: AnyArray) -> AnyArray:
    xp = namespace_of(size)
    rounded = reduced_precision(size / 2, 0)
    return xp.where((rounded > 0) & xp.isfinite(rounded), rounded, 1)


def _times_b(row: AnyArray, b: AnyArray | None) -> AnyArray:
    """[1, m] or [n, m] b times a row [m]."""
    return row[None, :] if b is None else b[:, None] * row[None, :]


def _row_at(columns: AnyArray, index: AnyArray | None) -> AnyArray:
    """[m] one row, the first for None; the same on all devices that share the rows."""
    if is_on_host(columns) or devices_of(columns) == 1:
        return columns[0 if index is None else index]
    # A sum of one row and zeros, or every device would fetch the rows of all others.
    chosen = jnp.arange(columns.shape[0]) == (0 if index is None else index)
    return jnp.sum(jnp.where(chosen[:, None], columns, 0), axis=0)
