"""Weighted least squares: factored once, then refined in double-word arithmetic.

The parameters of all k targets are one matrix theta [d + 1, k], the bias last, in the units and
from the origin of `Centring`: the bias is the prediction at the origin. Without an intercept it is
there and stays 0.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._algebra.linalg import Centring, centred_factor, fold_blocks, scale_columns
from linreg_jax._arithmetic.blocks import by_parts
from linreg_jax._arithmetic.centring import without_zero_weight
from linreg_jax._arithmetic.double_word import Pair, add_pairs, add_product, sum_pairs, two_sum
from linreg_jax._host import column_at, fori_loop, is_on_host, namespace_of, while_loop
from linreg_jax._kernels import matmul
from linreg_jax._typing import AnyArray
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
    R00: AnyArray
    R0: AnyArray
    root: AnyArray
    s: AnyArray
    Vt: AnyArray
    length: AnyArray
    rest: AnyArray
    rank: AnyArray
    shortest: AnyArray

    def divided(self, h: AnyArray) -> AnyArray:
        """h [p, k] over the singular values, 0 where they count as 0."""
        xp = namespace_of(h)
        positive = (xp.arange(self.s.shape[0]) < self.rank)[:, None]
        return xp.where(positive, h / xp.where(positive, self.s[:, None], 1), 0)

    def condition_number(self) -> AnyArray:
        """[] largest over smallest singular value that is not 0; 1 if all are."""
        xp = namespace_of(self.s)
        positive = xp.arange(self.s.shape[0]) < self.rank
        smallest = xp.min(xp.where(positive, self.s, jnp.inf))
        return xp.where(self.rank > 0, self.s[0] / smallest, 1)

    def forward(self, gradient: AnyArray) -> AnyArray:
        """R⁻ᵀ gradient: [d + 1, k] -> h [1 + p, k]."""
        xp = namespace_of(gradient)
        h0 = gradient[-1] / self.R00
        g = gradient[:-1] - xp.outer(self.rows.X.mean, gradient[-1]) - xp.outer(self.R0, h0)
        return xp.concatenate([h0[None], self.divided(matmul(self.shortest.T, g))])

    def back(self, h: AnyArray) -> AnyArray:
        """R⁻¹ h: [1 + p, k] -> theta [d + 1, k], the shortest weights where there are several."""
        weights = matmul(self.shortest, self.divided(h[1:]))
        bias = (h[0] - matmul(self.R0, weights)) / self.R00 - matmul(self.rows.X.mean, weights)
        return namespace_of(h).concatenate([weights, bias[None]])


def factors(
    data: Dataset, strength: AnyArray | None, *, intercept: bool
) -> tuple[Factors, AnyArray]:
    """`(Factors, h)`, h [1 + p, k] being R theta at the minimum, less the targets' mean.

    Args:
      data: a `Dataset` with y [n, k].
      strength: [] of the ridge, in units of Σ sample_weight r² + strength Σ weights²; None: 0.
      intercept: whether there is a bias.
    """
    xp, d = namespace_of(data.X), data.X.shape[1]
    rows, R = centred_factor(data, intercept=intercept, least_rows=1 + int(intercept))
    if not intercept:
        R = xp.pad(R, ((1, 0), (1, 0)))  # as with a bias that multiplies 0
    F, z = R[1:, 1 : d + 1], R[1:, d + 1 :]
    root, beyond = xp.zeros_like(rows.X.unit), xp.zeros_like(z[0])
    if strength is not None:  # its squares are d more rows
        root = xp.sqrt(strength) / rows.X.unit
        more = xp.concatenate([xp.diag(root), xp.zeros((d, z.shape[1]), z.dtype)], axis=1)
        stacked = xp.concatenate([xp.concatenate([F, z], axis=1), more])
        triangle = xp.linalg.qr(stacked, mode="r")
        F, z = triangle[:d, :d], triangle[:d, d:]
        beyond = xp.sum(triangle[d:, d:] * triangle[d:, d:], axis=0)
    length, U, s, Vt, rank = scale_columns(F)
    R00 = xp.where(R[0, 0] != 0, R[0, 0], 1)
    h = xp.concatenate([R[:1, d + 1 :], matmul(U.T, z)])
    varies = xp.any(F != 0, axis=0)
    shortest = xp.where(varies[:, None], _shortest(length, Vt, rank, rows.X.unit), 0)
    Vt = xp.where(varies[None, :], Vt, 0)
    left = z - matmul(U, h[1:])
    rest = xp.sum(left * left, axis=0) + beyond
    return Factors(rows, R00, R[0, 1 : d + 1], root, s, Vt, length, rest, rank, shortest), h


def _shortest(length: AnyArray, Vt: AnyArray, rank: AnyArray, unit: AnyArray) -> AnyArray:
    """[d, p] from v to the shortest weights with Vt[:rank] diag(length) weights = v[:rank].

    Shortest as X has its units: what is made short is weights / unit.
    """
    p, d = Vt.shape
    # With M = diag(length unit) Vt[:rank]ᵀ = Q T, the shortest weights / unit are Q T⁻ᵀ v[:rank].
    xp = namespace_of(Vt)
    scale = length * unit
    largest = xp.max(scale)
    Q, T = xp.linalg.qr((scale / largest)[:, None] * Vt.T)
    counts = (xp.arange(p) < rank)[None, :]
    identity = xp.eye(p, dtype=T.dtype)
    solve = np.linalg.solve if is_on_host(T) else jax.scipy.linalg.solve_triangular
    inverse = solve(xp.where(counts, T, identity), identity)
    shortest = matmul(Q, xp.where(counts, inverse, 0).T) / largest * unit[:, None]
    return xp.where(rank == d, Vt.T / length[:, None], shortest)


def corrected(
    factors: Factors, h: AnyArray, data: Dataset, *, intercept: bool
) -> tuple[Pair, AnyArray]:
    """theta at the minimum, from h: R⁻¹ h, then (RᵀR)⁻¹ gradient added to it.

    Returns:
      `(theta, left)`: theta, a pair of [d + 1, k], and [k] the length of R⁻ᵀ gradient as it was
      before the last correction, which theta is no further than from the minimum.

    R is right to rounding, so each correction is smaller than the last one by about the condition
    number times eps, and never squares it, provided that the gradient is right at parameters that
    are; hence theta is a double word until the end.

    Source: Björck 1967, BIT 7, for refinement with residuals of more digits.
    """
    eps, xp = jnp.finfo(h.dtype).eps, namespace_of(h)
    condition_number = factors.condition_number()

    def correct(state: tuple) -> tuple:
        theta, last, _, count, _ = state
        gradient = minus_gradient(data, factors, theta, intercept=intercept)
        h = factors.forward(gradient)
        size = xp.linalg.norm(h, axis=0)
        better = size < last / 2
        change = xp.where(better[None], factors.back(h), 0)
        theta = add_pairs(theta, (change, xp.zeros_like(change)))
        # The next would be smaller than this one by as much as this one than the last. To eps², not
        # eps: a weight that moves the predictions by little deserves all its digits too.
        left = size * (size / xp.where(last > 0, last, 1)) * condition_number
        more = xp.any(better & (left > eps * eps * first))
        return theta, xp.where(better, size, last), size, count + 1, more

    first = xp.linalg.norm(h, axis=0)
    uncorrected = factors.back(h)
    uncorrected = xp.concatenate([uncorrected[:-1], uncorrected[-1:] + factors.rows.y.mean[None]])
    state = ((uncorrected, xp.zeros_like(uncorrected)), first, first, 0, xp.array(True))
    theta, _, left, *_ = while_loop(
        lambda state: state[-1] & (state[-2] < _MOST_CORRECTIONS), correct, state, like=h
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

    def subtract(j: Any, r: Pair) -> Pair:
        column, column_low = (column_at(a, j) for a in A)
        total, lost = add_product(r, column, -high[j][None, :], -low[j][None, :])
        return total, lost - column_low * high[j][None, :]

    return A, fori_loop(high.shape[0], subtract, D_y, like=high)


def _differences(rows: Centring, block: Dataset, intercept: bool) -> tuple[Pair, Pair]:
    """[D b] of a block of rows, and D_y: pairs of [B, d + 1] and [B, k]."""
    s, X, y = block.sample_weight, block.X, block.y
    xp = namespace_of(X)
    if s is not None:
        X, y = without_zero_weight(X, s), without_zero_weight(y, s)
    D, D_y = (
        centre.exact_differences(columns, block.bias_column)
        if intercept
        else (centre.scaled(columns), xp.zeros_like(columns))
        for centre, columns in ((rows.X, X), (rows.y, y))
    )
    b = bias_multipliers(block)[:, None]
    high, low = (
        xp.concatenate([columns, last], axis=1)
        for columns, last in zip(D, (b, xp.zeros_like(b)), strict=True)
    )
    return (high, low), D_y


def minus_gradient(data: Dataset, factors: Factors, theta: Pair, *, intercept: bool) -> AnyArray:
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
    rows, xp = factors.rows, namespace_of(data.X)
    d, k = data.X.shape[1], data.y.shape[1]
    block_rows = max(64, min(1024, 2**16 // ((d + 1) * k)))

    def add_block(total: Pair, block: Dataset) -> Pair:
        s = block.sample_weight
        (A, A_low), r = rows_and_residuals(rows, theta, block, intercept=intercept)
        if s is not None:
            zero = xp.zeros_like(block.y)
            r = add_product((zero, zero), s[:, None], *r)
        r_high, r_low = two_sum(*r)
        sums, lost = add_product(total, A[:, :, None], r_high[:, None, :], r_low[:, None, :])
        return sums, lost + A_low[:, :, None] * r_high[:, None, :]

    def of_part(part: Dataset) -> Pair:
        num_rows = part.X.shape[0] if is_on_host(part.X) else min(part.X.shape[0], block_rows)
        zeros = xp.zeros((num_rows, d + 1, k), data.X.dtype)
        return sum_pairs(fold_blocks(add_block, (zeros, zeros), part, block_rows), axis=0)

    totals = by_parts(of_part, data._replace(total_weight=None))
    gradient, _ = sum_pairs(totals, axis=0)
    pull = (factors.root * factors.root)[:, None] * theta[0][:-1]
    on_bias = gradient[-1:] if intercept else xp.zeros_like(gradient[-1:])
    return xp.concatenate([gradient[:-1] - pull, on_bias])


def in_units_of_data(rows: Centring, theta: Pair, *, intercept: bool) -> Params:
    """`Params` of theta; the bias where the features are 0, far from their origin maybe."""
    ratio = rows.y.unit[None, :] / rows.X.unit[:, None]
    weights = theta[0][:-1] * ratio
    if not intercept:
        return Params(weights, None)
    high, low = (part[:-1] for part in theta)
    zeros = namespace_of(high).zeros_like(high)
    products = add_product((zeros, zeros), -rows.X.origin[:, None], high, low)
    at_zero = add_pairs(sum_pairs(products, axis=0), two_sum(theta[0][-1], rows.y.origin))
    return Params(weights, (at_zero[0] + theta[1][-1]) * rows.y.unit)
