"""Gradient descent in closed form, held to a plain NumPy loop in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import Dataset, Params, as_dataset, half_sse, huber, mse
from linreg_jax._trajectory import trajectory
from linreg_jax.penalties import lasso, ridge
from tests.support import make_problem, relative_error

STEPS = np.array([0, 1, 2, 3, 10, 100, 999, 1000])
# What the oracle promises over a thousand steps on well-conditioned data.
PROMISED = {"float32": 1e-5, "float64": 1e-12}


def descend(params, data, *, learning_rate, steps, momentum=0.0, strength=0.0):
    """Plain gradient descent on `mse + ridge(strength)` in NumPy float64, one step at a time.

    Returns:
      `(thetas, losses)` at each of `steps`; a theta is the weights' rows and then the bias's.
    """
    X, y = np.asarray(data.X, float), np.asarray(data.y, float).reshape(len(data.y), -1)
    s = np.ones(len(X)) if data.sample_weight is None else np.asarray(data.sample_weight, float)
    theta = np.asarray(params.weights, float).reshape(X.shape[1], -1)
    if params.bias is not None:
        X = np.concatenate([X, np.ones((len(X), 1))], axis=1)
        theta = np.concatenate([theta, np.asarray(params.bias, float).reshape(1, -1)])
    penalized = np.ones((len(theta), 1))
    penalized[data.X.shape[1] :] = 0
    thetas, losses, velocity = [], [], np.zeros_like(theta)
    for step in range(max(steps) + 1):
        r = X @ theta - y
        if step in steps:
            thetas.append(theta)
            losses.append(
                s @ (r**2).sum(axis=1) / s.sum() + strength * (penalized * theta**2).sum()
            )
        gradient = 2 * X.T @ (s[:, None] * r) / s.sum() + 2 * strength * penalized * theta
        velocity = momentum * velocity + gradient
        theta = theta - learning_rate * velocity
    return np.array(thetas), np.array(losses)


def stacked(params):
    """Weights and bias of a trajectory's parameters as `descend` has them, [s, p, k]."""
    weights = np.asarray(params.weights, float)
    weights = weights.reshape(*weights.shape[:2], -1)
    if params.bias is None:
        return weights
    bias = np.asarray(params.bias, float)
    return np.concatenate([weights, bias.reshape(len(bias), 1, -1)], axis=1)


