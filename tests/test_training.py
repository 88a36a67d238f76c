"""The loop: against exact paths, in parts, mapped, differentiated, stopped and refused."""

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from linreg_jax import (
    Dataset,
    DivergedError,
    Fit,
    Loss,
    Params,
    Status,
    TrainState,
    as_dataset,
    fit,
    gradients,
    half_mse,
    half_sse,
    huber,
    init_params,
    invscaling,
    lasso,
    mae,
    mse,
    ridge,
    solve,
    sse,
    trajectory,
)
from linreg_jax._kernels import Columns
from linreg_jax._training import layout
from linreg_jax._training.loop import train
from linreg_jax._training.prepare import Arguments, prepare
from linreg_jax._training.result import Average
from tests.support import assert_same_bits, joined, make_problem, on_the_host, relative_error

# The path


@pytest.mark.parametrize(
    ("loss", "rate", "k", "compress", "dtype"),
    [
        (mse, 0.1, None, False, "float32"),
        (half_mse, 0.2, 2, True, "float32"),
        (sse, 0.001, 2, False, "float32"),
        (half_sse + ridge(1.0), 0.002, None, True, "float32"),
        (mse, 0.1, 2, True, "float64"),
        (half_sse + ridge(1.0), 0.002, None, False, "float64"),
    ],
    indirect=["dtype"],
    ids=str,
)
def test_follows_the_exact_path(dtype, loss, rate, k, compress):
    params, data = make_problem(0, n=100, d=5, k=k, weighted=True, dtype=dtype)
    steps = np.array([0, 1, 10, 100, 999])
    result = fit(
        loss,
        params,
        data,
        learning_rate=rate,
        num_steps=1000,
        record_params=True,
        compress=compress,
    )
    exact = trajectory(loss, params, data, learning_rate=rate, steps=steps)
    # On well-conditioned data a thousand steps keep what one rounds.
    bound = {"float32": 1e-5, "float64": 1e-12}[dtype]
    path, losses = on_the_host((result.path, result.losses))
    assert relative_error(jax.tree.map(lambda part: part[steps], path), exact.params) < bound
    assert relative_error(losses[steps], exact.losses) < bound
    assert result.params.weights.dtype == result.losses.dtype == data.X.dtype
    assert int(result.num_steps) == 1000
    assert result.status == Status.OUT_OF_STEPS
    assert result.average is None


def test_every_way_to_the_gradient_trains_alike(x64):
    params, data = make_problem(1, n=20, d=3, weighted=True, dtype="float64")
    ways = [
        gradients.autodiff,
        gradients.vectorized,
        gradients.one_pass,
        gradients.by_loops,
        gradients.finite_difference,
    ]
    loss = huber(0.5)
    results = [
        fit(loss, params, data, learning_rate=0.1, num_steps=50, gradient=way(loss)) for way in ways
    ]
    for result in results[1:]:
        # Central differences of a piecewise parabola round to 1e-13 or so a step.
        assert relative_error(result.losses, results[0].losses) < 1e-10
        assert relative_error(result.params, results[0].params) < 1e-10


def test_gradient_norms_and_records_are_those_before_each_step(x64):
    params, data = make_problem(2, n=30, d=3, dtype="float64")
    every = fit(mae, params, data, learning_rate=0.05, num_steps=23, record_params=True)
    values, grads = jax.jit(jax.vmap(jax.value_and_grad(mae), (0, None)))(every.path, data)
    norms = np.sqrt(np.sum(np.square(grads.weights), axis=1) + np.square(grads.bias))
    assert relative_error(every.losses, values) < 1e-14
    assert relative_error(every.gradient_norms, norms) < 1e-14
    assert relative_error(np.asarray(every.path.weights)[0], params.weights) == 0
    for stride in (5, 100):
        thinned = fit(
            mae,
            params,
            data,
            learning_rate=0.05,
            num_steps=23,
            record_params=True,
            record_every=stride,
        )
        histories = on_the_host((every.losses, every.path))
        kept = jax.tree.map(lambda part, s=stride: part[::s], histories)
        assert_same_bits((thinned.losses, thinned.path), kept)
        assert_same_bits(thinned.state, every.state)


