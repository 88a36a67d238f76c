"""The inverse of a squared loss's Hessian, and residuals, with more digits than the dtype holds.

As in `least_squares`, theta is [d + 1, k] with the bias last, about the origin of `Centring`; A is
[D b], S the sample weights and Λ what ridge adds, so that the Hessian is H = AᵀSA + Λ.
"""

import jax.numpy as jnp

from linreg_jax._algebra.least_squares import Factors, minus_gradient, rows_and_residuals
from linreg_jax._algebra.linalg import Centring
from linreg_jax._arithmetic.centring import Centre
from linreg_jax._arithmetic.double_word import Pair, add_pairs, add_product, sum_pairs, two_sum
from linreg_jax._host import namespace_of, while_loop
from linreg_jax._typing import AnyArray
from linreg_jax.dataset import Dataset

_MOST_CORRECTIONS = 10
# Below this condition number (RᵀR)⁻¹ is right to some hundred roundings as it is.
_WELL_CONDITIONED = 256


def refined_inverse(factored: Factors, data: Dataset, *, intercept: bool) -> Pair:
    """H⁻¹, a pair of [d + 1, d + 1]; on the row space of A only, where it is rank-deficient.

    (RᵀR)⁻¹ is wrong by the condition number times eps. What is missing of H Z = I is taken in
    double words, as `corrected` takes the gradient: each correction is smaller than the last one by
    as much, and the condition number, which H squares, is never squared in the answer.

    Source: Björck 1967, BIT 7, for refinement with residuals of more digits.

    Args:
      factored: `Factors` of data.
      data: a `Dataset`; y is not read.
      intercept: whether there is a bias; else its row and column are 0.
    """
    n, p = data.X.shape[0], data.X.shape[1] + 1
    xp, dtype = namespace_of(data.X), data.X.dtype
    identity = xp.diag(xp.asarray([1.0] * (p - 1) + [float(intercept)], dtype))
    zero = xp.zeros(p, dtype)
    at_rest = factored._replace(
        rows=factored.rows._replace(y=Centre(xp.ones(p, dtype), zero, zero, zero > 0))
    )
    without_targets = data._replace(y=xp.zeros((n, p), dtype))
    eps = jnp.finfo(dtype).eps

    def correct(state: tuple) -> tuple:
        Z, last, count, _ = state
        missing = identity + minus_gradient(without_targets, at_rest, Z, intercept=intercept)
        h = factored.forward(missing)
        size = xp.linalg.norm(h, axis=0)
        better = size < last / 2
        change = xp.where(better[None], factored.back(h), 0)
        Z = add_pairs(Z, (change, xp.zeros_like(change)))
        left = size * (size / xp.where(last > 0, last, 1))
        more = xp.any(better & (left > eps * first))
        return Z, xp.where(better, size, last), count + 1, more

    h = factored.forward(identity)
    first = xp.linalg.norm(h, axis=0)
    start = factored.back(h)
    more = factored.condition_number() > _WELL_CONDITIONED
    Z, *_ = while_loop(
        lambda state: state[-1] & (state[-2] < _MOST_CORRECTIONS),
        correct,
        ((start, xp.zeros_like(start)), first, 0, more),
        like=start,
    )
    return Z


def exact_residuals(factored: Factors, theta: Pair, block: Dataset, *, intercept: bool) -> AnyArray:
    """[B, k] D_y - A theta of some rows, in the units of y, rounded once.

    Args:
      factored: `Factors` of the data that the rows are from.
      theta: a pair of [d + 1, k].
      block: the rows, y [B, k].
      intercept: whether there is a bias.
    """
    _, (r_high, r_low) = rows_and_residuals(factored.rows, theta, block, intercept=intercept)
    return r_high + r_low


def inverse_in_units(rows: Centring, Z: Pair, *, intercept: bool) -> AnyArray:
    """[p, p] Z in the units of X and about 0, the bias first where there is an intercept."""
    xp, ratio = namespace_of(rows.X.unit), 1 / rows.X.unit
    on_weights = Z[0][:-1, :-1] * ratio[:, None] * ratio[None, :]
    if not intercept:
        return on_weights
    t = xp.concatenate([-rows.X.origin, xp.ones_like(ratio[:1])])
    zeros = xp.zeros_like(Z[0])
    products = add_product((zeros, zeros), xp.broadcast_to(t[None, :], zeros.shape), *Z)
    u = sum_pairs(products, axis=1)
    bias, _ = sum_pairs(add_product((zeros[0], zeros[0]), t, *u), axis=0)
    beside = u[0][:-1] * ratio
    first = xp.concatenate([bias[None], beside])
    below = xp.concatenate([beside[:, None], on_weights], axis=1)
    return xp.concatenate([first[None], below])


def params_in_units(rows: Centring, theta: Pair, *, intercept: bool) -> AnyArray:
    """[p, k] theta in the units of X and y and about 0, the bias first where there is one."""
    weights = theta[0][:-1] * (rows.y.unit[None, :] / rows.X.unit[:, None])
    if not intercept:
        return weights
    xp = namespace_of(theta[0])
    high, low = (part[:-1] for part in theta)
    zeros = xp.zeros_like(high)
    products = add_product((zeros, zeros), -rows.X.origin[:, None], high, low)
    at_zero = add_pairs(sum_pairs(products, axis=0), two_sum(theta[0][-1], rows.y.origin))
    bias = (at_zero[0] + (at_zero[1] + theta[1][-1])) * rows.y.unit
    return xp.concatenate([bias[None], weights])
