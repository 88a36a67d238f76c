"""A least-squares fit with its residuals: what everything said of its coefficients starts from.

With q = R⁻ᵀ a for a row a of [b X], R the triangular factor of the weighted rows, Σ s q qᵀ is the
identity (less what ridge takes), whatever the units and the condition number of X.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from linreg_jax._algebra.inverse import exact_residuals
from linreg_jax._algebra.least_squares import Factors, corrected, factors
from linreg_jax._algebra.linalg import map_blocks, target_columns
from linreg_jax._algebra.quadratic import penalty_curvature
from linreg_jax._arithmetic.blocks import by_parts
from linreg_jax._arithmetic.centring import power_of_two, without_zero_weight
from linreg_jax._arithmetic.double_word import Pair
from linreg_jax._host import computed, namespace_of
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss, example_share
from linreg_jax._typing import AnyArray, Float
from linreg_jax.dataset import Dataset, bias_multipliers

# A feature with at least this share of its unit length in directions without curvature.
_INVOLVED = 0.01
_BLOCK_NUMBERS = 2**17


class Fitted(NamedTuple):
    """A weighted least-squares fit.

    Attributes:
      factored, h, theta: as `least_squares` has them.
      data: y [n, k], the weights in units of `weight_unit`, a power of two.
      weight_unit: [].
      residuals: [n, k] targets less predictions, in units of y; of zero-weight rows too.
    """

    factored: Factors
    h: AnyArray
    theta: Pair
    data: Dataset
    weight_unit: AnyArray
    residuals: AnyArray

    @property
    def rows(self) -> tuple[Dataset, AnyArray]:
        """What is walked over block by block: the data and the residuals beside them."""
        return self.data._replace(total_weight=None), self.residuals


def least_squares_fit(loss: Loss, data: Dataset, *, intercept: bool) -> Fitted:
    """As `solve` has it, with the weights in units of a power of two."""
    size = size_of_fit(data)
    return computed(_fit, loss, data, intercept, size=size, static_argnums=(2,))


def size_of_fit(data: Dataset) -> int:
    """How many numbers a fit computes with."""
    n, d = data.X.shape
    return n * (d + 1) * math.prod(data.y.shape[1:])


def _fit(loss: Loss, data: Dataset, intercept: bool) -> Fitted:
    xp, columns = namespace_of(data.X), data._replace(y=target_columns(data.y))
    per_square = xp.asarray(loss.curvature_bound, data.X.dtype) / 2 * example_share(loss, data)
    unit = xp.ones((), data.X.dtype)
    if data.sample_weight is not None:
        unit = power_of_two(data.sample_weight)[0]
        columns = columns._replace(sample_weight=data.sample_weight / unit)
        per_square = per_square * unit
    strength = penalty_curvature(loss)
    if strength is not None:
        strength = xp.asarray(strength, data.X.dtype) / 2
        strength = strength / xp.where(per_square > 0, per_square, 1)
    factored, h = factors(columns, strength, intercept=intercept)
    theta, _ = corrected(factored, h, columns, intercept=intercept)
    residuals = _residuals(factored, theta, columns._replace(sample_weight=None), intercept)
    return Fitted(factored, h, theta, columns, unit, residuals)


def _residuals(factored: Factors, theta: Pair, data: Dataset, intercept: bool) -> AnyArray:
    """[n, k], some rows at a time: the double words of one take several times its memory."""
    block_rows = max(_BLOCK_NUMBERS // data.X.shape[1], 32)

    def of_part(part: Dataset) -> AnyArray:
        n = part.X.shape[0]
        blocks = map_blocks(
            lambda block: exact_residuals(factored, theta, block, intercept=intercept),
            part,
            block_rows,
        )
        whole = (blocks.shape[0] - 1) * blocks.shape[1]
        # The last block reaches back into the one before.
        first = blocks[:-1].reshape(whole, blocks.shape[2])
        return namespace_of(first).concatenate([first, blocks[-1][blocks.shape[1] - (n - whole) :]])

    parts = by_parts(of_part, data._replace(total_weight=None))
    return parts.reshape(data.y.shape)


def weights_and_q(fit: Fitted, block: Dataset, *, intercept: bool) -> tuple[AnyArray, AnyArray]:
    """Weights s [B] and q [B, p], the bias first, of some rows."""
    X, b = block.X, block.bias_column
    s = namespace_of(X).ones_like(X[:, 0])
    if block.sample_weight is not None:
        s = block.sample_weight * fit.weight_unit
        X = without_zero_weight(X, s)
    return s, q_rows(fit, X, b, bias_multipliers(block), intercept=intercept)


def q_rows(
    fit: Fitted, X: AnyArray, b: AnyArray | None, multiplier: AnyArray, *, intercept: bool
) -> Float[AnyArray, "n p"]:
    """R⁻ᵀ a of rows a of [b X]."""
    xp = namespace_of(X)
    D = fit.factored.rows.X.differences(X, b)
    A = xp.concatenate([D, multiplier[:, None] * float(intercept)], axis=1)
    return fit.factored.forward(A.T).T / xp.sqrt(fit.weight_unit)


def coefficients_of(fit: Fitted, *, intercept: bool) -> Float[AnyArray, "p p"]:
    """J with dtheta = J dphi, the bias first: from the coordinates of q to the units of X."""
    identity = jnp.eye(fit.h.shape[0], dtype=fit.h.dtype)
    back = fit.factored.back(identity) / jnp.sqrt(fit.weight_unit)
    rows = fit.factored.rows.X
    weights = back[:-1] / rows.unit[:, None]
    if not intercept:
        return weights
    return jnp.concatenate([back[-1:] - matmul(rows.origin[None, :], back[:-1]), weights])


def identified(factored: Factors, *, intercept: bool) -> AnyArray:
    """[p] whether the data determine a coefficient; all do with ridge, but for a bias of zeros."""
    xp, d = namespace_of(factored.R0), factored.R0.shape[0]
    positive = (xp.arange(factored.s.shape[0]) < factored.rank)[:, None]
    # Rows of Vt diag(length / unit) span what the data know of the weights in units.
    G = xp.where(positive, factored.shortest.T / factored.rows.X.unit[None, :], 0)
    length = xp.linalg.norm(G, axis=1, keepdims=True)
    Q, _ = xp.linalg.qr((G / xp.where(length > 0, length, 1)).T)
    Q = xp.where(positive.T, Q, 0)
    weights = 1 - xp.sum(Q * Q, axis=1) < _INVOLVED**2
    weights = xp.where(factored.rank == d, True, weights)
    if not intercept:
        return weights
    # The bias is the prediction at 0: known where what the weights add from 0 to the mean is.
    origin = (factored.rows.X.origin + factored.rows.X.mean) * factored.rows.X.unit
    missed = xp.linalg.norm(origin - matmul(Q, matmul(Q.T, origin)))
    bias = (missed <= _INVOLVED * xp.linalg.norm(origin)) | (factored.rank == d)
    return xp.concatenate([bias[None], weights])
