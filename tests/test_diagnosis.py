"""The diagnosis, held to NumPy's eigenvalues and to runs that explode or converge."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import (
    Params,
    as_dataset,
    epsilon_insensitive,
    fit,
    half_mse,
    half_sse,
    huber,
    init_params,
    log_cosh,
    mae,
    mse,
    quantile,
    standardize,
    trajectory,
)
from linreg_jax.diagnosis import Diagnosis, diagnose
from linreg_jax.losses import Loss
from linreg_jax.penalties import Penalty, lasso, ridge
from tests.support import make_problem, relative_error


def hessian(data, *, intercept=True, curvature=2.0, strength=0.0):
    """The Hessian of a mean of curvature r² / 2, plus ridge, in NumPy float64; bias last."""
    X = np.asarray(data.X, float)
    s = np.ones(len(X)) if data.sample_weight is None else np.asarray(data.sample_weight, float)
    penalized = np.ones(X.shape[1])
    if intercept:
        X = np.concatenate([X, np.ones((len(X), 1))], axis=1)
        penalized = np.append(penalized, 0.0)
    return curvature * X.T @ (s[:, None] * X) / s.sum() + 2 * strength * np.diag(penalized)


@pytest.mark.parametrize(
    ("case", "intercept", "loss", "curvature", "strength"),
    [
        ({"weighted": True, "k": 2}, True, mse, 2.0, 0.0),
        ({"dtype": "float64"}, False, half_mse + ridge(0.3), 1.0, 0.3),
        ({"n": 3, "d": 5, "dtype": "float64"}, True, mse + ridge(0.01), 2.0, 0.01),
    ],
    ids=["targets", "no intercept", "fewer rows"],
)
def test_curvatures_are_the_eigenvalues_of_the_hessian(
    case, intercept, loss, curvature, strength, x64
):
    _, data = make_problem(1, **case)
    dtype = data.X.dtype
    diagnosis = diagnose(data, loss, intercept=intercept)
    expected = np.linalg.eigvalsh(
        hessian(data, intercept=intercept, curvature=curvature, strength=strength)
    )[::-1]
    bound = 20 * float(jnp.finfo(dtype).eps)  # singular values, squared
    assert relative_error(diagnosis.curvatures, expected) < bound
    L, mu = expected[0], expected[-1]
    for actual, right in [
        (diagnosis.largest_curvature, L),
        (diagnosis.smallest_curvature, mu),
        (diagnosis.condition_number, L / mu),
        (diagnosis.largest_stable_rate, 2 / L),
        (diagnosis.best_rate, 2 / (L + mu)),
        (diagnosis.contraction, (L - mu) / (L + mu)),
    ]:
        assert abs(float(actual) / right - 1) < 10 * bound * L / mu
    assert int(diagnosis.rank) == len(expected)
    assert diagnosis.curvatures.dtype == diagnosis.best_rate.dtype == dtype


def test_small_curvatures_keep_their_digits():
    # In float32 an eigenvalue of the Hessian below 1e-7 of the largest is noise; these are 1e-16.
    _, data = make_problem(2, scales=[1.0, 1e4, 1e-4, 1.0])
    expected = np.linalg.eigvalsh(hessian(data))[::-1]
    diagnosis = diagnose(data)
    assert np.abs(diagnosis.curvatures / expected - 1).max() < 1e-4
    assert float(diagnosis.condition_number) > 1e14
    scaled, _ = standardize(data)
    values = np.linalg.eigvalsh(hessian(scaled))
    expected = values[-1] / values[0]
    assert abs(float(diagnosis.standardized_condition_number) / expected - 1) < 1e-4


def descend(data, rate, num_steps):
    """Losses of plain gradient descent from zero on mse, without a bias, by a loop."""

    def step(w, _):
        loss, gradient = jax.value_and_grad(mse)(Params(w, None), data)
        return w - rate * gradient.weights, loss

    start = jnp.zeros((data.X.shape[1], *data.y.shape[1:]), data.X.dtype)
    return jax.lax.scan(step, start, length=num_steps)[1]


def test_it_explodes_beyond_the_stable_rate_and_not_below(dtype):
    _, data = make_problem(3, dtype=dtype)
    limit = float(diagnose(data, intercept=False).largest_stable_rate)
    losses = jax.jit(functools.partial(descend, data, num_steps=5000))
    inside, outside = (
        losses(jnp.asarray(0.99 * limit, dtype)),
        losses(jnp.asarray(1.01 * limit, dtype)),
    )
    assert bool(jnp.isfinite(inside).all())
    assert float(inside[-1]) <= float(inside[0])
    assert float(outside[-1]) > 1e6 * float(outside[0]) or not np.isfinite(outside[-1])


def test_the_step_it_overflows_at():
    _, data = make_problem(3)
    diagnosis = diagnose(data, intercept=False)
    stable = np.asarray(diagnosis.largest_stable_rate)
    rates = stable * np.float32([0.99, 1.05, 1.2, 3.0, 1e4])
    expected = []
    losses = jax.jit(functools.partial(descend, data, num_steps=3000))
    for rate in rates:
        wrong = np.flatnonzero(~np.isfinite(losses(rate)))
        expected.append(wrong[0] if wrong.size else np.inf)
    # A few more than the fastest direction alone: 1.05 takes some 900 steps to 3e38.
    np.testing.assert_allclose(diagnosis.overflow_step(rates), expected, rtol=2e-3, atol=1)
    assert float(diagnosis.overflow_step(0.0)) == np.inf


def test_overflow_of_a_sum_with_weights_and_targets():
    _, data = make_problem(4, weighted=True, k=2)
    diagnosis = diagnose(data, half_sse, intercept=False)
    rate = 1.5 * diagnosis.largest_stable_rate
    value_and_grad = jax.jit(jax.value_and_grad(half_sse))
    W, step = jnp.zeros((4, 2)), 0
    while True:
        value, gradient = value_and_grad(Params(W, None), data)
        if not np.isfinite(value):
            break
        W, step = W - rate * gradient.weights, step + 1
    assert abs(float(diagnosis.overflow_step(rate)) - step) <= 1


def test_steps_to_an_accuracy(x64):
    _, data = make_problem(5, dtype="float64")
    H = hessian(data)
    diagnosis = diagnose(data)
    values, vectors = np.linalg.eigh(H)
    for rate in [None, 0.3 * float(diagnosis.largest_stable_rate), 0.01]:
        steps = int(diagnosis.steps_to(1e-4, rate))
        eta = float(diagnosis.best_rate) if rate is None else rate
        # The worst start: along the direction that shrinks least.
        slowest = np.argmax(np.abs(1 - eta * values))
        left = vectors[:, slowest]
        for _ in range(steps - 1):
            left = left - eta * H @ left
        assert np.linalg.norm(left) > 1e-4
        assert np.linalg.norm(left - eta * H @ left) <= 1e-4
    rates = diagnosis.largest_stable_rate * jnp.array([0.5, 1.01])
    assert np.isinf(diagnosis.steps_to(0.5, rates)).tolist() == [False, True]
    assert float(diagnose(as_dataset([[1.0]], [1.0]), intercept=False).steps_to(1e-9)) == 1


def test_redundant_features_are_named():
    rng = np.random.default_rng(6)
    a, b, c = rng.integers(-9, 9, (3, 40)) * [[1.0], [100.0], [1.0]]
    X = np.stack([a, np.full(40, 0.1), b, a, c], axis=1)
    diagnosis = diagnose(as_dataset(X.astype("float32"), a.astype("float32")))
    assert np.flatnonzero(diagnosis.constant).tolist() == [1]
    assert np.flatnonzero(diagnosis.collinear).tolist() == [0, 3]
    assert int(diagnosis.rank) == 4
    assert np.count_nonzero(diagnosis.curvatures) == 4
    text = " ".join(str(diagnosis).split())
    assert "Only 4 of 6 parameters are determined" in text
    assert "Constant: feature 1; the bias does the same" in text
    assert "Combinations of each other: features 0 and 3." in text
    assert "feature 2 has a root mean square of" in text
    assert "standardize(data) would make the condition number" in text


def test_fewer_examples_than_features_are_said():
    _, data = make_problem(7, n=3, d=6)
    diagnosis = diagnose(data)
    assert int(diagnosis.rank) == 3
    text = " ".join(str(diagnosis).split())
    assert "Only 3 of 7 parameters are determined, by these 3 examples" in text
    assert "solve returns the shortest" in text


def test_features_without_anything_are_flat():
    diagnosis = diagnose(as_dataset(np.zeros((3, 2)), np.ones(3)), intercept=False)
    assert "flat" in str(diagnosis)
    assert float(diagnosis.largest_stable_rate) == np.inf
    assert float(diagnosis.overflow_step(1.0)) == np.inf


def test_sentences_hold_the_numbers_and_fit_the_page():
    text = {}
    for seed, (loss, scales) in enumerate(
        [(mse + ridge(0.1), [1, 1e3, 1e-2, 1]), (huber(1.0), None), (mse + lasso(0.2), None)]
    ):
        _, data = make_problem(seed, scales=scales)
        diagnosis = diagnose(data, loss)
        text[str(loss)] = str(diagnosis)
        assert f"{float(diagnosis.largest_stable_rate):.4g}" in str(diagnosis)
        assert f"{float(diagnosis.best_rate):.4g}" in str(diagnosis)
        assert max(map(len, str(diagnosis).splitlines())) <= 79
    assert "mse + ridge(0.1)" in text["mse + ridge(0.1)"]
    assert "nowhere above" in text["huber(1.0)"]
    assert "explodes" not in text["huber(1.0)"]


@pytest.mark.parametrize("loss", [huber(2.0), log_cosh()], ids=str)
def test_smooth_losses_get_a_bound_that_holds(loss, x64):
    params, data = make_problem(8, weighted=True, dtype="float64")
    diagnosis = diagnose(data, loss)
    assert diagnosis.is_bound
    assert float(diagnosis.smallest_curvature) == 0
    assert float(diagnosis.contraction) == 1
    assert np.isinf(diagnosis.steps_to(0.1))
    # The bound is met where every residual is 0, and the Hessian nowhere exceeds it.
    largest = np.linalg.eigvalsh(hessian(data, curvature=1.0))[-1]
    assert abs(float(diagnosis.largest_curvature) / largest - 1) < 1e-12  # rounding
    of_weights = jax.jit(jax.hessian(lambda w: loss(Params(w, params.bias), data)))
    assert np.linalg.eigvalsh(of_weights(params.weights))[-1] <= largest
    with pytest.raises(ValueError, match="does not overflow"):
        diagnosis.overflow_step(1.0)


def test_ridge_without_an_intercept_makes_the_bound_two_sided():
    _, data = make_problem(8)
    diagnosis = diagnose(data, huber(1.0) + ridge(0.25), intercept=False)
    assert float(diagnosis.smallest_curvature) == 0.5
    assert float(diagnosis.contraction) < 1


def test_under_jit_and_vmap():
    problems = [make_problem(seed)[1] for seed in range(3)]
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *problems)

    @jax.jit
    @jax.vmap
    def numbers(data):
        diagnosis = diagnose(data)
        return diagnosis.best_rate, diagnosis.steps_to(0.01), diagnosis.overflow_step(10.0)

    together = numbers(batch)
    for index, data in enumerate(problems):
        alone = diagnose(data)
        expected = alone.best_rate, alone.steps_to(0.01), alone.overflow_step(10.0)
        actual = [value[index] for value in together]
        # Whole numbers may round to the next one.
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1)
    assert "Diagnosis(" in str(jax.vmap(diagnose)(batch))


class _Unknown(Penalty):
    name = "unknown"


@pytest.mark.parametrize(
    "loss", [mae, quantile(0.3), epsilon_insensitive(0.1), Loss()], ids=lambda loss: loss.name
)
def test_losses_without_a_stable_rate_are_refused(loss):
    _, data = make_problem(0)
    with pytest.raises(ValueError, match=r"no largest stable rate.*schedule, or use huber"):
        diagnose(data, loss)


def test_bad_arguments_are_refused():
    _, data = make_problem(0)
    with pytest.raises(ValueError, match="curvature of unknown"):
        diagnose(data, mse + _Unknown(1.0))
    with pytest.raises(TypeError, match="needs a loss"):
        diagnose(data, lambda params, data: 0.0)
    with pytest.raises(TypeError, match="must be a Dataset"):
        diagnose(mse)
    compressed = data._replace(bias_column=jnp.ones(50), total_weight=jnp.array(50.0))
    with pytest.raises(ValueError, match="not squared"):
        diagnose(compressed, huber(1.0))
    diagnosis = diagnose(data)
    assert isinstance(diagnosis, Diagnosis)
    for accuracy in (0, 1, -1, float("nan")):
        with pytest.raises(ValueError, match="accuracy must be"):
            diagnosis.steps_to(accuracy)
    for method in (diagnosis.overflow_step, functools.partial(diagnosis.steps_to, 0.1)):
        with pytest.raises(ValueError, match="learning_rate must be"):
            method(-1.0)


def test_examples_that_weigh_nothing_do_not_count():
    _, data = make_problem(3, n=20, d=2)
    weight = jnp.ones(20).at[17:].set(0.0)
    assert int(diagnose(data._replace(sample_weight=weight)).num_examples) == 17


@pytest.mark.parametrize("d", [1, 3])
def test_one_example(d):
    data = as_dataset(np.full((1, d), 2.0), [3.0])
    verdict = diagnose(data)
    assert int(verdict.rank) == 1
    assert verdict.constant.all()
    # The Hessian is 2 v vᵀ with v = (1, 2, ..., 2).
    assert abs(float(verdict.largest_curvature) / (2 + 8 * d) - 1) < 1e-6
    assert "on this one example" in str(verdict)
    result = fit(mse, init_params(data), data, learning_rate="auto", num_steps=20)
    assert float(mse(result.params, data)) < 1e-10
    assert trajectory(mse, init_params(data), data, learning_rate=0.01, steps=3).losses > 0
