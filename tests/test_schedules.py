"""invscaling and adaptive rates: scikit-learn takes the same steps, and `fit` takes them too."""

import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDRegressor

from linreg_jax import half_mse, mse
from linreg_jax.schedules import PlateauState, adaptive, invscaling
from linreg_jax.training import fit
from tests.support import make_problem, relative_error

# Both sides are float64 and take the same steps in the same order: what differs is rounding, over
# a few thousand steps that contract.
SAME_STEPS = 1e-12


def one_by_one(optimizer, rate, X, y, num_epochs):
    """[d + 1] weights and bias after steps on one example at a time, in order, from zeros."""
    transformation = optax.with_extra_args_support(optimizer(rate))

    def step(carry, example):
        params, state = carry
        x, target = example

        def loss(params):
            return 0.5 * (jnp.dot(params[:-1], x) + params[-1] - target) ** 2

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = transformation.update(gradient, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    def epoch(carry, _):
        return jax.lax.scan(step, carry, (X, y))[0], None

    params = jnp.zeros(X.shape[1] + 1)
    run = jax.jit(lambda carry: jax.lax.scan(epoch, carry, length=num_epochs)[0])
    return run((params, transformation.init(params)))


def sklearn_one_by_one(X, y, num_epochs, **settings):
    """[d + 1] the same from scikit-learn, which may stop before `num_epochs`."""
    model = SGDRegressor(penalty=None, shuffle=False, max_iter=num_epochs, **settings)
    with warnings.catch_warnings():  # that max_iter ends the run, as it should
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    assert model.n_iter_ == num_epochs
    return np.concatenate([model.coef_, model.intercept_])


class CountsTraces:
    """half_mse that counts how often Python comes by."""

    def __init__(self):
        self.count = 0

    def __call__(self, params, data):
        self.count += 1
        return half_mse(params, data)


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    return X, X @ np.array([1.0, -2.0, 0.5]) + 0.3 + 0.1 * rng.normal(size=40)


@pytest.mark.parametrize("power", [0.25, 0.5])
def test_invscaling_is_scikit_learns(x64, examples, power):
    X, y = examples
    params, _ = one_by_one(optax.sgd, invscaling(0.1, power=power), X, y, 5)
    settings = {"learning_rate": "invscaling", "eta0": 0.1, "power_t": power, "tol": None}
    assert relative_error(params, sklearn_one_by_one(X, y, 5, **settings)) < SAME_STEPS


def test_invscaling_of_batches_by_its_conversion():
    """Step s of batches of 8 has the rate of scikit-learn's example 8 (s + 1)."""
    eta0, power_t, batch = 0.1, 0.3, 8
    schedule = invscaling(eta0 / batch**power_t, power=power_t)
    expected = [eta0 / (batch * (step + 1)) ** power_t for step in range(20)]
    np.testing.assert_allclose([schedule(step) for step in range(20)], expected, rtol=1e-14)


def test_invscaling_is_traced(dtype):
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def rate(schedule, step):
        return schedule(step)

    assert rate(invscaling(1.0, power=0.5), 3) == 0.5
    assert rate(invscaling(2, power=np.float32(1)), 3) == 0.5
    rates = jax.vmap(lambda power: invscaling(0.8, power=power)(3))(jnp.array([0.0, 0.5, 1.0]))
    # sqrt and pow round each once
    np.testing.assert_allclose(rates, [0.8, 0.4, 0.2], rtol=4 * float(jnp.finfo(dtype).eps))
    slope = jax.grad(lambda initial_rate: invscaling(initial_rate, power=0.5)(3))(0.1)
    assert abs(slope - 0.5) < 1e-6


@pytest.mark.parametrize("step", [2**24, 2**31 - 1])
def test_invscaling_does_not_wrap(step, dtype):
    expected = 0.1 / (step + 1) ** 0.25
    for given in (step, np.int32(step), jnp.int32(step)):
        rate = jax.jit(lambda count: invscaling(0.1)(count))(given)
        # The step itself is rounded, and the root and the quotient.
        np.testing.assert_allclose(rate, expected, rtol=4 * float(jnp.finfo(dtype).eps))


def test_fit_takes_invscaling(x64):
    """Against a NumPy loop, and without compiling again for other rates and powers."""
    params, data = make_problem(0, dtype="float64")
    X, y = np.asarray(data.X), np.asarray(data.y)
    loss = CountsTraces()
    traces = []
    for rate, power in [(0.1, 0.25), (0.2, 0.7)]:
        schedule = invscaling(rate, power=power)
        result = fit(loss, params, data, learning_rate=schedule, num_steps=20)
        weights, bias = np.array(params.weights), float(params.bias)
        for step in range(20):
            r = X @ weights + bias - y
            eta = rate / (step + 1) ** power
            weights, bias = weights - eta * X.T @ r / len(y), bias - eta * r.mean()
        assert relative_error(result.params, (weights, bias)) < SAME_STEPS
        traces.append(loss.count)
    assert traces[0] == traces[1]


@pytest.mark.parametrize("power_of_5", [3, 5])
def test_adaptive_is_scikit_learns(x64, examples, power_of_5):
    """The same steps while the rate falls by 5, 25, 125, ...: once in five epochs, at the end."""
    X, y = examples
    num_epochs = 5 * power_of_5 + 10
    factory = adaptive(every=40, patience=5, tolerance=1e-3)
    params, (_, state) = one_by_one(factory, 0.05, X, y, num_epochs)
    settings = {"learning_rate": "adaptive", "eta0": 0.05, "tol": 1e-3, "n_iter_no_change": 5}
    assert relative_error(params, sklearn_one_by_one(X, y, num_epochs, **settings)) < SAME_STEPS
    assert float(state.scale) < 0.2**power_of_5 * 1.001


def scales_by_hand(losses, factor, patience, tolerance, every):
    """What each step is multiplied by, from the definition."""
    scale, best, waited, scales = 1.0, np.inf, 0, []
    for step, _ in enumerate(losses):
        scales.append(scale)
        if (step + 1) % every:
            continue
        mean = np.mean(losses[step + 1 - every : step + 1])
        waited = waited + 1 if mean > best - tolerance else 0
        best = min(best, mean)
        if waited == patience:
            scale, waited = scale * factor, 0
    return scales


@pytest.mark.parametrize(
    "settings",
    [
        {"factor": 0.2, "patience": 5, "tolerance": 1e-3, "every": 1},
        {"factor": 0.5, "patience": 1, "tolerance": 0.0, "every": 3},
        {"factor": 0.9, "patience": 3, "tolerance": 0.5, "every": 7},
    ],
    ids=str,
)
def test_adaptive_by_hand(dtype, settings):
    """Losses that fall, rise and stand still, in steps that the tolerance tells apart."""
    rng = np.random.default_rng(1)
    losses = np.concatenate([np.linspace(9, 1, 60), 1 + rng.random(60), np.full(60, 0.75)])
    losses = np.round(losses, 2)
    transformation = adaptive(lambda rate: optax.identity(), **settings)(1.0)

    def step(state, loss):
        update, state = transformation.update(jnp.ones((), dtype), state, value=loss)
        return state, update

    state = transformation.init(jnp.ones((), dtype))
    _, scales = jax.lax.scan(step, state, jnp.asarray(losses, dtype))
    expected = scales_by_hand(losses, **settings)
    assert min(expected) < 1
    # one rounding for each time the scale fell
    np.testing.assert_allclose(scales, expected, rtol=100 * float(jnp.finfo(dtype).eps))


def test_equal_settings_are_one_program():
    assert adaptive() == adaptive(factor=0.2, patience=np.int64(5))
    assert hash(adaptive(optax.adam)) == hash(adaptive(optax.adam))
    assert len({adaptive(), adaptive(optax.adam), adaptive(every=2), adaptive(tolerance=0)}) == 4
    params, data = make_problem(0)
    loss, traces = CountsTraces(), []
    for rate in (0.1, 0.2):
        fit(loss, params, data, learning_rate=rate, num_steps=3, optimizer=adaptive())
        traces.append(loss.count)
    assert traces[0] == traces[1]


def test_fit_shrinks_and_resumes():
    """20 steps are 7 and 13, bit for bit, mapped over rates, and the rate does fall on the way."""
    params, data = make_problem(0)
    factory = adaptive(optax.adam, patience=2, tolerance=0.5, every=2)

    @jax.vmap
    def train(rate):
        whole = fit(mse, params, data, learning_rate=rate, num_steps=20, optimizer=factory)
        part = fit(mse, params, data, learning_rate=rate, num_steps=7, optimizer=factory)
        rest = fit(mse, part.state, data, learning_rate=rate, num_steps=13, optimizer=factory)
        return whole.state, rest.state

    whole, rest = train(jnp.array([0.01, 0.1]))
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(rest), strict=True):
        np.testing.assert_array_equal(one, other)
    scale = whole.optimizer_state[-len(PlateauState._fields)]
    assert (scale < 1).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: invscaling(-1.0), ValueError, "initial_rate must be a finite number, at least 0"),
        (lambda: invscaling("0.1"), TypeError, "initial_rate must be a finite number"),
        (lambda: invscaling(0.1, power=float("nan")), ValueError, "power must be .* got nan"),
        (lambda: adaptive(optax.sgd(0.1)), TypeError, "optimizer must be a factory"),
        (lambda: adaptive(0.1), TypeError, "optimizer must be a factory"),
        (lambda: adaptive(factor=1.0), ValueError, "factor must be a number between 0 and 1"),
        (lambda: adaptive(factor=jnp.ones(2) / 2), TypeError, "known before anything compiles"),
        (lambda: adaptive(patience=0), ValueError, "patience must be an integer of 1 or more"),
        (lambda: adaptive(every=1.5), TypeError, "every must be a Python integer, got 1.5"),
        (lambda: adaptive(every=2**31), ValueError, "every must be .*2147483647.*int32"),
        (lambda: adaptive(patience=2**40), ValueError, "patience must be .*2147483647.*int32"),
        (lambda: adaptive(tolerance=-1e-3), ValueError, "tolerance must be a finite number"),
    ],
)
def test_bad_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()
