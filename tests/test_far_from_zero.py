"""Features far from 0 beside their spread: what their floats hold comes out, and no less."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from linreg_jax import (
    Dataset,
    Params,
    as_dataset,
    combine,
    compress,
    compress_chunks,
    diagnose,
    mse,
    solve,
    solve_line,
    standardize,
    trajectory,
)
from tests.support import relative_error

N = 160
DAYS = np.datetime64("2024-01-01") + np.arange(N)
RNG = np.random.default_rng(0)
FAR = {
    "dates": np.array([float(str(day).replace("-", "")) for day in DAYS]),
    "identifiers": 16_777_216.0 + np.arange(N),
    "seconds of an hour": 1.7e9 + RNG.uniform(0, 3600, N),
    "metres": 5.4e6 + RNG.uniform(0, 500, N),
    "normal": 1e6 + 0.4 * RNG.normal(size=N),
}
SOLVERS = {
    "solve": solve,
    "qr": lambda data: solve(compress(data, method="qr")),
    "gram": lambda data: solve(compress(data, method="gram")),
    "chunks": lambda data: solve(compress_chunks([data])),
    "jit": jax.jit(solve),
}
# A float32 product or two more than the rounding of the answer.
CLOSE = 2e-6
# The products of 160 rows are rounded, and the smaller weight moves y by 2 % of the larger.
BY_PRODUCTS = {"gram": 2e-5, "chunks": 2e-5}


def rows(name, *, weighted, k):
    """`(data, answer)`: float32, and what float64 makes of the same rows."""
    rng = np.random.default_rng(1)
    x = FAR[name].astype(np.float32)
    X = np.stack([x, rng.normal(size=N)], axis=1).astype(np.float32)
    spread = (X[:, :1] - np.float64(x.mean(dtype=np.float64))) / np.float64(x.std(dtype=np.float64))
    y = (spread @ np.array([[2.0, -1.0]]) + rng.normal(size=(N, 2))).astype(np.float32)
    y = y if k == 2 else y[:, 0]
    weight = rng.integers(0, 3, N).astype(np.float32) if weighted else None
    return as_dataset(X, y, weight), expected(X, y, weight)


def expected(X, y, weight):
    """Means, deviations, weights, bias and least loss in float64, by centring."""
    X, y = X.astype(np.float64), y.astype(np.float64)
    s = np.ones(len(X)) if weight is None else weight.astype(np.float64)
    mean, mean_y = s @ X / s.sum(), s @ y / s.sum()
    root = np.sqrt(s)[:, None]
    centred, Y = root * (X - mean), root * (y - mean_y).reshape(len(X), -1)
    weights = np.linalg.lstsq(centred, Y, rcond=None)[0]
    left = Y - centred @ weights
    weights = weights.reshape(2, *y.shape[1:])
    return {
        "mean": mean,
        "deviation": np.sqrt((centred**2).sum(axis=0) / s.sum()),
        "weights": weights,
        "bias": mean_y - mean @ weights,
        "value": (left**2).sum() / s.sum(),
    }


@pytest.mark.parametrize("k", [None, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", FAR)
def test_solve_finds_what_the_floats_hold(name, weighted, k):
    data, answer = rows(name, weighted=weighted, k=k)
    for how, solver in SOLVERS.items():
        found, close = solver(data), BY_PRODUCTS.get(how, CLOSE)
        for j in range(2):  # the two weights are of very different size
            assert relative_error(found.params.weights[j], answer["weights"][j]) < close, how
        assert relative_error(found.params.bias, answer["bias"]) < close, how
        assert int(found.rank) == 2
        assert abs(float(found.value) / answer["value"] - 1) < close, how


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", FAR)
def test_standardize_and_diagnose_know_the_spread(name, weighted):
    data, answer = rows(name, weighted=weighted, k=None)
    scaled, restore = standardize(data)
    assert relative_error(restore.mean, answer["mean"]) < CLOSE
    for j in range(2):
        assert abs(float(restore.scale[j]) / answer["deviation"][j] - 1) < CLOSE
    # The same as for new rows, by what is said to have been taken off.
    again = (data.X - restore.mean[None, :]) / restore.scale[None, :]
    assert relative_error(scaled.X, again) < CLOSE
    weights = restore(solve(scaled).params).weights
    assert abs(float(weights[0]) / answer["weights"][0] - 1) < CLOSE
    verdict = diagnose(data)
    assert not verdict.constant.any()
    assert int(verdict.rank) == 3
    for j in range(2):
        assert abs(float(verdict.feature_deviation[j]) / answer["deviation"][j] - 1) < CLOSE


@pytest.mark.parametrize("name", FAR)
def test_curvatures_of_a_line(name):
    x = FAR[name].astype(np.float32)
    mean, deviation = x.mean(dtype=np.float64), x.std(dtype=np.float64)
    verdict = diagnose(as_dataset(x[:, None], np.zeros(N, np.float32)))
    # The Hessian is 2 [[1, mean], [mean, mean² + deviation²]]: by its trace and determinant.
    trace = 1 + mean**2 + deviation**2
    assert abs(float(verdict.largest_curvature) / (2 * trace) - 1) < CLOSE
    assert abs(float(verdict.smallest_curvature) / (2 * deviation**2 / trace) - 1) < CLOSE


@pytest.mark.parametrize("name", FAR)
def test_solve_and_solve_line_agree(name):
    x, y = FAR[name].astype(np.float32), RNG.normal(size=N).astype(np.float32)
    assert relative_error(solve_line(x, y), solve(as_dataset(x[:, None], y)).params) < CLOSE


@pytest.mark.parametrize("name", FAR)
def test_a_step_of_descent_far_from_zero(name):
    data, _ = rows(name, weighted=False, k=None)
    start, rate = (
        Params(jnp.zeros(2), jnp.array(0.0)),
        0.1 / float(diagnose(data).largest_curvature),
    )
    path = trajectory(mse, start, data, learning_rate=rate, steps=1)
    gradient = jax.grad(mse)(start, data)
    assert relative_error(path.params.weights[0], -rate * gradient.weights[0]) < 2e-5  # plain sums
    assert np.isfinite(path.losses)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("value", [0.1, 20240101.0, 1.7e9, -3e36, 1e-30])
def test_only_equal_values_are_constant(value, weighted):
    rng = np.random.default_rng(2)
    X = np.stack([np.full(1000, value), rng.normal(size=1000)], axis=1).astype(np.float32)
    weight = rng.uniform(0, 2, 1000).astype(np.float32) if weighted else None
    if weighted:
        X[:50, 0], weight[:50] = 7.0, 0.0  # zero-weight rows may hold anything
    data = as_dataset(X, X[:, 1] + 1, weight)
    assert diagnose(data).constant.tolist() == [True, False]
    scaled, restore = standardize(data)
    assert not scaled.X[50:, 0].any()
    assert float(restore.scale[0]) == 1
    for solver in SOLVERS.values():
        found = solver(data)
        assert int(found.rank) == 1
        assert found.params.weights[0] == 0
    X[500, 0] = np.nextafter(np.float32(value), np.float32(0))  # and one float beside it
    assert not diagnose(as_dataset(X, X[:, 1], weight)).constant.any()


def test_a_constant_stays_one_through_many_pieces():
    rng = np.random.default_rng(3)
    X = np.stack([np.full(90, 0.1), rng.normal(size=90)], axis=1).astype(np.float32)
    pieces = [as_dataset(X[i : i + 3], X[i : i + 3, 1]) for i in range(0, 90, 3)]
    whole = functools.reduce(combine, pieces)
    assert diagnose(whole).constant.tolist() == [True, False]
    assert solve(whole).params.weights[0] == 0


@pytest.mark.slow
def test_many_data_sets_and_several_devices():
    datas, answers = zip(*(rows(name, weighted=True, k=None) for name in FAR), strict=True)
    many = jax.tree.map(lambda *leaves: jnp.stack(leaves), *datas)
    slopes = jax.vmap(lambda data: solve(data).params.weights[0])(many)
    wanted = np.array([answer["weights"][0] for answer in answers])
    assert np.abs(slopes / wanted - 1).max() < CLOSE
    mesh = jax.make_mesh((8,), ("rows",), axis_types=(AxisType.Auto,))
    for data, slope in zip(datas, wanted, strict=True):
        sharded = jax.device_put(data, NamedSharding(mesh, PartitionSpec("rows")))
        assert abs(float(solve(sharded).params.weights[0]) / slope - 1) < CLOSE
        assert not diagnose(sharded).constant.any()


def test_without_an_intercept_nothing_is_centred():
    data = Dataset(jnp.array([[3.0, 0.0], [3.0, 0.0]]), jnp.array([6.0, 6.0]))
    assert diagnose(data, intercept=False).constant.tolist() == [False, True]
    assert solve(data, intercept=False).params.weights.tolist() == [2.0, 0.0]
