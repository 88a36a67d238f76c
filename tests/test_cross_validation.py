"""Cross-validation, held to fits fold by fold and to leaving each example out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import (
    Dataset,
    compress,
    cross_validate,
    half_mse,
    lasso,
    mse,
    ridge,
    solve,
    sse,
)
from tests.support import make_problem, relative_error

STRENGTHS = [0.01, 0.1, 1.0]


@pytest.fixture(scope="module")
def data():
    with jax.enable_x64(True):
        yield make_problem(8, n=60, d=3, k=2, weighted=True, dtype="float64")[1]


def scores_one_by_one(data, loss, folds):
    """[strengths, folds] by plain fits of the rows that are left, in NumPy but for `solve`."""
    X, y, s = (np.asarray(part) for part in data[:3])
    scores = np.empty((len(STRENGTHS), folds.max() + 1))
    for i, strength in enumerate(STRENGTHS):
        for f in range(folds.max() + 1):
            out = folds == f
            params = solve(Dataset(*(part[~out] for part in (X, y, s))), loss(strength)).params
            r = X[out] @ np.asarray(params.weights) + np.asarray(params.bias) - y[out]
            scores[i, f] = s[out] @ (r**2).sum(1) / s[out].sum()
    return scores


@pytest.mark.parametrize("num_folds", [4, 15])  # few rows in place of each fold, and all of them
def test_scores_are_those_of_fits_without_a_fold(num_folds, data):
    folds = np.arange(60) % num_folds
    found = cross_validate(data, lambda strength: mse + lasso(strength), STRENGTHS, folds=folds)
    expected = scores_one_by_one(data, lambda strength: mse + lasso(strength), folds)
    assert relative_error(found.scores, expected) < 1e-12
    weight = np.bincount(folds, data.sample_weight)
    mean = expected @ weight / weight.sum()
    variance = (expected - mean[:, None]) ** 2 @ weight / weight.sum()
    assert relative_error(found.mean, mean) < 1e-12
    assert relative_error(found.standard_error, np.sqrt(variance / (num_folds - 1))) < 1e-12
    best = mean.argmin()
    assert int(found.best) == best
    assert float(found.best_strength) == STRENGTHS[best]
    good = mean <= mean[best] + np.sqrt(variance[best] / (num_folds - 1))
    assert float(found.one_standard_error_strength) == max(np.array(STRENGTHS)[good])
    expected = solve(data, mse + lasso(STRENGTHS[best])).params
    assert relative_error(found.solution.params, expected) < 1e-14


@pytest.mark.slow
@pytest.mark.parametrize("plain", [mse, sse], ids=str)
def test_leaving_one_out_is_a_fold_for_each(plain, data):
    some = jax.tree.map(lambda column: column[:20], data)
    some = some._replace(sample_weight=some.sample_weight + 0.5)

    def loss(strength):
        return plain + ridge(strength)

    by_leverage = cross_validate(some, loss, STRENGTHS, "leave_one_out")
    by_fits = cross_validate(some, loss, STRENGTHS, folds=np.arange(20))
    assert by_leverage.scores.shape == (3, 20)
    assert relative_error(by_leverage.scores, by_fits.scores) < 1e-12
    assert relative_error(by_leverage.standard_error, by_fits.standard_error) < 1e-12


def test_an_example_that_nothing_else_predicts_costs_infinity(x64):
    X = jnp.zeros((5, 1)).at[0].set(1.0)
    found = cross_validate(
        Dataset(X, jnp.arange(5.0)), lambda strength: mse + ridge(strength), [0.0], "leave_one_out"
    )
    assert np.isinf(found.scores[0, 0])
    assert np.isfinite(found.scores[0, 1:]).all()


@pytest.mark.slow
def test_examples_are_dealt_at_random_into_equal_folds(data):
    def loss(strength):
        return half_mse + ridge(strength)

    first, again, other = (
        cross_validate(data, loss, STRENGTHS, 7, key=jax.random.key(seed)) for seed in (0, 0, 1)
    )
    assert first.scores.shape == (3, 7)
    assert (first.scores == again.scores).all()
    assert (first.scores != other.scores).all()
    # With equal weights the folds are of 9 and 8 examples: each was held out once.
    plain = data._replace(sample_weight=None)
    compiled = jax.jit(lambda key: cross_validate(plain, loss, STRENGTHS, 7, key=key))
    inside = compiled(jax.random.key(0))
    outside = cross_validate(plain, loss, STRENGTHS, 7, key=jax.random.key(0))
    assert relative_error(inside.scores, outside.scores) < 1e-13
    order = np.asarray(jax.random.permutation(jax.random.key(0), 60))
    folds = np.empty(60, int)
    folds[order] = np.arange(60) % 7
    given = cross_validate(plain, loss, STRENGTHS, folds=folds)
    assert relative_error(given.scores, outside.scores) < 1e-13


def test_refusals(data):
    def loss(strength):
        return mse + ridge(strength)

    key = jax.random.key(0)
    with pytest.raises(TypeError, match="loss must be a function of a strength, got"):
        cross_validate(data, mse + ridge(1.0), STRENGTHS, key=key)
    with pytest.raises(TypeError, match="loss must return a loss of this package"):
        cross_validate(data, ridge, STRENGTHS, key=key)
    with pytest.raises(TypeError, match="key must be one JAX random key, got None"):
        cross_validate(data, loss, STRENGTHS)
    with pytest.raises(ValueError, match="data is compressed, its rows are no examples"):
        cross_validate(compress(data), loss, STRENGTHS, key=key)
    with pytest.raises(ValueError, match="strengths must be finite numbers, at least 0"):
        cross_validate(data, loss, [-1.0], key=key)
    with pytest.raises(ValueError, match="strengths has shape"):
        cross_validate(data, loss, 0.1, key=key)
    with pytest.raises(ValueError, match="num_folds must be 2 or more"):
        cross_validate(data, loss, STRENGTHS, 1, key=key)
    with pytest.raises(ValueError, match="num_folds must be at most 60"):
        cross_validate(data, loss, STRENGTHS, 61, key=key)
    with pytest.raises(ValueError, match='num_folds must be a number or "leave_one_out"'):
        cross_validate(data, loss, STRENGTHS, "loo")
    with pytest.raises(ValueError, match="folds has shape"):
        cross_validate(data, loss, STRENGTHS, folds=np.arange(3))
    with pytest.raises(ValueError, match="folds holds one fold"):
        cross_validate(data, loss, STRENGTHS, folds=np.zeros(60, int))
