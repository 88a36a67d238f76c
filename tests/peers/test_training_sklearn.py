"""Objectives that scikit-learn's linear models reach on the diabetes data are reached here."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import HuberRegressor, QuantileRegressor, SGDRegressor

from linreg_jax import (
    Params,
    Status,
    as_dataset,
    diagnose,
    epsilon_insensitive,
    fit,
    half_mse,
    huber,
    init_params,
    lasso,
    quantile,
    ridge,
)

ALPHA, L1_RATIO = 0.05, 0.3
SMOOTH_L2 = {"l2": 1.0, "elasticnet": 1 - L1_RATIO, "l1": 0.0}


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return (X - X.mean(0)) / X.std(0), (y - y.mean()) / y.std()


def penalized(loss, penalty):
    """SGDRegressor's objective: alpha ((1 - ratio)/2 ‖w‖² + ratio ‖w‖₁) beside the mean loss."""
    l2 = SMOOTH_L2[penalty]
    if l2:
        loss = loss + ridge(ALPHA * l2 / 2)
    return loss + lasso(ALPHA * (1 - l2)) if l2 < 1 else loss


LOSSES = [
    (half_mse, "squared_error", 0.1),
    (huber(0.1), "huber", 0.1),
    (epsilon_insensitive(0.1), "epsilon_insensitive", 0.1),
]


@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
@pytest.mark.parametrize(("loss", "name", "epsilon"), LOSSES, ids=["squared", "huber", "eps"])
def test_sgd_regressors_objective_is_reached(diabetes, x64, loss, name, epsilon, penalty):
    X, y = diabetes
    peer = SGDRegressor(
        loss=name,
        epsilon=epsilon,
        penalty=penalty,
        alpha=ALPHA,
        l1_ratio=L1_RATIO,
        max_iter=2000,
        tol=1e-6,
        random_state=0,
    ).fit(X, y)
    objective, data = penalized(loss, penalty), as_dataset(X, y)
    theirs = float(
        objective(Params(jnp.asarray(peer.coef_), jnp.asarray(peer.intercept_[0])), data)
    )
    # A piecewise linear loss has no stable rate: one that falls settles it.
    falling = optax.exponential_decay(0.5, 1000, 0.5)
    rate = falling if name == "epsilon_insensitive" else 0.2
    result = fit(objective, init_params(data), data, learning_rate=rate, num_steps=20_000)
    ours = float(objective(result.params, data))
    assert int(result.status) == Status.OUT_OF_STEPS
    assert ours <= theirs * (1 + 1e-6)
    if penalty != "l2":
        assert np.count_nonzero(result.params.weights) <= np.count_nonzero(
            np.abs(peer.coef_) > 1e-9
        )


def test_lasso_reaches_exact_zeros_where_it_should(diabetes, x64):
    from sklearn.linear_model import Lasso

    X, y = diabetes
    peer = Lasso(alpha=0.05, tol=1e-12, max_iter=100_000).fit(X, y)
    data = as_dataset(X, y)
    objective = half_mse + lasso(0.05)
    rate = diagnose(data, half_mse).best_rate
    result = fit(objective, init_params(data), data, learning_rate=rate, num_steps=20_000)
    np.testing.assert_array_equal(np.asarray(result.params.weights) == 0, peer.coef_ == 0)
    np.testing.assert_allclose(result.params.weights, peer.coef_, atol=1e-8)  # the peer's tol


def test_huber_regressors_optimum_is_reached(diabetes, x64):
    X, y = diabetes
    peer = HuberRegressor(epsilon=1.35, alpha=1e-9, max_iter=10_000, tol=1e-10).fit(X, y)
    # Its objective scales the residuals by the sigma it estimates: ours is taken at that sigma.
    data = as_dataset(X / peer.scale_, y / peer.scale_)
    theirs = Params(jnp.asarray(peer.coef_), jnp.asarray(peer.intercept_ / peer.scale_))
    rate = diagnose(data, huber(1.35)).largest_stable_rate / 2
    result = fit(huber(1.35), init_params(data), data, learning_rate=rate, num_steps=20_000)
    reached, wanted = (float(huber(1.35)(p, data)) for p in (result.params, theirs))
    assert reached <= wanted * (1 + 1e-3)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_quantile_regressors_optimum_is_reached(diabetes, x64, level):
    X, y = diabetes
    peer = QuantileRegressor(quantile=level, alpha=0.0, solver="highs").fit(X, y)
    data, loss = as_dataset(X, y), quantile(level)
    wanted = float(loss(Params(jnp.asarray(peer.coef_), jnp.asarray(peer.intercept_)), data))
    falling = optax.exponential_decay(0.5, 2000, 0.5)
    result = fit(loss, init_params(data), data, learning_rate=falling, num_steps=30_000)
    reached = float(loss(result.params, data))
    assert wanted * (1 - 1e-9) <= reached <= wanted * (1 + 1e-3)


def test_mini_batches_reach_it_too(diabetes, x64):
    X, y = diabetes
    peer = SGDRegressor(alpha=ALPHA, max_iter=2000, tol=1e-6, random_state=0).fit(X, y)
    objective, data = half_mse + ridge(ALPHA / 2), as_dataset(X, y)
    theirs = float(
        objective(Params(jnp.asarray(peer.coef_), jnp.asarray(peer.intercept_[0])), data)
    )
    result = fit(
        objective,
        init_params(data),
        data,
        learning_rate=optax.exponential_decay(0.1, 2000, 0.5),
        num_epochs=1500,
        batch_size=32,
        key=jax.random.key(0),
    )
    assert float(objective(result.params, data)) <= theirs * (1 + 1e-5)
