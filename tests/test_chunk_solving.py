"""`solve_chunks` against `solve` of all rows at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import (
    SolutionStatus,
    as_dataset,
    epsilon_insensitive,
    huber,
    mae,
    mse,
    quantile,
    solve,
    solve_chunks,
)
from linreg_jax._streaming import solving
from tests.support import on_the_host, relative_error

N, D = 6_000, 3


class Chunks:
    """Rows in chunks of several sizes, and how often they were read."""

    def __init__(self, *columns):
        self.columns, self.passes = columns, 0

    def __iter__(self):
        self.passes += 1
        for rows in (slice(0, 700), slice(700, 701), slice(701, 4000), slice(4000, None)):
            yield tuple(column[rows] for column in self.columns)


def rows(kind):
    """`(X, y, sample_weight)` of one kind."""
    rng = np.random.default_rng(4)
    X = rng.normal(size=(N, D))
    y = X @ np.array([1.0, -2.0, 0.5]) + 3 + rng.standard_t(2, size=N)
    weight = rng.exponential(size=N)
    if kind == "weights of 0":
        weight[::3] = 0
    elif kind == "one huge row":
        X[7], y[7] = 1e4, -3e4
    elif kind == "in order":
        order = np.argsort(y)
        X, y = X[order], y[order]
    return X, y, weight


@pytest.fixture
def small_samples(monkeypatch):
    """750 of 6,000 rows."""
    monkeypatch.setattr(solving, "_SAMPLED", 512)
    monkeypatch.setattr(solving, "_BLOCK_NUMBERS", 1000 * D)


@pytest.mark.parametrize("kind", ["plain", "weights of 0", "one huge row", "in order"])
def test_the_same_as_of_all_rows(kind, small_samples, x64):
    chunks, loss = Chunks(*rows(kind)), quantile(0.8)
    found, expected = on_the_host(solve_chunks(chunks, loss)), solve(as_dataset(*rows(kind)), loss)
    assert chunks.passes >= 3
    assert found.status == SolutionStatus.CONVERGED
    assert abs(found.value - expected.value) <= 1e-12 * expected.value
    assert found.gap <= 1e-12 * found.value
    assert relative_error(found.params, expected.params) < 1e-9
    assert (found.unique, found.rank) == (expected.unique, expected.rank)
    assert relative_error(found.singular_values, expected.singular_values) < 1e-9


@pytest.mark.slow
def test_rounds_go_on_until_no_row_has_moved(small_samples, monkeypatch, x64):
    monkeypatch.setattr(solving, "_BREADTH", 0.6)  # too few rows are kept at first
    moved, read = [], solving._read

    def watched(*args):
        moved.append(read(*args))
        return moved[-1]

    monkeypatch.setattr(solving, "_read", watched)
    X, y, weight = rows("plain")
    found = solve_chunks(Chunks(X, y, weight), quantile(0.8))
    expected = solve(as_dataset(X, y, weight), quantile(0.8))
    counts = [one.moved for one in moved]
    assert counts[1] > 0
    assert (counts[-1] == 0) == (found.status == SolutionStatus.CONVERGED)
    if found.status == SolutionStatus.CONVERGED:
        assert abs(found.value - expected.value) <= 1e-12 * expected.value


def test_where_rounds_do_not_end_the_gap_says_so(small_samples, monkeypatch, x64):
    monkeypatch.setattr(solving, "_MOST_ROUNDS", 1)
    found = solve_chunks(Chunks(*rows("plain")), quantile(0.8))
    assert (found.status, found.gap) == (SolutionStatus.NOT_CONVERGED, np.inf)


@pytest.mark.exhaustive
@pytest.mark.parametrize("loss", [mae, epsilon_insensitive(0.7)])
def test_float32_without_weights_or_intercept(loss, small_samples):
    X, y, _ = (np.float32(part) for part in rows("plain"))
    found = solve_chunks(Chunks(X, y), loss, intercept=False)
    expected = solve(as_dataset(X, y), loss, intercept=False)
    assert found.params.bias is None
    assert found.status == SolutionStatus.CONVERGED
    assert abs(found.value - expected.value) <= 1e-5 * expected.value


def test_the_gap_counts_for_the_length_of_all_residuals(x64):
    X, y, weight = rows("plain")
    data = as_dataset(X, y, weight)
    found = solve(data, quantile(0.8))._replace(gap=jnp.asarray(1e-16))
    kinks, weights = np.zeros(1), np.asarray(found.params.weights)
    near = solving.Near(weights, float(found.params.bias), 0.1, np.zeros(D), np.ones(D), 100.0)
    seen = solving._read(kinks, Chunks(X, y, weight), near, None)
    proven = solving._proven(found, near, seen.rows, seen.squares, found, 1)
    few = near.residuals(*seen.rows[:2])
    all_rows = near.residuals(X, y)
    longer = np.sqrt((weight @ all_rows**2) / (seen.rows[2] @ few**2))
    assert longer > 1.1
    assert abs(proven.gap / (1e-16 * longer) - 1) < 1e-9


@pytest.mark.slow
def test_one_pass_where_one_is_enough(x64):
    X, y, weight = rows("plain")
    for loss in (mse, quantile(0.8)):
        chunks = Chunks(X, y, weight)
        found, expected = solve_chunks(chunks, loss), solve(as_dataset(X, y, weight), loss)
        assert chunks.passes == 1
        assert relative_error(found.params, expected.params) < 1e-9


def test_samples_hold_every_so_many_th_row(monkeypatch):
    monkeypatch.setattr(solving, "_SAMPLED", 50)
    X = np.arange(N, dtype=float)[:, None]
    sampled = solving.Sampled(Chunks(X, X[:, 0]))
    assert sum(len(chunk[0]) for chunk in sampled) == N
    kept = sampled.rows()[0][:, 0]
    np.testing.assert_array_equal(kept, np.arange(0, N, sampled.stride))
    assert 50 < len(kept) <= 100


def test_refusals():
    X, y, _ = rows("plain")
    with pytest.raises(ValueError, match=r"made of lines, got huber.*infer_chunks\(chunks, loss\)"):
        solve_chunks([(X, y)], huber(1.0))
    with pytest.raises(ValueError, match="can be read once, and mae needs them more often"):
        solve_chunks(iter([(X, y)]), mae)
    with pytest.raises(ValueError, match="y has 2 targets, and of mae solve_chunks takes one"):
        solve_chunks([(X, np.stack([y, y], axis=1))], mae)
    with pytest.raises(TypeError, match="solve_chunks"):
        solve_chunks([(X, y)], lambda params, data: 0.0)
    assert jax.tree.leaves(solve_chunks(iter([(X, y)]), mse))
