"""What holds for every shape, cut and spelling, tried on examples that hypothesis draws.

The examples are the same each time (`tests/conftest.py`). XLA compiles once a shape, so shapes are
drawn from few.
"""

from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linreg_jax import (
    ChunkState,
    Dataset,
    Params,
    compress_chunks,
    fit,
    fit_chunks,
    half_mse,
    mse,
    shuffled_index,
)
from linreg_jax.tables import read_table
from tests.reference import TABLE, value_and_gradient
from tests.support import (
    assert_same_bits,
    cut,
    cuts,
    gram,
    joined,
    make_problem,
    on_the_host,
    relative_error,
)

KEY = jax.random.key(0)


# Losses and gradients of any shape


@jax.jit
def every_loss(params: Params, data: Dataset) -> dict[str, tuple[jax.Array, Params]]:
    return {name: jax.value_and_grad(row.loss)(params, data) for name, row in TABLE.items()}


@st.composite
def exact_problems(draw: st.DrawFn, dtype: str) -> tuple[Params, Dataset]:
    """Problems of eighths and halves, whose residuals are exact: some lie on a kink."""
    n, d, k = draw(st.sampled_from([(1, 1, None), (5, 3, None), (4, 2, 2), (3, 4, 1)]))
    targets = () if k is None else (k,)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def numbers(*shape: int) -> jax.Array:
        return jnp.asarray(rng.integers(-16, 17, shape) / 8, dtype)

    weight = jnp.asarray(rng.integers(1, 4, n), dtype) if draw(st.booleans()) else None
    bias = numbers(*targets) if draw(st.booleans()) else None
    params = Params(jnp.round(2 * numbers(d, *targets)) / 2, bias)
    return params, Dataset(numbers(n, d), numbers(n, *targets), weight)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-13)])
@settings(max_examples=12)
@given(data=st.data())
def test_losses_and_gradients_are_those_of_loops(
    dtype: str, bound: float, data: st.DataObject
) -> None:
    with jax.enable_x64(dtype == "float64"):
        problem = data.draw(exact_problems(dtype))
        for name, found in on_the_host(every_loss(*problem)).items():
            value, weights, bias = value_and_gradient(name, *problem)
            # A few roundings; absolute where the terms of a sum cancel.
            wide, expected = jax.tree.map(np.float64, found), (value, Params(weights, bias))
            chex.assert_trees_all_close(wide, expected, rtol=bound, atol=bound)
            chex.assert_trees_all_equal_shapes_and_dtypes(found[1], problem[0])


# Data in pieces


@given(cuts(50), st.booleans())
def test_compressed_chunks_are_those_of_the_whole_however_it_is_cut(
    sizes: list[int], weighted: bool
) -> None:
    _, data = make_problem(0, k=2, weighted=weighted)
    small = compress_chunks(cut(data, sizes))
    assert relative_error(gram(small), gram(data)) < 2e-6  # products of 50 rows in float32


@settings(max_examples=8)
@given(st.lists(st.sampled_from([8, 16]), min_size=1, max_size=4), st.data())
def test_chunks_are_batches_and_a_run_may_stop_after_any(
    sizes: list[int], data: st.DataObject
) -> None:
    with jax.enable_x64(True):
        params, rows = make_problem(1, n=sum(sizes), d=3, dtype="float64")
        chunks = cut(rows, sizes)
        run = {"learning_rate": 0.1, "num_epochs": 2, "batch_size": None, "key": KEY}
        states: list[ChunkState] = []
        whole = fit_chunks(half_mse, params, chunks, after_chunk=states.append, **run)

        w, b = np.asarray(params.weights), float(params.bias)
        for X, y in chunks * 2:
            r = X @ w + b - y
            w, b = w - 0.1 * X.T @ r / len(y), b - 0.1 * r.mean()
        assert relative_error(whole.params, (w, b)) < 1e-13  # rounding of 8 steps

        taken = data.draw(st.integers(1, 2 * len(sizes) - 1))
        rest = fit_chunks(half_mse, states[taken - 1], chunks, **run)
        assert_same_bits(rest.state, whole.state)
        assert_same_bits(rest.losses, whole.losses[taken:])


