"""Rows on many devices: the numbers of one device, and no more traffic than they need."""

import dataclasses
import math
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from linreg_jax import (
    Loss,
    as_dataset,
    check_gradients,
    combine,
    compress,
    compression,
    diagnose,
    epsilon_insensitive,
    fit,
    gradients,
    half_mse,
    huber,
    infer,
    init_params,
    lasso,
    log_cosh,
    mae,
    mse,
    quantile,
    ridge,
    solve,
    standardize,
    training,
    trajectory,
)
from linreg_jax._training.batches import mini_batches
from linreg_jax.sharding import replicate, shard
from tests.support import make_problem, relative_error

KEY = jax.random.key(0)
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}  # sums in another order, over a dozen steps
ALL = [mse, half_mse, mae, huber(0.7), quantile(0.3), log_cosh(), epsilon_insensitive(0.2)]


def mesh_of(devices):
    return Mesh(np.array(jax.devices()[:devices]), ("data",))


@dataclasses.dataclass(frozen=True)
class OneOfAll(Loss):
    """The loss of a number: so that one program, mapped over the numbers, trains them all."""

    which: int = 0

    def rho(self, r):
        return jnp.select([self.which == i for i in range(len(ALL))], [ls.rho(r) for ls in ALL])

    def psi(self, r):
        return jnp.select([self.which == i for i in range(len(ALL))], [ls.psi(r) for ls in ALL])


def fit_all(params, data, **options):
    """Every loss's fit: the parameters and the losses."""

    def one(which):
        loss = OneOfAll(which=which, reduction=options.get("reduction", "mean")) + ridge(0.1)
        rate = 0.1 if loss.reduction == "mean" else 0.1 / 240
        kept = {name: value for name, value in options.items() if name not in ("reduction", "way")}
        kept["gradient"] = options["way"](loss)
        result = fit(loss, params, data, learning_rate=rate, num_steps=12, **kept)
        return result.params, result.losses

    return jax.vmap(one)(jnp.arange(len(ALL)))


FITS = {
    "full": {"way": gradients.autodiff},
    "full, sums": {"way": gradients.one_pass, "reduction": "sum"},
    "mini-batches": {
        "way": gradients.vectorized,
        "batch_size": 120,
        "num_shards": 120,  # a multiple of every number of devices
        "key": KEY,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "dtype", "numbers_of_devices"),
    [
        ("full", "float32", [3, 8]),
        ("full", "float64", [2, 3, 5, 8]),
        ("full, sums", "float64", [5]),
        ("mini-batches", "float32", [3, 8]),
        ("mini-batches", "float64", [2, 3, 5, 8]),
    ],
)
def test_fits_of_every_loss_are_those_of_one_device(way, dtype, numbers_of_devices):
    options = FITS[way]
    with jax.enable_x64(dtype == "float64"):
        params, data = make_problem(0, n=233, d=4, weighted=True, dtype=dtype)
        alone = data if way != "mini-batches" else shard(data, mesh_of(1), num_shards=120)
        expected = fit_all(params, alone, **options)
        for devices in numbers_of_devices:
            laid_out = shard(data, mesh_of(devices), num_shards=options.get("num_shards"))
            assert len(laid_out.X.sharding.device_set) == devices
            actual = fit_all(params, laid_out, **options)
            for i in range(len(ALL)):  # each on its own scale
                ours, theirs = (jax.tree.map(lambda a, i=i: a[i], f) for f in (actual, expected))
                assert relative_error(ours, theirs) < TOLERANCE[dtype], (devices, ALL[i])


def test_the_lasso_and_many_targets_are_those_of_one_device(x64):
    params, data = make_problem(1, n=61, d=3, k=2, dtype="float64")
    options = {"learning_rate": 0.02, "num_steps": 20, "compress": False}
    expected = fit(half_mse + lasso(0.05), params, data, **options)
    actual = fit(half_mse + lasso(0.05), params, shard(data, mesh_of(5)), **options)
    assert relative_error(actual.params, expected.params) < TOLERANCE["float64"]
    assert relative_error(actual.losses, expected.losses) < TOLERANCE["float64"]


