"""Exact minima by the rows next to a kink: the same as with all rows one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import (
    Dataset,
    SolutionStatus,
    as_dataset,
    epsilon_insensitive,
    huber,
    mae,
    quantile,
    ridge,
    solve,
)
from linreg_jax._minimum import many_rows
from tests.support import on_the_host, relative_error

N, D = 5_000, 3


@pytest.fixture
def few_are_kept(monkeypatch):
    """1,024 of 5,000 rows at a time; the calls, each with whether it found the minimum."""
    monkeypatch.setattr(many_rows, "_FEWEST_NUMBERS", 0)
    monkeypatch.setattr(many_rows, "_KEPT_OF_COLUMNS", 1)
    monkeypatch.setattr(many_rows, "_GROWTH", 2)
    monkeypatch.setattr(many_rows, "_BLOCK_ROWS", 1536)  # the last block reaches back
    assert many_rows.num_kept(N, D) == 1024
    found_among, seen = many_rows.find_among_many, []

    def watched(*args, **kwargs):
        found = found_among(*args, **kwargs)
        seen.append(found is not None)
        return found

    monkeypatch.setattr("linreg_jax.exact.find_among_many", watched)
    return seen


def rows(kind, seed=0, n=N):
    """`(X, y, sample_weight)` of one kind."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, D))
    y = X @ np.array([1.0, -2.0, 0.5]) + 3 + rng.standard_t(2, size=n)
    weight = rng.exponential(size=n)
    if kind == "weights of 0":
        weight[::3] = 0
        X[3], y[6] = np.nan, np.inf
    elif kind == "far from 0":
        X = X * np.array([1.0, 1e-3, 1e4]) + np.array([1e5, 0, 1e6])
    elif kind == "in order":
        order = np.argsort(y)
        X, y = X[order], y[order]
    elif kind == "one huge row":
        X[7], y[7] = 1e4, -3e4
    elif kind == "whole numbers":
        X, y = np.round(X), np.round(y)
    elif kind == "a rare feature":  # in no sample
        X[:, 2] = np.arange(n) == 4_999
    elif kind == "alike":
        X[:], y[:], weight[:] = X[0], np.round(y), 1
    return X, y, weight


def by_all_rows(data, loss, **settings):
    """The solution within a program, which looks at every row."""
    return on_the_host(jax.jit(lambda data: solve(data, loss, **settings))(data))


KINDS = [
    "plain",
    "weights of 0",
    "far from 0",
    "in order",
    "one huge row",
    "whole numbers",
    "a rare feature",
    "alike",
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_minimum_as_with_all_rows(kind, few_are_kept, x64):
    data, loss = Dataset(*(jnp.asarray(part) for part in rows(kind))), quantile(0.8)
    found, expected = on_the_host(solve(data, loss)), by_all_rows(data, loss)
    assert found.status == SolutionStatus.CONVERGED
    assert abs(found.value - expected.value) <= 1e-12 * expected.value
    assert found.gap <= 1e-12 * found.value
    assert (found.unique, found.rank) == (expected.unique, expected.rank)
    np.testing.assert_array_equal(found.singular_values, expected.singular_values)
    if expected.unique:
        assert relative_error(found.params, expected.params) < 1e-9
    assert few_are_kept == [True] or kind in ("whole numbers", "alike")  # too many on a kink


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "intercept"),
    [
        pytest.param(mae, True, marks=pytest.mark.exhaustive),
        pytest.param(epsilon_insensitive(0.7), False, marks=pytest.mark.exhaustive),
        (0.5 * epsilon_insensitive(0.5) + ridge(0.1), True),
    ],
)
def test_other_losses(loss, intercept, few_are_kept, x64):
    X, y, _ = rows("plain")
    data = as_dataset(X, y)
    found = on_the_host(solve(data, loss, intercept=intercept))
    expected = by_all_rows(data, loss, intercept=intercept)
    assert few_are_kept == [True]
    assert found.status == SolutionStatus.CONVERGED
    assert abs(found.value - expected.value) <= 1e-12 * expected.value
    assert abs(found.value - loss(solve(data, loss, intercept=intercept).params, data)) < 1e-12
    assert relative_error(found.params, expected.params) < 1e-8


@pytest.mark.exhaustive
def test_float32(few_are_kept):
    data = as_dataset(*(np.float32(part) for part in rows("plain")))
    found, expected = on_the_host(solve(data, quantile(0.8))), by_all_rows(data, quantile(0.8))
    assert few_are_kept == [True]
    assert found.status == SolutionStatus.CONVERGED
    assert abs(found.value - expected.value) <= 1e-5 * expected.value


@pytest.mark.slow
def test_rows_that_have_changed_lines_are_chosen_anew(few_are_kept, monkeypatch, x64):
    """From one small sample to all rows at once, of which far too few are kept at first."""
    monkeypatch.setattr(many_rows, "_KEPT_OF_NUMBERS", 2)
    monkeypatch.setattr(many_rows, "_GROWTH", N)
    data = as_dataset(*rows("plain"))
    rounds, look = [], many_rows._are_settled

    def watched(*args):
        rounds.append(look(*args))
        return rounds[-1]

    monkeypatch.setattr(many_rows, "_are_settled", watched)
    found, expected = on_the_host(solve(data, quantile(0.8))), by_all_rows(data, quantile(0.8))
    assert not rounds[0]
    assert abs(found.value - expected.value) <= 1e-12 * expected.value


def test_where_it_does_not_end_all_rows_are_looked_at(few_are_kept, monkeypatch, x64):
    monkeypatch.setattr(many_rows, "_are_settled", lambda *args: False)
    data = as_dataset(*rows("plain"))
    found, expected = on_the_host(solve(data, quantile(0.8))), by_all_rows(data, quantile(0.8))
    assert few_are_kept == [False]
    assert abs(found.value - expected.value) <= 1e-12 * expected.value


def test_what_is_not_for_it(few_are_kept):
    X, y, _ = rows("plain")
    two = as_dataset(X, np.stack([y, -y], axis=1))
    for data, loss in [
        (as_dataset(X, y), huber(1.0)),
        (two, mae),
        (as_dataset(X[:4000], y[:4000]), mae),
    ]:
        assert not many_rows.has_many_rows(loss, data)
    assert many_rows.has_many_rows(mae, as_dataset(X, y))
    assert many_rows.has_many_rows(mae, Dataset(X, y))
    with pytest.raises(ValueError, match="one loss takes one number"):
        solve(as_dataset(X, y), epsilon_insensitive(jnp.array([0.1, 0.2])))


@pytest.mark.parametrize(
    ("n", "m", "strides"), [(100, 10, [10]), (1000, 10, [100, 12]), (30, 16, [])]
)
def test_samples_grow_until_they_are_all_rows(n, m, strides):
    assert many_rows._strides(n, m) == strides