# A run in parts


LENGTHS = (1, 2, 7, 64, 65, 130)


@pytest.mark.slow
@settings(max_examples=8)
@given(
    num_steps=st.sampled_from(LENGTHS),
    record_every=st.sampled_from([2, 3, 64, 100]),
    batch_size=st.sampled_from([None, 1, 6]),
)
def test_a_thinned_run_records_every_so_many_of_all(
    num_steps: int, record_every: int, batch_size: int | None
) -> None:
    params, data = make_problem(2, n=20, d=3)
    run = {"learning_rate": 0.05, "num_steps": num_steps, "batch_size": batch_size}
    run |= {"key": None if batch_size is None else KEY, "record_params": True}
    every = fit(mse, params, data, **run)
    thinned = fit(mse, params, data, record_every=record_every, **run)
    histories = (every.losses, every.gradient_norms, every.path)
    expected = jax.tree.map(lambda history: history[::record_every], on_the_host(histories))
    assert_same_bits((thinned.losses, thinned.gradient_norms, thinned.path), expected)
    assert_same_bits(thinned.state, every.state)


@pytest.mark.slow
@settings(max_examples=8)
@given(
    lengths=st.tuples(st.sampled_from(LENGTHS), st.sampled_from(LENGTHS)),
    batch_size=st.sampled_from([None, 1, 6]),
)
def test_two_parts_are_the_whole(lengths: tuple[int, int], batch_size: int | None) -> None:
    params, data = make_problem(3, n=20, d=3)
    run = {"learning_rate": 0.05, "batch_size": batch_size}
    key = None if batch_size is None else KEY
    whole = fit(mse, params, data, num_steps=sum(lengths), key=key, **run)
    first = fit(mse, params, data, num_steps=lengths[0], key=key, **run)
    second = fit(mse, first.state, data, num_steps=lengths[1], **run)
    assert_same_bits(second.state, whole.state)
    assert_same_bits(joined(first.losses, second.losses), whole.losses)


# An order of any length


@pytest.mark.slow
@settings(max_examples=12)
@given(st.integers(1, 5000), st.integers(0, 2**31 - 1), st.integers(0, 10**6))
def test_an_order_holds_each_example_once(n: int, seed: int, epoch: int) -> None:
    key = jax.random.key(seed)
    order = np.asarray(shuffled_index(key, n, np.arange(n), epoch))
    assert (np.bincount(order, minlength=n) == 1).all()
    place = seed % n
    assert int(shuffled_index(key, n, place, epoch)) == order[place]


# A table however it is spelled


NUMBERS = st.floats(-1e300, 1e300)
SPELLINGS = (repr, "{:.16e}".format, "{:+.17g}".format, '"{!r}"'.format, " {!r} ".format)


@given(data=st.data())
def test_a_table_is_the_same_however_it_is_spelled(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = data.draw(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=6))
    delimiter = data.draw(st.sampled_from(",;\t"))
    line_ends = st.sampled_from(["\n", "\r\n", "\r"])
    spellings = st.sampled_from(SPELLINGS)
    header = data.draw(st.sampled_from([("a", "b", "y"), ('"a"', '"b"', "y")]))
    lines = [header] + [tuple(data.draw(spellings)(number) for number in row) for row in rows]
    text = data.draw(st.sampled_from(["", "\ufeff"]))
    text += "".join(delimiter.join(line) + data.draw(line_ends) for line in lines)
    path: Path = tmp_path_factory.mktemp("spelled") / "table.csv"
    path.write_bytes((text if data.draw(st.booleans()) else text.rstrip("\r\n")).encode())
    table = read_table(path, target="y")
    assert table.features == ("a", "b")
    np.testing.assert_array_equal(np.column_stack([table.X, table.y]), rows)