def test_other_functions_are_right_on_shards(x64):
    _, data = make_problem(2, n=203, d=4, k=2, weighted=True, dtype="float64")
    laid_out, params = shard(data), init_params(data, key=KEY, scale=1.0)
    X, y, weight = (np.asarray(column) for column in data[:3])
    root = np.sqrt(weight)[:, None]
    A = root * np.column_stack([np.ones(len(X)), X])
    rows = np.column_stack([A, root * y])

    def inner_products(small):
        rows = np.column_stack([small.bias_column, small.X, small.y])
        return rows.T @ rows

    whole = compress(laid_out, method="qr")
    theta = np.linalg.lstsq(A, root * y)[0]
    hessian = np.linalg.eigvalsh(2 * A.T @ A / weight.sum())
    after = trajectory(mse, params, laid_out, learning_rate=0.1, steps=9).params
    expected = {
        "solve": (solve(laid_out).params, (theta[1:], theta[0])),
        "diagnose": (diagnose(laid_out).largest_curvature, hessian[-1]),
        "gram": (inner_products(compress(laid_out, method="gram")), rows.T @ rows),
        "qr": (inner_products(whole), rows.T @ rows),
        "combine": (inner_products(combine(whole, laid_out)), 2 * rows.T @ rows),
        "standardize": (
            jax.jit(standardize)(laid_out)[1].mean,
            np.average(X, axis=0, weights=weight),
        ),
        "compressed fit": (
            fit(mse, params, laid_out, learning_rate=0.1, num_steps=9).params,
            after,
        ),
    }
    errors = {name: relative_error(*pair) for name, pair in expected.items()}
    # Well-conditioned problems: the rounding of a few sums.
    assert max(errors.values()) < 1e-12, errors


def test_all_ways_to_a_gradient_are_those_of_one_device(dtype):
    params, data = make_problem(3, n=61, d=3, weighted=True, dtype=dtype)
    ways = [way for name, way in gradients.WAYS.items() if name != "finite_difference"]

    @jax.jit
    def all_ways(params, data):
        return [way(huber(0.7) + ridge(0.1))(params, data) for way in ways]

    expected = all_ways(params, data)
    actual = all_ways(params, shard(data))
    assert relative_error(actual, expected) < TOLERANCE[dtype]
    difference = jax.jit(gradients.finite_difference(mae))
    # Differences lose some digits, the same ones on both sides up to a few units.
    assert relative_error(difference(params, shard(data)), difference(params, data)) < (
        10 * TOLERANCE[dtype]
    )


def test_gradients_are_checked_on_shards():
    params, data = make_problem(4, n=29, d=3)
    assert check_gradients(mae, params, shard(data)).ok


def collectives(text):
    """`{kind: [numbers moved by each]}` in the text of a compiled program."""
    found = {}
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    for result, kind in re.findall(rf"= (\(.*?\)|\S+) ({kinds})(?:-start)?\(", text):
        shapes = re.findall(r"\w+\[([\d,]*)\]", result)
        moved = sum(math.prod(int(size) for size in shape.split(",") if size) for shape in shapes)
        found.setdefault(kind, []).append(moved)
    return found


def loop_bodies(text):
    """The text of every computation that a while loop runs, with what it calls."""
    parts = re.split(r"\n(?=(?:ENTRY )?%?[\w.\-]+ \(.*\) -> .* \{\n)", text)
    named = {re.match(r"(?:ENTRY )?%?([\w.\-]+)", part).group(1): part for part in parts}

    def with_calls(name, seen):
        if name in seen or name not in named:
            return ""
        seen.add(name)
        called = re.findall(r"(?:body|calls|to_apply|condition)=%?([\w.\-]+)", named[name])
        return named[name] + "".join(with_calls(other, seen) for other in called)

    return [with_calls(name, set()) for name in re.findall(r"body=%?([\w.\-]+)", text)]


@pytest.fixture
def compiled_text(monkeypatch):
    """`fit`'s arguments -> the text of the program that it runs."""

    def text_of(*args, **kwargs):
        seen = []

        def spy(problem, start, key, *, settings):
            seen.append(train.lower(problem, start, key, settings=settings))

        train = training.train
        with monkeypatch.context() as patched:
            patched.setattr(training, "train", spy)
            patched.setattr(training, "with_stable_rate", lambda fitted, problem, mesh: fitted)
            fit(*args, **kwargs)
        return seen[0].compile().as_text()

    return text_of


