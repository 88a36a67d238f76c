"""A squared loss as what it is, a quadratic function of the parameters."""

from typing import NamedTuple

import jax.numpy as jnp

from linreg_jax._algebra.linalg import ScaledColumns, scale_columns, target_columns
from linreg_jax._arithmetic.centring import power_of_two
from linreg_jax._arithmetic.division import nonzero
from linreg_jax._host import held, namespace_of
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss, example_share
from linreg_jax._typing import AnyArray, Array, Float, Int
from linreg_jax.dataset import Dataset, bias_multipliers
from linreg_jax.gradients import LossFunction, require_loss


def require_quadratic(loss: LossFunction, caller: str, *, or_absolute: bool = False) -> None:
    """Raises unless `loss` is a squared one with quadratic penalties or none.

    Args:
      loss: what came.
      caller: the function that was called.
      or_absolute: whether it takes penalties of the weights' sizes too, as lasso is.

    Raises:
      TypeError: not a loss of this package.
      ValueError: a loss or a penalty that is not quadratic.
    """
    known = require_loss(loss, caller)
    if not known.is_quadratic:
        raise ValueError(
            f"{caller} needs a squared loss (mse, half_mse, sse or half_sse), got {loss}: "
            "only they are quadratic; fit takes any loss, step by step"
        )
    accepted, rule = "ridge", "the loss is not quadratic"
    if or_absolute:
        accepted, rule = "ridge and lasso", "the loss is neither quadratic nor a lasso"
    for penalty in known.penalties:
        if not (penalty.is_quadratic or (or_absolute and penalty.is_absolute)):
            raise ValueError(
                f"{caller} takes {accepted} penalties only, got {loss}: with {penalty} {rule}; "
                "fit takes any penalty, step by step"
            )


def require_curvature(loss: Loss) -> Float[AnyArray, ""] | float:
    """The bound on the curvature of rho.

    Raises:
      ValueError: there is none, or none is known.
    """
    if loss.curvature_bound is None:
        raise ValueError(
            f"{loss} has no largest stable rate: its gradient does not shrink towards the minimum "
            "(or its curvature is not known), so a constant rate ends in a swing about as wide as "
            "itself; decrease the rate with a schedule, or use huber, which is smooth (a smooth "
            "loss of your own states its curvature_bound)"
        )
    return loss.curvature_bound


def penalty_curvature(loss: Loss) -> Float[AnyArray, ""] | float | None:
    """[] the curvature that smooth penalties add for each weight, or its bound; None without any.

    A ridge of some strength adds twice that.
    """
    bounds = [penalty.curvature_bound for penalty in loss.penalties if penalty.is_smooth]
    known = [bound for bound in bounds if bound is not None]
    return sum(known[1:], known[0]) if known else None


def absolute_strength(loss: Loss) -> Float[AnyArray, ""] | float | None:
    """[] what multiplies the sum of the weights' sizes; None without such a penalty."""
    strengths = [penalty.strength for penalty in loss.penalties if penalty.is_absolute]
    return sum(strengths[1:], strengths[0]) if strengths else None


class Sums(NamedTuple):
    """A loss as share (Σ s rho(r) + ridge Σ weights² + absolute Σ abs(weights)).

    Attributes:
      data: a `Dataset` with y [n, k]; the largest sample weight is near 1, for small ones would
        take the second words of double-word products below what there is.
      share: [] what multiplies the sum; where it is 0, what is added to the squares is not divided.
      ridge: [], or None without one.
      absolute: [], 0 without one.
    """

    data: Dataset
    share: Float[Array, ""]
    ridge: Float[Array, ""] | None
    absolute: Float[Array, ""]


def as_squares(loss: Loss, data: Dataset) -> Sums:
    """The `Sums` of a squared loss with penalties that are quadratic or absolute, rho being r²."""
    per_square = namespace_of(data.X).asarray(require_curvature(loss), data.X.dtype) / 2
    return as_sums(loss, data, per_square * example_share(loss, data))