def test_rows_that_no_divisor_cuts_are_padded_unseen(x64):
    params, data = make_problem(
        3, n=97, d=5000, dtype="float64"
    )  # a prime, and larger than a block
    result = fit(mse, params, data, learning_rate=1e-5, num_steps=3, compress=False)
    X, y = np.asarray(data.X), np.asarray(data.y)
    w, b = np.asarray(params.weights), float(params.bias)
    for _ in range(3):
        r = X @ w + b - y
        w, b = w - 1e-5 * 2 / 97 * X.T @ r, b - 1e-5 * 2 / 97 * r.sum()
    # Rounding of sums of 5000 products.
    assert relative_error(result.params, Params(w, b)) < 1e-13


@pytest.mark.parametrize("way", [gradients.autodiff, gradients.vectorized])
@pytest.mark.parametrize("k", [None, 2])
def test_rows_and_columns_of_the_features_train_alike(monkeypatch, k, way, x64):
    loss = huber(0.5)
    params, data = make_problem(7, n=60, d=5, k=k, weighted=True, dtype="float64")

    def run(num_steps):
        settings = {"learning_rate": 0.1, "num_steps": num_steps, "gradient": way(loss)}
        laid_out = prepare(Arguments(loss, params, data, **settings)).problem.data
        return fit(loss, params, data, **settings), laid_out

    by_columns, laid_out = run(50)
    assert isinstance(laid_out.X, Columns)
    monkeypatch.setattr(layout, "_MOST_BY_COLUMNS", 0)
    by_rows, laid_out = run(51)
    assert laid_out.X is data.X
    assert relative_error(by_columns.losses, np.asarray(by_rows.losses)[:50]) < 1e-14


@pytest.mark.parametrize("intercept", [True, False])
def test_compression_keeps_the_path(intercept):
    for n, by_default in [(2_100, 1), (200, 2)]:  # few examples are not worth compressing
        params, data = make_problem(4, n=n, d=4, k=2, intercept=intercept)
        losses = [
            fit(mse, params, data, learning_rate=0.1, num_steps=100, compress=compress).losses
            for compress in (None, True, False)
        ]
        assert_same_bits(losses[0], losses[by_default])
        # What the inner products of the rows round, in float32.
        assert relative_error(losses[1], losses[2]) < 1e-5
        assert relative_error(losses[1], losses[2]) > 0


# Going on


@pytest.mark.parametrize(
    ("optimizer", "compress", "record_every", "cuts"),
    [
        (optax.sgd, None, 1, (1, 20)),
        (optax.adam, False, 10, (20,)),
        (optax.lbfgs, False, 1, (20,)),
    ],
)
def test_two_parts_are_the_whole_bit_for_bit(optimizer, compress, record_every, cuts):
    params, data = make_problem(5, n=80, d=3)

    def run(start, num_steps):
        return fit(
            mse,
            start,
            data,
            learning_rate=0.05,
            num_steps=num_steps,
            optimizer=optimizer,
            compress=compress,
            record_every=record_every,
            record_params=True,
            average_from=30,
        )

    whole = run(params, 50)
    for cut in cuts:
        first = run(params, cut)
        second = run(first.state, 50 - cut)
        assert_same_bits(second.state, whole.state)
        assert_same_bits(joined(first.losses, second.losses), whole.losses)
        assert_same_bits(joined(first.path, second.path), whole.path)
        assert int(second.num_steps) == 50 - cut


def test_schedules_count_from_the_first_fit(x64):
    params, data = make_problem(7, n=20, d=2, dtype="float64")
    schedule = invscaling(0.1, power=0.5)
    first = fit(mse, params, data, learning_rate=schedule, num_steps=4)
    second = fit(mse, first.state, data, learning_rate=schedule, num_steps=3)
    X, y = np.asarray(data.X), np.asarray(data.y)
    w, b = np.asarray(params.weights), float(params.bias)
    for step in range(7):
        r, rate = X @ w + b - y, 0.1 / (step + 1) ** 0.5
        w, b = w - rate * 2 / 20 * X.T @ r, b - rate * 2 / 20 * r.sum()
    assert relative_error(second.params, Params(w, b)) < 1e-13  # rounding of seven steps
    assert float(second.learning_rate) == pytest.approx(0.1 / 7**0.5, rel=1e-6)
    halved = optax.piecewise_constant_schedule(0.1, {2: 0.5})
    rates = fit(mse, params, data, learning_rate=halved, num_steps=4).learning_rate
    assert float(rates) == pytest.approx(0.05, rel=1e-6)


