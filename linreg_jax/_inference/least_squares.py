"""A least-squares fit, and what its residuals say of the coefficients.

With q = R⁻ᵀ a for a row a of [b X], R the triangular factor of the weighted rows, the covariance of
the coefficients is R⁻¹ M R⁻ᵀ. M is σ² Σ s q qᵀ where errors are alike, and sums of r² q qᵀ or of
products of clusters' scores where they are not; nothing squares the condition number.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from linreg_jax._algebra.inverse import (
    exact_residuals,
    inverse_in_units,
    params_in_units,
    refined_inverse,
)
from linreg_jax._algebra.least_squares import Factors, corrected, factors
from linreg_jax._algebra.linalg import target_columns
from linreg_jax._algebra.quadratic import penalty_curvature
from linreg_jax._arithmetic.blocks import sum_over_blocks
from linreg_jax._arithmetic.centring import power_of_two, without_zero_weight
from linreg_jax._arithmetic.double_word import Pair
from linreg_jax._inference.distributions import f_p_values
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss, example_share
from linreg_jax._typing import Array, Float, Int
from linreg_jax.dataset import Dataset, bias_multipliers, mean_divisor

# A feature with at least this share of its unit length in directions without curvature.
_INVOLVED = 0.01


class Estimate(NamedTuple):
    """Coefficients [p, k] with the bias first, their covariance [k, p, p], and the fit's numbers.

    Attributes:
      theta, covariance: NaN where not identified.
      reference_degrees: [] degrees of freedom of t.
      statistics: fields of `Inference` by name, [k] or [].
    """

    theta: Array
    covariance: Array
    reference_degrees: Array
    statistics: dict[str, Array]


class _Fitted(NamedTuple):
    factored: Factors
    h: Array
    theta: Pair
    data: Dataset
    weight_unit: Array | float


@functools.partial(jax.jit, static_argnames=("intercept", "kind", "precision"))
def estimate(
    loss: Loss,
    data: Dataset,
    clusters: Int[Array, " n"] | None,
    *,
    intercept: bool,
    kind: str,
    precision: bool,
) -> Estimate:
    """The `Estimate` of a squared loss; `kind` is a covariance of `infer`."""
    fit = _fit(loss, data, intercept)
    factored, rows, unit = fit.factored, fit.factored.rows, fit.weight_unit
    sums = sum_over_blocks(
        lambda block: _sums(fit, block, intercept, kind, precision),
        fit.data._replace(total_weight=None),
    )
    n = sums["rows"] if precision else mean_divisor(data)
    penalized = penalty_curvature(loss) is not None
    constant = (jnp.any(bias_multipliers(data) != 0) * intercept).astype(n.dtype)
    used = jnp.trace(sums["hat"]) if penalized else factored.rank + constant
    degrees = n - used
    variance = sums["squares"] / jnp.where(degrees > 0, degrees, jnp.nan)
    reference = degrees
    if kind == "classical" and not penalized:
        Z = inverse_in_units(rows, refined_inverse(factored, fit.data, intercept=intercept),
                             intercept=intercept) / unit  # fmt: skip
        covariance = variance[:, None, None] * Z[None]
        meat = None
    else:
        meat, reference = _meat(fit, sums, variance, clusters, n, degrees, intercept, kind)
        covariance = jax.vmap(lambda M: _sandwich(fit, M, intercept))(meat)
    y_unit = rows.y.unit
    covariance = covariance * (y_unit * y_unit)[:, None, None]
    known = _identified(factored, intercept, penalized)
    theta = params_in_units(rows, fit.theta, intercept=intercept)
    both = known[:, None] & known[None, :]
    statistics = _goodness(fit, sums, n, degrees, used, variance, constant, precision)
    f, above = _f_statistic(fit, sums, variance, meat, penalized)
    f = jnp.where(reference >= above, f, jnp.nan)  # fewer clusters than weights determine none
    statistics |= {"f_statistic": f, "f_p_value": f_p_values(f, above, reference)}
    usable = jnp.where(jnp.isnan(mean_divisor(data)), jnp.nan, 1)
    return Estimate(
        jnp.where(known[:, None], theta, jnp.nan) * usable,
        jnp.where(both[None], covariance, jnp.nan) * usable,
        reference,
        statistics,
    )


def _fit(loss: Loss, data: Dataset, intercept: bool) -> _Fitted:
    """As `solve` has it, with the weights in units of a power of two."""
    columns = data._replace(y=target_columns(data.y))
    per_square = jnp.asarray(loss.curvature_bound, data.X.dtype) / 2 * example_share(loss, data)
    unit: Array | float = 1.0
    if data.sample_weight is not None:
        unit = power_of_two(data.sample_weight)[0]
        columns = columns._replace(sample_weight=data.sample_weight / unit)
        per_square = per_square * unit
    strength = penalty_curvature(loss)
    if strength is not None:
        strength = jnp.asarray(strength, data.X.dtype) / 2
        strength = strength / jnp.where(per_square > 0, per_square, 1)
    factored, h = factors(columns, strength, intercept=intercept)
    theta, _ = corrected(factored, h, columns, intercept=intercept)
    return _Fitted(factored, h, theta, columns, unit)


def _rows(fit: _Fitted, block: Dataset, intercept: bool) -> tuple[Array, Array, Array]:
    """Weights s [B], q [B, p] and residuals [B, k] in units of y, of some rows."""
    r = exact_residuals(fit.factored, fit.theta, block, intercept=intercept)
    X, b = block.X, block.bias_column
    s = jnp.ones_like(X[:, 0])
    if block.sample_weight is not None:
        s = block.sample_weight * fit.weight_unit
        X = without_zero_weight(X, s)
    D, multiplier = fit.factored.rows.X.differences(X, b), bias_multipliers(block)
    A = jnp.concatenate([D, multiplier[:, None] * float(intercept)], axis=1)
    return s, fit.factored.forward(A.T).T / jnp.sqrt(fit.weight_unit), r


def _sums(
    fit: _Fitted, block: Dataset, intercept: bool, kind: str, precision: bool
) -> dict[str, Array]:
    """Sums over some rows: of squares, of q qᵀ, and of r² q qᵀ as the covariance wants them."""
    s, q, r = _rows(fit, block, intercept)
    y = block.y if block.sample_weight is None else without_zero_weight(block.y, s)
    about = fit.factored.rows.y.centred(y, block.bias_column)
    sums = {
        "squares": jnp.sum(s[:, None] * r * r, axis=0),
        "about_mean": jnp.sum(s[:, None] * about * about, axis=0),
        "hat": matmul((s[:, None] * q).T, q),
        "rows": jnp.sum((s > 0).astype(s.dtype)),
        "log_weight": jnp.sum(jnp.log(jnp.where(s > 0, s, 1))),
    }
    if kind.startswith("hc"):
        copies = s * s if precision else s
        leverage = jnp.sum(q * q, axis=1) * (s if precision else 1)
        power = {"hc2": 1, "hc3": 2}.get(kind, 0)
        weight = (copies / (1 - leverage) ** power)[:, None] * r * r
        sums["meat"] = jnp.stack([matmul((weight[:, j, None] * q).T, q) for j in range(r.shape[1])])
    return sums


def _meat(
    fit: _Fitted,
    sums: dict[str, Array],
    variance: Array,
    clusters: Array | None,
    n: Array,
    degrees: Array,
    intercept: bool,
    kind: str,
) -> tuple[Array, Array]:
    """M [k, p, p] and the degrees of freedom of t."""
    if kind == "classical":
        return variance[:, None, None] * sums["hat"][None], degrees
    if clusters is None:
        scale = n / degrees if kind == "hc1" else 1.0
        return scale * sums["meat"], degrees
    s, q, r = _rows(fit, fit.data, intercept)
    counted = jnp.where(s > 0, clusters, clusters[jnp.argmax(s)])
    size = len(clusters)
    _, codes = jnp.unique(counted, size=size, return_inverse=True)
    num = jnp.sum(jax.ops.segment_sum(jnp.ones_like(s), codes, size) > 0).astype(s.dtype)
    scores = (s[:, None] * r)[:, :, None] * q[:, None, :]
    totals = jax.ops.segment_sum(scores, codes, size)
    scale = num / (num - 1) * (n - 1) / degrees
    meat = scale * jnp.stack([matmul(t.T, t) for t in jnp.moveaxis(totals, 1, 0)])
    return meat, num - 1


def _sandwich(fit: _Fitted, M: Array, intercept: bool) -> Array:
    """[p, p] R⁻¹ M R⁻ᵀ in the units of X."""
    back = fit.factored.back
    Z = back(back(M).T) / fit.weight_unit
    if not intercept:
        Z = Z.at[-1].set(0).at[:, -1].set(0)
    return inverse_in_units(fit.factored.rows, (Z, jnp.zeros_like(Z)), intercept=intercept)


def _identified(factored: Factors, intercept: bool, penalized: bool) -> Array:
    """[p] whether the data determine a coefficient; all do with ridge, but for a bias of zeros."""
    d = factored.R0.shape[0]
    positive = (jnp.arange(factored.s.shape[0]) < factored.rank)[:, None]
    # Rows of Vt diag(length / unit) span what the data know of the weights in units.
    G = jnp.where(positive, factored.shortest.T / factored.rows.X.unit[None, :], 0)
    length = jnp.linalg.norm(G, axis=1, keepdims=True)
    Q, _ = jnp.linalg.qr((G / jnp.where(length > 0, length, 1)).T)
    Q = jnp.where(positive.T, Q, 0)
    weights = 1 - jnp.sum(Q * Q, axis=1) < _INVOLVED**2
    weights = jnp.where(factored.rank == d, True, weights)
    if not intercept:
        return weights
    # The bias is the prediction at 0: known where what the weights add from 0 to the mean is.
    origin = (factored.rows.X.origin + factored.rows.X.mean) * factored.rows.X.unit
    missed = jnp.linalg.norm(origin - matmul(Q, matmul(Q.T, origin)))
    bias = (missed <= _INVOLVED * jnp.linalg.norm(origin)) | (factored.rank == d)
    return jnp.concatenate([bias[None], weights])


def _goodness(
    fit: _Fitted,
    sums: dict[str, Array],
    n: Array,
    degrees: Array,
    used: Array,
    variance: Array,
    constant: Array,
    precision: bool,
) -> dict[str, Array]:
    unit = fit.factored.rows.y.unit
    squares, total = sums["squares"], sums["about_mean"]
    unexplained = squares / total
    likelihood = -n / 2 * (jnp.log(2 * jnp.pi * squares / n) + 2 * jnp.log(unit) + 1)
    if precision:
        likelihood = likelihood + sums["log_weight"] / 2
    return {
        "residual_deviation": jnp.sqrt(variance) * unit,
        "r2": 1 - unexplained,
        "adjusted_r2": 1 - unexplained * (n - constant) / degrees,
        "log_likelihood": likelihood,
        "aic": 2 * used - 2 * likelihood,
        "bic": jnp.log(n) * used - 2 * likelihood,
        "rank": fit.factored.rank,
        "degrees_of_freedom": degrees,
        "condition_number": fit.factored.condition_number(),
        "num_examples": n,
    }


def _f_statistic(
    fit: _Fitted, sums: dict[str, Array], variance: Array, meat: Array | None, penalized: bool
) -> tuple[Float[Array, " k"], Array]:
    """[k] F that all weights are 0, and how many there are; a Wald test but for the classical."""
    m = fit.factored.rank.astype(variance.dtype)
    if penalized:
        return jnp.full_like(variance, jnp.nan), m
    if meat is None:
        return (sums["about_mean"] - sums["squares"]) / m / variance, m
    positive = jnp.arange(fit.factored.s.shape[0]) < fit.factored.rank
    both = positive[:, None] & positive[None, :]
    M = jnp.where(both[None], meat[:, 1:, 1:], jnp.eye(len(positive), dtype=meat.dtype)[None])
    h = jnp.where(positive[:, None], fit.h[1:], 0).T * jnp.sqrt(fit.weight_unit)
    wald = jax.vmap(lambda one, A: jnp.sum(one * jnp.linalg.solve(A, one)))(h, M)
    return wald / m, m
