"""The table of losses written again in NumPy float64: the independent side of the tests."""

import numpy as np

from linreg_jax import (
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


def _least_norm(left, right):
    """The subgradient of least norm between two one-sided slopes."""
    return min(max(0.0, left), right)


# name: (the loss, rho and psi of one float, whether the examples are averaged)
TABLE = {
    "mse": (mse, lambda r: r**2, lambda r: 2 * r, True),
    "half_mse": (half_mse, lambda r: r**2 / 2, lambda r: r, True),
    "sse": (sse, lambda r: r**2, lambda r: 2 * r, False),
    "half_sse": (half_sse, lambda r: r**2 / 2, lambda r: r, False),
    "mae": (mae, abs, lambda r: 0.0 if r == 0 else r / abs(r), True),
    "huber": (
        huber(DELTA),
        lambda r: r**2 / 2 if abs(r) <= DELTA else DELTA * (abs(r) - DELTA / 2),
        lambda r: max(-DELTA, min(DELTA, r)),
        True,
    ),
    "quantile": (
        quantile(LEVEL),
        lambda r: (1 - LEVEL) * r if r > 0 else -LEVEL * r,
        lambda r: _least_norm(-LEVEL if r <= 0 else 1 - LEVEL, 1 - LEVEL if r >= 0 else -LEVEL),
        True,
    ),
    "log_cosh": (log_cosh(), lambda r: np.log(np.cosh(r)), np.tanh, True),
    "epsilon_insensitive": (
        epsilon_insensitive(EPSILON),
        lambda r: max(abs(r) - EPSILON, 0.0),
        lambda r: 0.0 if abs(r) <= EPSILON else r / abs(r),
        True,
    ),
}


def value_and_gradient(name, params, data):
    """Loss and gradient by Python loops in float64: (value, weights, bias or None)."""
    _, rho, psi, averaged = TABLE[name]
    X, y = np.asarray(data.X, np.float64), np.asarray(data.y, np.float64)
    n, d = X.shape
    Y = y.reshape(n, -1)
    W = np.asarray(params.weights, np.float64).reshape(d, -1)
    bias = None if params.bias is None else np.asarray(params.bias, np.float64).reshape(-1)
    s = np.ones(n) if data.sample_weight is None else np.asarray(data.sample_weight, np.float64)
    divisor = s.sum() if averaged else 1.0
    value, weights, bias_gradient = 0.0, np.zeros_like(W), np.zeros(W.shape[1])
    for i in range(n):
        for k in range(Y.shape[1]):
            r = sum(X[i, j] * W[j, k] for j in range(d)) - Y[i, k]
            r += 0.0 if bias is None else bias[k]
            value += s[i] * rho(r) / divisor
            for j in range(d):
                weights[j, k] += s[i] * psi(r) * X[i, j] / divisor
            bias_gradient[k] += s[i] * psi(r) / divisor
    weights = weights.reshape(np.shape(params.weights))
    return value, weights, None if bias is None else bias_gradient.reshape(np.shape(params.bias))
