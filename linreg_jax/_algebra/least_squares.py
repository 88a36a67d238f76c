"""Weighted least squares: factored once, then refined in double-word arithmetic.

The parameters of all k targets are one matrix theta [d + 1, k], the bias last, in the units and
from the origin of `Centring`: the bias is the prediction at the origin. Without an intercept it is
there and stays 0.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from linreg_jax._algebra.linalg import Centring, centred_factor, fold_blocks, scale_columns
from linreg_jax._arithmetic.blocks import by_parts
from linreg_jax._arithmetic.centring import without_zero_weight
from linreg_jax._arithmetic.double_word import Pair, add_pairs, add_product, sum_pairs, two_sum
from linreg_jax._kernels import matmul
from linreg_jax.dataset import Dataset, bias_multipliers
from linreg_jax.model import Params

_MOST_CORRECTIONS = 10


class Factors(NamedTuple):
    """The normal equations as R theta = h, with a singular value decomposition inside R.

    With b the bias of the centred rows::

        R00 b + R0 weights = h[0]                 [k]
        diag(s) Vt diag(length) weights = h[1:]   [p, k]

    Attributes:
      rows: how the rows were scaled and centred.
      R00: [] length of the bias's column, 1 if that is 0.
      R0: [d].
      root: [d] ridge adds Σ (root weights)² to the squares.
      s: [p] singular values, largest first.
      Vt: [p, d], 0 in columns of zeros.
      length: [d] of the centred columns; 1 for a column of zeros.
      rest: [k] the squares that no weights can take away.
      rank: [] how many of them count as more than 0.
      shortest: [d, p] with weights = shortest (diag(1/s) h[1:]), those of least length; at full
        rank the inverse of Vt diag(length).
    """

    rows: Centring
    R00: Array
    R0: Array
    root: Array
    s: Array
    Vt: Array
    length: Array
    rest: Array
    rank: Array
    shortest: Array

    def divided(self, h: Array) -> Array:
        """h [p, k] over the singular values, 0 where they count as 0."""
        positive = (jnp.arange(self.s.shape[0]) < self.rank)[:, None]
        return jnp.where(positive, h / jnp.where(positive, self.s[:, None], 1), 0)

    def condition_number(self) -> Array:
        """[] largest over smallest singular value that is not 0; 1 if all are."""
        positive = jnp.arange(self.s.shape[0]) < self.rank
        smallest = jnp.min(jnp.where(positive, self.s, jnp.inf))
        return jnp.where(self.rank > 0, self.s[0] / smallest, 1)

    def forward(self, gradient: Array) -> Array:
        """R⁻ᵀ gradient: [d + 1, k] -> h [1 + p, k]."""
        h0 = gradient[-1] / self.R00
        g = gradient[:-1] - jnp.outer(self.rows.X.mean, gradient[-1]) - jnp.outer(self.R0, h0)
        return jnp.concatenate([h0[None], self.divided(matmul(self.shortest.T, g))])

    def back(self, h: Array) -> Array:
        """R⁻¹ h: [1 + p, k] -> theta [d + 1, k], the shortest weights where there are several."""
        weights = matmul(self.shortest, self.divided(h[1:]))
        bias = (h[0] - matmul(self.R0, weights)) / self.R00 - matmul(self.rows.X.mean, weights)
        return jnp.concatenate([weights, bias[None]])


def factors(data: Dataset, strength: Array | None, *, intercept: bool) -> tuple[Factors, Array]:
    """`(Factors, h)`, h [1 + p, k] being R theta at the minimum, less the targets' mean.

    Args:
      data: a `Dataset` with y [n, k].
      strength: [] of the ridge, in units of Σ sample_weight r² + strength Σ weights²; None: 0.
      intercept: whether there is a bias.
    """
    d = data.X.shape[1]
    rows, R = centred_factor(data, intercept=intercept, least_rows=1 + int(intercept))
    if not intercept:
        R = jnp.pad(R, ((1, 0), (1, 0)))  # as with a bias that multiplies 0
    F, z = R[1:, 1 : d + 1], R[1:, d + 1 :]
    root, beyond = jnp.zeros_like(rows.X.unit), jnp.zeros_like(z[0])
    if strength is not None:  # its squares are d more rows
        root = jnp.sqrt(strength) / rows.X.unit
        more = jnp.concatenate([jnp.diag(root), jnp.zeros((d, z.shape[1]), z.dtype)], axis=1)
        stacked = jnp.concatenate([jnp.concatenate([F, z], axis=1), more])
        triangle = jnp.linalg.qr(stacked, mode="r")
        F, z = triangle[:d, :d], triangle[:d, d:]
        beyond = jnp.sum(triangle[d:, d:] * triangle[d:, d:], axis=0)
    length, U, s, Vt, rank = scale_columns(F)
    R00 = jnp.where(R[0, 0] != 0, R[0, 0], 1)
    h = jnp.concatenate([R[:1, d + 1 :], matmul(U.T, z)])
    varies = jnp.any(F != 0, axis=0)
    shortest = jnp.where(varies[:, None], _shortest(length, Vt, rank, rows.X.unit), 0)
    Vt = jnp.where(varies[None, :], Vt, 0)
    left = z - matmul(U, h[1:])
    rest = jnp.sum(left * left, axis=0) + beyond
    return Factors(rows, R00, R[0, 1 : d + 1], root, s, Vt, length, rest, rank, shortest), h


def _shortest(length: Array, Vt: Array, rank: Array, unit: Array) -> Array:
    """[d, p] from v to the shortest weights with Vt[:rank] diag(length) weights = v[:rank].

    Shortest as X has its units: what is made short is weights / unit.
    """
    p, d = Vt.shape
    # With M = diag(length unit) Vt[:rank]ᵀ = Q T, the shortest weights / unit are Q T⁻ᵀ v[:rank].
    scale = length * unit
    largest = jnp.max(scale)
    Q, T = jnp.linalg.qr((scale / largest)[:, None] * Vt.T)
    counts = (jnp.arange(p) < rank)[None, :]
    identity = jnp.eye(p, dtype=T.dtype)
    inverse = jax.scipy.linalg.solve_triangular(jnp.where(counts, T, identity), identity)
    shortest = matmul(Q, jnp.where(counts, inverse, 0).T) / largest * unit[:, None]
    return jnp.where(rank == d, Vt.T / length[:, None], shortest)


def corrected(factors: Factors, h: Array, data: Dataset, *, intercept: bool) -> tuple[Pair, Array]:
    """theta at the minimum, from h: R⁻¹ h, then (RᵀR)⁻¹ gradient added to it.

    Returns:
      `(theta, left)`: theta, a pair of [d + 1, k], and [k] the length of R⁻ᵀ gradient as it was
      before the last correction, which theta is no further than from the minimum.

    R is right to rounding, so each correction is smaller than the last one by about the condition
    number times eps, and never squares it, provided that the gradient is right at parameters that
    are; hence theta is a double word until the end.

    Source: Björck 1967, BIT 7, for refinement with residuals of more digits.
    """
    eps = jnp.finfo(h.dtype).eps
    condition_number = factors.condition_number()

    def correct(state: tuple) -> tuple:
        theta, last, _, count, _ = state
        gradient = minus_gradient(data, factors, theta, intercept=intercept)
        h = factors.forward(gradient)
        size = jnp.linalg.norm(h, axis=0)
        better = size < last / 2
        change = jnp.where(better[None], factors.back(h), 0)
        theta = add_pairs(theta, (change, jnp.zeros_like(change)))
        # The next would be smaller than this one by as much as this one than the last. To eps², not
        # eps: a weight that moves the predictions by little deserves all its digits too.
        left = size * (size / jnp.where(last > 0, last, 1)) * condition_number
        more = jnp.any(better & (left > eps * eps * first))
        return theta, jnp.where(better, size, last), size, count + 1, more

    first = jnp.linalg.norm(h, axis=0)
    uncorrected = factors.back(h).at[-1].add(factors.rows.y.mean)
    state = ((uncorrected, jnp.zeros_like(uncorrected)), first, first, 0, jnp.array(True))
    theta, _, left, *_ = lax.while_loop(
        lambda state: state[-1] & (state[-2] < _MOST_CORRECTIONS), correct, state
    )
    return theta, left


def rows_and_residuals(
    rows: Centring, theta: Pair, block: Dataset, *, intercept: bool
) -> tuple[Pair, Pair]:
    """[D b] of a block of rows and D_y - [D b] theta, pairs of [B, d + 1] and [B, k].

    As `minus_gradient` names them; zero-weight rows are zeros.
    """
    A, D_y = _differences(rows, block, intercept)
    high, low = theta

    def subtract(j: Array, r: Pair) -> Pair:
        column, column_low = (lax.dynamic_slice_in_dim(a, j, 1, axis=1) for a in A)
        total, lost = add_product(r, column, -high[j][None, :], -low[j][None, :])
        return total, lost - column_low * high[j][None, :]

    return A, lax.fori_loop(0, high.shape[0], subtract, D_y)


def _differences(rows: Centring, block: Dataset, intercept: bool) -> tuple[Pair, Pair]:
    """[D b] of a block of rows, and D_y: pairs of [B, d + 1] and [B, k]."""
    s, X, y = block.sample_weight, block.X, block.y
    if s is not None:
        X, y = without_zero_weight(X, s), without_zero_weight(y, s)
    D, D_y = (
        centre.exact_differences(columns, block.bias_column)
        if intercept
        else (centre.scaled(columns), jnp.zeros_like(columns))
        for centre, columns in ((rows.X, X), (rows.y, y))
    )
    b = bias_multipliers(block)[:, None]
    high, low = (
        jnp.concatenate([columns, last], axis=1)
        for columns, last in zip(D, (b, jnp.zeros_like(b)), strict=True)
    )
    return (high, low), D_y


def minus_gradient(data: Dataset, factors: Factors, theta: Pair, *, intercept: bool) -> Array:
    """[D b]ᵀ S (D_y - [D b] theta) less the ridge's pull: [d + 1, k], rounded once.

    D and D_y are the differences of X and y from their origins. They, the residuals and the sums
    are double words, so that nothing is lost where large products cancel, as all of them do
    at the minimum.

    Args:
      data: a `Dataset` with y [n, k].
      factors: `Factors` of its rows.
      theta: a pair of [d + 1, k].
      intercept: whether the bias has a gradient.
    """
    rows = factors.rows
    d, k = data.X.shape[1], data.y.shape[1]
    block_rows = max(64, min(1024, 2**16 // ((d + 1) * k)))

    def add_block(total: Pair, block: Dataset) -> Pair:
        s = block.sample_weight
        (A, A_low), r = rows_and_residuals(rows, theta, block, intercept=intercept)
        if s is not None:
            zero = jnp.zeros_like(block.y)
            r = add_product((zero, zero), s[:, None], *r)
        r_high, r_low = two_sum(*r)
        sums, lost = add_product(total, A[:, :, None], r_high[:, None, :], r_low[:, None, :])
        return sums, lost + A_low[:, :, None] * r_high[:, None, :]

    def of_part(part: Dataset) -> Pair:
        zeros = jnp.zeros((min(part.X.shape[0], block_rows), d + 1, k), data.X.dtype)
        return sum_pairs(fold_blocks(add_block, (zeros, zeros), part, block_rows), axis=0)

    totals = by_parts(of_part, data._replace(total_weight=None))
    gradient, _ = sum_pairs(totals, axis=0)
    pull = (factors.root * factors.root)[:, None] * theta[0][:-1]
    on_bias = gradient[-1:] if intercept else jnp.zeros_like(gradient[-1:])
    return jnp.concatenate([gradient[:-1] - pull, on_bias])


def in_units_of_data(rows: Centring, theta: Pair, *, intercept: bool) -> Params:
    """`Params` of theta; the bias where the features are 0, far from their origin maybe."""
    ratio = rows.y.unit[None, :] / rows.X.unit[:, None]
    weights = theta[0][:-1] * ratio
    if not intercept:
        return Params(weights, None)
    high, low = (part[:-1] for part in theta)
    products = add_product(
        (jnp.zeros_like(high), jnp.zeros_like(high)), -rows.X.origin[:, None], high, low
    )
    at_zero = add_pairs(sum_pairs(products, axis=0), two_sum(theta[0][-1], rows.y.origin))
    return Params(weights, (at_zero[0] + theta[1][-1]) * rows.y.unit)