def test_the_average_is_the_mean_of_the_iterates_from_a_step_on(x64):
    params, data = make_problem(8, dtype="float64")
    result = fit(
        mse,
        params,
        data,
        learning_rate=0.05,
        num_steps=20,
        average_from=5,
        record_params=True,
    )
    iterates = jax.tree.map(
        lambda part, last: np.concatenate([np.asarray(part)[1:], np.asarray(last)[None]]),
        result.path,
        result.params,
    )
    mean = jax.tree.map(lambda part: part[5:].mean(axis=0), iterates)
    assert relative_error(result.average, mean) < 1e-14
    assert int(result.state.average.num_steps) == 15


# Compiled once, mapped, differentiated


@dataclasses.dataclass(frozen=True)
class Counted(Loss):
    """Half the squared error times a scale, which counts how often it is traced."""

    scale: float = 1.0

    def rho(self, r):
        traces.append(1)
        return self.scale * r * r / 2

    def psi(self, r):
        return self.scale * r


traces: list[int] = []


def test_new_values_do_not_compile_again():
    params, data = make_problem(9)
    other_params, other_data = make_problem(10)
    key = jax.random.key(0)

    def run(loss=Counted(), rate=0.1, params=params, data=data, key=key, validation=data):
        fit(
            loss,
            params,
            data,
            learning_rate=rate,
            num_steps=5,
            batch_size=8,
            key=key,
            validation=validation,
            tolerance=1e-3,
        )

    run()
    before = len(traces)
    assert before > 0
    for rate in (0.2, np.float32(0.3), np.float64(0.1), 1, jnp.float32(0.1)):
        run(rate=rate)
    run(key=jax.random.key(1))
    run(params=other_params, data=other_data)
    run(loss=Counted(2.0))
    run(validation=other_data)
    assert len(traces) == before


def test_a_huber_delta_does_not_compile_again():
    params, data = make_problem(11)
    fit(huber(1.0), params, data, learning_rate=0.1, num_steps=7)
    programs = train._cache_size()
    fit(huber(2.0), params, data, learning_rate=np.float32(0.2), num_steps=7)
    assert train._cache_size() == programs
    fit(huber(1.0), params, data, learning_rate=0.1, num_steps=8)
    assert train._cache_size() == programs + 1


def test_maps_over_rates_parameters_settings_and_data():
    problems = [make_problem(seed, n=30, d=3) for seed in range(3)]
    params, data = jax.tree.map(lambda *parts: np.stack(parts), *problems)
    rates, deltas = np.float32([0.05, 0.1, 0.2]), np.float32([0.5, 1.0, 2.0])

    def run(rate, delta, params, data, compress=False):
        return fit(huber(delta), params, data, learning_rate=rate, num_steps=40, compress=compress)

    mapped = on_the_host(jax.jit(jax.vmap(run))(rates, deltas, params, data))
    for i, (one_params, one_data) in enumerate(problems):
        alone = run(rates[i], deltas[i], one_params, one_data)
        # The same sums in another order, forty steps of float32.
        assert relative_error(mapped.params.weights[i], alone.params.weights) < 1e-5
        assert relative_error(mapped.losses[i], alone.losses) < 1e-5
    assert mapped.status.tolist() == [Status.OUT_OF_STEPS] * 3


@pytest.mark.parametrize("batched", [False, True])
def test_the_gradient_through_a_fit_is_that_of_differences(batched, x64):
    params, data = make_problem(12, n=24, d=3, dtype="float64")
    _, validation = make_problem(13, n=24, d=3, dtype="float64")
    batches = {"batch_size": 7, "key": jax.random.key(0)} if batched else {}

    def outcome(settings):
        rate, strength = settings
        result = fit(
            mse + ridge(strength), params, data, learning_rate=rate, num_steps=15, **batches
        )
        return mse(result.params, validation)

    settings, h = np.array([0.05, 0.1]), 1e-5
    slopes = jax.jit(jax.grad(outcome))(settings)
    moved = settings + h * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    ahead, behind = np.reshape(jax.jit(jax.vmap(outcome))(moved), (2, 2)).T
    differences = (ahead - behind) / (2 * h)
    # A central difference with step 1e-5 is right to about h² and 1e-16 / h.
    assert relative_error(slopes, differences) < 1e-7


