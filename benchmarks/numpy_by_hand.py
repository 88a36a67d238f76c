"""Gradient descent in NumPy as a good engineer writes it: BLAS products into arrays made once.

Every way starts from zeros, records the loss before each step, as `fit` does, and computes in the
dtype of the data. Parameters [d + 1] are the weights and then the bias.
"""

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np

from benchmarks.harness import Answer
from benchmarks.problems import Problem
from linreg_jax._typing import Float

Penalty = Callable[[np.ndarray, np.ndarray], np.floating]
"""r, s -> Σ rho(r), with psi(r) written into s."""

Evaluate = Callable[[np.ndarray], tuple[np.floating, np.ndarray]]
"""params [d + 1] -> Σ rho(r) and its gradient [d + 1]."""


def squared(r: Float[np.ndarray, " n"], s: Float[np.ndarray, " n"]) -> np.floating:
    """Writes psi(r) = 2r into s [n] and returns Σ r²."""
    np.multiply(r, 2, out=s)
    return np.dot(r, r)


def absolute(r: Float[np.ndarray, " n"], s: Float[np.ndarray, " n"]) -> np.floating:
    """Writes psi(r) = sign(r) into s [n] and returns Σ abs(r)."""
    np.sign(r, out=s)
    return np.dot(s, r)


def huber(delta: float) -> Penalty:
    """Writes psi(r) = c = clip(r, -delta, delta) into s [n] and returns Σ c (r - c/2)."""

    def penalty(r: Float[np.ndarray, " n"], s: Float[np.ndarray, " n"]) -> np.floating:
        np.clip(r, -delta, delta, out=s)
        return np.dot(s, r) - np.dot(s, s) / 2

    return penalty


def quantile(level: float) -> Penalty:
    """Writes psi(r), level - 1 below 0 and level above in r = y - prediction, and returns Σ rho."""

    def penalty(r: Float[np.ndarray, " n"], s: Float[np.ndarray, " n"]) -> np.floating:
        np.sign(r, out=s)  # of prediction - y
        s /= 2
        s += 0.5 - level
        return np.dot(s, r)

    return penalty


def epsilon_insensitive(epsilon: float) -> Penalty:
    """Writes psi(r) = sign(r) beyond epsilon and 0 within into s [n], and returns Σ rho."""

    def penalty(r: Float[np.ndarray, " n"], s: Float[np.ndarray, " n"]) -> np.floating:
        np.sign(r, out=s)
        s *= np.abs(r) > epsilon
        return np.dot(s, r) - epsilon * np.count_nonzero(s)

    return penalty


def squared_error(problem: Problem, num_steps: int, rate: float) -> Answer:
    """Full batches: two products with X a step. The 2 of psi goes into the rate."""
    X, y = problem
    n, d = X.shape
    params, gradient = np.zeros(d + 1, X.dtype), np.empty(d + 1, X.dtype)
    weights, bias = params[:d], params[d:]
    for_weights, for_bias = gradient[:d], gradient[d:].reshape(())
    r, ones = np.empty_like(y), np.ones_like(y)
    losses = np.empty(num_steps, X.dtype)
    factor = X.dtype.type(2 * rate / n)
    for i in range(num_steps):
        np.dot(X, weights, out=r)
        r -= y
        r += bias
        losses[i] = np.dot(r, r)
        np.dot(r, X, out=for_weights)
        np.dot(r, ones, out=for_bias)
        gradient *= factor
        params -= gradient
    losses /= n
    return {"params": params, "losses": losses}


def squared_error_by_columns(problem: Problem, num_steps: int, rate: float) -> Answer:
    """The same on a copy [X 1], column after column in memory, made in the time that counts.

    Fewer calls than `squared_error`, and products that OpenBLAS is often faster at.
    """
    y = problem.y
    Z = _with_ones(problem.X, order="F")
    params = np.zeros(Z.shape[1], Z.dtype)
    gradient, r = np.empty_like(params), np.empty_like(y)
    losses = np.empty(num_steps, Z.dtype)
    factor = Z.dtype.type(2 * rate / len(y))
    for i in range(num_steps):
        np.dot(Z, params, out=r)
        r -= y
        losses[i] = np.dot(r, r)
        np.dot(r, Z, out=gradient)
        gradient *= factor
        params -= gradient
    losses /= len(y)
    return {"params": params, "losses": losses}


