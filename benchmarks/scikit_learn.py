"""The same data in scikit-learn; `linear_model` is None where it is not installed."""

import importlib.util
from typing import Any, Protocol

import numpy as np

from benchmarks.harness import Answer, Missing
from benchmarks.problems import Problem

linear_model: Any = (
    importlib.import_module("sklearn.linear_model") if importlib.util.find_spec("sklearn") else None
)


class LinearModel(Protocol):
    """A fitted model of scikit-learn."""

    coef_: np.ndarray
    intercept_: np.ndarray


def missing(name: str) -> list[Missing]:
    """What stands in the table where scikit-learn is not installed, and nothing where it is."""
    if linear_model is not None:
        return []
    return [Missing(name, "scikit-learn is not installed: pip install scikit-learn")]


def sgd(problem: Problem, num_epochs: int, rate: float, *, seed: int = 0) -> Answer:
    """`SGDRegressor`, one example at a time (it has no mini-batches), shuffled, constant rate."""
    model = linear_model.SGDRegressor(
        penalty=None,
        learning_rate="constant",
        eta0=rate,
        max_iter=num_epochs,
        tol=None,
        random_state=seed,
    )
    return _answer(model.fit(*problem))


def least_squares(problem: Problem) -> Answer:
    """`LinearRegression`, by LAPACK's least squares."""
    return _answer(linear_model.LinearRegression().fit(*problem))


def ridge(problem: Problem, strength: float) -> Answer:
    """`Ridge`, which for so small a strength is least squares by Cholesky."""
    return _answer(linear_model.Ridge(alpha=strength).fit(*problem))


def lasso_path(problem: Problem, strengths: np.ndarray, tolerance: float) -> Answer:
    """`lasso_path`, by coordinate descent on the Gram matrix of columns centred before."""
    mean_X, mean_y = problem.X.mean(0), problem.y.mean()
    X, y = problem.X - mean_X, problem.y - mean_y
    _, weights, _ = linear_model.lasso_path(X, y, alphas=strengths, tol=tolerance, max_iter=10_000)
    bias = mean_y - mean_X @ weights
    return {"params": np.concatenate([weights, bias[None]]).T}


def quantile(problem: Problem, level: float) -> np.ndarray:
    """`QuantileRegressor`, by HiGHS; the weights and then the bias."""
    return _answer(linear_model.QuantileRegressor(quantile=level, alpha=0).fit(*problem))["params"]


def _answer(model: LinearModel) -> Answer:
    return {"params": np.append(model.coef_, model.intercept_)}
