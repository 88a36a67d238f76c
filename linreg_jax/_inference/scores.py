"""What the scores psi(r) x of any loss say of its coefficients.

In the coordinates of q, H = Σ s psi'(r) q qᵀ (where psi jumps: by the density of the residuals), S
the covariance of Σ s psi(r) q, and M = H⁻¹ S H⁻¹. Source: Huber 1981, Robust Statistics, 7.6.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from linreg_jax._algebra.inverse import params_in_units
from linreg_jax._algebra.quadratic import penalty_curvature
from linreg_jax._arithmetic.blocks import sum_over_blocks
from linreg_jax._arithmetic.double_word import add_pairs
from linreg_jax._inference.covariances import HC_POWERS, in_units, of_clusters, sum_of_outer
from linreg_jax._inference.distributions import f_p_values
from linreg_jax._inference.fitted import Fitted, identified, q_rows, weights_and_q
from linreg_jax._inference.least_squares import Estimate, wald
from linreg_jax._inference.minimum import Ridge, newton, ridge_of, slope, solve_active
from linreg_jax._inference.sparsity import (
    Jump,
    is_pinball,
    jumps,
    kernel_density,
    score_variance,
)
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Int
from linreg_jax.dataset import Dataset, bias_multipliers, mean_divisor
from linreg_jax.model import Params, residuals

_ON_A_KINK = 64  # roundings of a target: residuals so small lie on the kink


class AtMinimum(NamedTuple):
    """Residuals at the parameters, and the parameters.

    Attributes:
      r: [n, k] predictions less targets, in units of the data.
      theta: [p, k] with the bias first.
      h: [p, k] R theta, but for the bias's part of the mean.
      ridge: penalties about there.
      on: [p] which coordinates of q there are.
    """

    r: Array
    theta: Array
    h: Array
    ridge: Ridge
    on: Array


@functools.partial(jax.jit, static_argnames="intercept")
def at_minimum(
    loss: Loss, data: Dataset, fit: Fitted, params: Params | None, *, intercept: bool
) -> AtMinimum:
    """`AtMinimum` of params, or where a smooth loss is least.

    Args:
      loss: any.
      data: a `Dataset`.
      fit: least squares of it, without penalties.
      params: where the loss is least, or None.
      intercept: whether there is a bias.
    """
    rows, y_unit = fit.factored.rows, fit.factored.rows.y.unit[None, :]
    root = jnp.sqrt(fit.weight_unit)
    squares = sum_over_blocks(lambda part: _squares(fit, part[0], intercept), fit.rows)
    on = squares > 0.5
    r0 = -fit.residuals * y_unit
    theta0 = params_in_units(rows, fit.theta, intercept=intercept)
    h0 = fit.h * root * y_unit
    if params is None:
        ridge = ridge_of(loss, data, fit, theta0[int(intercept) :])
        phi = newton(loss, fit, r0, ridge, on, intercept=intercept)
        step = fit.factored.back(phi / root) / y_unit
        theta = params_in_units(
            rows, add_pairs(fit.theta, (step, jnp.zeros_like(step))), intercept=intercept
        )
        # Of zero-weight rows too, so not by what is summed.
        b, multiplier = data.bias_column, bias_multipliers(data)
        r = r0 + matmul(q_rows(fit, data.X, b, multiplier, intercept=intercept), phi)
        ridge = ridge._replace(weights=ridge.weights + matmul(ridge.B, phi))
    else:
        r = residuals(params, data).reshape(fit.residuals.shape)
        weights = params.weights.reshape(-1, r.shape[1])
        bias = [] if params.bias is None else [jnp.reshape(params.bias, (1, -1))]
        theta, ridge = jnp.concatenate([*bias, weights]), ridge_of(loss, data, fit, weights)
        s, q = weights_and_q(fit, fit.data, intercept=intercept)
        phi = matmul(q.T, s[:, None] * jnp.where(s[:, None] > 0, r - r0, 0))
    for kink in loss.kinks:
        at, size = jnp.asarray(kink, r.dtype), jnp.abs(fit.data.y) + jnp.abs(r)
        r = jnp.where(jnp.abs(r - at) <= _ON_A_KINK * jnp.finfo(r.dtype).eps * size, at, r)
    return AtMinimum(r, theta, h0 + phi, ridge, on)


def _squares(fit: Fitted, block: Dataset, intercept: bool) -> Array:
    s, q = weights_and_q(fit, block, intercept=intercept)
    return jnp.sum(s[:, None] * q * q, axis=0)


@functools.partial(jax.jit, static_argnums=(5, 6, 7))
def estimate_by_scores(
    loss: Loss,
    data: Dataset,
    fit: Fitted,
    found: AtMinimum,
    clusters: Int[Array, " n"] | None,
    intercept: bool,
    kind: str,
    precision: bool,
) -> Estimate:
    """The `Estimate` of any loss at its minimum; `kind` is a covariance of `infer`."""
    s = jnp.ones_like(data.X[:, 0]) if data.sample_weight is None else data.sample_weight
    counts = (s > 0).astype(s.dtype) if precision else s
    n = jnp.sum(counts) if precision else mean_divisor(data)
    r, y = (jnp.where(s[:, None] > 0, a, 0) for a in (found.r, fit.data.y))
    kinks = [] if loss.is_smooth else jumps(loss, r, y, counts)
    rows = (fit.rows[0], found.r)

    def total(leverages_by: Array | None) -> dict[str, Array]:
        return sum_over_blocks(
            lambda part: _sums(loss, fit, part, kinks, leverages_by, intercept, kind, precision),
            rows,
        )

    eye = jnp.eye(len(found.on), dtype=s.dtype)
    sums = total(None)
    H = sums["hessian"] + found.ridge.hessian()[None]
    inverse = solve_active(H, jnp.broadcast_to(eye, H.shape), found.on)
    if kind in HC_POWERS:
        sums |= {"meat": total(inverse)["meat"]}
    used = jnp.sum(found.on).astype(n.dtype)
    if penalty_curvature(loss) is not None:
        used = jnp.max(jnp.trace(matmul(inverse, sums["hessian"]), axis1=1, axis2=2))
    degrees = n - used
    degrees = jnp.where(degrees > 0, degrees, jnp.nan)
    if kind == "classical":
        # The spread of psi' and of psi does not depend on x: both are taken out of the sums.
        mean = sums["curvatures"] / jnp.sum(s)
        G = jnp.where(found.on[None, :] & found.on[:, None], eye, 0)[None]
        flat = mean[:, None, None] * G + found.ridge.hessian()[None]
        inverse = solve_active(flat, jnp.broadcast_to(eye, flat.shape), found.on)
        meat = _alike(loss, sums, mean, jnp.sum(s), used, degrees)[:, None, None] * G
        reference = degrees
    else:
        meat, reference = _meat(loss, fit, sums, found, clusters, n, degrees, intercept, kind)
    M = matmul(matmul(inverse, meat), inverse)
    return _as_estimate(loss, data, fit, found, sums, H, M, n, degrees, reference, kinks, intercept)


def _sums(
    loss: Loss,
    fit: Fitted,
    rows: tuple[Dataset, Array],
    kinks: list[Jump],
    inverse: Array | None,
    intercept: bool,
    kind: str,
    precision: bool,
) -> dict[str, Array]:
    """Sums over some rows; with the inverse of the Hessian those that leverages are needed for."""
    block, r = rows
    s, q = weights_and_q(fit, block, intercept=intercept)
    s = s[:, None]
    r = jnp.where(s > 0, r, 0)
    psi, curvature = loss.psi(r), slope(loss, r)
    for jump in kinks:
        curvature = curvature + jump.size * kernel_density(r, jump)
    copies = (s * s if precision else s) * psi * psi
    if inverse is not None:
        leverage = jnp.einsum("np,kpq,nq->nk", q, inverse, q, precision="highest") * curvature
        leverage = leverage * (s if precision else 1)
        return {"meat": sum_of_outer(copies / (1 - leverage) ** HC_POWERS[kind], q)}
    sums = {
        "hessian": sum_of_outer(s * curvature, q),
        "gradient": matmul(q.T, s * psi),
        "curvatures": jnp.sum(s * curvature, axis=0),
        "curvatures_squared": jnp.sum(s * curvature * curvature, axis=0),
        "scores": jnp.sum(s * psi * psi, axis=0),
        "squares": jnp.sum(s * r * r, axis=0),
    }
    return sums if kind in ("classical", "cluster") else sums | {"meat": sum_of_outer(copies, q)}


def _alike(
    loss: Loss, sums: dict[str, Array], mean: Array, total: Array, used: Array, degrees: Array
) -> Array:
    """[k] the variance of psi, where errors are alike."""
    if is_pinball(loss):
        return jnp.broadcast_to(score_variance(loss, mean), mean.shape)
    if not loss.is_smooth:
        return sums["scores"] / total
    spread = sums["curvatures_squared"] / total - mean * mean
    n = degrees + used
    correction = 1 + used / n * spread / (mean * mean)
    return correction**2 * sums["scores"] / degrees


def _meat(
    loss: Loss,
    fit: Fitted,
    sums: dict[str, Array],
    found: AtMinimum,
    clusters: Array | None,
    n: Array,
    degrees: Array,
    intercept: bool,
    kind: str,
) -> tuple[Array, Array]:
    """S [k, p, p] of scores as they are, and the degrees of freedom of t."""
    if clusters is None:
        return (n / degrees if kind == "hc1" else 1.0) * sums["meat"], degrees
    s, q = weights_and_q(fit, fit.data, intercept=intercept)
    psi = loss.psi(jnp.where(s[:, None] > 0, found.r, 0))
    meat, num = of_clusters(s[:, None] * psi, q, s, clusters)
    return num / (num - 1) * (n - 1) / degrees * meat, num - 1


def _as_estimate(
    loss: Loss,
    data: Dataset,
    fit: Fitted,
    found: AtMinimum,
    sums: dict[str, Array],
    H: Array,
    M: Array,
    n: Array,
    degrees: Array,
    reference: Array,
    kinks: list[Jump],
    intercept: bool,
) -> Estimate:
    g = sums["gradient"] + found.ridge.gradient(jnp.zeros_like(sums["gradient"]))
    left = jnp.abs(solve_active(H, g.T, found.on))
    error = jnp.sqrt(jnp.diagonal(M, axis1=1, axis2=2))
    known = identified(fit.factored, intercept=intercept)
    if penalty_curvature(loss) is not None:
        known = known | found.on[1 - int(intercept) :].any()
    f, above = wald(fit, M, found.h), fit.factored.rank.astype(n.dtype)
    f = jnp.where(reference >= above, f / above, jnp.nan)
    f = jnp.full_like(f, jnp.nan) if penalty_curvature(loss) is not None else f
    usable = jnp.where(jnp.isnan(mean_divisor(data)), jnp.nan, 1)
    unknown = jnp.full_like(f, jnp.nan)
    statistics = {
        "residual_deviation": jnp.sqrt(sums["squares"] / degrees) if loss.is_smooth else unknown,
        **dict.fromkeys(("r2", "adjusted_r2", "log_likelihood", "aic", "bic"), unknown),
        "f_statistic": f,
        "f_p_value": f_p_values(f, above, reference),
        "rank": fit.factored.rank,
        "degrees_of_freedom": degrees,
        "condition_number": fit.factored.condition_number(),
        "num_examples": n,
        "distance_to_minimum": jnp.max(
            jnp.where(found.on[None, :], left / jnp.where(found.on[None, :], error, 1), 0), axis=1
        ),
        "sparsity": unknown,
        "tail_examples": unknown,
    }
    if is_pinball(loss):
        weight = n if data.sample_weight is None else jnp.sum(data.sample_weight)
        statistics["sparsity"] = kinks[0].size * weight / sums["curvatures"]
        statistics["tail_examples"] = jnp.minimum(kinks[0].level, 1 - kinks[0].level) * n
    both = known[:, None] & known[None, :]
    covariance = in_units(fit, M, intercept=intercept)
    return Estimate(
        jnp.where(known[:, None], found.theta, jnp.nan) * usable,
        jnp.where(both[None], covariance, jnp.nan) * usable,
        reference,
        statistics,
    )
