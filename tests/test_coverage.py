"""Intervals cover what they should, over many data sets in one program each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import Dataset, bootstrap, huber, infer, jackknife, mse

pytestmark = pytest.mark.exhaustive  # most of a minute a test

SLOPE = 2.0


def share_covered(interval, keys):
    """How many of the data sets' intervals hold the slope."""
    lower, upper = jax.jit(jax.vmap(interval))(keys)
    return float(jnp.mean((lower < SLOPE) & (upper > SLOPE)))


def test_clusters_under_clustered_errors(x64):
    # Right for many clusters: with 100 of these it covers 93.75 %.
    codes = jnp.arange(1200) // 3
    X = jax.random.normal(jax.random.key(1), (400, 2))[codes]
    X = X + 0.5 * jax.random.normal(jax.random.key(2), (1200, 2))

    def interval(key, kind="cluster"):
        shared, own = jax.random.split(key)
        errors = jax.random.normal(shared, (400,))[codes] + 0.5 * jax.random.normal(own, (1200,))
        data = Dataset(X, 1.0 + X @ jnp.array([SLOPE, -1.0]) + errors)
        given = {"clusters": codes} if kind == "cluster" else {}
        found = infer(data, covariance=kind, **given)
        return found.lower.weights[0], found.upper.weights[0]

    keys = jax.random.split(jax.random.key(0), 2000)
    assert 0.94 < share_covered(interval, keys) < 0.96
    # Errors taken for independent cover far less: the clusters matter here.
    assert share_covered(lambda key: interval(key, "hc0"), keys) < 0.85


def test_jackknife_and_bootstrap(x64):
    X = jax.random.normal(jax.random.key(1), (100, 1))

    def data_of(key):
        return Dataset(X, 1.0 + SLOPE * X[:, 0] + jax.random.normal(key, (100,)))

    def by_jackknife(key):
        found = jackknife(data_of(key))
        return found.lower.weights[0], found.upper.weights[0]

    def by_bootstrap(key):
        own, draws = jax.random.split(key)
        found = bootstrap(data_of(own), mse, draws, 300)
        ends = (found.lower, found.upper, found.bca_lower, found.bca_upper)
        return tuple(end.weights[0] for end in ends)

    keys = jax.random.split(jax.random.key(0), 2000)
    assert abs(share_covered(by_jackknife, keys) - 0.95) < 0.02
    ends = np.asarray(jax.jit(jax.vmap(by_bootstrap))(keys[:1000]))
    for lower, upper in (ends[:2], ends[2:]):
        assert abs(np.mean((lower < SLOPE) & (upper > SLOPE)) - 0.95) < 0.02


def test_robust_errors_under_outliers(x64):
    X = jax.random.normal(jax.random.key(1), (100, 1))

    def interval(key):
        errors = jax.random.t(key, 3.0, (100,))
        found = infer(Dataset(X, 1.0 + SLOPE * X[:, 0] + errors), huber(1.345))
        return found.lower.weights[0], found.upper.weights[0]

    keys = jax.random.split(jax.random.key(0), 1000)
    assert abs(share_covered(interval, keys) - 0.95) < 0.02