def test_time_grows_with_the_steps_and_no_faster():
    params, data = make_problem(14, n=10, d=2)

    def seconds(num_steps):
        def run():
            began = time.process_time()
            losses = fit(mae, params, data, learning_rate=0.01, num_steps=num_steps).losses
            losses.block_until_ready()
            return time.process_time() - began

        run()
        return min(run() for _ in range(5))

    # A history that is copied at every step would take 16 times as long; linear is 4.
    assert seconds(80_000) < 8 * seconds(20_000)


# Ends


def test_converges_where_the_norm_comes_down_to_the_tolerance(x64):
    params, data = make_problem(15, dtype="float64")
    settings = {"learning_rate": 0.05, "num_steps": 1000}
    free = on_the_host(fit(mse, params, data, **settings))
    stopped = on_the_host(fit(mse, params, data, tolerance=1e-3, **settings))
    steps = int(stopped.num_steps)
    assert stopped.status == Status.CONVERGED
    assert steps == int(np.argmax(np.asarray(free.gradient_norms) <= 1e-3))
    # A program that cannot end early may round otherwise, by a unit in the last place.
    assert relative_error(stopped.losses[: steps + 1], free.losses[: steps + 1]) < 1e-15
    assert stopped.losses.shape == (1000,)
    assert np.isnan(stopped.losses[steps + 1 :]).all()
    shorter = fit(mse, params, data, learning_rate=0.05, num_steps=steps, tolerance=0.0)
    assert_same_bits(stopped.params, shorter.params)
    plain = fit(mse, params, data, learning_rate=0.05, num_steps=steps)
    assert relative_error(stopped.params, plain.params) < 1e-15
    again = fit(mse, stopped.state, data, tolerance=1e-3, **settings)
    assert int(again.num_steps) == 0


def test_mapped_runs_converge_each_in_its_time():
    params, data = make_problem(16)
    rates = np.float32([0.01, 0.05, 0.1])

    def run(rate):
        return fit(mse, params, data, learning_rate=rate, num_steps=200, tolerance=1e-2)

    mapped = on_the_host(jax.vmap(run)(rates))
    for i, rate in enumerate(rates):
        assert int(mapped.num_steps[i]) == int(run(rate).num_steps)
    assert mapped.status.tolist() == [Status.OUT_OF_STEPS, Status.CONVERGED, Status.CONVERGED]


def largest_curvature(data):
    X = np.asarray(data.X, np.float64)
    X = np.concatenate([X, np.ones((len(X), 1))], axis=1)
    return np.linalg.eigvalsh(2 * X.T @ X / len(X)).max()


@pytest.mark.parametrize("compress", [None, False])
def test_a_run_that_diverges_keeps_what_was_finite_and_says_why(compress):
    params, data = make_problem(17)
    result = on_the_host(
        fit(mse, params, data, learning_rate=2.0, num_steps=300, compress=compress)
    )
    step = int(result.num_steps)
    assert result.status == Status.DIVERGED
    assert 0 < step < 300
    assert int(result.state.step) == step
    assert np.isfinite(result.params.weights).all()
    assert np.isfinite(result.losses[:step]).all()
    assert np.isnan(result.losses[step + 1 :]).all()
    stable = 2 / largest_curvature(data)
    # Forty steps of power iteration from an iterate that is nearly the eigenvector.
    assert float(result.largest_stable_rate) == pytest.approx(stable, rel=1e-4)
    with pytest.raises(
        DivergedError, match=rf"at step {step} with learning rate 2: .* is {stable:.3f}"
    ):
        result.raise_if_diverged()
    near = fit(mse, params, data, learning_rate=0.99 * stable, num_steps=300)
    near.raise_if_diverged()
    assert np.isnan(near.largest_stable_rate)


def test_a_mapped_fit_names_the_run_that_diverged():
    params, data = make_problem(18)
    rates = jnp.array([0.1, 3.0, 0.2])
    mapped = jax.vmap(lambda rate: fit(mse, params, data, learning_rate=rate, num_steps=200))(rates)
    assert mapped.status.tolist() == [Status.OUT_OF_STEPS, Status.DIVERGED, Status.OUT_OF_STEPS]
    with pytest.raises(DivergedError, match=r"run 1 \(one of 1 that did\) diverged .* rate 3:"):
        mapped.raise_if_diverged()
    with pytest.raises(TypeError, match="needs values"):
        jax.jit(
            lambda: fit(mse, params, data, learning_rate=0.1, num_steps=2).raise_if_diverged()
        )()