@pytest.mark.parametrize(
    ("gradient", "batch_size", "weighted"),
    [
        (gradients.autodiff, None, False),
        (gradients.one_pass, None, True),
        (gradients.autodiff, 24, False),
        (gradients.vectorized, 40, False),
    ],
)
def test_a_step_has_one_all_reduce_of_the_size_of_the_parameters(
    compiled_text, gradient, batch_size, weighted
):
    d, n = 5, 200
    params, data = make_problem(5, n=n, d=d, weighted=weighted)
    text = compiled_text(
        log_cosh() + ridge(0.1),
        params,
        shard(data),
        learning_rate=0.1,
        num_steps=40,
        batch_size=batch_size,
        key=None if batch_size is None else KEY,
        gradient=gradient(log_cosh() + ridge(0.1)),
    )
    # The value, d weights and the bias; and the weights' sum, where they are not all 1.
    filled_up = batch_size is not None and (n // 8) % (batch_size // 8) != 0
    of_a_step = d + 2 + int(weighted or filled_up)
    found = collectives(text)
    assert list(found) == ["all-reduce"]
    in_loops = [collectives(body) for body in loop_bodies(text)]
    assert {"all-reduce": [of_a_step]} in in_loops
    assert all(body in ({}, {"all-reduce": [of_a_step]}) for body in in_loops)
    # And, outside the loop, the losses of all examples before and after.
    found["all-reduce"].remove(of_a_step)
    assert all(numbers <= 64 for numbers in found["all-reduce"])
    assert len(found["all-reduce"]) <= 4


def test_a_squared_loss_on_compressed_rows_needs_no_traffic_in_its_loop(compiled_text):
    params, data = make_problem(6, n=2_000, d=5)
    text = compiled_text(mse, params, shard(data), learning_rate=0.1, num_steps=40)
    assert collectives(text) == {}


def test_traffic_is_found_where_there_is_some():
    _, data = make_problem(7, n=200, d=5)

    def wasteful(X):
        def step(total, _):
            return total + jnp.sum(X @ X[::-1].T) + jnp.max(X * total), None

        return jax.lax.scan(step, 0.0, length=3)[0]

    text = jax.jit(wasteful).lower(shard(data).X).compile().as_text()
    found = collectives(text)
    assert len(found.pop("all-reduce")) >= 1
    assert found  # rows that move


@pytest.mark.parametrize("method", ["gram", "qr"])
def test_compress_moves_no_rows(method):
    d, devices = 4, 8
    _, data = make_problem(8, n=20_000, d=d, weighted=True)
    compiled = (
        jax.jit(compression._compressed, static_argnums=1).lower(shard(data), method).compile()
    )
    moved = collectives(compiled.as_text())
    assert moved
    # A square of m = d + 2 columns from every device.
    assert max(max(sizes) for sizes in moved.values()) <= devices * (d + 2) ** 2, moved
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(compiled(shard(data))))


def test_shards_are_consecutive_rows_and_padding_has_zero_weight():
    data = as_dataset(np.arange(13)[:, None], np.arange(13))
    laid_out = shard(data, mesh_of(5))
    held = [np.ravel(part.data) for part in laid_out.X.addressable_shards]
    assert [rows.tolist() for rows in held[:4]] == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(4)]
    assert np.asarray(laid_out.sample_weight).tolist() == [1] * 13 + [0] * 2
    exact = shard(as_dataset(np.ones((10, 1)), np.ones(10)), mesh_of(5))
    assert exact.sample_weight is None


def test_any_mesh_with_a_data_axis_will_do():
    params, data = make_problem(9, n=30, d=3)
    expected = fit(huber(), params, data, learning_rate=0.1, num_steps=9).params
    devices = np.array(jax.devices())
    explicit = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    for mesh in [explicit, Mesh(devices.reshape(4, 2), ("data", "model"))]:
        laid_out = shard(data, mesh)
        actual = fit(huber(), replicate(params, mesh), laid_out, learning_rate=0.1, num_steps=9)
        assert relative_error(actual.params, expected) < TOLERANCE["float32"]


batches_of = jax.jit(mini_batches, static_argnames=("batch_size", "num_shards", "mesh"))


