"""fit_chunks: the steps of a loop written by hand, and of a run that never stopped."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from linreg_jax import (
    DivergedError,
    Params,
    Status,
    as_dataset,
    invscaling,
    lasso,
    load,
    mae,
    mse,
    save,
    training,
)
from linreg_jax._training.batches import batches_per_epoch, mini_batches
from linreg_jax.streaming import fit_chunks, open_chunks
from tests.reference import TABLE, value_and_gradient
from tests.support import assert_same_bits, cut, make_problem, relative_error

KEY = jax.random.key(3)
batches_of = jax.jit(mini_batches, static_argnames="batch_size")
adam = functools.partial(optax.adam, b1=0.8)


def falling(step):
    """A schedule that lasts over many chunks."""
    return 0.1 / (1 + step)


def batches_by_hand(chunks, num_epochs, batch_size):
    """The batches in the order that the docstring says, as `Dataset`s without padding."""
    for epoch, (index, chunk) in itertools.product(range(num_epochs), enumerate(chunks)):
        data, size = as_dataset(*chunk), min(batch_size, len(chunk[0]))
        key = jax.random.fold_in(jax.random.fold_in(KEY, epoch), index)
        steps = jnp.arange(batches_per_epoch(len(chunk[0]), size))
        batches = batches_of(data, key, steps, batch_size=size)
        for step in steps.tolist():
            batch = jax.tree.map(lambda column, step=step: np.asarray(column[step]), batches)
            if batch.sample_weight is not None:
                held = batch.sample_weight > 0
                batch = jax.tree.map(lambda column, held=held: column[held], batch)
            yield epoch, index, batch


def descent_by_hand(name, params, chunks, num_epochs, batch_size, rate, shrink=None):
    """Plain descent in float64: the parameters, and the mean loss of each chunk."""
    w, b = np.asarray(params.weights, np.float64), np.asarray(params.bias, np.float64)
    losses = {}
    batches = batches_by_hand(chunks, num_epochs, batch_size)
    for step, (epoch, index, batch) in enumerate(batches):
        value, dw, db = value_and_gradient(name, Params(w, b), batch)
        here = rate(step) if callable(rate) else rate
        losses.setdefault((epoch, index), []).append(value)
        if shrink is not None:
            losses[epoch, index][-1] += shrink * np.abs(w).sum()
        w, b = w - here * dw, b - here * db
        if shrink is not None:
            w = np.sign(w) * np.maximum(np.abs(w) - here * shrink, 0)
    return Params(w, b), np.array([np.mean(values) for values in losses.values()])


@pytest.mark.parametrize("name", TABLE)
def test_every_loss_takes_the_steps_of_a_loop_by_hand(x64, name):
    """Partial batches, and weights."""
    params, data = make_problem(0, n=14, d=2, weighted=True, dtype="float64")
    weight = np.asarray(data.sample_weight) + 1  # the loop by hand tells padding by its weight, 0
    chunks = cut(data._replace(sample_weight=weight), [7, 7])
    rate = 0.004 if TABLE[name][3] is False else 0.05
    fitted = fit_chunks(
        TABLE[name][0], params, chunks, learning_rate=rate, num_epochs=2, batch_size=5, key=KEY
    )
    expected, losses = descent_by_hand(name, params, chunks, 2, 5, rate)
    # 8 steps in float64, each rounded a few times; no residual comes near a kink.
    assert relative_error(fitted.params, expected) < 1e-12
    assert relative_error(fitted.losses, losses) < 1e-12
    assert (int(fitted.state.epoch), int(fitted.state.chunk)) == (2, 0)
    assert int(fitted.state.state.step) == 8
    assert int(fitted.status) == Status.OUT_OF_STEPS


@pytest.mark.parametrize("k", [None, 2])
def test_several_targets_and_full_chunks(dtype, k):
    params, data = make_problem(1, n=16, d=2, k=k, dtype=dtype)
    chunks = cut(data, [8, 8])
    fitted = fit_chunks(mse, params, chunks, learning_rate=0.1, num_epochs=3, batch_size=None)
    w, b = np.asarray(params.weights, np.float64), np.asarray(params.bias, np.float64)
    for X, y in chunks * 3:
        r = X.astype(np.float64) @ w + b - y
        w, b = w - 0.1 * 2 * X.T @ r / len(X), b - 0.1 * 2 * r.mean(axis=0)
    assert fitted.params.weights.dtype == dtype
    # 6 steps that contract, rounded in the dtype.
    assert relative_error(fitted.params, Params(w, b)) < (1e-6 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize("shrink", [None, 0.05])
def test_a_schedule_goes_on_from_chunk_to_chunk(x64, shrink):
    params, data = make_problem(2, n=13, d=3, dtype="float64")
    chunks = cut(data, [9, 4])
    loss = mse if shrink is None else mse + lasso(shrink)
    settings = {"learning_rate": falling, "num_epochs": 2, "batch_size": 5, "key": KEY}
    fitted = fit_chunks(loss, params, chunks, **settings)
    expected, losses = descent_by_hand("mse", params, chunks, 2, 5, falling, shrink)
    # As above.
    assert relative_error(fitted.params, expected) < 1e-12
    assert relative_error(fitted.losses, losses) < 1e-12
    assert relative_error(fitted.last.learning_rate, falling(5)) < 1e-12
    (count,) = fitted.state.state.optimizer_state
    assert int(count) == int(fitted.state.state.step) == 6


WAYS = {
    "sgd": (mse, {"learning_rate": 0.05}),
    "adam": (mae, {"learning_rate": 0.01, "optimizer": adam}),
    "schedule": (mse + lasso(0.01), {"learning_rate": invscaling(0.1)}),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_run_goes_on_anywhere_as_if_it_had_never_stopped(way, tmp_path):
    loss, settings = WAYS[way]
    params, data = make_problem(3, n=23)
    chunks = cut(data, [10, 10, 3])  # the last is smaller than a batch
    settings = {"num_epochs": 3, "batch_size": 5, "key": KEY, **settings}
    states = []
    whole = fit_chunks(loss, params, chunks, after_chunk=states.append, **settings)
    assert [(int(s.epoch), int(s.chunk)) for s in states] == [
        (epoch, chunk) for epoch in range(3) for chunk in (1, 2, 3)
    ]
    for taken in (1, 3, 5, 8, 9):
        save(states[taken - 1], tmp_path / "state")
        again = fit_chunks(loss, load(tmp_path / "state"), chunks, **{**settings, "key": None})
        assert_same_bits(again.params, whole.params)
        assert_same_bits(again.state, whole.state)
        assert_same_bits(again.losses, whole.losses[taken:])
    finished = fit_chunks(loss, whole.state, chunks, **settings)
    assert_same_bits(finished.state, whole.state)
    assert finished.losses.shape == (0,)
    longer = fit_chunks(loss, whole.state, chunks, **{**settings, "num_epochs": 4})
    assert longer.losses.shape == (3,)


def test_chunks_may_be_a_function_of_the_epoch():
    params, data = make_problem(4, n=20)
    chunks, asked = cut(data, [10, 10]), []

    def of_epoch(epoch):
        asked.append(epoch)
        return iter(chunks)

    settings = {"learning_rate": 0.1, "num_epochs": 3, "batch_size": 5, "key": KEY}
    fitted = fit_chunks(mse, params, of_epoch, **settings)
    assert asked == [0, 1, 2]
    assert_same_bits(fitted, fit_chunks(mse, params, chunks, **settings))


def test_files_train_as_arrays_do(tmp_path):
    params, data = make_problem(5, n=20)
    np.save(tmp_path / "X.npy", data.X)
    np.save(tmp_path / "y.npy", data.y)
    settings = {"learning_rate": 0.1, "num_epochs": 2, "batch_size": 5, "key": KEY}
    chunks = open_chunks(tmp_path / "X.npy", tmp_path / "y.npy", rows=10)
    fitted = fit_chunks(mse, params, chunks, **settings)
    assert_same_bits(fitted, fit_chunks(mse, params, cut(data, [10, 10]), **settings))


@pytest.mark.parametrize("at", [0, 1])
def test_a_run_that_diverges_keeps_the_last_finite_parameters(at):
    params, data = make_problem(6, n=20, dtype="float32")
    chunks = cut(data, [10, 10])
    rate = [1e30, 1e3][at]  # the second overflows after some steps, in a later epoch
    settings = {"num_epochs": 40, "batch_size": 5, "key": KEY}
    read = []

    def of_epoch(epoch):
        for index, chunk in enumerate(chunks):
            read.append((epoch, index))
            yield chunk

    fitted = fit_chunks(mse, params, of_epoch, learning_rate=rate, **settings)
    assert int(fitted.status) == int(fitted.state.state.status) == Status.DIVERGED
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fitted.params))
    step = int(fitted.state.state.step)
    with pytest.raises(DivergedError, match=f"diverged at step {step} with learning rate"):
        fitted.raise_if_diverged()
    assert (step > 2) == (at == 1)
    place = int(fitted.state.epoch), int(fitted.state.chunk)
    assert place == divmod(len(fitted.losses) - 1, 2)
    assert len(read) == len(fitted.losses) + 1  # one chunk ahead, and no further


def test_chunks_of_one_size_compile_once():
    params, data = make_problem(9, n=60)
    chunks = cut(data, [20, 20, 20])
    before = training.train._cache_size()
    fit_chunks(mae, params, chunks, learning_rate=0.1, num_epochs=3, batch_size=7, key=KEY)
    assert training.train._cache_size() - before == 1


def test_arguments_that_do_not_fit():
    params, data = make_problem(10, n=10)
    chunks = cut(data, [5, 5])
    right = {"learning_rate": 0.1, "num_epochs": 2, "batch_size": 2, "key": KEY}
    for wrong, kind, text in [
        ({"num_epochs": 0}, ValueError, "num_epochs must be an integer of 1 or more"),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer of 1 or more"),
        ({"key": None}, ValueError, "batch_size needs a key"),
        ({"learning_rate": -1}, ValueError, "learning_rate must be"),
        ({"optimizer": optax.sgd(0.1)}, TypeError, "optimizer must be a factory"),
    ]:
        with pytest.raises(kind, match=text):
            fit_chunks(mse, params, chunks, **{**right, **wrong})
    with pytest.raises(ValueError, match="chunks is an iterator, which one epoch uses up"):
        fit_chunks(mse, params, iter(chunks), **right)
    with pytest.raises(ValueError, match="epoch 0 has 0 chunks"):
        fit_chunks(mse, params, [], **right)
    with pytest.raises(TypeError, match="params must be Params or a ChunkState"):
        fit_chunks(mse, data, chunks, **right)
    with pytest.raises(ValueError, match=r"weights has shape \[3\]"):
        fit_chunks(mse, Params(jnp.zeros(3), jnp.zeros(())), chunks, **right)
