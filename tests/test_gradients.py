"""Every way to the gradient against NumPy float64 loops, on smooth ground and on kinks."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import (
    Dataset,
    Loss,
    Params,
    as_dataset,
    gradients,
    half_sse,
    huber,
    lasso,
    mse,
    ridge,
)
from linreg_jax.gradients import autodiff, by_loops, finite_difference, vectorized
from tests import reference
from tests.support import every_three, make_problem, relative_error

WAYS = {
    "autodiff": autodiff,
    "vectorized": vectorized,
    "by_loops": by_loops,
    "finite_difference": finite_difference,
}

# Rounding of sums of at most 30 terms; measured 4e-15 and 2e-6 at worst.
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


@functools.partial(jax.jit, static_argnames="names")
def every_way(params, data, names):
    """All losses of the table by all ways, compiled together."""
    return {
        name: {way: WAYS[way](reference.TABLE[name][0])(params, data) for way in WAYS}
        for name in names
    }


def problem_on_kinks(*, dtype, **shape):
    """Small integers and halves, so that many residuals sit exactly on 0, ±0.5 or ±1."""
    params, data = make_problem(3, dtype=dtype, **shape)
    rng = np.random.default_rng(4)
    params = jax.tree.map(lambda p: jnp.asarray(np.round(2 * np.asarray(p))), params)
    X = np.round(np.asarray(data.X))
    y = X @ np.asarray(params.weights) + (0 if params.bias is None else np.asarray(params.bias))
    y = y + rng.choice([0.0, 0.0, 0.5, -0.5, 1.0, -2.0], y.shape)
    return params, data._replace(X=jnp.asarray(X), y=jnp.asarray(y.astype(dtype)))


def assert_ways_agree(params, data, dtype):
    results = every_way(params, data, tuple(reference.TABLE))
    for name, ways in results.items():
        value, *gradient = reference.value_and_gradient(name, params, data)
        expected = [g for g in gradient if g is not None]
        for way, (found_value, found) in ways.items():
            assert isinstance(found, Params)
            chex.assert_trees_all_equal_shapes_and_dtypes(found, params)
            error = relative_error(found, expected)
            assert error < TOLERANCE[dtype], f"{name} by {way}: gradient off by {error:.1e}"
            error = relative_error(found_value, value)
            assert error < TOLERANCE[dtype], f"{name} by {way}: value off by {error:.1e}"


@pytest.mark.parametrize(
    ("dtype", "k", "weighted", "intercept"),
    every_three(("float32", "float64"), (None, 2), (True, False), (True, False)),
    indirect=["dtype"],
)
def test_every_way_agrees_with_loops_in_numpy(dtype, k, weighted, intercept):
    shape = {"n": 12, "d": 3, "k": k, "weighted": weighted, "intercept": intercept}
    scales = [0.1, 1.0, 30.0]
    params, data = make_problem(1, dtype=dtype, scales=scales, **shape)
    assert_ways_agree(params, data, dtype)
    # The same shapes again: no second compilation, and every kink is met.
    params, data = problem_on_kinks(dtype=dtype, **shape)
    r = np.asarray(data.X) @ np.asarray(params.weights) - np.asarray(data.y)
    r = r if params.bias is None else r + np.asarray(params.bias)
    assert {0.0, 0.5, -0.5} <= set(r.ravel().tolist())
    assert_ways_agree(params, data, dtype)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_worked_example_comes_out_exactly(way):
    # Ages in months and heights in cm; the gradient is worked out by hand in the textbook.
    data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
    params = Params(jnp.array([1.0]), jnp.array(0.0))
    value, gradient = jax.jit(way(half_sse))(params, data)
    assert float(value) == 2230.0
    assert gradient.weights.tolist() == [-260.0]
    assert float(gradient.bias) == -114.0


def test_worked_quadratic(x64):
    # f(a, b) = 3a² + b² - ab + a: gradient (6a - b + 1, 2b - a), minimum at (-2/11, -1/11).
    # As half_sse of rows X = Lᵀ with LLᵀ the Hessian, y = -L⁻¹(1, 0), it is f up to a constant.
    hessian, linear = np.array([[6.0, -1.0], [-1.0, 2.0]]), np.array([1.0, 0.0])
    L = np.linalg.cholesky(hessian)
    data = as_dataset(L.T, -np.linalg.solve(L, linear))
    for way in WAYS.values():
        gradient_at = jax.jit(way(half_sse))
        for a, b in [(0.0, 0.0), (1.5, -2.0)]:
            _, gradient = gradient_at(Params(np.array([a, b]), None), data)
            expected = [6 * a - b + 1, 2 * b - a]
            assert relative_error(gradient.weights, expected) < 1e-14  # a few roundings
        _, gradient = gradient_at(Params(np.array([-2 / 11, -1 / 11]), None), data)
        assert np.abs(gradient.weights).max() < 1e-15


@jax.jit
def with_and_without_penalties(params, data):
    losses = mse, mse + ridge(0.3) + lasso(0.2)
    return {name: [way(loss)(params, data)[1] for loss in losses] for name, way in WAYS.items()}


def test_penalties_act_on_weights_only(dtype):
    params, data = make_problem(2, n=12, d=3, dtype=dtype)
    w = np.array(params.weights)
    w[1] = 0  # the kink of lasso
    found = with_and_without_penalties(params._replace(weights=w), data)
    for name, (plain, penalized) in found.items():
        expected = np.asarray(plain.weights) + 0.3 * 2 * w + 0.2 * np.sign(w)
        assert relative_error(penalized.weights, expected) < TOLERANCE[dtype], name
        assert float(penalized.bias) == float(plain.bias), name


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_rows_that_weigh_nothing_and_bias_columns(way, dtype):
    params, data = make_problem(5, n=10, d=3, dtype=dtype, weighted=True)
    bias_column = np.linspace(-1, 2, 10).astype(dtype)
    general = data._replace(bias_column=bias_column, total_weight=np.asarray(7, dtype))
    value_and_gradient = jax.jit(way(mse))
    value, gradient = value_and_gradient(params, general)
    X, y, s, b = (np.asarray(a, np.float64) for a in (*data[:3], bias_column))
    r = X @ np.asarray(params.weights, np.float64) + b * float(params.bias) - y
    assert relative_error(value, (s * r**2).sum() / 7) < TOLERANCE[dtype]
    assert relative_error(gradient.weights, X.T @ (2 * s * r) / 7) < TOLERANCE[dtype]
    assert relative_error(gradient.bias, b @ (2 * s * r) / 7) < TOLERANCE[dtype]
    # Padding: a batch of rows that weigh nothing has loss 0 and gradient 0, never 0/0.
    nothing = general._replace(sample_weight=np.zeros(10, dtype), total_weight=np.asarray(0, dtype))
    value, gradient = value_and_gradient(params, nothing)
    assert float(value) == 0
    assert not np.any(gradient.weights)
    assert not np.any(gradient.bias)


def test_autodiff_takes_any_function():
    params, data = make_problem(6)
    _, gradient = autodiff(lambda p, d: jnp.sum(p.weights) ** 2 + p.bias)(params, data)
    np.testing.assert_allclose(gradient.weights, 2 * np.sum(params.weights), rtol=1e-6)


@pytest.mark.parametrize("way", ["vectorized", "by_loops", "finite_difference"])
def test_ways_by_hand_need_a_loss_that_knows_its_derivative(way):
    with pytest.raises(
        TypeError, match=rf"{way} needs a loss with rho and psi.*autodiff takes any"
    ):
        getattr(gradients, way)(lambda params, data: 0.0)


def test_ways_are_mapped_over_hyper_parameters():
    params, data = make_problem(7)
    deltas = jnp.array([0.1, 1.0, 10.0])
    mapped = jax.jit(jax.vmap(lambda delta: vectorized(huber(delta))(params, data)[1].weights))
    alone = jax.jit(lambda loss: autodiff(loss)(params, data)[1].weights)
    for delta, found in zip(deltas.tolist(), np.asarray(mapped(deltas)), strict=True):
        # float32 sums in another order
        assert relative_error(found, alone(huber(delta))) < 2e-6


def test_equal_losses_compile_once():
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def loss_value(loss, params, data):
        return loss(params, data)

    params, data = make_problem(8)
    for delta in (1.0, 2, np.float32(3.0), jnp.array(4.0)):
        loss_value(huber(delta), params, data)
    assert huber(1.0) == huber(1)
    assert hash(huber(1.0)) == hash(huber(1))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_shapes_are_refused_while_tracing(way):
    params, data = make_problem(9)
    column = Dataset(data.X, data.y[:, None])
    with pytest.raises(ValueError, match=r"y has shape \[50, 1\] but X is \[50, 4\].*y\[:, 0\]"):
        jax.jit(way(mse))(params, column)


EVERY_WAY = [
    gradients.autodiff,
    gradients.vectorized,
    gradients.one_pass,
    gradients.by_loops,
    gradients.finite_difference,
    functools.partial(gradients.one_pass, block_rows=7),
]


TRACED = []


@dataclasses.dataclass(frozen=True)
class Traced(Loss):
    """A loss that remembers when Python runs through it."""

    scale: float = 1.0

    def rho(self, r):
        TRACED.append("rho")
        return self.scale * r * r

    def psi(self, r):
        TRACED.append("psi")
        return 2 * self.scale * r


@pytest.mark.parametrize("way", EVERY_WAY)
def test_a_way_made_anew_at_each_call_compiles_once(way):
    """`one_pass(loss)(params, data)` outside jit, in a user's own loop."""
    params, data = make_problem(11, n=40)
    expected = way(Traced(1.0))(params, data)
    TRACED.clear()
    found = [way(Traced(scale))(params, data) for scale in (1.0, 2.0)]
    assert not TRACED
    assert relative_error(found[0], expected) == 0
    assert relative_error(found[1], jax.tree.map(lambda leaf: 2 * leaf, expected)) < 1e-6


