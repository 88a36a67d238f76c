"""Mini-batches: which examples a step sees, what it makes of them, and when a run stops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import make_regression
from sklearn.linear_model import SGDRegressor
from sklearn.model_selection import train_test_split

from linreg_jax import (
    Dataset,
    DivergedError,
    Params,
    Status,
    as_dataset,
    diagnose,
    fit,
    huber,
    mae,
    mse,
    sse,
)
from linreg_jax._padding import pad
from linreg_jax._training import batches
from linreg_jax._training.batches import batches_per_epoch, mini_batches, scan_batches
from linreg_jax._training.gathering import group_size, in_groups
from linreg_jax.gradients import autodiff, vectorized
from tests.support import assert_same_bits, joined, make_problem, on_the_host, relative_error

KEY = jax.random.key(0)
batches_of = jax.jit(mini_batches, static_argnames="batch_size")


def numbered(n):
    """Examples whose feature is their number."""
    return as_dataset(np.arange(n)[:, None], np.arange(n))


@pytest.mark.parametrize(
    ("n", "batch_size"), [(1, 1), (2, 1), (3, 2), (13, 5), (64, 8), (100, 7), (101, 101)]
)
def test_every_epoch_visits_every_example_once(n, batch_size):
    m = batches_per_epoch(n, batch_size)
    batches = batches_of(numbered(n), KEY, np.arange(3 * m), batch_size=batch_size)
    assert batches.X.shape == (3 * m, batch_size, 1)
    weights = batches.sample_weight
    held = np.ones((3 * m, batch_size)) if weights is None else np.asarray(weights)
    orders = [
        np.asarray(batches.y)[epoch * m : (epoch + 1) * m][held[epoch * m : (epoch + 1) * m] == 1]
        for epoch in range(3)
    ]
    for order in orders:
        assert sorted(order) == list(range(n))
    assert held.reshape(3, m, -1)[:, :-1].all()  # only the last batch is partial
    if n > 10:
        assert not np.array_equal(orders[0], orders[1])
        assert not np.array_equal(orders[1], orders[2])


def test_another_key_is_another_order_and_any_part_can_be_asked_for():
    data = numbered(50)
    whole = on_the_host(batches_of(data, KEY, np.arange(20), batch_size=8))
    other = batches_of(data, jax.random.key(1), np.arange(20), batch_size=8)
    assert not np.array_equal(whole.y, other.y)
    part = batches_of(data, KEY, np.array([3, 17]), batch_size=8)
    assert_same_bits(part, jax.tree.map(lambda column: column[[3, 17]], whole))


def numpy_run(psi, params, data, key, *, rate, num_steps, batch_size, mean=True):
    """Stochastic gradient descent by hand in float64, on the same batches."""
    batches = on_the_host(batches_of(data, key, np.arange(num_steps), batch_size=batch_size))
    w, b = np.asarray(params.weights, np.float64), np.asarray(params.bias, np.float64)
    for step in range(num_steps):
        X, y = np.asarray(batches.X[step], np.float64), np.asarray(batches.y[step], np.float64)
        s = np.ones(len(X)) if batches.sample_weight is None else batches.sample_weight[step]
        kept = np.asarray(s) > 0
        X, y, s = X[kept], y[kept], np.asarray(s, np.float64)[kept]
        if not len(s):
            continue
        weighted = psi(X @ w + b - y) * (s[:, None] if y.ndim == 2 else s)
        share = s.sum() if mean else 1.0
        w, b = w - rate * X.T @ weighted / share, b - rate * weighted.sum(axis=0) / share
    return Params(w, b)


@pytest.mark.parametrize(
    ("loss", "psi", "k", "weighted", "batch_size"),
    [
        (mse, lambda r: 2 * r, None, False, 6),  # the last batch holds 2 of 20
        (huber(0.5), lambda r: np.clip(r, -0.5, 0.5), 2, True, 3),
        (sse, lambda r: 2 * r, None, False, 7),
    ],
    ids=["mse", "huber", "sse"],
)
def test_a_loop_by_hand_takes_the_same_steps(loss, psi, k, weighted, batch_size, x64):
    params, data = make_problem(0, n=20, d=3, k=k, weighted=weighted, dtype="float64")
    settings = {"num_steps": 23, "batch_size": batch_size}
    result = fit(loss, params, data, learning_rate=0.02, key=KEY, **settings)
    by_hand = numpy_run(psi, params, data, KEY, rate=0.02, mean=loss is not sse, **settings)
    assert relative_error(result.params, by_hand) < 1e-13  # rounding of 23 steps


def test_batches_are_gathered_together_or_alone(monkeypatch):
    params, data = make_problem(1, n=30, d=3)

    def run(num_steps):
        return fit(
            mse, params, data, learning_rate=0.05, num_steps=num_steps, batch_size=4, key=KEY
        )

    whole = run(41)
    monkeypatch.setattr(batches, "_PIECE", 5 * 4 * 3)  # five batches at a time, and one is left
    fives = run(42)
    assert_same_bits(np.asarray(fives.losses)[:41], whole.losses)


@pytest.mark.parametrize("is_grouped", [True, False])
@pytest.mark.parametrize(
    ("n", "d", "batch_size"), [(50, 4, 8), (48, 8, 8), (40, 70, 16), (21, 3, 2)]
)
@pytest.mark.parametrize(("k", "weighted"), [(None, False), (2, True)])
def test_every_way_to_gather_gives_the_same_batches(is_grouped, n, d, batch_size, k, weighted):
    _, data = make_problem(n, n=n, d=d, k=k, weighted=weighted)
    grouped = in_groups(data.X) if is_grouped else None
    for first, length in [(0, 2 * batches_per_epoch(n, batch_size) + 1), (5, 1)]:
        steps = first + np.arange(length)
        expected = batches_of(data, KEY, steps, batch_size=batch_size)
        _, seen = jax.jit(scan_batches, static_argnums=(0, 5, 6))(
            lambda carry, batch: (carry, batch),
            0,
            data,
            KEY,
            first,
            length,
            batch_size,
            grouped=grouped,
        )
        seen = Dataset(*(None if part is None else part[:length] for part in seen))
        if not weighted and n % batch_size:
            assert seen.total_weight.tolist() == seen.sample_weight.sum(1).tolist()
        assert_same_bits(seen._replace(total_weight=None), expected)


@pytest.mark.parametrize(
    ("d", "size"), [(32, 4), (30, 6), (10, 5), (9, 3), (14, 2), (7, 7), (31, 31)]
)
def test_groups_are_a_view_of_the_same_memory(d, size):
    X = as_dataset(np.arange(4.0 * d).reshape(4, d), np.zeros(4)).X
    grouped = in_groups(X)
    assert group_size(d) == size
    assert grouped.shape == (4, d // size, size)
    assert grouped.unsafe_buffer_pointer() == X.unsafe_buffer_pointer()
    assert_same_bits(grouped.reshape(4, d), X)
    assert_same_bits(jax.jit(in_groups)(X), grouped)


@pytest.mark.parametrize("gradient", [vectorized, autodiff])
def test_large_batches_of_few_features_take_the_same_steps(gradient, x64):
    params, data = make_problem(6, n=2500, d=17, dtype="float64")
    settings = {"num_steps": 5, "batch_size": 1000}  # of 17,000 numbers, the third one partial
    result = fit(
        huber(0.5),
        params,
        data,
        learning_rate=0.1,
        key=KEY,
        gradient=gradient(huber(0.5)),
        **settings,
    )
    by_hand = numpy_run(lambda r: np.clip(r, -0.5, 0.5), params, data, KEY, rate=0.1, **settings)
    assert relative_error(result.params, by_hand) < 1e-13


def test_two_parts_are_the_whole_bit_for_bit():
    params, data = make_problem(2, n=30, d=3)

    def run(start, num_steps, key=None):
        return fit(mse, start, data, learning_rate=0.05, num_steps=num_steps, batch_size=7, key=key)

    whole = run(params, 50, KEY)
    for cut in (1, 23):
        first = run(params, cut, KEY)
        second = run(first.state, 50 - cut)
        assert_same_bits(second.state, whole.state)
        assert_same_bits(joined(first.losses, second.losses), whole.losses)


def test_keys_of_every_kind_and_many_at_once():
    params, data = make_problem(3, n=30, d=3)

    def run(key):
        return fit(mse, params, data, learning_rate=0.05, num_epochs=2, batch_size=8, key=key)

    old_style, typed = jax.random.PRNGKey(5), jax.random.key(5)
    assert_same_bits(run(old_style).state, run(typed).state)
    assert run(jax.random.key(5, impl="rbg")).state.key.shape == (2,)
    keys = jax.random.split(typed, 3)
    mapped = on_the_host(jax.vmap(run)(keys))
    for i in range(3):
        # Sums in another order, eight steps of float32.
        assert relative_error(mapped.losses[i], run(keys[i]).losses) < 1e-6
    assert int(mapped.num_steps[0]) == 8


def test_stops_on_validation_and_keeps_the_best(x64):
    params, data = make_problem(4, n=40, d=3, dtype="float64")
    _, validation = make_problem(5, n=40, d=3, dtype="float64")
    settings = {"learning_rate": 0.05, "batch_size": 8, "key": KEY, "validation": validation}
    result = fit(mse, params, data, num_epochs=200, tolerance=1e-3, patience=3, **settings)
    losses = np.asarray(result.validation_losses)
    epochs = int(result.num_steps) // 5
    assert result.status == Status.STOPPED_EARLY
    assert losses.shape == (200,)
    assert 3 < epochs < 200
    assert np.isfinite(losses[:epochs]).all()
    assert np.isnan(losses[epochs:]).all()
    validation_loss = jax.jit(mse)
    start = float(validation_loss(params, validation))
    # scikit-learn's rule, by hand: epochs in a row that did not improve on the best by 1e-3.
    best, waited, stopped = start, 0, None
    for epoch, loss in enumerate(losses):
        waited = 0 if loss < best - 1e-3 else waited + 1
        best = min(best, loss)
        if waited >= 3:
            stopped = epoch + 1
            break
    assert epochs == stopped
    assert float(validation_loss(result.params, validation)) == pytest.approx(best, rel=1e-12)
    free = fit(mse, params, data, num_steps=int(result.num_steps), **settings)
    assert_same_bits(free.validation_losses, losses[:epochs])
    assert_same_bits(free.params, result.state.params)  # the last iterate is there to go on from
    # Going on, it waits anew: three epochs before it stops again.
    again = fit(mse, result.state, data, num_epochs=200, tolerance=1e-3, patience=3, **settings)
    assert again.status == Status.STOPPED_EARLY
    assert int(again.num_steps) >= 3 * 5


def test_mini_batches_that_diverge_below_the_stable_rate_say_so():
    params, data = make_problem(7, n=40, d=10)
    rate = 0.9 * float(diagnose(data).largest_stable_rate)
    result = fit(mse, params, data, learning_rate=rate, num_steps=2000, batch_size=1, key=KEY)
    with pytest.raises(DivergedError, match=r"stable up to .* mini-batches"):
        result.raise_if_diverged()


def test_the_losses_of_batches_are_told_from_that_of_the_data(x64):
    params, data = make_problem(8, n=30, d=3, weighted=True, dtype="float64")
    settings = {"learning_rate": 0.05, "batch_size": 8, "key": KEY}
    result = fit(huber(0.5), params, data, num_epochs=3, **settings)
    assert float(result.initial_loss) == pytest.approx(float(huber(0.5)(params, data)), rel=1e-12)
    final = float(huber(0.5)(result.params, data))
    assert float(result.final_loss) == pytest.approx(final, rel=1e-12)
    assert f"-> {final:.6g}, batch losses {float(result.losses[0]):.6g} -> " in repr(result)
    short = fit(huber(0.5), params, data, num_steps=3, **settings)
    assert np.isnan(short.final_loss)  # a pass over all the data would cost more than the steps
    assert repr(short).startswith("Fit(out of steps after 3 steps, batch losses ")
    exploded = fit(mse, params, data, num_epochs=3, **settings | {"learning_rate": 2.0})
    assert exploded.status in (Status.INCREASED, Status.DIVERGED)


def test_padding_changes_no_loss(x64):
    params, data = make_problem(6, n=20, d=3, weighted=True, dtype="float64")
    values = jax.jit(lambda params, data: [loss(params, data) for loss in (mse, sse, mae)])
    for padded, alone in zip(values(params, pad(data, 13)), values(params, data), strict=True):
        assert relative_error(padded, alone) < 1e-14  # a sum in another order


def regression_line():
    X, y, coefficient = make_regression(
        n_samples=100, n_features=1, n_informative=1, noise=5, coef=True, random_state=2
    )
    assert float(coefficient) == pytest.approx(60.84, abs=0.01)
    return X, y


def test_the_line_of_make_regression():
    # Splits whose least squares lie where the first telling of this example found the line; those
    # of others lie up to half a unit off.
    splits = [
        train_test_split(*regression_line(), test_size=0.2, random_state=s) for s in (0, 2, 10)
    ]
    X, X_test, y, y_test = (np.stack(parts) for parts in zip(*splits, strict=True))
    start = Params(jnp.array([-10.0]), jnp.array(9.0))

    def run(X, y):
        return fit(
            mse,
            start,
            as_dataset(X, y),
            learning_rate=0.1,
            num_epochs=10,
            batch_size=32,
            key=jax.random.key(2),
        ).params

    lines = jax.jit(jax.vmap(run))(X.astype("float32"), y.astype("float32"))
    slopes, intercepts = np.asarray(lines.weights)[:, 0], np.asarray(lines.bias)
    assert ((slopes > 59.6) & (slopes < 60.2)).all()
    assert (np.abs(intercepts) < 0.3).all()
    for i in range(3):
        error = np.mean((X_test[i, :, 0] * slopes[i] + intercepts[i] - y_test[i]) ** 2)
        peer = SGDRegressor(max_iter=1000, tol=1e-6, penalty=None, random_state=0).fit(X[i], y[i])
        assert 16 < error < 27
        # Both stop in the noise of their last batches.
        assert error == pytest.approx(np.mean((peer.predict(X_test[i]) - y_test[i]) ** 2), rel=0.05)


@pytest.mark.parametrize("rate", [0.6, 0.8])
def test_large_rates_overshoot_and_do_not_settle(rate):
    X, y = regression_line()
    start = Params(jnp.array([-10.0]), jnp.array(9.0))
    result = fit(
        mse,
        start,
        as_dataset(X, y),
        learning_rate=rate,
        num_epochs=50,
        batch_size=32,
        key=KEY,
        record_params=True,
    )
    slopes = np.asarray(result.path.weights)[:, 0]
    assert result.status == Status.OUT_OF_STEPS
    assert slopes[:8].max() > 61.5  # past the minimum, and back
    assert slopes[-40:].std() > 0.5
