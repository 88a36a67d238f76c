"""Products in blocks of rows: what a plain product gives, and its derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax._kernels import (
    Columns,
    Narrow,
    broadcast,
    product,
    rows_in_block,
    sum_of_examples,
    transposed_product,
)
from tests.support import relative_error

# (n, d): in blocks; too small; no divisor that serves; one feature; rows wider than a block.
SHAPES = [(12_000, 40), (100, 3), (12_007, 40), (600_000, 1), (96, 5000)]


def problem(n, d, k, seed=0):
    rng = np.random.default_rng(seed)
    targets = () if k is None else (k,)
    return rng.normal(size=(n, d)), rng.normal(size=(d, *targets)), rng.normal(size=(n, *targets))


@pytest.mark.parametrize("k", [None, 2])
@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_products_and_their_derivative_are_those_of_numpy(n, d, k):
    X, weights, s = problem(n, d, k)
    small = [jnp.asarray(array, "float32") for array in (X, weights, s)]
    products, pull_back = jax.vjp(product, *small[:2])
    # float32 rounds n products, each by 6e-8 of its size, with signs that cancel like √n.
    bound = 6e-8 * 8 * max(d, 32) ** 0.5
    assert relative_error(products, X @ weights) < bound
    assert relative_error(pull_back(small[2])[1], X.T @ s) < 6e-8 * 8 * n**0.5
    assert relative_error(transposed_product(small[0], small[2]), X.T @ s) < 6e-8 * 8 * n**0.5


def test_large_data_is_cut_and_small_data_is_not():
    assert rows_in_block(1_000_000, 32) == 4000
    assert rows_in_block(131_072, 512) == 256
    assert rows_in_block(256, 100) == 128
    assert rows_in_block(255, 100) == 255
    assert rows_in_block(1_000_003, 32) == 1_000_003


def test_no_block_lies_on_two_devices():
    assert rows_in_block(1_000_000, 32, 5) == 4000
    assert rows_in_block(1_000_000, 32, 64) == 3125
    assert rows_in_block(1_000_001, 32, 64) == rows_in_block(1_000_001, 32)  # they do not divide it


@pytest.mark.parametrize("rows", [rows_in_block(n, d) for n, d in SHAPES])
def test_blocks_are_not_thin(rows):
    assert rows >= 32


def test_mapped_over_weights():
    X, _, s = (jnp.asarray(array, "float32") for array in problem(12_000, 40, None))
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(7, 40)), "float32")
    mapped = jax.vmap(product, (None, 0))(X, weights)
    # As above, over 40 products.
    assert (
        relative_error(mapped, np.asarray(weights, "float64") @ np.asarray(X, "float64").T) < 3e-6
    )
    assert jax.vmap(transposed_product, (None, 0))(X, s[None, :]).shape == (1, 40)


@pytest.mark.parametrize("k", [None, 3])
@pytest.mark.parametrize("n", [1, 7, 100, 97, 1024, 20_000])
def test_sums_over_examples_and_their_transpose(n, k):
    rng = np.random.default_rng(n)
    values = rng.normal(size=n if k is None else (n, k)).astype("float32")
    number = jnp.asarray(rng.normal(size=() if k is None else k), "float32")
    exact = values.astype("float64").sum(axis=0)
    spread, pull_back = jax.vjp(lambda number: broadcast(number, jnp.zeros((n, 1))), number)
    assert (np.asarray(spread) == np.broadcast_to(number, values.shape)).all()
    # float32 rounds each of n terms of size 1 by 6e-8, with signs that cancel.
    bound = 6e-8 * 8 * n**0.5
    assert np.abs(sum_of_examples(jnp.asarray(values)) - exact).max() < bound
    assert np.abs(pull_back(jnp.asarray(values))[0] - exact).max() < bound


@pytest.mark.parametrize("k", [None, 2])
@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_products_by_columns(n, d, k):
    X, weights, s = problem(n, d, k)
    small = [jnp.asarray(array, "float32") for array in (X, weights, s)]
    columns = Columns(small[0].T)
    assert (columns.shape, columns.dtype, columns.ndim) == ((n, d), jnp.float32, 2)
    products, pull_back = jax.vjp(lambda weights: product(columns, weights), small[1])
    bound = 6e-8 * 8 * max(d, 32) ** 0.5
    assert relative_error(products, X @ weights) < bound
    assert relative_error(pull_back(small[2])[0], X.T @ s) < 6e-8 * 8 * n**0.5
    assert relative_error(transposed_product(columns, small[2]), X.T @ s) < 6e-8 * 8 * n**0.5


@pytest.mark.parametrize(("n", "d"), [(1000, 30), (100, 1)])
def test_products_number_by_number(n, d):
    X, weights, s = problem(n, d, None)
    small = [jnp.asarray(array, "float32") for array in (X, weights, s)]
    narrow = Narrow(small[0])
    assert (narrow.shape, narrow.dtype, narrow.ndim) == ((n, d), jnp.float32, 2)
    products, pull_back = jax.vjp(lambda weights: product(narrow, weights), small[1])
    assert relative_error(products, X @ weights) < 6e-8 * 8 * 32**0.5
    assert relative_error(pull_back(small[2])[0], X.T @ s) < 6e-8 * 8 * n**0.5
    assert relative_error(transposed_product(narrow, small[2]), X.T @ s) < 6e-8 * 8 * n**0.5
    assert "dot_general" not in str(jax.make_jaxpr(lambda w: product(narrow, w))(small[1]))