def test_a_loss_called_outside_jit_compiles_once():
    params, data = make_problem(11, n=40)
    value = Traced(1.0)(params, data)
    TRACED.clear()
    assert float(Traced(2.0)(params, data)) == 2 * float(value)
    assert not TRACED


def test_a_loss_that_is_no_pytree_has_its_gradients_too():
    class Cubic(Loss):
        def rho(self, r):
            return r * r * abs(r)

        def psi(self, r):
            return 3 * r * abs(r)

    params, data = make_problem(12)
    expected = jax.value_and_grad(Cubic())(params, data)
    for way in EVERY_WAY:
        assert relative_error(way(Cubic())(params, data), expected) < 1e-4  # differences in float32


@pytest.mark.parametrize("way", EVERY_WAY)
@pytest.mark.parametrize("loss", [mse, huber(1.0) + ridge(0.1)], ids=str)
def test_nothing_is_transferred_behind_the_callers_back(loss, way):
    params, data = make_problem(13, weighted=True)
    expected = way(loss)(params, data)
    with jax.transfer_guard("disallow"):
        value = loss(params, data)
        found = way(loss)(params, data)
    assert relative_error(found, expected) == 0
    assert relative_error(value, expected[0]) < 1e-6
    on_host = data._replace(X=np.asarray(data.X))
    with (
        jax.transfer_guard("disallow"),
        pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"),
    ):
        way(loss)(params, on_host)  # the caller's own array is what the guard is there to find
