"""Sums over rows that come in pieces: what a squared loss knows of them, in float64 on the host.

Of weighted rows [b A], with b what multiplies the bias and A = [X y] in units of its own, these are
enough, and those of two pieces give those of both::

    total = bᵀb,   mean = bᵀA / total,   scatter = CᵀC  with  C = A - b mean

    total   <- total + total'
    mean    <- mean + (mean' - mean) total' / total
    scatter <- scatter + scatter' + (mean' - mean)ᵀ(mean' - mean) total total' / (total + total')

Source: Chan, Golub and LeVeque 1983, The American Statistician 37, with b in place of ones.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from linreg_jax._algebra.linalg import weighted_rows
from linreg_jax._typing import Float
from linreg_jax.dataset import Dataset, mean_divisor


class Moments(NamedTuple):
    """Sums over weighted rows; floats and NumPy arrays of float64.

    Attributes:
      total_weight: [] what a mean over the examples divides by.
      unit: [m] the unit of each column of A, a power of 2; what follows is in these units.
      total: [] bᵀb.
      mean: [m] bᵀA / bᵀb.
      scatter: [m, m] CᵀC.
    """

    total_weight: float
    unit: Float[np.ndarray, " m"]
    total: float
    mean: Float[np.ndarray, " m"]
    scatter: Float[np.ndarray, "m m"]


def no_moments(m: int) -> Moments:
    """Those of no rows with m columns."""
    return Moments(0.0, np.ones(m), 0.0, np.zeros(m), np.zeros((m, m)))


def moments_of_gram(
    G: Float[np.ndarray, "c c"],
    centre: Float[np.ndarray, " m"],
    unit: Float[np.ndarray, " m"],
    eps: float,
) -> Moments:
    """From the products of rows that were centred nearly enough.

    Args:
      G: [1 + m, 1 + m] the inner products of b and of A / unit - b centre, float64.
      centre: [m] in units.
      unit: [m].
      eps: the rounding of the products.

    Returns:
      `Moments` of total_weight 0.
    """
    total, bA, AA = G[0, 0], G[0, 1:], G[1:, 1:]
    offset = bA / (total if total > 0 else 1)
    scatter = AA - np.outer(offset, bA)
    # What is only the rounding of what it was taken from is 0.
    constant = np.diagonal(scatter) <= 32 * eps * np.diagonal(AA)
    scatter[constant, :] = 0
    scatter[:, constant] = 0
    return Moments(0.0, unit, total, centre + offset, scatter)


def moments_of_rows(data: Dataset) -> Moments:
    """Those of a compressed `Dataset`."""
    b, X, y = (np.asarray(column, np.float64) for column in weighted_rows(data))
    A = np.concatenate([X, y], axis=1)
    unit = power_of_two(np.abs(A).max(axis=0), np.float64)
    A = A / unit
    total = b @ b
    mean = b @ A / (total if total > 0 else 1)
    C = A - np.outer(b, mean)
    return Moments(float(mean_divisor(data)), unit, float(total), mean, C.T @ C)


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of the rows of both."""
    unit = np.maximum(a.unit, b.unit)
    a_ratio, b_ratio = a.unit / unit, b.unit / unit
    total = a.total + b.total
    share = b.total / (total if total > 0 else 1)
    step = b.mean * b_ratio - a.mean * a_ratio
    scatter = a.scatter * np.outer(a_ratio, a_ratio) + b.scatter * np.outer(b_ratio, b_ratio)
    scatter += np.outer(step, step * (a.total * share))
    return Moments(
        a.total_weight + b.total_weight, unit, total, a.mean * a_ratio + step * share, scatter
    )


def as_compressed(moments: Moments, d: int, targets: tuple[int, ...], dtype: np.dtype) -> Dataset:
    """The compressed `Dataset` of d features and targets () or (k,), 1 + m rows."""
    total_weight, unit, total, mean, scatter = moments
    m = len(mean)
    F = np.zeros((1 + m, 1 + m))
    F[0, 0] = np.sqrt(total)
    F[0, 1:] = F[0, 0] * mean
    F[1:, 1:] = _root(scatter)
    F[:, 1:] *= unit
    F = F.astype(dtype)
    return Dataset(
        jnp.asarray(F[:, 1 : 1 + d]),
        jnp.asarray(F[:, 1 + d :].reshape(-1, *targets)),
        bias_column=jnp.asarray(F[:, 0]),
        total_weight=jnp.asarray(total_weight, dtype),
    )


def power_of_two(
    number: Float[np.ndarray, " m"], dtype: np.dtype | type[np.floating]
) -> Float[np.ndarray, " m"]:
    """A power of 2 near half of each number > 0 (1 for 0) that is far from the ends of the dtype.

    What is divided by it has squares that neither over- nor underflow, denormal numbers aside.
    """
    most = np.finfo(dtype).maxexp - 28
    exponent = np.clip(np.frexp(number)[1] - 1, -most, most).astype(np.float64)
    return np.where(number > 0, np.exp2(exponent), 1.0)


def _root(scatter: Float[np.ndarray, "m m"]) -> Float[np.ndarray, "m m"]:
    """[m, m] F with FᵀF = scatter, positive semi-definite up to rounding."""
    length = np.sqrt(np.diagonal(scatter))
    unit = np.where(length > 0, length, 1)
    scaled = scatter / unit[:, None] / unit[None, :]
    scaled[np.diag_indices_from(scaled)] = 1
    try:
        F = np.linalg.cholesky(scaled).T
    except np.linalg.LinAlgError:  # rounding has made a singular matrix indefinite
        values, vectors = np.linalg.eigh(scaled)
        F = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    return F * length