def squared_error_on_gram(problem: Problem, num_steps: int, rate: float) -> Answer:
    """Full batches on G = [X 1]ᵀ[X 1] and c = [X 1]ᵀy: after one product n has gone."""
    y = problem.y
    Z = _with_ones(problem.X)
    G, c, y_squared = Z.T @ Z, y @ Z, np.dot(y, y)
    params, gradient = np.zeros(len(c), Z.dtype), np.empty_like(c)
    losses = np.empty(num_steps, Z.dtype)
    factor = Z.dtype.type(2 * rate / len(y))
    for i in range(num_steps):
        np.dot(G, params, out=gradient)
        gradient -= c
        # thetaᵀ G theta - 2 cᵀ theta = thetaᵀ (G theta - c) - cᵀ theta
        losses[i] = np.dot(params, gradient) - np.dot(c, params)
        gradient *= factor
        params -= gradient
    losses += y_squared
    losses /= len(y)
    return {"params": params, "losses": losses}


def full_batch(problem: Problem, penalty: Penalty, num_steps: int, rate: float) -> Answer:
    """Full batches of any loss: two products with X a step."""
    return _descend(problem, penalty, num_steps, rate, len(problem.y))


def full_batch_by_columns(
    problem: Problem, penalty: Penalty, num_steps: int, rate: float
) -> Answer:
    """The same on a copy of X, column after column in memory, made in the time that counts."""
    by_columns = problem._replace(X=np.asfortranarray(problem.X))
    return full_batch(by_columns, penalty, num_steps, rate)