@pytest.mark.parametrize("compress", [None, False])
def test_a_loss_that_grew_is_not_called_well(compress, x64):
    x = np.linspace(0, 3, 40)
    data = as_dataset(x[:, None], 2 * x + 1)
    params = init_params(data)
    settings = {"learning_rate": 0.8, "num_steps": 30, "compress": compress}
    result = fit(half_mse, params, data, **settings)
    assert result.status == Status.INCREASED
    # The exact path of gradient descent says where it is by then.
    path = trajectory(half_mse, params, data, learning_rate=0.8, steps=jnp.array([0, 30]))
    assert path.losses[1] > 1e6 * path.losses[0]
    assert float(result.initial_loss) == pytest.approx(float(path.losses[0]), rel=1e-9)
    assert float(result.final_loss) == pytest.approx(float(path.losses[1]), rel=1e-6)
    stable = 4 / largest_curvature(data)  # half_mse curves half as much as mse
    assert repr(result).startswith("Fit(INCREASED after 30 steps, loss ")
    with pytest.raises(DivergedError, match=rf"a larger loss .* rate 0.8: .* is {stable:.4f}"):
        result.raise_if_diverged()
    mapped = jax.vmap(
        lambda rate: fit(half_mse, params, data, **settings | {"learning_rate": rate})
    )(jnp.array([0.1, 0.8]))
    assert mapped.status.tolist() == [Status.OUT_OF_STEPS, Status.INCREASED]
    with pytest.raises(DivergedError, match=r"run 1 \(one of 1 that did\) ended with a larger"):
        mapped.raise_if_diverged()


def test_rounding_at_the_minimum_is_no_increase():
    for noise in (0.0, 1.0):
        params, data = make_problem(27, n=300, d=3)
        y = data.X @ params.weights + params.bias
        data = data._replace(y=y + noise * (data.y - y))
        at_minimum = solve(data).params
        for loss in (mse, huber(0.1), sse):
            rate = 0.1 if loss is not sse else 0.1 / 300
            result = fit(loss, at_minimum, data, learning_rate=rate, num_steps=20)
            assert result.status == Status.OUT_OF_STEPS, (loss, noise, result)


def test_data_that_is_not_finite_diverges_at_once():
    params, data = make_problem(19)
    y = np.array(data.y)
    y[3] = np.nan
    broken = data._replace(y=y)
    result = fit(mse, params, broken, learning_rate=0.1, num_steps=5)
    assert_same_bits(result.params, params)
    with pytest.raises(DivergedError, match=r"step 0 .* not finite at the start"):
        result.raise_if_diverged()


def test_validation_losses_are_those_after_the_steps(x64):
    params, data = make_problem(20, dtype="float64")
    _, validation = make_problem(21, dtype="float64")
    result = fit(
        mse,
        params,
        data,
        learning_rate=0.05,
        num_steps=10,
        record_every=3,
        validation=validation,
    )
    path = fit(mse, params, data, learning_rate=0.05, num_steps=11, record_params=True).path
    after = jax.tree.map(lambda part: part[np.array([3, 6, 9, 10])], on_the_host(path))
    expected = jax.jit(jax.vmap(mse, (0, None)))(after, validation)
    assert relative_error(result.validation_losses, expected) < 1e-14


def test_full_batches_stop_on_validation_data_where_patience_is_given(x64):
    params, data = make_problem(28, n=12, d=6, dtype="float64")
    _, validation = make_problem(29, n=40, d=6, dtype="float64")
    settings = {"learning_rate": 0.05, "num_steps": 400, "validation": validation}
    free = fit(mse, params, data, **settings)
    stopped = fit(mse, params, data, patience=3, **settings)
    losses = np.asarray(free.validation_losses)
    steps = int(stopped.num_steps)
    assert stopped.status == Status.STOPPED_EARLY
    assert 3 < steps < 400
    # Three in a row that did not improve, and none before.
    best = np.minimum.accumulate([float(mse(params, validation)), *losses])
    improved = losses < best[:-1]
    assert not improved[steps - 3 : steps].any()
    assert all(improved[i : i + 3].any() for i in range(steps - 3))
    assert float(mse(stopped.params, validation)) == pytest.approx(best[steps], rel=1e-12)
    assert np.isnan(np.asarray(stopped.validation_losses)[steps:]).all()
    by_fives = fit(mse, params, data, patience=3, record_every=5, **settings)
    assert int(by_fives.num_steps) % 5 == 0