CASES = {
    "plain": {},
    "weighted targets": {"k": 3, "weighted": True},
    "no intercept": {"intercept": False},
    "fewer rows than columns": {"n": 3, "d": 5},
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_where_a_loop_arrives(case, dtype):
    params, data = make_problem(1, dtype=dtype, **CASES[case])
    # Interpolated data have a loss that falls to 0, and a loop's rounding is all that is left.
    strength = 0.1 if case == "fewer rows than columns" else 0.0
    loss = mse + ridge(strength)
    for momentum in (0.0, 0.5, 0.9):  # real and complex eigenvalues, by turns
        rates = jnp.asarray([0.01, 0.2], dtype)
        path = trajectory(loss, params, data, learning_rate=rates, steps=STEPS, momentum=momentum)
        for index, rate in enumerate(np.asarray(rates, float)):
            thetas, losses = descend(
                params,
                data,
                learning_rate=rate,
                steps=STEPS,
                momentum=float(np.asarray(momentum, dtype)),
                strength=float(np.asarray(strength, dtype)),
            )
            actual = stacked(jax.tree.map(lambda leaf, index=index: leaf[index], path.params))
            for theta, expected in zip(actual, thetas, strict=True):
                assert relative_error(theta, expected) < PROMISED[dtype]
            assert np.abs(path.losses[index] / losses - 1).max() < PROMISED[dtype]
    assert path.losses.dtype == path.params.weights.dtype == dtype


def test_losses_keep_their_digits_on_the_way_to_zero(x64):
    # An exact fit: the loss after t steps is a square, however small, and not a difference.
    X = np.diag([1.0, 0.5])
    data = as_dataset(X, X @ [3.0, -4.0])
    path = trajectory(
        half_sse, Params(jnp.zeros(2), None), data, learning_rate=0.5, steps=np.array([40, 80])
    )
    left = np.array([0.5, 0.875])[None, :] ** np.array([[40], [80]]) * [3.0, -2.0]
    expected = (left**2).sum(axis=1) / 2
    assert np.abs(path.losses / expected - 1).max() < 1e-12  # 80 steps of rounding
    assert expected[1] < 1e-8


@pytest.mark.parametrize("decay", [1e-3, 0.1, 1.0, 3.7])
def test_momentum_where_both_eigenvalues_meet(decay, x64):
    # (1 - sqrt(momentum))² = learning rate times curvature: one eigenvalue, one eigenvector.
    momentum = (1 - np.sqrt(decay)) ** 2
    data = as_dataset([[1.0]], [0.0])
    start = Params(jnp.array([1.0]), None)
    steps = np.array([1, 7, 60])
    path = trajectory(mse, start, data, learning_rate=decay / 2, steps=steps, momentum=momentum)
    thetas, _ = descend(start, data, learning_rate=decay / 2, steps=steps, momentum=momentum)
    # The start is 1 and the powers of a defective matrix lose about their number of steps.
    np.testing.assert_allclose(path.params.weights[:, 0], thetas[:, 0, 0], rtol=1e-9, atol=1e-13)


def test_axes_follow_the_arguments():
    params, data = make_problem(2)
    at = functools.partial(trajectory, mse, params, data)
    grid = at(learning_rate=jnp.array([0.0, 0.1, 0.2]), steps=jnp.array([0, 5]))
    assert grid.params.weights.shape == (3, 2, 4)
    assert grid.params.bias.shape == grid.losses.shape == (3, 2)
    row = at(learning_rate=0.1, steps=[0, 5])
    assert row.params.weights.shape == (2, 4)
    assert relative_error(row, jax.tree.map(lambda leaf: leaf[1], grid)) < 1e-6
    one = at(learning_rate=0.1, steps=5)
    assert one.losses.shape == one.params.bias.shape == ()
    assert relative_error(one, jax.tree.map(lambda leaf: leaf[1, 1], grid)) < 1e-6
    column = at(learning_rate=jnp.array([0.1]), steps=5)
    assert column.losses.shape == (1,)
    # At rate 0 and after no steps it is where it started, to the last bit.
    for place in [(0, 1), (2, 0)]:
        here = jax.tree.map(lambda leaf, place=place: leaf[place], grid.params)
        assert relative_error(here, params) == 0


def test_a_thousand_rates_and_a_billion_steps():
    params, data = make_problem(3)
    rates = jnp.linspace(0.0, 1.0, 1000)
    path = trajectory(mse, params, data, learning_rate=rates, steps=2_000_000_000)
    X = np.concatenate([np.asarray(data.X, float), np.ones((50, 1))], axis=1)
    minimum = np.linalg.lstsq(X, np.asarray(data.y, float), rcond=None)[0]
    stable = 2 / np.linalg.eigvalsh(2 * X.T @ X / 50).max()
    inside = (rates > 0.01) & (rates < 0.999 * stable)
    assert relative_error(path.params.weights[inside][0], minimum[:-1]) < 1e-6  # float32
    assert relative_error(path.params.weights[inside][-1], minimum[:-1]) < 1e-6
    assert bool(jnp.isinf(path.losses[rates > 1.001 * stable]).all())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_what_explodes_is_infinite_and_never_nan(momentum):
    params, data = make_problem(4, k=3, weighted=True)
    steps = np.array([0, 10, 100, 1000, 100_000, 2**31 - 1])
    path = trajectory(mse, params, data, learning_rate=5.0, steps=steps, momentum=momentum)
    for leaf in jax.tree.leaves(path):
        assert not bool(jnp.isnan(leaf).any())
    assert bool(jnp.isfinite(path.losses[:2]).all())
    assert bool(jnp.isinf(path.losses[2:]).all())
    assert bool(jnp.isinf(path.params.weights[3:]).all())


def test_nothing_moves_without_curvature_or_from_the_minimum(dtype):
    # The second feature is 0 everywhere, and the start fits the first.
    data = as_dataset(np.array([[1.0, 0.0], [2.0, 0.0]], dtype), np.array([3.0, 6.0], dtype))
    start = Params(jnp.array([3.0, 7.0], dtype), None)
    path = trajectory(mse, start, data, learning_rate=0.1, steps=[1, 1000])
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(path.params.weights, [[3, 7], [3, 7]], rtol=4 * eps)
    assert path.params.weights[:, 1].tolist() == [7.0, 7.0]
    assert float(jnp.max(path.losses)) < (100 * eps) ** 2


def test_compressed_rows_travel_the_same_path(x64):
    params, data = make_problem(5, weighted=True, dtype="float64")
    s, X, y = (np.asarray(a) for a in (data.sample_weight, data.X, data.y))
    rows = np.sqrt(s)[:, None] * np.concatenate([np.ones((50, 1)), X, y[:, None]], axis=1)
    R = np.linalg.qr(rows, mode="r")
    small = Dataset(R[:, 1:-1], R[:, -1], None, R[:, 0], s.sum())
    one, other = (
        trajectory(mse, params, rows, learning_rate=0.1, steps=STEPS, momentum=0.5)
        for rows in (data, small)
    )
    assert relative_error(one, other) < 1e-13  # the rounding of the compressed rows


def test_sums_and_halves(x64):
    params, data = make_problem(6, dtype="float64")
    path = trajectory(half_sse, params, data, learning_rate=0.002, steps=[0, 3])
    theta, gradient_of = params, jax.jit(jax.grad(half_sse))
    for _ in range(3):
        gradient = gradient_of(theta, data)
        theta = jax.tree.map(lambda p, g: p - 0.002 * g, theta, gradient)
    last = jax.tree.map(lambda leaf: leaf[1], path.params)
    assert relative_error(last, theta) < 1e-13  # rounding
    expected = [half_sse(params, data), half_sse(theta, data)]
    assert relative_error(path.losses, expected) < 1e-13


def test_under_jit_and_vmap():
    params, data = make_problem(7)

    @jax.jit
    @jax.vmap
    def final(rate, steps, momentum):
        return trajectory(
            mse, params, data, learning_rate=rate, steps=steps, momentum=momentum
        ).losses

    rates, steps, momenta = jnp.array([0.01, 0.1]), jnp.array([3, 30]), jnp.array([0.5, 0.0])
    together = final(rates, steps, momenta)
    for index in range(2):
        _, losses = descend(
            params,
            data,
            learning_rate=float(rates[index]),
            steps=[int(steps[index])],
            momentum=float(momenta[index]),
        )
        assert relative_error(together[index], losses[0]) < PROMISED["float32"]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"learning_rate": -0.1}, ValueError, "learning_rate must be .* at least 0, got -0.1"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate must be .* got nan"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be .* 'fast'"),
        ({"learning_rate": np.ones((2, 2))}, ValueError, r"learning_rate has shape \[2, 2\]"),
        ({"steps": -1}, ValueError, "steps must be whole numbers from 0 .* got -1"),
        ({"steps": 1.5}, TypeError, "steps must be whole numbers .* 1.5 of type float"),
        ({"steps": True}, TypeError, "steps must be whole numbers"),
        ({"steps": 2**31}, ValueError, "steps must be whole numbers from 0 to 2147483647"),
        ({"steps": np.array([1.0])}, TypeError, "got an array of float64"),
        ({"steps": [[1]]}, TypeError, "steps must be whole numbers"),
        ({"steps": np.array([[1]])}, ValueError, r"steps has shape \[1, 1\]"),
        ({"momentum": -0.5}, ValueError, "momentum must be"),
        ({"momentum": np.array([0.5])}, ValueError, r"momentum has shape \[1\]"),
    ],
)
def test_bad_settings_are_refused(settings, error, message):
    params, data = make_problem(0)
    with pytest.raises(error, match=message):
        trajectory(mse, params, data, **({"learning_rate": 0.1, "steps": 1} | settings))


def test_losses_without_a_closed_form_are_refused():
    params, data = make_problem(0)
    for loss in (huber(1.0), mse + lasso(0.1)):
        with pytest.raises(ValueError, match="trajectory"):
            trajectory(loss, params, data, learning_rate=0.1, steps=1)
    with pytest.raises(ValueError, match="weights"):
        trajectory(mse, Params(jnp.zeros(3), None), data, learning_rate=0.1, steps=1)
