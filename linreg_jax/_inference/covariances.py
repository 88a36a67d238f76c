"""Covariances of coefficients, R⁻¹ M R⁻ᵀ: M in the coordinates of q, and the way back."""

import jax
import jax.numpy as jnp

from linreg_jax._algebra.inverse import inverse_in_units
from linreg_jax._host import namespace_of, vmap
from linreg_jax._inference.fitted import Fitted
from linreg_jax._kernels import matmul
from linreg_jax._typing import AnyArray, Float, Int

HC_POWERS = {"hc2": 1, "hc3": 2}
"""The power of 1 - leverage that a residual's square is divided by; 0 for the others."""


def in_units(
    fit: Fitted, M: Float[AnyArray, "k m m"], *, intercept: bool
) -> Float[AnyArray, "k p p"]:
    """R⁻¹ M R⁻ᵀ in the units of X, of each target."""

    xp = namespace_of(M)

    def of_target(M: AnyArray) -> AnyArray:
        back = fit.factored.back
        Z = back(back(M).T) / fit.weight_unit
        if not intercept:
            Z = xp.pad(Z[:-1, :-1], ((0, 1), (0, 1)))
        return inverse_in_units(fit.factored.rows, (Z, xp.zeros_like(Z)), intercept=intercept)

    return vmap(of_target, like=M)(M)


def sum_of_outer(
    weight: Float[AnyArray, "n k"], q: Float[AnyArray, "n p"]
) -> Float[AnyArray, "k p p"]:
    """Σ weight q qᵀ over rows, for each target."""
    return namespace_of(q).stack(
        [matmul((weight[:, j, None] * q).T, q) for j in range(weight.shape[1])]
    )


def of_clusters(
    scores: Float[AnyArray, "n k"],
    q: Float[AnyArray, "n p"],
    s: Float[AnyArray, " n"],
    clusters: Int[AnyArray, " n"],
) -> tuple[Float[AnyArray, "k p p"], Float[AnyArray, ""]]:
    """Σ_g u_g u_gᵀ with u_g = Σ_{i in g} scores q, for each target, and how many clusters weigh."""
    counted = jnp.where(s > 0, clusters, clusters[jnp.argmax(s)])
    size = len(clusters)
    _, codes = jnp.unique(counted, size=size, return_inverse=True)
    num = jnp.sum(jax.ops.segment_sum(jnp.ones_like(s), codes, size) > 0).astype(s.dtype)
    # One target after the other: [n, p] each.
    totals = [jax.ops.segment_sum(one[:, None] * q, codes, size) for one in scores.T]
    return jnp.stack([matmul(total.T, total) for total in totals]), num
