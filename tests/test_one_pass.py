"""The gradient that reads X once, against NumPy float64 loops and against large sums."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from linreg_jax import Dataset, Params, half_mse, huber, lasso, mae, mse, ridge, sse
from linreg_jax.compression import compress
from linreg_jax.gradients import autodiff, one_pass, vectorized
from tests import reference
from tests.support import every_three, make_problem, relative_error

# Rounding of sums of at most 30 terms; measured 4e-15 and 2e-6 at worst for the other ways too.
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


@functools.partial(jax.jit, static_argnames="block_rows")
def every_loss(params, data, block_rows):
    return {
        name: one_pass(loss, block_rows=block_rows)(params, data)
        for name, (loss, *_) in reference.TABLE.items()
    }


@pytest.mark.parametrize(
    ("dtype", "k", "weighted", "intercept"),
    every_three(("float32", "float64"), (None, 2), (True, False), (True, False)),
    indirect=["dtype"],
)
def test_every_loss_agrees_with_loops_in_numpy(dtype, k, weighted, intercept):
    # 22 rows in blocks of 5: whole blocks, and a partial one.
    shape = {"n": 22, "d": 3, "k": k, "weighted": weighted, "intercept": intercept}
    params, data = make_problem(1, dtype=dtype, scales=[0.1, 1.0, 30.0], **shape)
    for name, (value, gradient) in every_loss(params, data, block_rows=5).items():
        want, *want_gradient = reference.value_and_gradient(name, params, data)
        chex.assert_trees_all_equal_shapes_and_dtypes(gradient, params)
        want_gradient = [g for g in want_gradient if g is not None]
        assert relative_error(value, want) < TOLERANCE[dtype], name
        assert relative_error(gradient, want_gradient) < TOLERANCE[dtype], name


@pytest.mark.parametrize("block_rows", [None, 1, 4, 22, 1000])
def test_the_size_of_the_blocks_changes_rounding_only(block_rows):
    params, data = make_problem(1, n=22, d=3, weighted=True)
    want = reference.value_and_gradient("huber", params, data)
    found = jax.jit(one_pass(reference.TABLE["huber"][0], block_rows=block_rows))(params, data)
    assert relative_error(found, want) < 2e-6  # rounding of 22 terms


def test_blocks_of_the_size_chosen_by_itself():
    # More rows than a block of its own choice, which has at most 4096.
    params, data = make_problem(2, n=9000, d=2)
    found = jax.jit(one_pass(mse))(params, data)
    X, y, w = (np.asarray(a, np.float64) for a in (data.X, data.y, params.weights))
    r = X @ w + float(params.bias) - y
    want = np.mean(r**2), 2 * X.T @ r / 9000, 2 * np.mean(r)
    assert relative_error(found, want) < 1e-6  # rounding of blocks of 4096 terms


def test_float32_keeps_its_digits_over_millions_of_rows():
    # Small integers: float64 sums are exact, and each block's are nearly so.
    n = 4_000_000
    rng = np.random.default_rng(3)
    X = rng.integers(0, 8, (n, 2)).astype(np.float32)
    y = rng.integers(-3, 4, n).astype(np.float32) + np.float32(0.1)
    params = Params(jnp.array([0.3, -0.7]), jnp.array(0.2))
    _, gradient = jax.jit(one_pass(mse))(params, Dataset(jnp.asarray(X), jnp.asarray(y)))
    r = X @ np.asarray(params.weights, np.float64) + float(params.bias) - y.astype(np.float64)
    want = [2 * (X.T.astype(np.float64) @ r) / n, 2 * r.mean()]
    # Measured 4e-7; one product Xᵀ s over all rows is wrong by 4e-4.
    assert relative_error(gradient, want) < 1e-6


def test_penalties_are_added_once():
    params, data = make_problem(4, n=23, d=3)
    loss = half_mse + ridge(0.3) + lasso(0.2)
    found = jax.jit(one_pass(loss, block_rows=5))(params, data)
    # The penalties by hand, the rest as above.
    value, weights, bias = reference.value_and_gradient("half_mse", params, data)
    w = np.asarray(params.weights, np.float64)
    value += 0.3 * (w**2).sum() + 0.2 * np.abs(w).sum()
    weights += 0.6 * w + 0.2 * np.sign(w)
    assert relative_error(found, (value, weights, bias)) < 2e-6  # rounding of 23 terms


@pytest.mark.parametrize("loss", [mse, sse], ids=str)
def test_compressed_rows(loss):
    params, data = make_problem(5, n=30, d=6)
    found = jax.jit(one_pass(loss, block_rows=3))(params, compress(data))
    want = jax.jit(jax.value_and_grad(loss))(params, data)
    assert relative_error(found, want) < 5e-6  # rounding of 30 rows, twice


in_sixes = functools.partial(one_pass, block_rows=6)


def test_a_bias_column_and_a_count_of_ones_own():
    params, data = make_problem(6, n=20, d=2, weighted=True)
    column = np.linspace(0.5, 2.0, 20, dtype=np.float32)
    both = jax.jit(lambda *problem: [way(mae)(*problem) for way in (in_sixes, autodiff)])
    for own in (data._replace(bias_column=column), data._replace(total_weight=np.float32(7))):
        found, want = both(params, own)
        assert relative_error(found, want) < 2e-6  # rounding of 20 terms


def test_examples_that_weigh_nothing_in_all_give_zero():
    params, data = make_problem(7, n=9, d=2)
    nothing = data._replace(sample_weight=np.zeros(9, np.float32))
    value, gradient = jax.jit(one_pass(mse, block_rows=4))(params, nothing)
    assert (float(value), gradient.weights.tolist(), float(gradient.bias)) == (0, [0, 0], 0)


def test_mapped_over_hyper_parameters_and_parameters():
    params, data = make_problem(8, n=20, d=2)

    @jax.jit
    @jax.vmap
    def both(delta, factor):
        start = jax.tree.map(lambda p: factor * p, params)
        return [way(huber(delta))(start, data) for way in (in_sixes, autodiff)]

    found, want = both(jnp.array([0.5, 2.0, 2.0]), jnp.array([1.0, 1.0, 2.0]))
    assert relative_error(found, want) < 2e-6  # as above
    alone = jax.jit(in_sixes(huber(2.0)))(params, data)
    assert relative_error(jax.tree.map(lambda leaf: np.asarray(leaf)[1], found), alone) < 2e-6


@pytest.mark.parametrize("devices", [2, 8])
def test_rows_on_several_devices_are_summed_where_they_lie(devices):
    params, data = make_problem(9, n=8 * 50, d=3, weighted=True)
    mesh = jax.make_mesh(
        (devices,), ("rows",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    sharded = jax.device_put(data, NamedSharding(mesh, PartitionSpec("rows")))
    start = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    step = jax.jit(one_pass(sse + ridge(0.1), block_rows=16)).lower(start, sharded).compile()
    found = step(start, sharded)
    want = jax.jit(autodiff(sse + ridge(0.1)))(params, data)
    assert relative_error(found, want) < 2e-6  # 400 terms
    program = step.as_text()
    assert program.count(" all-reduce(") == 1
    assert not any(word in program for word in ("all-gather", "all-to-all", "collective-permute"))


def test_inside_shard_map():
    params, data = make_problem(10, n=8 * 30, d=3)
    mesh = jax.make_mesh((8,), ("rows",), axis_types=(AxisType.Auto,))

    def local(params, data):
        return jax.lax.psum(one_pass(sse, block_rows=16)(params, data), "rows")

    specs = {"in_specs": (PartitionSpec(), PartitionSpec("rows")), "out_specs": PartitionSpec()}
    found = jax.jit(jax.shard_map(local, mesh=mesh, **specs))(params, data)
    want = jax.jit(autodiff(sse))(params, data)
    assert relative_error(found, want) < 2e-6  # rounding of 240 terms


def test_no_copy_of_the_features_is_made():
    params, data = make_problem(11, n=50_001, d=8)
    step = jax.jit(one_pass(mse, block_rows=512)).lower(params, data).compile()
    assert step.memory_analysis().temp_size_in_bytes < data.X.nbytes / 10


def test_what_overflows_is_not_finite():
    params, data = make_problem(12, n=20, d=2)
    value, _ = jax.jit(in_sixes(mse))(params, data._replace(y=1e25 * np.asarray(data.y)))
    assert not np.isfinite(float(value))


@pytest.mark.parametrize("block_rows", [0, -1, True])
def test_block_rows_out_of_range(block_rows):
    with pytest.raises(ValueError, match="block_rows must be an integer of 1 or more"):
        one_pass(mse, block_rows=block_rows)


def test_arguments_of_a_wrong_kind():
    with pytest.raises(TypeError, match=r"block_rows must be a Python integer, got 2\.5"):
        one_pass(mse, block_rows=2.5)
    with pytest.raises(TypeError, match="one_pass needs a loss with rho and psi"):
        one_pass(lambda params, data: 0.0)
    params, data = make_problem(13, n=20, d=2)
    with pytest.raises(ValueError, match="data is compressed"):
        one_pass(mae)(params, compress(data))
    with pytest.raises(ValueError, match="weights has shape"):
        one_pass(mae)(params, data._replace(X=data.X[:, :1]))


def scaled(gradient, value_factor=1.0, factor=1.0):
    def way(loss):
        def value_and_gradient(params, data):
            value, of_params = gradient(loss)(params, data)
            return value_factor * value, jax.tree.map(lambda g: factor * g, of_params)

        return value_and_gradient

    return way


def without_the_last_block(loss):
    def value_and_gradient(params, data):
        rows = jax.tree.map(lambda column: column[:20], data)
        return vectorized(loss)(params, rows._replace(total_weight=jnp.array(22.0)))

    return value_and_gradient


@pytest.mark.parametrize(
    "mutant",
    [scaled(vectorized, 1.001), scaled(vectorized, 1.0, 1.001), without_the_last_block],
    ids=["value", "gradient", "last block"],
)
def test_the_comparison_catches_mutants(mutant):
    params, data = make_problem(1, n=22, d=3)
    found = jax.jit(mutant(half_mse))(params, data)
    want = reference.value_and_gradient("half_mse", params, data)
    assert relative_error(found[0], want[0]) > 2e-5 or relative_error(found[1], want[1:]) > 2e-5
