"""The exact answers of scikit-learn and statsmodels, on the same data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize
from sklearn.linear_model import LinearRegression, QuantileRegressor, Ridge

from linreg_jax import (
    Params,
    SolutionStatus,
    as_dataset,
    epsilon_insensitive,
    huber,
    mae,
    mse,
    quantile,
    ridge,
    solve,
    sse,
)
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


def loss_of(loss, X, y, weights, bias):
    """The value at a peer's parameters."""
    return float(loss(Params(jnp.asarray(weights), jnp.asarray(bias)), as_dataset(X, y)))


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_quantile_regressor(problem, level):
    X, y = problem
    peer = QuantileRegressor(quantile=level, alpha=0).fit(X, y)
    found, loss = solve(as_dataset(X, y), quantile(level)), quantile(level)
    theirs = loss_of(loss, X, y, peer.coef_, peer.intercept_)
    assert found.status == SolutionStatus.CONVERGED
    assert -1e-12 * theirs <= theirs - found.value <= 1e-9 * theirs


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.0, 5.0])
def test_linear_programme(problem, epsilon):
    X, y = problem
    n, d = X.shape
    # least Σ t with t >= r - epsilon and t >= -r - epsilon
    A = np.column_stack([X, np.ones(n)])
    peer = linprog(
        np.append(np.zeros(d + 1), np.full(n, 1 / n)),
        A_ub=np.block([[A, -np.eye(n)], [-A, -np.eye(n)]]),
        b_ub=np.concatenate([y + epsilon, epsilon - y]),
        bounds=[(None, None)] * (d + 1) + [(0, None)] * n,
    )
    for loss in [epsilon_insensitive(epsilon), *([mae] if epsilon == 0 else [])]:
        found = solve(as_dataset(X, y), loss)
        assert abs(found.value - peer.fun) <= 1e-9 * peer.fun
        assert found.gap <= 1e-12 * found.value


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.0, 0.1])
def test_huber_by_scipy(problem, strength):
    X, y = problem
    loss, data = huber(3.0) + ridge(strength), as_dataset(X, y)

    def value(theta):
        found, slope = jax.value_and_grad(loss)(Params(theta[:-1], theta[-1]), data)
        return float(found), np.append(slope.weights, slope.bias)

    peer = minimize(value, np.zeros(X.shape[1] + 1), jac=True, options={"gtol": 1e-9})
    found = solve(data, loss)
    assert -1e-12 * peer.fun <= peer.fun - found.value <= 1e-7 * peer.fun
    assert found.gap <= 1e-12 * found.value


@pytest.mark.parametrize("level", [0.25, 0.5, 0.75])
def test_quantiles_of_engel(level):
    sm = pytest.importorskip("statsmodels.api")
    columns = sm.datasets.engel.load_pandas().data
    X, y = columns[["income"]].to_numpy(), columns["foodexp"].to_numpy()
    with jax.enable_x64(True):
        peer = sm.QuantReg(y, sm.add_constant(X)).fit(q=level).params
        found = solve(as_dataset(X, y), quantile(level))
        assert found.unique
        assert relative_error([found.params.bias, *found.params.weights], peer) < 1e-5
        theirs = loss_of(quantile(level), X, y, peer[1:], peer[0])
        assert -1e-12 * theirs <= theirs - found.value <= 1e-7 * theirs