def full_batch_in_blocks(
    problem: Problem, penalty: Penalty, num_steps: int, rate: float, *, block_bytes: int = 2**18
) -> Answer:
    """`full_batch`, reading X once a step: both products of a block of rows while in cache."""
    row_bytes = problem.X.shape[1] * problem.X.itemsize
    return _descend(problem, penalty, num_steps, rate, max(1, block_bytes // row_bytes))


def _descend(
    problem: Problem, penalty: Penalty, num_steps: int, rate: float, block_rows: int
) -> Answer:
    n, d = problem.X.shape
    dtype = problem.X.dtype
    params, losses = np.zeros(d + 1, dtype), np.empty(num_steps)
    factor = dtype.type(rate / n)
    evaluate = _sums_over_blocks(problem, penalty, block_rows)
    for i in range(num_steps):
        losses[i], gradient = evaluate(params)
        gradient *= factor
        params -= gradient
    losses /= n
    return {"params": params, "losses": losses}


def value_and_gradient(problem: Problem, penalty: Penalty) -> Callable[[np.ndarray], Answer]:
    """params [d + 1] -> the mean of the penalty, `value` [1], and its `gradient` [d + 1]."""
    n = len(problem.y)
    evaluate = _sums_over_blocks(problem, penalty, n)

    def call(params: Float[np.ndarray, " p"]) -> Answer:
        total, gradient = evaluate(params)
        gradient /= n
        return {"value": np.array([total / n]), "gradient": gradient}

    return call


def _sums_over_blocks(problem: Problem, penalty: Penalty, block_rows: int) -> Evaluate:
    """params -> (Σ rho(r), its gradient), in arrays made once and used again at each call."""
    X, y = problem
    n, d = X.shape
    gradient, part = np.empty(d + 1, X.dtype), np.empty(d + 1, X.dtype)
    r, s = np.empty(min(block_rows, n), X.dtype), np.empty(min(block_rows, n), X.dtype)
    ones = np.ones_like(s)
    blocks = []
    for start in range(0, n, block_rows):
        rows = min(block_rows, n - start)
        piece = slice(start, start + rows)
        blocks.append((X[piece], y[piece], r[:rows], s[:rows], ones[:rows]))

    def evaluate(params: Float[np.ndarray, " p"]) -> tuple[np.floating, Float[np.ndarray, " p"]]:
        weights, bias = params[:d], params[d:]
        gradient.fill(0)
        total: np.floating = np.float64(0.0)
        for X_block, y_block, r_block, s_block, ones_block in blocks:
            np.dot(X_block, weights, out=r_block)
            np.subtract(r_block, y_block, out=r_block)
            np.add(r_block, bias, out=r_block)
            total += penalty(r_block, s_block)
            np.dot(s_block, X_block, out=part[:d])
            part[d] = np.dot(s_block, ones_block)
            np.add(gradient, part, out=gradient)
        return total, gradient

    return evaluate


def mini_batches(
    problem: Problem, orders: Iterable[np.ndarray], batch_size: int, rate: float
) -> Answer:
    """Mini-batches of the mean squared error, the rows of each copied into one place.

    Args:
      problem: the data.
      orders: for each epoch, the order [n] in which it sees the rows.
      batch_size: rows in a batch; the last one of an epoch may be smaller.
      rate: the learning rate.
    """
    X, y = problem
    n, d = X.shape
    params, gradient = np.zeros(d + 1, X.dtype), np.empty(d + 1, X.dtype)
    weights, bias = params[:d], params[d:]
    X_buffer, y_buffer = np.empty((batch_size, d), X.dtype), np.empty(batch_size, X.dtype)
    r_buffer, ones = np.empty(batch_size, X.dtype), np.ones(batch_size, X.dtype)
    losses = []
    for order in orders:
        for start in range(0, n, batch_size):
            rows = order[start : start + batch_size]
            m = len(rows)
            batch, r = X_buffer[:m], r_buffer[:m]
            # mode="clip" spares a second copy; no index is out of range.
            np.take(X, rows, axis=0, out=batch, mode="clip")
            np.take(y, rows, out=y_buffer[:m], mode="clip")
            np.dot(batch, weights, out=r)
            r -= y_buffer[:m]
            r += bias
            losses.append(np.dot(r, r) / m)
            np.dot(r, batch, out=gradient[:d])
            gradient[d] = np.dot(r, ones[:m])
            gradient *= X.dtype.type(2 * rate / m)
            params -= gradient
    return {"params": params, "losses": np.array(losses)}


def sweep_one_by_one(problem: Problem, num_steps: int, rates: np.ndarray) -> Answer:
    """A run for each rate, one after the other: `params` [m, d + 1], `losses` [m, num_steps]."""
    runs = [squared_error(problem, num_steps, rate) for rate in rates.tolist()]
    return {part: np.stack([run[part] for run in runs]) for part in ("params", "losses")}


def sweep_as_columns(problem: Problem, num_steps: int, rates: np.ndarray) -> Answer:
    """All the rates at once, a column of parameters each: two matrix products a step."""
    y = problem.y
    Z = _with_ones(problem.X)
    n, m = len(y), len(rates)
    params = np.zeros((Z.shape[1], m), Z.dtype)
    gradient, r = np.empty_like(params), np.empty((n, m), Z.dtype)
    losses = np.empty((num_steps, m), Z.dtype)
    factors = (2 * rates / n).astype(Z.dtype)
    for i in range(num_steps):
        np.dot(Z, params, out=r)
        r -= y[:, None]
        np.einsum("ij,ij->j", r, r, out=losses[i])
        np.dot(Z.T, r, out=gradient)
        gradient *= factors
        params -= gradient
    losses /= n
    return {"params": params.T, "losses": losses.T}


def _with_ones(
    X: Float[np.ndarray, "n d"], order: Literal["C", "F"] = "C"
) -> Float[np.ndarray, "n p"]:
    """[X 1], [n, d + 1], row after row ("C") or column after column ("F") in memory."""
    Z = np.empty((len(X), X.shape[1] + 1), X.dtype, order)
    Z[:, :-1] = X
    Z[:, -1] = 1
    return Z
