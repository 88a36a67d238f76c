"""What the residuals of a least-squares fit say of its coefficients.

The covariance is R⁻¹ M R⁻ᵀ. M is σ² Σ s q qᵀ where errors are alike, and sums of r² q qᵀ or of
products of clusters' scores where they are not; nothing squares the condition number.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from linreg_jax._algebra.inverse import inverse_in_units, params_in_units, refined_inverse
from linreg_jax._algebra.quadratic import penalty_curvature
from linreg_jax._arithmetic.blocks import sum_over_blocks
from linreg_jax._arithmetic.centring import without_zero_weight
from linreg_jax._host import computed, namespace_of, vmap
from linreg_jax._inference.covariances import HC_POWERS, in_units, of_clusters, sum_of_outer
from linreg_jax._inference.distributions import f_p_values
from linreg_jax._inference.fitted import (
    Fitted,
    identified,
    least_squares_fit,
    size_of_fit,
    weights_and_q,
)
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss
from linreg_jax._typing import AnyArray, Float, Int
from linreg_jax.dataset import Dataset, bias_multipliers, mean_divisor


class Estimate(NamedTuple):
    """Coefficients [p, k] with the bias first, their covariance [k, p, p], and the fit's numbers.

    Attributes:
      theta, covariance: NaN where not identified.
      reference_degrees: [] degrees of freedom of t.
      statistics: fields of `Inference` by name, [k] or [].
    """

    theta: AnyArray
    covariance: AnyArray
    reference_degrees: AnyArray
    statistics: dict[str, AnyArray]


def estimate(
    loss: Loss,
    data: Dataset,
    clusters: Int[AnyArray, " n"] | None,
    *,
    intercept: bool,
    kind: str,
    precision: bool,
) -> Estimate:
    """The `Estimate` of a squared loss; `kind` is a covariance of `infer`.

    The fit is one program, its inverse another, and each kind of covariance a small one.
    """
    fit = least_squares_fit(loss, data, intercept=intercept)
    inverse = None
    if kind == "classical" and penalty_curvature(loss) is None:
        inverse = inverse_of_fit(fit, intercept=intercept)
    return estimate_of_fit(loss, data, fit, inverse, clusters, None, intercept, kind, precision)


def inverse_of_fit(fit: Fitted, *, intercept: bool) -> Float[AnyArray, "p p"]:
    """[p, p] (XᵀSX)⁻¹, refined."""
    n, d = fit.data.X.shape
    # Each of its numbers is multiplied a few times, where a fit multiplies each 10 to 100 times.
    size = n * (d + 1) ** 2 / 32
    return computed(_inverse, fit, intercept, size=size, static_argnums=(1,))


def _inverse(fit: Fitted, intercept: bool) -> Float[AnyArray, "p p"]:
    Z = refined_inverse(fit.factored, fit.data, intercept=intercept)
    return inverse_in_units(fit.factored.rows, Z, intercept=intercept) / fit.weight_unit


def estimate_of_fit(
    loss: Loss,
    data: Dataset,
    fit: Fitted,
    inverse: AnyArray | None,
    clusters: AnyArray | None,
    given: dict[str, AnyArray] | None,
    intercept: bool,
    kind: str,
    precision: bool,
) -> Estimate:
    """The same of a fit; sums that its rows do not tell, as compressed ones, are `given`."""
    size = size_of_fit(data) if clusters is None else math.inf
    settings = intercept, kind, precision
    return computed(
        _estimate,
        *(loss, data, fit, inverse, clusters, given, settings),
        size=size,
        static_argnums=(6,),
        or_nan=True,
    )


def _estimate(
    loss: Loss,
    data: Dataset,
    fit: Fitted,
    inverse: AnyArray | None,
    clusters: AnyArray | None,
    given: dict[str, AnyArray] | None,
    settings: tuple[bool, str, bool],
) -> Estimate:
    intercept, kind, precision = settings
    factored, xp = fit.factored, namespace_of(fit.h)
    of_rows = "classical" if given is not None else kind
    sums = sum_over_blocks(
        lambda rows: sums_of_rows(fit, rows, intercept, of_rows, precision), fit.rows
    )
    sums |= given or {}
    n = sums["rows"] if precision else mean_divisor(data)
    penalized = penalty_curvature(loss) is not None
    constant = (xp.any(bias_multipliers(data) != 0) * intercept).astype(n.dtype)
    used = xp.trace(sums["hat"]) if penalized else factored.rank.astype(n.dtype) + constant
    degrees = n - used
    variance = sums["squares"] / xp.where(degrees > 0, degrees, xp.nan)
    reference, meat = degrees, None
    if inverse is not None:
        covariance = variance[:, None, None] * inverse[None]
    else:
        meat, reference = _meat(fit, sums, variance, clusters, n, degrees, intercept, kind)
        covariance = in_units(fit, meat, intercept=intercept)
    y_unit = factored.rows.y.unit
    covariance = covariance * (y_unit * y_unit)[:, None, None]
    known = identified(factored, intercept=intercept)
    theta = params_in_units(factored.rows, fit.theta, intercept=intercept)
    both = known[:, None] & known[None, :]
    statistics = _goodness(fit, sums, n, degrees, used, variance, constant, precision)
    f, above = _f_statistic(fit, sums, variance, meat, penalized)
    f = xp.where(reference >= above, f, xp.nan)  # fewer clusters than weights determine none
    statistics |= {"f_statistic": f, "f_p_value": f_p_values(f, above, reference)}
    usable = xp.where(xp.isnan(mean_divisor(data)), xp.nan, xp.ones_like(n))
    return Estimate(
        xp.where(known[:, None], theta, xp.nan) * usable,
        xp.where(both[None], covariance, xp.nan) * usable,
        reference,
        statistics,
    )


def sums_of_rows(
    fit: Fitted, rows: tuple[Dataset, AnyArray], intercept: bool, kind: str, precision: bool
) -> dict[str, AnyArray]:
    """Sums over some rows: of squares, of q qᵀ, and of r² q qᵀ as the covariance wants them."""
    block, r = rows
    xp = namespace_of(r)
    s, q = weights_and_q(fit, block, intercept=intercept)
    r = r if block.sample_weight is None else without_zero_weight(r, s)
    y = block.y if block.sample_weight is None else without_zero_weight(block.y, s)
    about = fit.factored.rows.y.centred(y, block.bias_column)
    sums = {
        "squares": xp.sum(s[:, None] * r * r, axis=0),
        "about_mean": xp.sum(s[:, None] * about * about, axis=0),
        "hat": matmul((s[:, None] * q).T, q),
        "rows": xp.sum((s > 0).astype(s.dtype)),
        "log_weight": xp.sum(xp.log(xp.where(s > 0, s, 1))),
    }
    if kind.startswith("hc"):
        copies = s * s if precision else s
        leverage = xp.sum(q * q, axis=1) * (s if precision else 1)
        weight = copies / (1 - leverage) ** HC_POWERS.get(kind, 0)
        sums["meat"] = sum_of_outer(weight[:, None] * r * r, q)
    return sums


def _meat(
    fit: Fitted,
    sums: dict[str, AnyArray],
    variance: AnyArray,
    clusters: AnyArray | None,
    n: AnyArray,
    degrees: AnyArray,
    intercept: bool,
    kind: str,
) -> tuple[AnyArray, AnyArray]:
    """M [k, p, p] and the degrees of freedom of t."""
    if kind == "classical":
        return variance[:, None, None] * sums["hat"][None], degrees
    if kind != "cluster":
        scale = n / degrees if kind == "hc1" else 1.0
        return scale * sums["meat"], degrees
    if clusters is None:
        num = sums["clusters"]
        return num / (num - 1) * (n - 1) / degrees * sums["meat"], num - 1
    s, q = weights_and_q(fit, fit.data, intercept=intercept)
    scores = s[:, None] * jnp.where(s[:, None] > 0, fit.residuals, 0)
    meat, num = of_clusters(scores, q, s, clusters)
    return num / (num - 1) * (n - 1) / degrees * meat, num - 1


def _goodness(
    fit: Fitted,
    sums: dict[str, AnyArray],
    n: AnyArray,
    degrees: AnyArray,
    used: AnyArray,
    variance: AnyArray,
    constant: AnyArray,
    precision: bool,
) -> dict[str, AnyArray]:
    unit, xp = fit.factored.rows.y.unit, namespace_of(variance)
    squares, total = sums["squares"], sums["about_mean"]
    unexplained = squares / total
    likelihood = -n / 2 * (xp.log(2 * jnp.pi * squares / n) + 2 * xp.log(unit) + 1)
    if precision:
        likelihood = likelihood + sums["log_weight"] / 2
    unknown = xp.full_like(variance, xp.nan)
    return {
        "residual_deviation": xp.sqrt(variance) * unit,
        "r2": 1 - unexplained,
        "adjusted_r2": 1 - unexplained * (n - constant) / degrees,
        "log_likelihood": likelihood,
        "aic": 2 * used - 2 * likelihood,
        "bic": xp.log(n) * used - 2 * likelihood,
        "rank": fit.factored.rank,
        "degrees_of_freedom": degrees,
        "condition_number": fit.factored.condition_number(),
        "num_examples": n,
        "distance_to_minimum": xp.zeros_like(variance),
        "sparsity": unknown,
        "tail_examples": unknown,
    }


def _f_statistic(
    fit: Fitted,
    sums: dict[str, AnyArray],
    variance: AnyArray,
    meat: AnyArray | None,
    penalized: bool,
) -> tuple[Float[AnyArray, " k"], AnyArray]:
    """[k] F that all weights are 0, and how many there are; a Wald test but for the classical."""
    m, xp = fit.factored.rank.astype(variance.dtype), namespace_of(variance)
    if penalized:
        return xp.full_like(variance, xp.nan), m
    if meat is None:
        return (sums["about_mean"] - sums["squares"]) / m / variance, m
    h = fit.h * xp.sqrt(fit.weight_unit)
    return wald(fit, meat, h) / m, m


def wald(
    fit: Fitted, M: Float[AnyArray, "k p p"], h: Float[AnyArray, "p k"]
) -> Float[AnyArray, " k"]:
    """[k] hᵀ M⁻¹ h over the weights' part of h = R theta, whose covariance is M."""
    xp = namespace_of(M)
    positive = xp.arange(fit.factored.s.shape[0]) < fit.factored.rank
    both = positive[:, None] & positive[None, :]
    A = xp.where(both[None], M[:, 1:, 1:], xp.eye(len(positive), dtype=M.dtype)[None])
    part = xp.where(positive[:, None], h[1:], 0).T
    return vmap(lambda one, A: xp.sum(one * xp.linalg.solve(A, one)), like=M)(part, A)