def test_batches_depend_on_the_shards_and_not_on_the_devices():
    n, shards, batch_size = 240, 24, 48
    data = as_dataset(np.arange(n)[:, None], np.arange(n))
    steps = jnp.arange(10)
    expected = batches_of(data, KEY, steps, batch_size=batch_size, num_shards=shards)
    for devices in (3, 8):
        laid_out = shard(data, mesh_of(devices), num_shards=shards)
        mesh = laid_out.X.sharding.mesh
        actual = batches_of(
            laid_out, KEY, steps, batch_size=batch_size, num_shards=shards, mesh=mesh
        )
        assert np.array_equal(actual.y, expected.y)
        assert np.array_equal(actual.X, expected.X)
    epochs = np.asarray(expected.y).reshape(2, 5 * batch_size)
    assert (np.sort(epochs, axis=1) == np.arange(n)).all()  # every example once an epoch
    # Every shard of 10 rows gives every batch two of its own.
    assert (np.asarray(expected.y).reshape(10, shards, 2) // 10 == np.arange(shards)[:, None]).all()
    assert not np.array_equal(epochs[0], epochs[1])
    order_within = np.asarray(expected.y).reshape(2, 5, shards, 2).swapaxes(1, 2) % 10
    assert len({tuple(order.ravel()) for order in order_within[0]}) > shards // 2


def test_a_run_of_shards_goes_on_where_it_stopped():
    params, data = make_problem(10, n=50, d=3)
    laid_out = shard(data)
    options = {"learning_rate": 0.1, "batch_size": 16, "gradient": gradients.vectorized(mae)}
    whole = fit(mae, params, laid_out, num_steps=26, key=KEY, **options)
    half = fit(mae, params, laid_out, num_steps=13, key=KEY, **options)
    rest = fit(mae, half.state, laid_out, num_steps=13, **options)
    assert np.array_equal(rest.params.weights, whole.params.weights)
    assert np.array_equal(np.concatenate([half.losses, rest.losses]), whole.losses)


def test_rates_are_mapped_over_and_differentiated():
    params, data = make_problem(11, n=50, d=3)
    laid_out = shard(data)

    def reached(rate, data):
        return huber()(fit(huber(), params, data, learning_rate=rate, num_steps=9).params, data)

    rates = jnp.array([0.05, 0.1])
    expected = jax.vmap(jax.value_and_grad(lambda rate: reached(rate, data)))(rates)
    # With the data a constant of the program, and then an argument of it.
    actual = jax.jit(jax.vmap(jax.value_and_grad(lambda rate: reached(rate, laid_out))))(rates)
    assert relative_error(actual, expected) < TOLERANCE["float32"]
    slope = jax.jit(jax.grad(reached))(0.05, laid_out)
    assert relative_error(slope, expected[1][0]) < TOLERANCE["float32"]


def test_a_function_of_the_callers_own_is_left_to_the_compiler():
    params, data = make_problem(12, n=50, d=3)

    def cubed(params, data):
        return jnp.mean(jnp.abs(data.X @ params.weights + params.bias - data.y) ** 3)

    expected = fit(cubed, params, data, learning_rate=0.01, num_steps=9).params
    actual = fit(cubed, params, shard(data, mesh_of(5)), learning_rate=0.01, num_steps=9).params
    assert relative_error(actual, expected) < TOLERANCE["float32"]


def test_sums_over_shards_overflow_no_sooner_than_means():
    params, data = make_problem(13, n=640, d=3)
    large = data._replace(y=data.y * 1e18)  # squares near 4e36: float32 holds the sum of 85
    options = {"learning_rate": 0.0, "num_steps": 2, "compress": False}
    alone = fit(mse, params, large, **options)
    actual = fit(mse, params, shard(large), **options)
    assert np.isfinite(actual.losses).all()
    assert relative_error(actual.losses, alone.losses) < TOLERANCE["float32"]


@pytest.mark.parametrize("weight", [1e-40, 3e38])
def test_weights_that_cannot_be_added_up_are_nan_on_shards_too(weight):
    params, data = make_problem(16, n=64, d=3)
    unusable = data._replace(sample_weight=jnp.full(64, weight))
    result = fit(mse, params, shard(unusable), learning_rate=0.1, num_steps=2, compress=False)
    assert np.isnan(result.losses).all()


def test_a_device_whose_weights_are_all_too_small_adds_nothing():
    params, data = make_problem(17, n=64, d=3)
    of_device = np.arange(64) // 8
    options = {"learning_rate": 0.1, "num_steps": 4, "compress": False}

    def run_with(weights, on):
        weighted = data._replace(sample_weight=jnp.asarray(weights.astype("float32")))
        return fit(mse, params, on(weighted), **options).losses

    expected = run_with(np.where(of_device == 2, 0, 1.5), lambda rows: rows)
    for small in (0, 1e-40):
        actual = run_with(np.where(of_device == 2, small, 1.5), shard)
        assert relative_error(actual, expected) < TOLERANCE["float32"]


def test_divergence_names_the_stable_rate_of_all_rows():
    params, data = make_problem(14, n=61, d=3)
    result = fit(mse, params, shard(data), learning_rate=9.0, num_steps=999, compress=False)
    # Forty steps of power iteration.
    stable = float(diagnose(data).largest_stable_rate)
    assert float(result.largest_stable_rate) == pytest.approx(stable, rel=1e-2)


def tiny(n=4):
    return as_dataset(np.ones((n, 1)), np.ones(n))


WRONG = {
    "not a Dataset": (lambda: shard(np.ones((3, 1))), TypeError, "must be a Dataset"),
    "not a mesh": (lambda: shard(tiny(), jax.devices()), TypeError, "must be a jax.sharding.Mesh"),
    "no data axis": (
        lambda: shard(tiny(), jax.make_mesh((2,), ("rows",))),
        ValueError,
        r'must have an axis "data".*\[\'rows\'\]',
    ),
    "more devices than rows": (lambda: shard(tiny(4)), ValueError, "4 rows.*8 devices.*fewer"),
    "more shards than rows": (
        lambda: shard(tiny(4), mesh_of(2), num_shards=6),
        ValueError,
        "4 rows.*6 shards",
    ),
    "shards the devices do not divide": (
        lambda: shard(tiny(16), num_shards=12),
        ValueError,
        "multiple of the 8 devices, got 12: pass 16",
    ),
    "compressed": (lambda: shard(compress(tiny(40))), ValueError, "data is compressed"),
    "batches the shards do not divide": (
        lambda: run(shard(tiny(32)), batch_size=12),
        ValueError,
        "multiple of the 8 shards.*got 12: pass 8 or 16",
    ),
    "a batch of less than a row a shard": (
        lambda: run(shard(tiny(32)), batch_size=5),
        ValueError,
        "multiple of the 8 shards.*got 5: pass 8",
    ),
    "rows the shards do not divide": (
        lambda: run(tiny(10), batch_size=4, num_shards=4),
        ValueError,
        r"divide the 10 rows.*got 4: shard\(data, num_shards=4\)",
    ),
    "fewer shards than devices": (
        lambda: run(shard(tiny(32)), batch_size=4, num_shards=4),
        ValueError,
        "multiple of the devices",
    ),
    "no number of shards": (
        lambda: run(tiny(10), batch_size=4, num_shards=2.0),
        TypeError,
        "num_shards must be a Python integer",
    ),
}


def run(data, **options):
    return fit(mse, init_params(data), data, learning_rate=0.1, num_steps=1, key=KEY, **options)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_laid_out_is_refused(wrong):
    call, error, message = WRONG[wrong]
    with pytest.raises(error, match=message):
        call()


def test_everything_runs_on_the_device_that_is_asked_for():
    device = jax.devices()[3]
    with jax.default_device(device):
        params, data = make_problem(15, n=64, d=3)
        params = init_params(data, key=jax.random.key(1))
        results = [
            fit(mae, params, data, learning_rate=0.1, num_steps=3, batch_size=8, key=KEY),
            compress(data),
            gradients.one_pass(mse)(params, data),
        ]
        assert len(shard(data).X.devices()) == 8  # all devices of that kind
    leaves = [leaf for leaf in jax.tree.leaves(results) if isinstance(leaf, jax.Array)]
    assert leaves
    assert {d for leaf in leaves for d in leaf.devices()} == {device}


def test_importing_touches_no_device():
    environment = {**os.environ, "JAX_PLATFORMS": "of_no_such_name"}
    imports = "import linreg_jax, linreg_jax.sharding, linreg_jax.training"
    subprocess.run([sys.executable, "-c", imports], env=environment, check=True, timeout=60)
    touches = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env=environment,
        capture_output=True,
        timeout=60,
    )
    assert touches.returncode != 0  # so a device at import would have failed


@pytest.mark.slow
def test_standard_errors_are_those_of_one_device(x64):
    _, data = make_problem(9, n=60, weighted=True, dtype="float64")
    sharded, codes = shard(data), np.arange(64) % 7
    assert len(sharded.X) == 64  # four rows of zero weight fill the last shards
    for kind in ("hc3", "cluster"):
        given = [codes[:60], codes] if kind == "cluster" else [None, None]
        alone = infer(data, covariance=kind, clusters=given[0])
        found = infer(sharded, covariance=kind, clusters=given[1])
        for name in ("params", "covariance", "p_values", "residual_deviation", "num_examples"):
            ours, theirs = getattr(found, name), getattr(alone, name)
            assert relative_error(ours, theirs) < TOLERANCE["float64"], name
