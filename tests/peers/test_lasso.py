"""The lasso of scikit-learn: its minimum, its path and its choice of a strength."""

import numpy as np
import pytest
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LassoCV,
    QuantileRegressor,
    RidgeCV,
    lars_path,
)
from sklearn.linear_model import lasso_path as peer_path
from sklearn.model_selection import KFold

from linreg_jax import (
    as_dataset,
    compress,
    cross_validate,
    half_mse,
    lasso,
    lasso_path,
    mse,
    quantile,
    ridge,
    solve,
    sse,
)
from tests.support import relative_error

# Coordinate descent stops where its gap is 1e-14 of the squares of y; parameters have half of that.
TOLERANCE = 1e-6
MANY = {"tol": 1e-14, "max_iter": 1_000_000}


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.01, 0.5])
def test_lasso_and_elastic_net(alpha, problem):
    X, y = problem
    data = as_dataset(X, y)
    peer = Lasso(alpha=alpha, **MANY).fit(X, y)
    found = solve(data, half_mse + lasso(alpha))
    assert relative_error(found.params, [peer.coef_, peer.intercept_]) < TOLERANCE
    assert (np.asarray(found.params.weights) != 0).tolist() == (peer.coef_ != 0).tolist()
    # No peer's loss is less.
    ours, theirs = (
        0.5 * np.mean((y - X @ w - b) ** 2) + alpha * np.abs(w).sum()
        for w, b in (
            (np.asarray(found.params.weights), float(found.params.bias)),
            (peer.coef_, peer.intercept_),
        )
    )
    assert ours <= theirs * (1 + 1e-14)
    weight = np.random.default_rng(0).uniform(0.1, 3.0, len(y))
    peer = ElasticNet(alpha=alpha, l1_ratio=0.3, **MANY).fit(X, y, weight)
    loss = half_mse + lasso(0.3 * alpha) + ridge(0.7 * alpha / 2)
    found = solve(as_dataset(X, y, weight), loss).params
    assert relative_error(found, [peer.coef_, peer.intercept_]) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.01, 0.3])
def test_a_quantile_with_a_lasso(alpha, problem):
    X, y = problem
    weight = np.random.default_rng(0).uniform(0.1, 3.0, len(y))
    peer = QuantileRegressor(quantile=0.7, alpha=alpha).fit(X, y, weight)
    found = solve(as_dataset(X, y, weight), quantile(0.7) + lasso(alpha)).params
    assert relative_error(found, [peer.coef_, peer.intercept_]) < 1e-9
    assert (np.asarray(found.weights) == 0).tolist() == (np.abs(peer.coef_) < 1e-12).tolist()


def test_every_knot_of_lars(problem):
    X, y = problem
    path = lasso_path(as_dataset(X, y), half_mse)
    strengths, _, weights = lars_path(X - X.mean(0), y - y.mean(), method="lasso")
    last = int(path.num_knots)
    assert last == len(strengths)
    assert relative_error(path.strengths[:last], strengths) < 1e-12
    assert relative_error(path.params.weights[:last], weights.T) < 1e-12


def test_a_grid_of_strengths(problem):
    X, y = problem
    path = lasso_path(compress(as_dataset(X, y)), half_mse)
    strengths, weights, _ = peer_path(X - X.mean(0), y - y.mean(), alphas=20, **MANY)
    assert relative_error(path.at(strengths).weights, weights.T) < TOLERANCE


@pytest.mark.slow
def test_cross_validation(problem):
    X, y = problem
    strengths = np.geomspace(2.0, 0.01, 12)
    dealt = KFold(5, shuffle=True, random_state=0)
    folds = np.empty(len(y), int)
    for number, (_, out) in enumerate(dealt.split(X)):
        folds[out] = number
    data = as_dataset(X, y)
    peer = LassoCV(alphas=strengths, cv=dealt, **MANY).fit(X, y)
    found = cross_validate(data, lambda s: half_mse + lasso(s), strengths, folds=folds)
    assert relative_error(2 * found.scores, peer.mse_path_) < TOLERANCE
    assert float(found.best_strength) == pytest.approx(peer.alpha_)
    params = [peer.coef_, peer.intercept_]
    assert relative_error(found.solution.params, params) < TOLERANCE
    left_out = cross_validate(data, lambda s: sse + ridge(s), strengths, "leave_one_out")
    peer = RidgeCV(alphas=strengths, store_cv_results=True).fit(X, y)
    assert relative_error(left_out.scores.T, peer.cv_results_) < 1e-9
    assert float(left_out.best_strength) == pytest.approx(peer.alpha_)
    # A mean over one example less: the strength of ridge is that of a sum over the others.
    by_mean = cross_validate(
        data, lambda s: mse + ridge(s / (len(y) - 1)), strengths, "leave_one_out"
    )
    assert relative_error(by_mean.scores, left_out.scores) < 1e-12
