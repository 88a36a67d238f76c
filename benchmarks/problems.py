"""The problems that competitors solve, and their results in float64 by independent ways."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from benchmarks.harness import Answer
from linreg_jax._typing import Float

RATE = 0.2  # stable for each problem below: the squared error's largest curvature is about 2 to 3


class Problem(NamedTuple):
    """Data to fit, as NumPy arrays of the dtype that is timed.

    Attributes:
      X: [n, d] features, row after row in memory.
      y: [n] targets.
    """

    X: Float[np.ndarray, "n d"]
    y: Float[np.ndarray, " n"]

    @property
    def title(self) -> str:
        """The shape of X, as tables write it."""
        n, d = self.X.shape
        return f"{n:,} × {d:,}"


def make_problem(n: int, d: int, dtype: str, *, condition: float = 100.0, seed: int = 0) -> Problem:
    """Independent normal features; targets with an intercept of 1 and noise of 0.5.

    Args:
      n, d: examples and features.
      dtype: of both arrays.
      condition: of XᵀX, about: the features' scales fall from 1 to 1 / sqrt(condition), so that
        after 1,000 steps gradient descent is still under way and a wrong path shows.
      seed: of NumPy's generator.
    """
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d), dtype=np.float32)
    X *= np.geomspace(1, condition**-0.5, d, dtype=np.float32)
    y = X @ rng.standard_normal(d, dtype=np.float32)
    y += 1 + 0.5 * rng.standard_normal(n, dtype=np.float32)
    return Problem(X.astype(dtype, copy=False), y.astype(dtype, copy=False))


def squared_error_descent(problem: Problem, num_steps: int, rate: float = RATE) -> Answer:
    """Gradient descent on the mean squared error in float64, from the normal equations.

    With Z = [X 1], G = ZᵀZ / n, c = Zᵀy / n and theta = [weights, bias]::

        loss = thetaᵀ G theta - 2 cᵀ theta + yᵀy / n
        theta <- theta - rate 2 (G theta - c)

    The cost of a step does not depend on n, and in float64 what cancels in the loss is below 1e-13.

    Returns:
      `params` [d + 1], the weights and then the bias; `losses` [num_steps], each before its step.
    """
    G, c, y_squared = normal_equations(problem)
    theta, losses = np.zeros(len(c)), np.empty(num_steps)
    for i in range(num_steps):
        product = G @ theta
        losses[i] = theta @ product - 2 * c @ theta + y_squared
        theta -= rate * 2 * (product - c)
    return {"params": theta, "losses": losses}


def least_squares(problem: Problem) -> Answer:
    """The minimiser of the squared error in float64: `params` [d + 1]."""
    Z = np.column_stack([problem.X, np.ones(len(problem.y))]).astype(np.float64)
    return {"params": np.linalg.lstsq(Z, problem.y.astype(np.float64))[0]}


def descent(
    problem: Problem,
    rho: Callable[[np.ndarray], np.ndarray],
    psi: Callable[[np.ndarray], np.ndarray],
    batches: Iterable[np.ndarray | slice],
    rate: float,
) -> Answer:
    """Gradient descent in float64 on the mean of rho over each batch, one batch a step.

    Args:
      problem: the data.
      rho, psi: what a residual costs and its derivative, elementwise.
      batches: for each step, the rows it sees: an index array or a slice.
      rate: the learning rate.

    Returns:
      `params` [d + 1] and `losses`, one a step, as `squared_error_descent`.
    """
    X, y = problem.X.astype(np.float64), problem.y.astype(np.float64)
    weights, bias, losses = np.zeros(X.shape[1]), 0.0, []
    for rows in batches:
        batch = X[rows]
        r = batch @ weights + bias - y[rows]
        losses.append(rho(r).mean())
        s = psi(r) / len(r)
        weights -= rate * (s @ batch)
        bias -= rate * s.sum()
    return {"params": np.append(weights, bias), "losses": np.array(losses)}


def normal_equations(
    problem: Problem, block_rows: int = 65_536
) -> tuple[Float[np.ndarray, "p p"], Float[np.ndarray, " p"], float]:
    """G = [X 1]ᵀ[X 1] / n, c = [X 1]ᵀy / n and yᵀy / n, in float64 without a float64 copy of X.

    Args:
      problem: the data.
      block_rows: rows that are converted at once.

    Returns:
      `(G, c, y_squared)`: [d + 1, d + 1], [d + 1] and [].
    """
    n, d = problem.X.shape
    G, c, y_squared = np.zeros((d + 1, d + 1)), np.zeros(d + 1), 0.0
    for start in range(0, n, block_rows):
        X = problem.X[start : start + block_rows].astype(np.float64)
        y = problem.y[start : start + block_rows].astype(np.float64)
        Z = np.column_stack([X, np.ones(len(y))])
        G += Z.T @ Z
        c += y @ Z
        y_squared += float(y @ y)
    return G / n, c / n, y_squared / n
