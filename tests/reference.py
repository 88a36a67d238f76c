"""The table of losses written again in NumPy float64: the independent side of the tests."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from linreg_jax import (
    Dataset,
    Loss,
    Params,
    epsilon_insensitive,
    half_mse,
    half_sse,
    huber,
    log_cosh,
    mae,
    mse,
    quantile,
    sse,
)

DELTA, LEVEL, EPSILON = 0.5, 0.8, 0.5


def _least_norm(left: float, right: float) -> float:
    """The subgradient of least norm between two one-sided slopes."""
    return min(max(0.0, left), right)


class Row(NamedTuple):
    """A loss of the package, its rho and psi of one float, whether the examples are averaged."""

    loss: Loss
    rho: Callable[[float], float]
    psi: Callable[[float], float]
    averaged: bool


TABLE = {
    "mse": Row(mse, lambda r: r**2, lambda r: 2 * r, True),
    "half_mse": Row(half_mse, lambda r: r**2 / 2, lambda r: r, True),
    "sse": Row(sse, lambda r: r**2, lambda r: 2 * r, False),
    "half_sse": Row(half_sse, lambda r: r**2 / 2, lambda r: r, False),
    "mae": Row(mae, abs, lambda r: 0.0 if r == 0 else r / abs(r), True),
    "huber": Row(
        huber(DELTA),
        lambda r: r**2 / 2 if abs(r) <= DELTA else DELTA * (abs(r) - DELTA / 2),
        lambda r: max(-DELTA, min(DELTA, r)),
        True,
    ),
    "quantile": Row(
        quantile(LEVEL),
        lambda r: (1 - LEVEL) * r if r > 0 else -LEVEL * r,
        lambda r: _least_norm(-LEVEL if r <= 0 else 1 - LEVEL, 1 - LEVEL if r >= 0 else -LEVEL),
        True,
    ),
    "log_cosh": Row(log_cosh(), lambda r: np.log(np.cosh(r)), np.tanh, True),
    "epsilon_insensitive": Row(
        epsilon_insensitive(EPSILON),
        lambda r: max(abs(r) - EPSILON, 0.0),
        lambda r: 0.0 if abs(r) <= EPSILON else r / abs(r),
        True,
    ),
}


def value_and_gradient(
    name: str, params: Params, data: Dataset
) -> tuple[float, np.ndarray, np.ndarray | None]:
    """Loss and gradient by Python loops in float64: (value, weights, bias or None)."""
    _, rho, psi, averaged = TABLE[name]
    X, y = np.asarray(data.X, np.float64), np.asarray(data.y, np.float64)
    n, d = X.shape
    Y, W = y.reshape(n, -1), np.asarray(params.weights, np.float64)
    bias = None if params.bias is None else np.asarray(params.bias, np.float64)
    s = np.ones(n) if data.sample_weight is None else np.asarray(data.sample_weight, np.float64)
    divisor = s.sum() if averaged else 1.0
    columns = W.reshape(d, -1)
    value, weights, bias_gradient = 0.0, np.zeros_like(columns), np.zeros(columns.shape[1])
    for i in range(n):
        for k in range(Y.shape[1]):
            r = sum(X[i, j] * columns[j, k] for j in range(d)) - Y[i, k]
            r += 0.0 if bias is None else bias.reshape(-1)[k]
            value += s[i] * rho(r) / divisor
            for j in range(d):
                weights[j, k] += s[i] * psi(r) * X[i, j] / divisor
            bias_gradient[k] += s[i] * psi(r) / divisor
    return (
        value,
        weights.reshape(W.shape),
        None if bias is None else bias_gradient.reshape(bias.shape),
    )
