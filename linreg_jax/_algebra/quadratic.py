"""A squared loss as what it is, a quadratic function of the parameters."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from linreg_jax._algebra.linalg import target_columns
from linreg_jax.dataset import total_weight
from linreg_jax.gradients import require_loss
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
    total = total_weight(data)
    return jnp.where(total > 0, 1 / jnp.where(total > 0, total, 1), 0)


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
