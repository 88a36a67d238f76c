"""The bootstrap and the jackknife, held to fits of the same draws one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from linreg_jax import (
    as_dataset,
    bootstrap,
    compress,
    huber,
    infer,
    influence,
    jackknife,
    mae,
    mse,
    quantile,
    ridge,
    sensitivities,
    solve,
    sse,
)
from linreg_jax._inference.bootstrap import drawn_weights
from tests.support import make_problem, relative_error
from tests.test_inference_scores import Step


def flat(params):
    """[p, ...] the bias first."""
    bias = [] if params.bias is None else [params.bias[None]]
    return jnp.concatenate([*bias, params.weights])


def weights_of(data, seed, num):
    keys = jax.random.split(jax.random.key(seed), num)
    s = jnp.ones(len(data.X)) if data.sample_weight is None else data.sample_weight
    return jax.vmap(lambda key: drawn_weights(key, s))(keys)


def test_weights_are_rows_drawn_with_replacement(x64):
    s = jnp.array([0.0, 1.0, 2.0, 0.5, 0.0])
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(jax.vmap(lambda key: drawn_weights(key, s))(keys))
    counts = drawn[:, [1, 2, 3]] / np.asarray(s)[[1, 2, 3]]
    assert (drawn[:, [0, 4]] == 0).all()
    assert (counts.sum(axis=1) == 3).all()
    # Multinomial: mean 1, variance 2/3, here within four standard errors.
    assert np.abs(counts.mean(axis=0) - 1).max() < 4 * np.sqrt(2 / 3 / 4000)
    assert np.abs(counts.var(axis=0) - 2 / 3).max() < 0.07


@pytest.mark.parametrize(("intercept", "strength"), [(True, 0.0), (False, 2.0)])
def test_draws_are_fits(intercept, strength, dtype):
    _, data = make_problem(1, n=40, d=2, k=2, weighted=True, dtype=dtype)
    loss = sse + ridge(strength) if strength else sse
    found = bootstrap(data, loss, jax.random.key(3), 50, intercept=intercept)
    expected = jax.vmap(
        lambda w: flat(solve(data._replace(sample_weight=w), loss, intercept=intercept).params)
    )(weights_of(data, 3, 50))
    assert relative_error(found.draws, expected) < (1e-4 if dtype == "float32" else 1e-11)
    assert found.draws.dtype == dtype
    whole = flat(solve(data, loss, intercept=intercept).params)
    assert relative_error(flat(found.params), whole) < (1e-5 if dtype == "float32" else 1e-12)
    draws = np.asarray(expected, float)
    limit = 1e-3 if dtype == "float32" else 1e-9
    assert relative_error(flat(found.standard_errors), draws.std(axis=0, ddof=1)) < limit
    assert relative_error(flat(found.bias), draws.mean(axis=0) - np.asarray(whole)) < limit
    assert relative_error(flat(found.lower), np.percentile(draws, 2.5, axis=0)) < limit
    assert relative_error(flat(found.upper), np.percentile(draws, 97.5, axis=0)) < limit
    assert found.num_failed.tolist() == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 9])
def test_batches_of_draws_are_all_draws(at_once, monkeypatch, x64):
    monkeypatch.setattr("linreg_jax._inference.bootstrap._DRAWN_AT_ONCE", at_once * 40)
    _, data = make_problem(1, n=40, d=2, k=2, weighted=True, dtype="float64")
    num = 22 + at_once  # another program than of other tests; the last batch is not full
    found = bootstrap(data, sse, jax.random.key(3), num)
    for i in (0, num // 2, num - 1):
        alone = data._replace(sample_weight=weights_of(data, 3, num)[i])
        assert relative_error(found.draws[i], flat(solve(alone).params)) < 1e-11
    assert found.draws.shape == (num, 3, 2)


def assert_bca(found, changes, ends):
    """The percentiles that scipy's probabilities give, from the same draws and skewness."""
    draws, theta = np.asarray(found.draws), np.asarray(flat(found.params))
    draws = draws[np.isfinite(draws).all(axis=1)]
    for j in range(len(theta)):
        z0 = stats.norm.ppf((draws[:, j] < theta[j]).mean() + (draws[:, j] == theta[j]).mean() / 2)
        d = changes[:, j] - changes[:, j].mean()
        a = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
        for end, bound in zip(ends, (found.bca_lower, found.bca_upper), strict=True):
            z = z0 + stats.norm.ppf(end)
            at = stats.norm.cdf(z0 + z / (1 - a * z))
            assert float(flat(bound)[j]) == pytest.approx(np.quantile(draws[:, j], at), rel=1e-9)


def test_bca_is_that_of_scipy(x64):
    _, data = make_problem(2, n=40, d=2, dtype="float64")
    found = bootstrap(data, mse, jax.random.key(0), 999, level=0.9)
    assert_bca(found, np.asarray(influence(data).changes), (0.05, 0.95))


