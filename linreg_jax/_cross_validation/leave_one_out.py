"""Each example predicted by the fit of all others, from one factor.

With x, y the centred rows, sigma, V the singular values and right singular vectors of theirs, rho
the strength of ridge on Σ s r² and h the leverage, leaving an example out changes its residual r to

    r / (1 - h)        h = s (b² / Σ s b² + Σ (xᵀV)² / (sigma² + rho))

For a mean, rho is a multiple of the total weight, which each example changes by its own.
"""

import jax
import jax.numpy as jnp

from linreg_jax._algebra.linalg import centred_factor, graded_svd, target_columns
from linreg_jax._algebra.quadratic import penalty_curvature, require_curvature
from linreg_jax._arithmetic.division import divide
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset, bias_multipliers, mean_divisor

_ROUNDINGS = 32  # times eps: a leverage so near 1 leaves no other row to predict by


def leave_one_out_scores(
    losses: Loss, data: Dataset, intercept: bool
) -> Float[Array, "strengths n"]:
    """[strengths, n] what each example costs the fit of all others, without the penalties.

    Infinite where the others do not determine the prediction.

    Args:
      losses: squared, with ridge penalties or none; one for each strength, its settings stacked.
      data: a `Dataset` of n rows.
      intercept: whether the model has a bias.
    """
    columns = data._replace(y=target_columns(data.y))
    rows, R = centred_factor(columns, intercept=intercept, least_rows=1 + int(intercept))
    if not intercept:
        R = jnp.pad(R, ((1, 0), (1, 0)))
    d, eps = data.X.shape[1], jnp.finfo(R.dtype).eps
    b = bias_multipliers(data)[:, None] * int(intercept)
    centred = rows.centred(columns)
    R00 = jnp.where(R[0, 0] != 0, R[0, 0], 1)
    x = (centred.X - b * (R[0, 1 : d + 1] / R00)[None, :]) * rows.X.unit[None, :]
    y = centred.y - b * (R[0, d + 1 :] / R00)[None, :]
    U, sigma, Vt = graded_svd(R[1:, 1 : d + 1] * rows.X.unit[None, :])
    along, fitted = matmul(x, Vt.T), sigma[:, None] * matmul(U.T, R[1:, d + 1 :])
    s = jnp.ones_like(b[:, 0]) if data.sample_weight is None else data.sample_weight
    left = mean_divisor(data) - s

    def of_loss(loss: Loss) -> Array:
        curvature = require_curvature(loss)
        added = penalty_curvature(loss)
        ridge = jnp.asarray(0.0 if added is None else added / curvature, s.dtype)
        rho = ridge * left if loss.reduction == "mean" else jnp.full_like(left, ridge)
        squares = sigma[None, :] ** 2 + rho[:, None]
        is_zero = squares <= (4 * d**0.5 * eps * sigma[0]) ** 2
        inverse = divide(along, jnp.where(is_zero, 0, squares))
        residual = matmul(inverse, fitted) - y
        leverage = s * (b[:, 0] ** 2 / R00**2 + jnp.sum(along * inverse, axis=1))
        rest = jnp.where(leverage < 1 - _ROUNDINGS * eps, 1 - leverage, 0)
        without = divide(residual * rows.y.unit[None, :], rest[:, None], at_zero=jnp.inf)
        return jnp.sum(curvature / 2 * without * without, axis=1)

    scores: Array = jax.lax.map(of_loss, losses)
    return scores
