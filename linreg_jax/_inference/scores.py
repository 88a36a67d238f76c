"""What the scores psi(r) x of any loss say of its coefficients.

In the coordinates of q, H = Σ s psi'(r) q qᵀ (where psi jumps: by the density of the residuals), S
the covariance of Σ s psi(r) q, and M = H⁻¹ S H⁻¹. Source: Huber 1981, Robust Statistics, 7.6.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from linreg_jax._algebra.quadratic import penalty_curvature
from linreg_jax._arithmetic.blocks import sum_over_blocks
from linreg_jax._inference.at_minimum import AtMinimum, Point
from linreg_jax._inference.covariances import HC_POWERS, in_units, of_clusters, sum_of_outer
from linreg_jax._inference.distributions import f_p_values
from linreg_jax._inference.fitted import Fitted, identified, weights_and_q
from linreg_jax._inference.least_squares import Estimate, wald
from linreg_jax._inference.minimum import slope, solve_active
from linreg_jax._inference.sparsity import (
    Jump,
    is_pinball,
    jumps,
    kernel_density,
    score_variance,
)
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Float, Int
from linreg_jax.dataset import Dataset, mean_divisor


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
    rows, point = (fit.rows[0], found.r, found.density), found.point

    def total(leverages_by: Array | None) -> dict[str, Array]:
        return sum_over_blocks(
            lambda part: sums_of_scores(
                loss, fit, part, kinks, leverages_by, intercept, kind, precision
            ),
            rows,
        )

    sums = total(None)
    if kind in HC_POWERS:
        sums |= {"meat": total(inverse_hessian(sums, point))["meat"]}
    if clusters is not None:
        weights, q = weights_and_q(fit, fit.data, intercept=intercept)
        scores = weights[:, None] * loss.psi(jnp.where(weights[:, None] > 0, found.r, 0))
        sums["meat"], sums["clusters"] = of_clusters(scores, q, weights, clusters)
    of_all = Sums(sums, n, mean_divisor(data), kinks)
    return estimate_of_scores(loss, fit, point, of_all, intercept, kind)


class Sums(NamedTuple):
    """What is known of all examples.

    Attributes:
      sums: as `sums_of_scores` has them; of clusters "meat" and how many "clusters".
      n: [] how many examples there are.
      total: [] the sum of their weights, NaN where it is lost.
      kinks: where psi jumps.
    """

    sums: dict[str, Array]
    n: Array
    total: Array
    kinks: list[Jump]


def inverse_hessian(sums: dict[str, Array], point: Point) -> Float[Array, "k p p"]:
    """(Σ s psi' q qᵀ and the ridge)⁻¹, of sums over all rows."""
    H = sums["hessian"] + point.ridge.hessian()[None]
    eye = jnp.eye(len(point.on), dtype=H.dtype)
    return solve_active(H, jnp.broadcast_to(eye, H.shape), point.on)


@functools.partial(jax.jit, static_argnums=(4, 5))
def estimate_of_scores(
    loss: Loss, fit: Fitted, point: Point, of_all: Sums, intercept: bool, kind: str
) -> Estimate:
    """The `Estimate` that sums over all rows make."""
    sums, n, total, _ = of_all
    inverse = inverse_hessian(sums, point)
    used = jnp.sum(point.on).astype(n.dtype)
    if penalty_curvature(loss) is not None:
        used = jnp.max(jnp.trace(matmul(inverse, sums["hessian"]), axis1=1, axis2=2))
    degrees = n - used
    degrees = jnp.where(degrees > 0, degrees, jnp.nan)
    reference, mean = degrees, sums["curvatures"] / total
    both, eye = point.on[None, :] & point.on[:, None], jnp.eye(len(point.on), dtype=n.dtype)
    G = jnp.where(both, eye, 0)[None]  # Σ s q qᵀ
    if kind == "classical":
        # The spread of psi' and of psi does not depend on x: both are taken out of the sums.
        inverse = inverse_hessian({"hessian": mean[:, None, None] * G}, point)
        meat = _alike(loss, sums, mean, total, used, degrees)[:, None, None] * G
    elif kind == "nid":
        meat = score_variance(loss, mean) * G
    elif kind == "cluster":
        num = sums["clusters"]
        meat, reference = num / (num - 1) * (n - 1) / degrees * sums["meat"], num - 1
    else:
        meat = (n / degrees if kind == "hc1" else 1.0) * sums["meat"]
    M = matmul(matmul(inverse, meat), inverse)
    return _as_estimate(loss, fit, point, of_all, M, degrees, reference, intercept)


def sums_of_scores(
    loss: Loss,
    fit: Fitted,
    rows: tuple[Dataset, Array, Array | None],
    kinks: list[Jump],
    inverse: Array | None,
    intercept: bool,
    kind: str,
    precision: bool,
) -> dict[str, Array]:
    """Sums over some rows; with the inverse of the Hessian those that leverages are needed for."""
    block, r, density = rows
    s, q = weights_and_q(fit, block, intercept=intercept)
    s = s[:, None]
    r = jnp.where(s > 0, r, 0)
    psi, curvature = loss.psi(r), slope(loss, r)
    for jump in kinks:
        at_kink = kernel_density(r, jump) if density is None else density
        curvature = curvature + jump.size * at_kink
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
    if kinks:
        sums["slack"] = sum(
            (matmul(jnp.abs(q).T, jnp.where(r == one.at, s * one.size, 0)) for one in kinks),
            jnp.zeros_like(sums["gradient"]),
        )
    if kind in ("classical", "cluster", "nid"):
        return sums
    return sums | {"meat": sum_of_outer(copies, q)}


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


def _as_estimate(
    loss: Loss,
    fit: Fitted,
    point: Point,
    of_all: Sums,
    M: Array,
    degrees: Array,
    reference: Array,
    intercept: bool,
) -> Estimate:
    sums, n, total, kinks = of_all
    known = identified(fit.factored, intercept=intercept)
    if penalty_curvature(loss) is not None:
        known = known | point.on[1 - int(intercept) :].any()
    f, above = wald(fit, M, point.h), fit.factored.rank.astype(n.dtype)
    f = jnp.where(reference >= above, f / above, jnp.nan)
    f = jnp.full_like(f, jnp.nan) if penalty_curvature(loss) is not None else f
    usable = jnp.where(jnp.isnan(total), jnp.nan, 1)
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
        "distance_to_minimum": _distance(sums, point, M),
        "sparsity": unknown,
        "tail_examples": unknown,
    }
    if is_pinball(loss):
        statistics["sparsity"] = kinks[0].size * total / sums["curvatures"]
        statistics["tail_examples"] = jnp.minimum(kinks[0].level, 1 - kinks[0].level) * n
    both = known[:, None] & known[None, :]
    covariance = in_units(fit, M, intercept=intercept)
    return Estimate(
        jnp.where(known[:, None], point.theta, jnp.nan) * usable,
        jnp.where(both[None], covariance, jnp.nan) * usable,
        reference,
        statistics,
    )


def _distance(sums: dict[str, Array], point: Point, M: Array) -> Float[Array, " k"]:
    """Newton's step, in standard errors, the largest of the directions."""
    g = sums["gradient"] + point.ridge.gradient(jnp.zeros_like(sums["gradient"]))
    if "slack" in sums:  # what slopes of examples on a kink, between psi's two sides, make up for
        g = jnp.sign(g) * jnp.maximum(jnp.abs(g) - sums["slack"], 0)
    H, on = sums["hessian"] + point.ridge.hessian()[None], point.on[None, :]
    left = jnp.abs(solve_active(H, g.T, point.on))
    error = jnp.sqrt(jnp.diagonal(M, axis1=1, axis2=2))
    return jnp.max(jnp.where(on, left / jnp.where(on, error, 1), 0), axis=1)