@pytest.mark.parametrize("batched", [False, True])
def test_validation_data_that_are_not_finite_are_told(batched):
    params, data = make_problem(30, n=40, d=2)
    y = np.array(data.y)
    y[3] = np.nan
    settings = {"batch_size": 8, "key": KEY, "num_epochs": 5} if batched else {"num_steps": 20}
    result = fit(
        mse,
        params,
        data,
        learning_rate=0.1,
        validation=data._replace(y=jnp.asarray(y)),
        patience=3,
        **settings,
    )
    assert result.status == Status.VALIDATION_NOT_FINITE
    with pytest.raises(DivergedError, match="loss on the validation data is not finite"):
        result.raise_if_diverged()


def test_validation_data_of_zero_weight_are_told():
    params, data = make_problem(30, n=40, d=2)
    nothing = data._replace(sample_weight=jnp.zeros(40))
    result = fit(mse, params, data, learning_rate=0.1, num_steps=20, validation=nothing, patience=3)
    assert result.status == Status.VALIDATION_NOT_FINITE


@pytest.mark.parametrize("rate", [0.0, optax.linear_schedule(0.1, 0.0, 10)])
def test_a_rate_of_zero_is_no_minimum_of_a_lasso(rate):
    params, data = make_problem(32, n=40, d=3)
    loss = half_mse + lasso(0.1)
    result = fit(loss, params, data, learning_rate=rate, num_steps=30, tolerance=1e-3)
    assert result.status == Status.OUT_OF_STEPS
    assert float(result.gradient_norms[-1]) > 1e-3


def test_an_average_that_has_not_begun_is_the_last_iterate():
    params, data = make_problem(31)
    settings = {"learning_rate": 0.05, "average_from": 50}
    first = fit(mse, params, data, num_steps=20, **settings)
    # The same sum, which XLA may write twice and round once: the last bit may differ.
    assert relative_error(first.average, first.params) < 2e-7
    second = fit(mse, first.state, data, num_steps=40, **settings)
    assert relative_error(second.average, second.params) > 0
    assert int(second.state.average.num_steps) == 10


def test_a_run_that_may_end_early_records_its_parameters(dtype: str) -> None:
    params, data = make_problem(21, dtype=dtype)
    run = functools.partial(fit, mse, params, data, learning_rate=0.05, num_steps=11)
    path, same = run(record_params=True).path, run(record_params=True, tolerance=0.0).path
    assert relative_error(same, path) < 1e-5  # rounding, in two programs


# Lasso, and rates that the curvature gives


@pytest.mark.parametrize("compress", [None, False])
def test_a_lasso_reaches_exact_zeros_and_its_optimum(compress, x64):
    params, data = make_problem(22, n=60, d=8, dtype="float64")
    strength = 0.8
    loss = half_mse + lasso(strength)
    result = fit(
        loss, params, data, learning_rate=0.3, num_steps=3000, tolerance=1e-10, compress=compress
    )
    assert result.status == Status.CONVERGED
    w, b = np.asarray(result.params.weights), float(result.params.bias)
    X, y = np.asarray(data.X), np.asarray(data.y)
    slope = X.T @ (X @ w + b - y) / len(y)
    zero = w == 0
    assert 0 < zero.sum() < 8
    # The optimality conditions hold to the tolerance that stopped the run.
    assert (np.abs(slope[zero]) <= strength).all()
    assert np.abs(slope[~zero] + strength * np.sign(w[~zero])).max() < 1e-9
    last = np.asarray(result.losses)[int(result.num_steps)]
    objective = np.mean((X @ w + b - y) ** 2) / 2 + strength * np.abs(w).sum()
    assert last == pytest.approx(objective, rel=1e-12)
    scheduled = fit(loss, params, data, learning_rate=invscaling(0.3, power=0.1), num_steps=3000)
    assert relative_error(scheduled.params, result.params) < 1e-8