@pytest.mark.exhaustive
def test_other_losses_are_minimised_in_each_draw(x64):
    _, data = make_problem(3, n=40, d=2, weighted=True, dtype="float64")
    loss = huber(0.7)
    found = bootstrap(data, loss, jax.random.key(1), 20)
    weights = weights_of(data, 1, 20)
    for i in (0, 7, 19):
        one = infer(data._replace(sample_weight=weights[i]), loss)
        assert relative_error(found.draws[i], flat(one.params)) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(
    "strength", [0.0, pytest.param(0.05, marks=pytest.mark.exhaustive)], ids=["plain", "ridge"]
)
def test_losses_that_jump_are_minimised_in_each_draw(strength, x64):
    _, data = make_problem(3, n=40, d=2, weighted=True, dtype="float64")
    data = data._replace(X=data.X.at[:, 1].set(0.0).at[np.array([5, 9]), 1].set(1.0))
    assert (np.asarray(data.sample_weight)[[5, 9]] > 0).all()
    loss = quantile(0.3) + ridge(strength) if strength else quantile(0.3)
    found = bootstrap(data, loss, jax.random.key(1), 30)
    weights, total = weights_of(data, 1, 30), jnp.sum(data.sample_weight)
    for i in range(30):
        # The feature is in two rows, and where none is drawn nothing but ridge says its weight.
        determined = bool((weights[i][np.array([5, 9])] > 0).any()) or strength > 0
        if not determined:
            assert np.isnan(found.draws[i]).all()
        elif i < 5:
            # Ridge is as strong beside the sum, which is another of these weights.
            alone = quantile(0.3) + ridge(strength * total / weights[i].sum())
            one = solve(data._replace(sample_weight=weights[i]), alone if strength else loss)
            assert bool(one.unique)
            assert relative_error(found.draws[i], flat(one.params)) < 1e-9
    failed = np.isnan(np.asarray(found.draws)).all(axis=1).sum()
    assert int(found.num_failed) == failed
    assert (failed > 0) == (strength == 0)
    assert np.isfinite(flat(found.standard_errors)).all()
    if not strength:
        moved = np.asarray(data.sample_weight)[:, None] * sensitivities(data, loss)
        assert_bca(found, moved, (0.025, 0.975))


@pytest.mark.slow
def test_draws_that_determine_less_are_counted():
    X = jnp.zeros((12, 2)).at[:, 0].set(jnp.arange(12.0)).at[0, 1].set(1.0)
    found = bootstrap(as_dataset(X, jnp.arange(12.0) ** 2), mse, jax.random.key(0), 200)
    failed = np.isnan(np.asarray(found.draws)).all(axis=1)
    assert int(found.num_failed) == failed.sum()
    # The only row that tells of the second feature is missed by (1 - 1/12)^12 = 35 % of draws.
    assert 40 < failed.sum() < 100
    assert np.isfinite(flat(found.standard_errors)).all()


@pytest.mark.parametrize("k", [None, 2])
def test_jackknife(k, x64):
    _, data = make_problem(4, n=20, d=2, k=k, weighted=True, dtype="float64")
    found = jackknife(data, level=0.9)
    s = np.asarray(data.sample_weight)
    kept = np.flatnonzero(s > 0)
    weights = jnp.asarray(np.where(np.eye(20)[kept] > 0, 0, s[None, :]))
    fits = np.asarray(
        jax.vmap(lambda w: flat(solve(data._replace(sample_weight=w)).params))(weights)
    )
    n, theta = len(kept), np.asarray(flat(found.params))
    variance = (n - 1) / n * ((fits - fits.mean(axis=0)) ** 2).sum(axis=0)
    assert relative_error(flat(found.standard_errors) ** 2, variance) < 1e-10
    assert relative_error(flat(found.bias), (n - 1) * (fits.mean(axis=0) - theta)) < 1e-9
    half = stats.t.ppf(0.95, n - 1) * np.sqrt(variance)
    assert relative_error(flat(found.upper), theta + half) < 1e-10
    assert found.covariance.shape == ((3, 3) if k is None else (2, 3, 3))


def test_bad_input():
    _, data = make_problem(5, n=40, d=2)
    with pytest.raises(ValueError, match=r"bootstrap needs a smooth loss, got step\(\)"):
        bootstrap(data, Step(), jax.random.key(0))
    with pytest.raises(ValueError, match="jackknife needs a smooth loss, got mae"):
        jackknife(data, mae)
    with pytest.raises(TypeError, match="key must be one JAX random key"):
        bootstrap(data, mse, 0)
    with pytest.raises(ValueError, match="num_samples must be 2 or more"):
        bootstrap(data, mse, jax.random.key(0), 1)
    with pytest.raises(ValueError, match="bootstrap needs every example"):
        bootstrap(compress(data), mse, jax.random.key(0))
    with pytest.raises(ValueError, match="level must be"):
        jackknife(data, level=95)
