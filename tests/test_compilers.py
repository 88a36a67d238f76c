"""Products under `jit` and `vmap` at sizes where a compiler has been wrong without an error.

XLA's CPU compiler divides a long loop among its cores. In jaxlib 0.10.2 some of the last rows came
out wrong (jax #39103), at sizes just beyond a multiple of what a core was given. A mean over all
rows hides one wrong row in its rounding, so the tests look at every row, or at the edges only.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from numpy.typing import ArrayLike

from linreg_jax import Dataset, Loss, Params, as_dataset, fit, gradients, mse, predict, trajectory
from linreg_jax.gradients import ValueAndGradient
from tests.reference import TABLE
from tests.support import relative_error

SIZES = (16_383, 16_385, 20_000, 32_767, 32_769, 65_537)
BEYOND = (16_385, 32_769)  # one more than a multiple of 16,384
LOSSES = {name: loss for name, (loss, *_) in TABLE.items()}
BOUND = {"float32": 1e-5, "float64": 1e-13}  # sums of exact terms, some 50 roundings


@pytest.fixture(params=BEYOND)
def problem(request: pytest.FixtureRequest, dtype: str) -> tuple[Params, Dataset]:
    """`(params, data)` whose residuals are exact in either dtype, and none on a kink."""
    n, rng = request.param, np.random.default_rng(0)
    X = rng.integers(-8, 9, (n, 3)).astype(dtype)
    y = (rng.integers(-8, 9, n) + 1 / 8).astype(dtype)
    weights = jnp.asarray([0.25, -0.5, 0.75], dtype)
    return Params(weights, jnp.asarray(0.25, dtype)), as_dataset(X, y)


def expected_rows(name: str, params: Params, data: Dataset) -> tuple[np.ndarray, ...]:
    """[n] values, [n, d] and [n] gradients of each example by itself, in NumPy's float64."""
    _, rho, psi, _ = TABLE[name]
    X, y = np.asarray(data.X, np.float64), np.asarray(data.y, np.float64)
    r = X @ np.asarray(params.weights, np.float64) + float(params.bias) - y
    slope = np.vectorize(psi, otypes=[float])(r)
    return np.vectorize(rho, otypes=[float])(r), slope[:, None] * X, slope


def worst_row(actual: ArrayLike, expected: ArrayLike) -> float:
    """The largest error of a row, relative to the row's own largest entry, or to 1."""
    found, wanted = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert found.shape == wanted.shape
    found, wanted = found.reshape(len(found), -1), wanted.reshape(len(wanted), -1)
    errors = np.abs(found - wanted).max(axis=1)
    return (errors / np.maximum(np.abs(wanted).max(axis=1), 1)).max()


@pytest.mark.parametrize("n", SIZES)
def test_a_product_and_a_sum_for_each_row_are_right_in_every_row(n: int, dtype: str) -> None:
    rows = np.zeros((n, 3), dtype)
    rows[:, 0] = np.arange(n)
    squared_norms = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3, dtype=dtype) @ row) ** 2)))
    # Exact: a square, rounded once, and zeros.
    np.testing.assert_array_equal(squared_norms(rows), rows[:, 0] ** 2)


def test_losses_and_gradients_of_each_example_are_right_in_every_row(
    problem: tuple[Params, Dataset], dtype: str
) -> None:
    params, data = problem

    def of_one_example(x: Array, target: Array) -> dict[str, tuple[Array, Params]]:
        example = Dataset(X=x[None, :], y=target[None])
        return {name: jax.value_and_grad(loss)(params, example) for name, loss in LOSSES.items()}

    for name, (value, gradient) in jax.jit(jax.vmap(of_one_example))(data.X, data.y).items():
        value_wanted, weights_wanted, bias_wanted = expected_rows(name, params, data)
        assert worst_row(value, value_wanted) < BOUND[dtype], name
        assert worst_row(gradient.weights, weights_wanted) < BOUND[dtype], name
        assert worst_row(gradient.bias, bias_wanted) < BOUND[dtype], name


def test_predictions_of_each_example_are_right_in_every_row(
    problem: tuple[Params, Dataset], dtype: str
) -> None:
    params, data = problem
    one_by_one = jax.jit(jax.vmap(lambda x: predict(params, x[None, :])[0]))
    expected = np.asarray(data.X, np.float64) @ [0.25, -0.5, 0.75] + 0.25
    np.testing.assert_array_equal(one_by_one(data.X), expected)  # exact: quarters below 16


@pytest.mark.parametrize("way", [gradients.autodiff, gradients.vectorized, gradients.one_pass])
def test_gradients_of_the_rows_at_the_edges_are_right(
    way: Callable[[Loss], ValueAndGradient], problem: tuple[Params, Dataset], dtype: str
) -> None:
    params, data = problem
    n = len(data.y)
    weight = np.zeros(n, dtype)
    for edge in (0, 8_192, 16_384, n):
        weight[max(edge - 2, 0) : edge + 2] = 1
    data = data._replace(sample_weight=jnp.asarray(weight))

    def every_loss(params: Params, data: Dataset) -> dict[str, tuple[Array, Params]]:
        return {name: way(loss)(params, data) for name, loss in LOSSES.items()}

    for name, (value, gradient) in jax.jit(every_loss)(params, data).items():
        divisor = weight.sum() if TABLE[name][-1] else 1
        values, weights, bias = expected_rows(name, params, data)
        expected = [weight @ values, weight @ weights, weight @ bias]
        actual = [value, gradient.weights, gradient.bias]
        assert relative_error(actual, [part / divisor for part in expected]) < BOUND[dtype], name


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", ["sse", "mae"])
def test_a_loss_at_many_parameters_is_right_at_each(name: str, n: int, dtype: str) -> None:
    data = Dataset(X=jnp.eye(3, dtype=dtype), y=jnp.zeros(3, dtype))
    weights = np.zeros((n, 3), dtype)
    weights[:, 0] = np.arange(n)
    surface = jax.jit(jax.vmap(lambda w: LOSSES[name](Params(w, None), data)))
    expected = weights[:, 0].astype(float) ** 2 if name == "sse" else weights[:, 0] / 3
    assert worst_row(surface(weights), expected) < BOUND[dtype]


@pytest.mark.slow
@pytest.mark.parametrize("num_rates", BEYOND)
def test_a_sweep_of_many_learning_rates_is_right_in_every_run(num_rates: int, dtype: str) -> None:
    X, y = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 1.0], [-2.0, 1.0]]), np.array([1, 2, 0, 3.0])
    data = as_dataset(X.astype(dtype), y.astype(dtype))
    params = Params(jnp.asarray([0.5, -0.25], dtype), jnp.asarray(1.0, dtype))
    rates = jnp.linspace(0.001, 0.1, num_rates, dtype=dtype)

    def run(rate: Array) -> tuple[Params, Params]:
        found = trajectory(mse, params, data, learning_rate=rate, steps=3)
        return fit(mse, params, data, learning_rate=rate, num_steps=3).params, found.params

    rate = np.asarray(rates, np.float64)[:, None]
    with_ones = np.column_stack([X, np.ones(4)])
    theta = np.broadcast_to([0.5, -0.25, 1.0], (num_rates, 3))
    for _ in range(3):
        theta = theta - rate * 2 / 4 * (theta @ with_ones.T - y) @ with_ones
    for found in jax.jit(jax.vmap(run))(rates):
        assert worst_row(np.column_stack([found.weights, found.bias]), theta) < BOUND[dtype]