def test_the_automatic_rate(x64):
    params, data = make_problem(23, n=50, d=3, weighted=True, dtype="float64")
    loss = half_sse + ridge(0.5)
    X = np.concatenate([np.asarray(data.X), np.ones((50, 1))], axis=1)
    weights = np.asarray(data.sample_weight)
    curvatures = np.linalg.eigvalsh((X * weights[:, None]).T @ X + np.diag([1, 1, 1, 0]))
    full = fit(loss, params, data, learning_rate="auto", num_steps=2)
    best = 2 / (curvatures.max() + curvatures.min())
    assert float(full.learning_rate) == pytest.approx(best, rel=1e-12)
    batches = {"batch_size": 10, "key": jax.random.key(0)}
    batched = fit(loss, params, data, learning_rate="auto", num_epochs=20, **batches)
    # Gower et al. 2019, proposition 3.8, for 10 of 50 and for the sum of a batch, a fifth of all.
    L, L_max = curvatures.max() - 1, 50 * (weights * (X**2).sum(axis=1)).max()
    smoothness = (50 * 9 / (10 * 49) * L + 40 / (10 * 49) * L_max) / 5 + 1
    assert float(batched.learning_rate) == pytest.approx(1 / (2 * smoothness), rel=1e-12)
    value = jax.jit(loss)
    assert value(batched.params, data) < value(params, data) / 2


# What it says, and what it refuses


def test_a_fit_is_told_in_a_line():
    params, data = make_problem(24)
    result = on_the_host(fit(mse, params, data, learning_rate=0.1, num_steps=10))
    assert repr(result) == (
        f"Fit(out of steps after 10 steps, loss {float(result.losses[0]):.6g} -> "
        f"{float(result.final_loss):.6g})"
    )
    two = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), result)
    assert "status [2]" in repr(two)


PARAMS, DATA = make_problem(25, n=20, d=3)
OTHER_PARAMS, OTHER_DATA = make_problem(26, n=20, d=4)
KEY = jax.random.key(0)
STATE = TrainState(PARAMS, (), None, jnp.int32(0), jnp.int32(0))
FIT = Fit(PARAMS, *[None] * 10, STATE)


