"""Minima of losses that are not squared, in NumPy and SciPy, in the dtype of the data.

Parameters [d + 1] are the weights and then the bias; r is a prediction less its target.
"""

import numpy as np
from scipy import sparse
from scipy.optimize import linprog, minimize

from benchmarks.problems import Problem
from linreg_jax._typing import Float

Vector = Float[np.ndarray, " p"]

_MOST_STEPS = 100


def with_ones(problem: Problem) -> Float[np.ndarray, "n p"]:
    """[X 1]."""
    return np.column_stack([problem.X, np.ones_like(problem.y)])


def reweighted(problem: Problem, level: float, num_steps: int = 200) -> Vector:
    """A quantile by least squares, each residual weighed by what its size was the last time.

    rho(r) = abs(r) / 2 + (1/2 - level) r, and abs(r) <= r² / (2 size) + size / 2 with equality
    where size = abs(r): no step leads upwards.

    Source: Hunter and Lange 2000, Journal of Computational and Graphical Statistics 9.
    """
    Z, y = with_ones(problem), problem.y
    theta = np.linalg.lstsq(Z, y)[0]
    least = np.sqrt(np.finfo(y.dtype).eps) * np.abs(y).max() / 100
    pull = (level - 0.5) * Z.sum(axis=0)
    for _ in range(num_steps):
        weighted = Z / (2 * np.maximum(np.abs(Z @ theta - y), least))[:, None]
        theta = np.linalg.solve(weighted.T @ Z, weighted.T @ y + pull)
    return theta


def linear_programme(problem: Problem, level: float) -> Vector:
    """The same, written out for HiGHS: what y exceeds Z theta by, and what it falls short of it."""
    Z, n = sparse.csr_array(with_ones(problem)), len(problem.y)
    p = Z.shape[1]
    cost = np.concatenate([np.zeros(p), np.full(n, level), np.full(n, 1 - level)])
    bounds = [(None, None)] * p + [(0, None)] * (2 * n)
    identity = sparse.eye_array(n)
    rows = sparse.hstack([Z, identity, -identity])
    return linprog(cost, A_eq=rows, b_eq=problem.y, bounds=bounds, method="highs").x[:p]


def newton(problem: Problem, delta: float) -> Vector:
    """Huber's by Newton's steps from least squares, until the same residuals are inside."""
    Z, y = with_ones(problem), problem.y
    theta = np.linalg.lstsq(Z, y)[0]
    inside = None
    for _ in range(_MOST_STEPS):
        r = Z @ theta - y
        before, inside = inside, np.abs(r) <= delta
        theta = theta - np.linalg.solve(Z[inside].T @ Z[inside], np.clip(r, -delta, delta) @ Z)
        if before is not None and (before == inside).all():
            break
    return theta


def quasi_newton(problem: Problem, delta: float) -> Vector:
    """Huber's by SciPy's L-BFGS-B from zeros, with the gradient by hand."""
    X, y = problem
    n = len(y)

    def value_and_gradient(theta: Vector) -> tuple[float, Vector]:
        r = X @ theta[:-1].astype(X.dtype) + (theta[-1].astype(X.dtype) - y)
        s = np.clip(r, -delta, delta)
        value = float(s @ r - s @ s / 2) / n
        return value, np.append(s @ X, s.sum()).astype(np.float64) / n

    tolerances = {"ftol": 1e-12, "gtol": 1e-8, "maxiter": 1_000}
    start = np.zeros(X.shape[1] + 1)
    return minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=tolerances).x
