"""A squared loss as what it is, a quadratic function of the parameters."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from linreg_jax._algebra.linalg import ScaledColumns, scale_columns, target_columns
from linreg_jax._kernels import matmul
from linreg_jax.dataset import Dataset, bias_multipliers, mean_divisor
from linreg_jax.gradients import require_loss
from linreg_jax.losses import Loss
from linreg_jax.penalties import Ridge


def require_squared(loss, caller):
    """Raises unless `loss` is a squared one with ridge penalties or none.

    Raises:
      TypeError: not a loss of this package.
      ValueError: a loss without constant curvature, or a penalty that is not ridge.
    """
    require_loss(loss, caller)
    if loss.curvature is None:
        raise ValueError(
            f"{caller} needs a squared loss (mse, half_mse, sse or half_sse), got {loss}: "
            "only they are quadratic; fit takes any loss, step by step"
        )
    for penalty in loss.penalties:
        if not isinstance(penalty, Ridge):
            raise ValueError(
                f"{caller} takes ridge penalties only, got {loss}: with {penalty} the loss is not "
                "quadratic; fit takes any penalty, step by step"
            )


def ridge_strength(loss):
    """[] the strengths of all ridge penalties together; None without any."""
    strengths = [penalty.strength for penalty in loss.penalties if isinstance(penalty, Ridge)]
    return sum(strengths) if strengths else None


def example_share(loss, data):
    """[] what multiplies sample_weight * rho(r) in the loss; 0 for data that weighs nothing."""
    if loss.reduction == "sum":
        return jnp.ones((), data.X.dtype)
    total = mean_divisor(data)
    return jnp.where(total == 0, 0, 1 / jnp.where(total == 0, 1, total))


class Quadratic(NamedTuple):
    """A loss written as Σ (F theta - z)² / 2 + rest, with the bias before the weights in theta.

    Its Hessian is FᵀF.

    Attributes:
      F: [q, p] for p parameters a target, q ≤ p.
      z: [q, k].
      rest: [] what no parameters can take away, once F theta = z.
    """

    F: Array
    z: Array
    rest: Array


def quadratic(loss, data, R, *, curvature):
    """The `Quadratic` of a loss whose rho is curvature r² / 2, plus ridge.

    Args:
      loss: gives the reduction and the ridge penalties.
      data: a `Dataset`; X is [n, d].
      R: `triangular_factor(data)`, with the bias's column first or without it.
      curvature: [] the second derivative of rho.
    """
    d, k = data.X.shape[1], target_columns(data.y).shape[1]
    p = R.shape[1] - k
    R = jnp.sqrt(curvature * example_share(loss, data)) * R
    strength = ridge_strength(loss)
    if strength is not None:
        on_weights = jnp.eye(p, p + k, dtype=R.dtype)[p - d :]
        root = jnp.sqrt(2 * jnp.asarray(strength, R.dtype))
        R = jnp.linalg.qr(jnp.concatenate([R, root * on_weights]), mode="r")
    left = R[p:, p:]
    return Quadratic(R[:p, :p], R[:p, p:], jnp.sum(left * left) / 2)


def determined(loss: Loss, R: Array, d: int, *, intercept: bool) -> tuple[ScaledColumns, Array]:
    """The centred features with columns of length 1, and how many parameters are determined.

    Args:
      loss: gives the ridge penalties.
      R: `centred_factor` of the data, of d + 1 rows or more (d without an intercept).
      d: features.
      intercept: whether the bias's column comes first.
    """
    p = d + int(intercept)
    columns = scale_columns(R[p - d : p, p - d : p])
    has_bias = (R[0, 0] != 0).astype(columns.rank.dtype) if intercept else 0
    rank, strength = columns.rank + has_bias, ridge_strength(loss)
    if strength is not None:
        rank = jnp.where(jnp.asarray(strength) > 0, d + has_bias, rank)
    return columns, rank


def gram_of_loss(loss: Loss, data: Dataset, *, intercept: bool) -> Array:
    """[p + k, p + k] Q with the squared loss (theta, -1)ᵀ Q (theta, -1) / 2, summed over targets.

    Args:
      loss: with ridge penalties or none.
      data: a `Dataset` with y [n, k].
      intercept: whether b stands before X in Q.
    """
    d, k = data.X.shape[1], data.y.shape[1]
    b = [bias_multipliers(data)[:, None]] if intercept else []
    rows = jnp.concatenate([*b, data.X, data.y], axis=1)
    weighted = rows if data.sample_weight is None else data.sample_weight[:, None] * rows
    Q = loss.curvature * example_share(loss, data) * matmul(rows.T, weighted)
    strength = ridge_strength(loss)
    if strength is None:
        return Q
    on_weights = jnp.concatenate([jnp.zeros(int(intercept)), jnp.ones(d), jnp.zeros(k)])
    return Q + 2 * jnp.asarray(strength, Q.dtype) * jnp.diag(on_weights.astype(Q.dtype))
