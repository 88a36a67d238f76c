"""Paths of quantile regressions, held to linear programmes and to what theory says of them."""

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest
from scipy.optimize import linprog

from linreg_jax import (
    Dataset,
    Params,
    QuantilePath,
    SolutionStatus,
    mse,
    quantile_path,
    ridge,
)
from linreg_jax.plotting import plot_quantile_path
from tests.support import make_problem

mpl.use("agg")
from matplotlib import pyplot as plt

LEVELS = np.array([0.05, 0.2, 0.45, 0.5, 0.9])
N, D = 40, 2


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def least(X, y, s, level):
    """The least loss, as a linear programme of the parts of the residuals."""
    A, n = np.column_stack([X, np.ones(len(y))]), len(y)
    costs = np.concatenate([np.zeros(A.shape[1]), level * s, (1 - level) * s]) / s.sum()
    found = linprog(
        costs,
        A_eq=np.block([A, np.eye(n), -np.eye(n)]),
        b_eq=y,
        bounds=[(None, None)] * A.shape[1] + [(0, None)] * (2 * n),
    )
    return found.fun


def draw():
    """Three targets of the same features: one whose spread changes sides, one with none, and one
    whose lines all go through the origin, where they differ by rounding alone."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(N, D))
    spread = X @ rng.normal(size=D)
    noise = rng.standard_t(3, size=N)
    s = rng.uniform(0.5, 2, N)
    s[:2], X[0] = 0, 50.0  # where lines cross if they do anywhere, and nobody counts
    X[25:] = 0
    spread[25:] = 0
    through = spread * (1 + noise)
    return X, np.stack([3 + spread + (1 + spread) * noise, 3 + spread, through]), s


@pytest.fixture(scope="module")
def found():
    with jax.enable_x64(True):
        X, ys, s = draw()

        @jax.jit
        @jax.vmap
        def paths(y):
            return quantile_path(Dataset(X, y, s), LEVELS)

        return X, ys, s, jax.tree.map(np.asarray, paths(ys))


def test_each_level_is_at_its_minimum(found):
    X, ys, s, paths = found
    assert (paths.status == SolutionStatus.CONVERGED).all()
    assert paths.unique.all()
    for y, weights, bias, values, gaps in zip(
        ys, *paths.params, paths.value, paths.gap, strict=True
    ):
        expected = [least(X, y, s, level) for level in LEVELS]
        np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-12)
        assert (gaps <= 1e-12 * values + 1e-13).all()
        fitted = X @ weights.T + bias[None, :]
        # The weight that lies below is as large as the level, give or take what is fitted exactly.
        near = 1e-9 * np.abs(y).max()
        below, at_most = (s @ (y[:, None] < fitted + move) / s.sum() for move in (-near, near))
        assert ((below <= LEVELS) & (at_most >= LEVELS)).all()
        # Where the features have their means, lines never cross.
        assert (np.diff((s @ X / s.sum()) @ weights.T + bias) > -near).all()


def test_it_says_at_how_many_examples_lines_cross(found):
    X, _, s, paths = found
    weights, bias = paths.params
    fitted = np.einsum("nd,tmd->tnm", X, weights) + bias[:, None, :]
    falls = np.diff(fitted, axis=2) < -1e-9
    assert falls[0, 0].any()  # which has no weight
    expected = falls[:, s > 0].sum(axis=1)
    np.testing.assert_array_equal(paths.num_crossings, expected)
    assert 0 < expected[0].max() < N


def test_at_a_level_it_is_exact_between_two_a_line_and_nan_outside(found):
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), found[-1])
    for found_at, known in zip(one.at(one.levels), one.params, strict=True):
        np.testing.assert_array_equal(found_at, known)
    level = np.array([[0.3], [0.7]])
    weights, bias = one.at(level)
    assert (weights.shape, bias.shape) == ((2, 1, D), (2, 1))
    levels = np.asarray(one.levels)
    np.testing.assert_allclose(bias, np.interp(level, levels, one.params.bias), rtol=1e-5)
    for j in range(D):
        expected = np.interp(level, levels, one.params.weights[:, j])
        np.testing.assert_allclose(weights[..., j], expected, rtol=1e-5)
    assert np.isnan(one.at(np.array([0.04, 0.91])).bias).all()
    # A level at which nothing was found leaves the others what they are.
    holed = one._replace(params=jax.tree.map(lambda leaf: leaf.at[2].set(jnp.nan), one.params))
    is_known = np.arange(len(LEVELS)) != 2
    np.testing.assert_array_equal(np.isfinite(holed.at(one.levels).bias), is_known)


@pytest.mark.slow
def test_penalties_targets_and_no_intercept(x64):
    _, data = make_problem(2, n=20, d=2, k=2, dtype="float64")
    path = quantile_path(data, [0.3, 0.8], penalties=[ridge(0.1)], intercept=False)
    assert path.params.bias is None
    assert path.params.weights.shape == (2, 2, 2)
    X, Y = (np.asarray(column) for column in data[:2])
    falls = np.diff(np.einsum("nd,mdk->nkm", X, path.params.weights), axis=2) < -1e-9
    assert falls.any(axis=1).sum() != falls.all(axis=1).sum()
    assert path.num_crossings.tolist() == [falls.any(axis=1).sum()]
    # The gradient: one slope of each residual is known but for those that are fitted exactly.
    for level, weights in zip((0.3, 0.8), np.asarray(path.params.weights), strict=True):
        r = X @ weights - Y
        slope = np.where(r > 0, 1 - level, -level)
        free = np.abs(r) < 1e-9
        for j in range(2):
            known = X[~free[:, j]].T @ slope[~free[:, j], j] / 20 + 0.2 * weights[:, j]
            rest, *_ = np.linalg.lstsq(X[free[:, j]].T / 20, -known)
            # The gap is a square of what is left, so that 1e-12 of it leaves a millionth.
            assert np.linalg.norm(X[free[:, j]].T @ rest / 20 + known) < 1e-6
            assert ((rest >= -level - 1e-9) & (rest <= 1 - level + 1e-9)).all()


def test_one_level_has_no_neighbours():
    _, data = make_problem(0, n=20, d=2)
    path = jax.eval_shape(lambda: quantile_path(data, [0.5]))
    assert (path.params.weights.shape, path.num_crossings.shape) == ((1, 2), (0,))
    one = jax.tree.map(jnp.asarray, of_numbers(num_levels=1))
    np.testing.assert_array_equal(one.at(one.levels).weights, one.params.weights)
    assert np.isnan(one.at(0.6).bias)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([], r"levels has shape \[0\]"),
        (0.5, r"levels has shape \[\]: pass the \[m\] levels"),
        ([0.0, 0.5], "levels must be strictly between 0 and 1"),
        ([0.5, 1.0], "levels must be strictly between 0 and 1"),
        ([0.5, np.nan], "levels must be strictly between 0 and 1"),
        ([0.5, 0.5], "levels must rise"),
        ([0.9, 0.1], r"levels must rise.*pass jnp.unique\(levels\)"),
    ],
)
def test_levels_are_refused(levels, message):
    with pytest.raises(ValueError, match=message):
        quantile_path(make_problem(0)[1], levels)


def test_other_refusals():
    data = make_problem(0)[1]
    with pytest.raises(TypeError, match=r"penalties must be a sequence, got ridge\(0.1\): pass"):
        quantile_path(data, [0.5], penalties=ridge(0.1))
    with pytest.raises(TypeError, match="only penalties are added to a loss"):
        quantile_path(data, [0.5], penalties=[mse])


def of_numbers(num_levels=5, d=3):
    """A path that nobody fitted."""
    levels, weights = np.linspace(0.1, 0.9, num_levels), np.arange(float(num_levels * d))
    unique = np.arange(num_levels) != 1
    params = Params(weights.reshape(num_levels, d), levels**2)
    return QuantilePath(levels, params, levels, levels, unique, levels, levels[1:])


def test_the_picture_has_a_panel_for_each_coefficient():
    path, flat = of_numbers(), Params(np.array([1.0, 2.0, 3.0]), np.array(7.0))
    axes = plot_quantile_path(path, feature_names=["a (m)", "b", "c"], least_squares=flat)
    assert [ax.get_ylabel() for ax in axes] == ["intercept", "a (m)", "b", "c"]
    assert axes[0].figure.axes == list(axes)
    for j, ax in enumerate(axes):
        curve, alone, hollow, level = ax.get_lines()
        expected = path.params.bias if j == 0 else path.params.weights[:, j - 1]
        np.testing.assert_array_equal(curve.get_data(), [path.levels, expected])
        np.testing.assert_array_equal(alone.get_data()[0], path.levels[[0, 2, 3, 4]])
        np.testing.assert_array_equal(hollow.get_data(), [path.levels[1:2], expected[1:2]])
        assert alone.get_markerfacecolor() != hollow.get_markerfacecolor()
        np.testing.assert_array_equal(level.get_ydata(), [7.0 if j == 0 else j] * 2)
    figure = plt.figure(layout="constrained")
    without = path._replace(params=path.params._replace(bias=None))
    axes = plot_quantile_path(without, figure=figure)
    assert [ax.figure for ax in axes] == [figure] * 3
    assert axes[0].get_legend() is None


def test_the_picture_refuses_what_is_no_path():
    paths = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), of_numbers())
    with pytest.raises(ValueError, match=r"takes one path of one target, got levels \(2, 5\)"):
        plot_quantile_path(paths)
    with pytest.raises(ValueError, match="least_squares has 3 coefficients, and the path has 4"):
        plot_quantile_path(of_numbers(), least_squares=Params(np.ones(3), None))