@pytest.mark.parametrize(
    ("error", "message", "changed"),
    [
        (ValueError, "got neither", {"num_steps": None}),
        (ValueError, "got both", {"num_epochs": 2}),
        (ValueError, "num_steps must be an integer of 1 or more, got 0", {"num_steps": 0}),
        (TypeError, "num_steps must be a Python integer", {"num_steps": 2.5}),
        (ValueError, "num_epochs must be", {"num_steps": None, "num_epochs": -1}),
        (ValueError, "batch_size must be an integer", {"batch_size": 0, "key": KEY}),
        (ValueError, "at most 20, the rows", {"batch_size": 21, "key": KEY}),
        (ValueError, "batch_size needs a key", {"batch_size": 5}),
        (TypeError, "one JAX random key", {"batch_size": 5, "key": 0}),
        (TypeError, "one JAX random key", {"batch_size": 5, "key": jax.random.split(KEY)}),
        (ValueError, "got -0.1", {"learning_rate": -0.1}),
        (ValueError, "got nan", {"learning_rate": float("nan")}),
        (ValueError, "got inf", {"learning_rate": float("inf")}),
        (TypeError, "learning_rate must be", {"learning_rate": "fast"}),
        (TypeError, "learning_rate must be", {"learning_rate": None}),
        (ValueError, "one fit takes one rate", {"learning_rate": jnp.ones(3)}),
        (ValueError, "for plain gradient", {"learning_rate": "auto", "optimizer": optax.adam}),
        (ValueError, "Pass a number, or a sched", {"loss": mae, "learning_rate": "auto"}),
        (TypeError, "not optax.sgd", {"optimizer": optax.sgd(0.1)}),
        (TypeError, "optimizer must be a factory", {"optimizer": "adam"}),
        (TypeError, "made 3", {"optimizer": lambda rate: 3}),
        (TypeError, "factory of one argument", {"optimizer": lambda: optax.sgd(0.1)}),
        (TypeError, "gradient must be a function", {"gradient": "autodiff"}),
        (TypeError, "call it, vectorized\\(loss\\)", {"gradient": gradients.vectorized}),
        (TypeError, "call it, value_and_grad", {"gradient": jax.value_and_grad}),
        (ValueError, "gradient is that of mae", {"gradient": gradients.vectorized(mae)}),
        (TypeError, "loss must be a function", {"loss": "mse"}),
        (TypeError, "call it, huber()", {"loss": huber}),
        (TypeError, "pass its state to continue", {"params": FIT}),
        (TypeError, "validation must be a Dataset", {"validation": (DATA.X, DATA.y)}),
        (ValueError, "has a lasso", {"loss": mse + lasso(0.1), "optimizer": optax.adam}),
        (TypeError, "params must be Params", {"params": PARAMS.weights}),
        (ValueError, "weights has shape", {"params": OTHER_PARAMS}),
        (ValueError, "state does not fit the data", {"params": STATE, "data": OTHER_DATA}),
        (
            ValueError,
            "step must be at least 0, got -3",
            {"params": STATE._replace(step=np.int32(-3))},
        ),
        (ValueError, "step must be one integer", {"params": STATE._replace(step=0.5)}),
        (
            ValueError,
            "average holds parameters of other shapes",
            {"params": STATE._replace(average=Average(Params(jnp.zeros(7), None), 0))},
        ),
        (ValueError, "does not fit the optimizer", {"params": STATE, "optimizer": optax.adam}),
        (ValueError, "needs a key", {"params": STATE, "batch_size": 5}),
        (TypeError, "data must be a Dataset", {"data": DATA.X}),
        (TypeError, "y holds float16", {"data": DATA._replace(y=DATA.y.astype("float16"))}),
        (ValueError, "tolerance must be", {"tolerance": -1.0}),
        (ValueError, "needs validation", {"tolerance": 0.1, "batch_size": 5, "key": KEY}),
        (ValueError, "patience must be", {"patience": 0, "validation": DATA}),
        (ValueError, "patience needs validation data", {"patience": 3}),
        (ValueError, "validation.X is", {"validation": OTHER_DATA}),
        (ValueError, "record_every must be", {"record_every": 0}),
        (TypeError, "record_every must be", {"record_every": 0.5}),
        (ValueError, "unroll must be", {"unroll": 0}),
        (ValueError, "needs a squared loss", {"loss": mae, "compress": True}),
        (ValueError, "mini-batches", {"compress": True, "batch_size": 5, "key": KEY}),
        (TypeError, "compress must be", {"compress": "yes"}),
        (ValueError, "average_from must be", {"average_from": -1}),
        (ValueError, "average_from must be", {"average_from": 0.5}),
        (TypeError, "progress must be", {"progress": "bar"}),
    ],
)
def test_bad_arguments_are_refused_before_anything_compiles(error, message, changed, monkeypatch):
    arguments = {"loss": mse, "params": PARAMS, "data": DATA, "learning_rate": 0.1, "num_steps": 5}
    arguments |= changed
    monkeypatch.setattr("linreg_jax.training.train", lambda *_, **__: pytest.fail("it compiled"))
    positional = [arguments.pop(name) for name in ("loss", "params", "data")]
    with pytest.raises(error, match=message):
        fit(*positional, **arguments)


def test_compressed_data_makes_no_mini_batches():
    small = Dataset(DATA.X[:5], DATA.y[:5], None, jnp.ones(5), jnp.float32(20))
    with pytest.raises(ValueError, match="rows are not examples"):
        fit(mse, PARAMS, small, learning_rate=0.1, num_steps=1, batch_size=2, key=KEY)


def test_a_worked_example():
    data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
    start = Params(jnp.array([1.0]), jnp.array(0.0))
    step = fit(half_sse, start, data, learning_rate=0.01, num_steps=1)
    assert float(step.losses[0]) == 2230.0
    assert step.params.weights.tolist() == pytest.approx([3.6], rel=1e-6)
    assert float(step.params.bias) == pytest.approx(1.14, rel=1e-6)
    end = fit(half_mse, init_params(data), data, learning_rate="auto", num_steps=2000)
    # Settled to the rounding of float32.
    assert end.params.weights.tolist() == pytest.approx([5.0], rel=1e-5)
    assert float(end.params.bias) == pytest.approx(30.0, rel=1e-5)