def as_sums(loss: Loss, data: Dataset, share: Float[AnyArray, ""]) -> Sums:
    """The `Sums` of a loss with penalties that are quadratic or absolute.

    Args:
      loss: for its penalties.
      data: a `Dataset`.
      share: [] what multiplies sample_weight * rho(r) in the loss.
    """
    columns = data._replace(y=target_columns(data.y))
    if data.sample_weight is not None:
        unit = held(power_of_two(data.sample_weight)[0])
        columns = columns._replace(sample_weight=data.sample_weight / unit)
        share = share * unit

    def added(strength: Float[AnyArray, ""] | float) -> Float[AnyArray, ""]:
        return namespace_of(data.X).asarray(strength, data.X.dtype) / nonzero(share)

    curvature, absolute = penalty_curvature(loss), absolute_strength(loss)
    ridge = None if curvature is None else added(curvature / 2)
    return Sums(columns, share, ridge, added(0.0 if absolute is None else absolute))


class Quadratic(NamedTuple):
    """A loss written as Σ (F theta - z)² / 2 + rest, with the bias before the weights in theta.

    Its Hessian is FᵀF.

    Attributes:
      F: [q, p] for p parameters a target, q ≤ p.
      z: [q, k].
      rest: [] what no parameters can take away, once F theta = z.
    """

    F: Float[Array, "q p"]
    z: Float[Array, "q k"]
    rest: Float[Array, ""]


def quadratic(loss: Loss, data: Dataset, R: Float[AnyArray, "q p_and_k"]) -> Quadratic:
    """The `Quadratic` of a loss whose rho is curvature_bound r² / 2, plus its penalties.

    Args:
      loss: gives the curvature, the reduction and the penalties.
      data: a `Dataset`; X is [n, d].
      R: `triangular_factor(data)`, with the bias's column first or without it.
    """
    d, k = data.X.shape[1], target_columns(data.y).shape[1]
    p = R.shape[1] - k
    xp = namespace_of(R)
    R = xp.sqrt(require_curvature(loss) * example_share(loss, data)) * R
    added = penalty_curvature(loss)
    if added is not None:
        on_weights = xp.eye(p, p + k, dtype=R.dtype)[p - d :]
        root = xp.sqrt(xp.asarray(added, R.dtype))
        R = xp.linalg.qr(xp.concatenate([R, root * on_weights]), mode="r")
    left = R[p:, p:]
    return Quadratic(R[:p, :p], R[:p, p:], xp.sum(left * left) / 2)


def determined(
    loss: Loss, R: Float[AnyArray, "q p_and_k"], d: int, *, intercept: bool
) -> tuple[ScaledColumns, Int[AnyArray, ""]]:
    """The centred features with columns of length 1, and how many parameters are determined.

    Args:
      loss: gives the penalties.
      R: `centred_factor` of the data, of d + 1 rows or more (d without an intercept).
      d: features.
      intercept: whether the bias's column comes first.
    """
    xp, p = namespace_of(R), d + int(intercept)
    columns = scale_columns(R[p - d : p, p - d : p])
    has_bias = (R[0, 0] != 0).astype(columns.rank.dtype) if intercept else 0
    rank, added = columns.rank + has_bias, penalty_curvature(loss)
    if added is not None:
        rank = xp.where(xp.asarray(added) > 0, d + has_bias, rank)
    return columns, rank


def gram_of_loss(loss: Loss, data: Dataset, *, intercept: bool) -> Float[Array, "p_and_k p_and_k"]:
    """[p + k, p + k] Q with the squared loss (theta, -1)ᵀ Q (theta, -1) / 2, summed over targets.

    Args:
      loss: with quadratic penalties or none.
      data: a `Dataset` with y [n, k].
      intercept: whether b stands before X in Q.
    """
    d, k = data.X.shape[1], data.y.shape[1]
    b = [bias_multipliers(data)[:, None]] if intercept else []
    rows = jnp.concatenate([*b, data.X, data.y], axis=1)
    weighted = rows if data.sample_weight is None else data.sample_weight[:, None] * rows
    Q = require_curvature(loss) * example_share(loss, data) * matmul(rows.T, weighted)
    added = penalty_curvature(loss)
    if added is None:
        return Q
    on_weights = jnp.concatenate([jnp.zeros(int(intercept)), jnp.ones(d), jnp.zeros(k)])
    return Q + jnp.asarray(added, Q.dtype) * jnp.diag(on_weights.astype(Q.dtype))
