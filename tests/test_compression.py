"""Compressed rows against the rows they stand for, by NumPy in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from linreg_jax import Dataset, Params, as_dataset, half_mse, half_sse, huber, mae, mse, ridge, sse
from linreg_jax.compression import combine, compress
from linreg_jax.dataset import is_compressed
from tests.support import every_three, flat, gram, make_problem, relative_error

LOSSES = {"mse": mse, "half_mse": half_mse, "sse": sse, "half_sse": half_sse}
SCALE = {"mse": 1.0, "half_mse": 0.5, "sse": 1.0, "half_sse": 0.5}
METHODS = ("gram", "qr")

# Sums of hundreds of rounded products, at parameters far from the minimum; measured at worst 2e-6
# and 2e-15.
TOLERANCE = {"float32": 2e-5, "float64": 1e-13}


def expected(name, params, data):
    """Loss, gradient and Hessian of the rows themselves, written in float64."""
    X, y, W = (np.asarray(a, np.float64) for a in (data.X, data.y, params.weights))
    s = np.ones(len(X)) if data.sample_weight is None else np.asarray(data.sample_weight, float)
    theta, y = W.reshape(W.shape[0], -1), y.reshape(len(X), -1)
    if params.bias is not None:
        b = np.ones(len(X)) if data.bias_column is None else np.asarray(data.bias_column, float)
        X = np.column_stack([X, b])
        theta = np.vstack([theta, np.asarray(params.bias, np.float64).reshape(1, -1)])
    share = SCALE[name] * (s / s.sum() if name.endswith("mse") else s)
    r = X @ theta - y
    return (share @ r**2).sum(), 2 * X.T @ (share[:, None] * r), 2 * (X.T * share) @ X


@jax.jit
def found(params, data):
    """The same of the package, from any data."""
    return {
        name: (*jax.value_and_grad(loss)(params, data), jax.hessian(loss)(params, data))
        for name, loss in LOSSES.items()
    }


def errors(params, data, small):
    """The worst relative error of loss, gradient and Hessian of `small` beside those of `data`."""
    worst = 0.0
    for name, (value, gradient, hessian) in found(params, small).items():
        d, targets = params.weights.shape[0], params.weights.size // params.weights.shape[0]
        want_value, want_gradient, want_hessian = expected(name, params, data)
        gradient = [np.reshape(g, (-1, targets)) for g in jax.tree.leaves(gradient)]
        # The Hessian of the first target, which is that of every other.
        blocks = [
            [
                np.reshape(block, (-1, targets, size, targets))[:, 0, :, 0]
                for block, size in zip(jax.tree.leaves(row), (d, 1), strict=False)
            ]
            for row in hessian
            if row is not None
        ]
        pairs = [
            (value, want_value),
            (np.concatenate(gradient), want_gradient),
            (np.block(blocks), want_hessian),
        ]
        worst = max(worst, *(relative_error(*pair) for pair in pairs))
    return worst


@pytest.mark.parametrize(
    ("dtype", "k", "weighted", "method"),
    every_three(("float32", "float64"), (None, 3), (False, True), METHODS),
    indirect=["dtype"],
)
def test_every_squared_loss_is_the_same_for_any_parameters(dtype, k, weighted, method):
    with_bias, data = make_problem(0, n=120, d=4, k=k, weighted=weighted, dtype=dtype)
    small = compress(data, method=method)
    assert small.X.shape == (4 + 1 + (k or 1), 4)
    assert small.y.shape == (small.X.shape[0], *data.y.shape[1:])
    assert small.sample_weight is None
    assert is_compressed(small)
    assert {leaf.dtype for leaf in jax.tree.leaves(small)} == {jnp.dtype(dtype)}
    for params in (with_bias, with_bias._replace(bias=None)):
        assert errors(params, data, small) < TOLERANCE[dtype]


def no_bias_column(small):
    return small._replace(bias_column=jnp.ones_like(small.bias_column))


def no_count(small):
    return small._replace(total_weight=None)


def halved_column(small):
    return small._replace(X=small.X.at[:, 1].divide(1.001))


def one_row_short(small):
    return small._replace(X=small.X[:-1], y=small.y[:-1], bias_column=small.bias_column[:-1])


@pytest.mark.parametrize("mutant", [no_bias_column, no_count, halved_column, one_row_short])
def test_the_check_of_sameness_catches_mutants(mutant):
    params, data = make_problem(0, n=120, d=4, weighted=True)
    assert errors(params, data, mutant(compress(data, method="qr"))) > 1e-4


def test_the_check_of_sameness_catches_unabsorbed_weights():
    params, data = make_problem(0, n=120, d=4, weighted=True)
    squared = data._replace(sample_weight=data.sample_weight**2)
    small = compress(squared, method="gram")._replace(total_weight=jnp.sum(data.sample_weight))
    assert errors(params, data, small) > 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_errors_over_random_problems_are_as_documented(dtype, method):
    # The table of `compress` on a sample: 200 problems with condition numbers 1 to 1e6.
    rng = np.random.default_rng(1)
    n, d = 200, 6
    U = np.linalg.qr(rng.normal(size=(200, n, d)))[0]
    V = np.linalg.qr(rng.normal(size=(200, d, d)))[0]
    sizes = 10 ** (-rng.uniform(0, 6, (200, 1)) * np.linspace(0, 1, d))
    X = (np.sqrt(n) * U * sizes[:, None, :]) @ V.transpose(0, 2, 1)
    y = np.einsum("pij,pj->pi", X, rng.normal(size=(200, d))) + 1 + 0.1 * rng.normal(size=(200, n))
    X, y = X.astype(dtype), y.astype(dtype)
    small = jax.jit(jax.vmap(lambda X, y: compress(Dataset(X, y), method=method)))(X, y)
    worst = 0.0
    for i in range(200):
        one = jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], small)
        params = Params(rng.normal(size=d), rng.normal())
        rows = Dataset(X[i], y[i])
        # In float64 also for the compressed rows, so that only their own errors are seen.
        loss, gradient, hessian = expected("sse", params, one)
        want_loss, want_gradient, want_hessian = expected("sse", params, rows)
        worst = max(
            worst,
            relative_error(loss, want_loss),
            relative_error(gradient, want_gradient),
            relative_error(hessian, want_hessian),
        )
    # The largest number of the table, 1e-5, and in float64 the rounding of this reference too.
    assert worst < {"float32": 1e-5, "float64": 1e-13}[dtype]


@pytest.mark.parametrize("method", METHODS)
def test_gradient_descent_takes_the_same_path(dtype, method):
    start, data = make_problem(2, n=120, d=4, weighted=True, dtype=dtype)
    small = compress(data, method=method)

    @jax.jit
    def step(params):
        gradient = jax.grad(mse)(params, small)
        return jax.tree.map(lambda p, g: p - 0.05 * g, params, gradient)

    params, theta = start, flat(start)
    for _ in range(200):
        params = step(params)
        gradient = expected("mse", Params(theta[:-1], theta[-1]), data)[1][:, 0]
        theta = theta - 0.05 * gradient
    # Rounding of 200 steps that contract; measured 5e-7 and 1e-15.
    assert relative_error(params, theta) < {"float32": 5e-6, "float64": 1e-13}[dtype]


@pytest.mark.parametrize("k", [None, 2])
def test_combined_in_any_order_and_grouping(dtype, k):
    _, whole = make_problem(4, n=360, d=4, k=k, weighted=True, dtype=dtype)
    rows = jax.tree.map(np.asarray, whole)
    parts = [jax.tree.map(lambda a, i=i: a[i : i + 120], rows) for i in (0, 120, 240)]
    a, b, c = (compress(part, method="gram") for part in parts)
    for joined in (
        combine(combine(a, b), c),
        combine(a, combine(b, c)),
        combine(combine(c, a), b),
        combine(parts[0], combine(b, parts[2])),
    ):
        assert joined.X.shape == (4 + 1 + (k or 1), 4)
        assert joined.y.shape[1:] == whole.y.shape[1:]
        assert float(joined.total_weight) == float(np.sum(whole.sample_weight))
        # Rounding of three factorings of 120 rows; measured 5e-7 and 1e-15.
        bound = {"float32": 5e-6, "float64": 1e-14}[dtype]
        assert relative_error(gram(joined), gram(whole)) < bound


@pytest.mark.parametrize("method", METHODS)
def test_compressing_again_changes_nothing(dtype, method):
    _, data = make_problem(5, n=120, d=4, weighted=True, dtype=dtype)
    once = compress(data, method=method)
    twice = compress(once, method=method)
    assert float(twice.total_weight) == float(once.total_weight)
    assert relative_error(gram(twice), gram(data)) < {"float32": 5e-6, "float64": 1e-14}[dtype]


@pytest.mark.parametrize("method", METHODS)
def test_weights_are_repetitions(method):
    _, data = make_problem(6, n=120, d=4, weighted=True)
    rows, y, times = map(np.asarray, data[:3])
    times = times.astype(int)
    assert set(times) == {0, 1, 2}
    # What weighs nothing may hold anything finite.
    X = np.where((times == 0)[:, None], np.float32(1e30), rows)
    weighted = compress(data._replace(X=X), method=method)
    repeated = compress(
        as_dataset(np.repeat(rows, times, axis=0), np.repeat(y, times)), method=method
    )
    assert float(weighted.total_weight) == float(repeated.total_weight)
    assert relative_error(gram(weighted), gram(repeated)) < 5e-6  # rounding of 120 rows


def rank_deficient(kind):
    rng = np.random.default_rng(7)
    X = rng.normal(size=(120, 4))
    if kind == "repeated column":
        X[:, 2] = X[:, 0]
    if kind == "constant column":
        X[:, 1] = 0.1
    if kind == "column of zeros":
        X[:, 3] = 0.0
    if kind == "dummies":
        X[:, :3] = np.eye(3)[rng.integers(0, 3, 120)]
    y = X @ np.ones(4) + 1  # a perfect fit: y adds nothing to the rank
    return (X[:3], y[:3]) if kind == "fewer rows than columns" else (X, y)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "kind",
    ["repeated column", "constant column", "column of zeros", "dummies", "fewer rows than columns"],
)
def test_rank_deficient_data(dtype, kind, method):
    X, y = rank_deficient(kind)
    data = as_dataset(X.astype(dtype), y.astype(dtype))
    small = compress(data, method=method)
    assert small.X.shape == (6, 4)
    assert relative_error(gram(small), gram(data)) < {"float32": 5e-6, "float64": 1e-14}[dtype]


def test_data_that_weighs_nothing_gives_rows_of_zeros():
    params, data = make_problem(8, n=120, d=4, weighted=True)
    for method in METHODS:
        nothing = data._replace(sample_weight=np.zeros(120, np.float32))
        small = compress(nothing, method=method)
        assert np.abs(gram(small)).max() == 0.0
        assert float(mse(params, small)) == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_large_means_do_not_eat_the_digits(method):
    # Around 1000 a float32 resolves 6e-5; squared first, the products would lose it all to 1e6.
    rng = np.random.default_rng(9)
    X = (rng.normal(size=(5000, 3)) + 1000).astype(np.float32)
    data = as_dataset(X, (X.astype(np.float64) @ np.ones(3) - 2990).astype(np.float32))
    small = compress(data, method=method)
    rows = np.column_stack([small.bias_column, small.X]).astype(np.float64)
    covariance = np.linalg.inv(np.linalg.inv(rows.T @ rows)[1:, 1:])
    centred = X - X.astype(np.float64).mean(axis=0)
    # Rounding of the stored rows, 6e-8 of a mean a thousand times what varies.
    assert relative_error(covariance, centred.T @ centred) < 1e-3
    naive = X.T @ X - 5000 * np.outer(X.mean(axis=0), X.mean(axis=0))
    assert relative_error(naive, centred.T @ centred) > 1e-3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("unit", [1e-25, 1e25])
def test_units_whose_squares_leave_float32(unit, method):
    _, data = make_problem(10, n=120, d=4)
    small = compress(data._replace(X=np.asarray(data.X) * np.float32(unit)), method=method)
    rescaled = small._replace(X=np.asarray(small.X) / unit)
    assert relative_error(gram(rescaled), gram(data)) < 5e-6  # rounding of 120 rows


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_that_are_not_finite_stay_visible(wrong, method):
    params, data = make_problem(11, n=120, d=4)
    X = np.array(data.X)
    X[7, 1] = wrong
    small = compress(data._replace(X=X), method=method)
    assert not np.isfinite(float(jax.jit(mse)(params, small)))


@pytest.mark.parametrize("method", METHODS)
def test_rows_on_several_devices(method):
    _, data = make_problem(12, n=8 * 600, d=3, weighted=True)
    mesh = jax.make_mesh((8,), ("rows",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(data, NamedSharding(mesh, PartitionSpec("rows")))
    small = compress(sharded, method=method)
    assert relative_error(gram(small), gram(data)) < 5e-6  # rounding of sums of 4,800 rows


@pytest.mark.parametrize("weighted", [False, True])
def test_no_copy_of_the_features_is_made(weighted: bool) -> None:
    n, d = 100_000, 16
    X, column = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((n, d), (n,)))
    data = Dataset(X, column, column if weighted else None)
    program = jax.jit(compress).lower(data).compile()
    assert program.memory_analysis().temp_size_in_bytes < 4 * n * d / 2


def test_many_data_sets_at_once():
    _, data = make_problem(13, n=120, d=4)
    X, y = np.asarray(data.X), np.asarray(data.y)
    many = Dataset(np.stack([X, 2 * X]), np.stack([y, y - 1]))
    for method in METHODS:
        small = jax.jit(jax.vmap(functools.partial(compress, method=method)))(many)
        for i in range(2):
            one = jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], small)
            # Rounding of 120 rows.
            assert relative_error(gram(one), gram(Dataset(many.X[i], many.y[i]))) < 5e-6


def test_ridge_acts_as_on_the_rows_themselves():
    params, data = make_problem(14, n=120, d=4)
    loss = half_mse + ridge(0.3)
    value, gradient = jax.jit(jax.value_and_grad(loss))(params, compress(data))
    want, want_gradient = expected("half_mse", params, data)[:2]
    w = flat(params.weights)
    assert relative_error(value, want + 0.3 * (w @ w)) < 5e-6  # rounding of 120 rows
    want_gradient[:-1, 0] += 0.6 * w
    assert relative_error(gradient, want_gradient) < 5e-6


def test_auto_factors_small_data_and_multiplies_large():
    _, small = make_problem(15, n=120, d=4)
    _, wide = make_problem(15, n=120, d=63)
    _, tall = make_problem(15, n=30_000, d=4)
    for data, method in [(small, "qr"), (wide, "gram"), (tall, "gram")]:
        assert relative_error(compress(data), compress(data, method=method)) == 0.0


@pytest.mark.parametrize("loss", [mae, huber(1.0)])
def test_losses_that_are_not_squared_refuse_compressed_rows(loss):
    params, data = make_problem(16, n=120, d=4)
    with pytest.raises(ValueError, match="data is compressed"):
        loss(params, compress(data))


def test_bad_arguments():
    _, data = make_problem(17, n=20, d=2)
    with pytest.raises(ValueError, match='method must be "auto", "gram" or "qr", got \'svd\''):
        compress(data, method="svd")
    with pytest.raises(TypeError, match="data must be a Dataset, got tuple"):
        compress((data.X, data.y))
    with pytest.raises(ValueError, match=r"a.X has shape \[20, 2\] and b.X \[20, 1\]"):
        combine(data, data._replace(X=data.X[:, :1]))
    with pytest.raises(ValueError, match=r"a.y has shape \[20\] and b.y \[20, 1\]"):
        combine(data, data._replace(y=data.y[:, None]))


def test_dtypes_are_not_mixed(x64):
    _, narrow = make_problem(18, n=20, d=2)
    _, wide = make_problem(18, n=20, d=2, dtype="float64")
    with pytest.raises(TypeError, match=r"a.X is float32 and b.X is float64"):
        combine(narrow, wide)
