"""The exact answers of scikit-learn and statsmodels, on the same data."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from linreg_jax import as_dataset, mse, ridge, solve, sse
from tests.support import relative_error

# Well-conditioned in the units that the peers work in: their own rounding is what differs.
TOLERANCE = 1e-9


def test_linear_regression(problem):
    X, y = problem
    peer = LinearRegression().fit(X, y)
    assert relative_error(solve(as_dataset(X, y)).params, [peer.coef_, peer.intercept_]) < TOLERANCE


@pytest.mark.parametrize("alpha", [0.1, 10.0])
def test_ridge(problem, alpha):
    X, y = problem
    peer = Ridge(alpha=alpha).fit(X, y)
    expected = [peer.coef_, peer.intercept_]
    data = as_dataset(X, y)
    assert relative_error(solve(data, sse + ridge(alpha)).params, expected) < TOLERANCE
    assert relative_error(solve(data, mse + ridge(alpha / len(y))).params, expected) < TOLERANCE


def test_weighted_least_squares(problem):
    sm = pytest.importorskip("statsmodels.api")
    X, y = problem
    weight = np.random.default_rng(0).uniform(0.1, 3.0, len(y))
    peer = sm.WLS(y, sm.add_constant(X), weights=weight).fit().params
    found = solve(as_dataset(X, y, weight)).params
    assert relative_error(found, [peer[1:], peer[0]]) < TOLERANCE
