"""A loss or gradient of the caller's own: plain rows only, and weights only where it knows them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import (
    Dataset,
    Params,
    check_gradients,
    compress,
    fit,
    fit_chunks,
    gradients,
    half_mse,
    huber,
    lasso,
    mse,
    residuals,
    shard,
)
from linreg_jax._pytrees import as_function, as_pytree
from tests.support import make_problem, relative_error

KEY = jax.random.key(0)


def own_loss(params, data):
    """The mean squared error as most people write it."""
    return jnp.mean((data.X @ params.weights + params.bias - data.y) ** 2)


def own_gradient(params, data):
    """Its gradient by hand, which knows nothing of weights."""
    r = data.X @ params.weights + params.bias - data.y
    return jnp.mean(r**2), Params(2 * data.X.T @ r / len(r), 2 * jnp.mean(r))


def weighted_gradient(params, data):
    """The same with weights."""
    r = data.X @ params.weights + params.bias - data.y
    s = jnp.ones_like(r) if data.sample_weight is None else data.sample_weight
    s = s / jnp.sum(s)
    return jnp.sum(s * r**2), Params(2 * data.X.T @ (s * r), 2 * jnp.sum(s * r))


def seen_by(fields):
    """`weighted_gradient`, which writes down which fields of the data it was given."""

    def gradient(params, data):
        fields.append({name for name, value in data._asdict().items() if value is not None})
        return weighted_gradient(params, data)

    return gradient


@pytest.mark.slow
@pytest.mark.parametrize("n", [64, 120])
def test_a_gradient_that_check_gradients_calls_right_trains_right(n):
    params, data = make_problem(0, n=n, d=2)
    assert check_gradients(mse, params, data, gradient=own_gradient).ok
    expected = fit(mse, params, data, learning_rate=0.1, num_steps=60, compress=False)
    mine = fit(mse, params, data, learning_rate=0.1, num_steps=60, gradient=own_gradient)
    # The same sums in another order, over 60 contracting steps in float32.
    assert relative_error(mine.params, expected.params) < 1e-6
    assert relative_error(mine.losses, expected.losses) < 1e-6
    alone = fit(own_loss, params, data, learning_rate=0.1, num_steps=60)
    assert relative_error(alone.params, expected.params) < 1e-6


def test_it_is_given_examples_and_nothing_else():
    fields: list[set[str]] = []
    # Rows that a loss of the package would have compressed, or padded to a number that divides.
    for n, d in ((200, 2), (97, 5000)):
        params, data = make_problem(1, n=n, d=d)
        fit(mse, params, data, learning_rate=1e-5, num_steps=2, gradient=seen_by(fields))
    params, data = make_problem(1, n=24, d=2)
    fit(mse, params, data, learning_rate=0.1, num_epochs=2, batch_size=8, key=KEY,
        gradient=seen_by(fields))  # fmt: skip
    assert {frozenset(one) for one in fields} == {frozenset({"X", "y"})}


@pytest.mark.parametrize(
    ("loss", "gradient", "what"), [(mse, own_gradient, "gradient"), (own_loss, None, "loss")]
)
def test_weights_that_it_ignores_are_refused_with_the_fix(loss, gradient, what):
    params, data = make_problem(2, n=64, d=2)
    batches = {"num_steps": 3, "learning_rate": 0.1, "key": KEY, "gradient": gradient}
    with pytest.raises(
        ValueError, match=rf"{what} does not honour .* pass one that does, such as 8"
    ):
        fit(loss, params, data, batch_size=10, **batches)
    fit(loss, params, data, batch_size=8, **batches)
    weighted = data._replace(sample_weight=jnp.ones(64))
    with pytest.raises(ValueError, match=r"honour data.sample_weight.* the data are weighted"):
        fit(loss, params, weighted, learning_rate=0.1, num_steps=3, gradient=gradient)
    with pytest.raises(ValueError, match=r"honour data.sample_weight"):  # padded to 8 shards
        fit(loss, params, shard(make_problem(2, n=61, d=2)[1]), learning_rate=0.1, num_steps=3,
            gradient=gradient)  # fmt: skip
    chunk = (np.asarray(data.X), np.asarray(data.y))
    with pytest.raises(ValueError, match=r"honour data.sample_weight"):
        fit_chunks(loss, params, [chunk], learning_rate=0.1, num_epochs=1, batch_size=10, key=KEY,
                   gradient=gradient)  # fmt: skip


def test_one_that_honours_weights_may_have_them():
    params, data = make_problem(3, n=50, d=2, weighted=True)
    settings = {"learning_rate": 0.1, "num_steps": 12, "batch_size": 8, "key": KEY}
    expected = fit(mse, params, data, **settings)
    mine = fit(mse, params, data, gradient=weighted_gradient, **settings)
    assert relative_error(mine.params, expected.params) < 1e-6  # float32, a few steps
    laid_out = shard(data)
    mine = fit(mse, params, laid_out, learning_rate=0.1, num_steps=12, gradient=weighted_gradient)
    expected = fit(mse, params, data, learning_rate=0.1, num_steps=12)
    assert relative_error(mine.params, expected.params) < 1e-6


def test_a_loss_that_divides_by_the_number_of_rows_is_not_a_mean_of_the_held():
    def of_all_rows(params, data):
        s = 1.0 if data.sample_weight is None else data.sample_weight
        return jnp.mean(s * residuals(params, data) ** 2)

    params, data = make_problem(4, n=50, d=2)
    with pytest.raises(ValueError, match="loss does not honour"):
        fit(of_all_rows, params, data, learning_rate=0.1, num_steps=3, batch_size=8, key=KEY)


def test_compressed_rows_are_refused():
    params, data = make_problem(5, n=64, d=2)
    small = compress(data)
    for loss, gradient in ((own_loss, None), (mse, own_gradient)):
        with pytest.raises(ValueError, match=r"data is compressed .* pass the original"):
            fit(loss, params, small, learning_rate=0.1, num_steps=3, gradient=gradient)
    with pytest.raises(ValueError, match="compress=True gives rows"):
        fit(mse, params, data, learning_rate=0.1, num_steps=3, gradient=own_gradient, compress=True)


def test_what_cannot_be_looked_at_is_refused():
    params, data = make_problem(6, n=50, d=2)

    def run(scale, batch_size):
        return fit(
            lambda params, data: scale * own_loss(params, data),
            params,
            data,
            learning_rate=0.1,
            num_steps=2,
            batch_size=batch_size,
            key=KEY,
        ).losses

    with pytest.raises(ValueError, match="holds traced values"):
        jax.vmap(lambda scale: run(scale, 8))(jnp.ones(2))
    assert jax.vmap(lambda scale: run(scale, 10))(jnp.ones(2)).shape == (2, 2)


def test_a_gradient_is_a_drop_in_wherever_it_is_taken():
    params, data = make_problem(7, n=40, d=2)
    chunks = [(np.asarray(data.X), np.asarray(data.y))]
    loss = huber(0.5)
    settings = {"learning_rate": 0.1, "num_epochs": 2, "batch_size": 10, "key": KEY}
    for gradient in (gradients.vectorized(loss), jax.value_and_grad(loss)):
        assert check_gradients(loss, params, data, gradient=gradient).ok
        expected = fit_chunks(loss, params, chunks, **settings)
        actual = fit_chunks(loss, params, chunks, gradient=gradient, **settings)
        assert relative_error(actual.params, expected.params) < 1e-6
    with pytest.raises(TypeError, match="call it, one_pass"):
        fit_chunks(loss, params, chunks, gradient=gradients.one_pass, **settings)
    with pytest.raises(TypeError, match="call it, one_pass"):
        check_gradients(loss, params, data, gradient=gradients.one_pass)


def test_a_gradient_of_the_package_is_made_anew_and_compiles_once():
    params, data = make_problem(8, n=30, d=2)
    run = jax.jit(lambda gradient: gradient(params, data))
    for delta in (0.5, 1.0):
        value, _ = run(gradients.vectorized(huber(delta)))
        assert float(value) == pytest.approx(float(huber(delta)(params, data)), rel=1e-6)
    assert run._cache_size() == 1


def test_a_lasso_needs_the_gradient_of_its_smooth_part():
    params, data = make_problem(9, n=30, d=2)
    loss = half_mse + lasso(0.1)
    with pytest.raises(ValueError, match="gradient of its smooth part"):
        fit(loss, params, data, learning_rate=0.1, num_steps=3, gradient=jax.value_and_grad(loss))


def test_weights_are_tried_by_check_gradients():
    params, data = make_problem(10, n=30, d=3)
    report = check_gradients(mse, params, data, gradient=own_gradient)
    assert report.ok
    check = next(check for check in report.checks if check.name == "sample weights")
    assert check.ok is None
    assert "not honoured" in check.detail
    report = check_gradients(mse, params, data, gradient=weighted_gradient)
    check = next(check for check in report.checks if check.name == "sample weights")
    assert check.ok is True
    weighted = data._replace(sample_weight=jnp.arange(30.0))
    assert not check_gradients(mse, params, weighted, gradient=own_gradient).ok


@pytest.mark.parametrize(
    ("factor", "text"),
    [
        (2.0, "2 times the right one"),
        (0.5, "1/2 times the right one"),
        (30.0, "n = 30 times the right one"),
        (1 / 30.0, "1/n = 1/30 times the right one"),
        (-1.0, "-1 times the right one"),
    ],
)
def test_a_constant_factor_is_named(factor, text):
    params, data = make_problem(11, n=30, d=3)

    def scaled(params, data):
        value, gradient = own_gradient(params, data)
        return value, jax.tree.map(lambda leaf: factor * leaf, gradient)

    report = check_gradients(mse, params, data, gradient=scaled)
    assert not report.ok
    assert text in str(report)


@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        (jax.grad(mse), TypeError, "gave Params alone: return (value, gradient)"),
        (lambda p, d: own_gradient(p, d)[::-1], TypeError, "which is not Params"),
        (lambda p, d: (mse(p, d), tuple(jax.grad(mse)(p, d))), TypeError, "which is not Params"),
        (
            lambda p, d: (mse(p, d), jax.grad(mse)(p, d)._replace(bias=jnp.zeros(1))),
            ValueError,
            "the gradient of bias has shape [1], but bias is []",
        ),
        (
            lambda p, d: (float(mse(p, d)), jax.grad(mse)(p, d)),
            TypeError,
            "write it in jax.numpy",
        ),
        (
            lambda p, d: (mse(p, d), jax.tree.map(np.asarray, jax.grad(mse)(p, d))),
            TypeError,
            "write it in jax.numpy",
        ),
    ],
)
def test_fit_refuses_what_is_no_gradient(gradient, error, message):
    params, data = make_problem(13, n=30, d=3)
    for batches in ({}, {"batch_size": 10, "key": jax.random.key(0)}):
        with pytest.raises(error, match=re.escape(message)):
            fit(mse, params, data, learning_rate=0.1, num_steps=3, gradient=gradient, **batches)


def test_a_forgotten_bias_is_named():
    params, data = make_problem(12, n=30, d=3)

    def forgets(params, data):
        value, gradient = own_gradient(params, data)
        return value, gradient._replace(bias=jnp.zeros(()))

    assert "only the bias is wrong" in str(check_gradients(mse, params, data, gradient=forgets))

    def one_wrong(params, data: Dataset):
        value, gradient = own_gradient(params, data)
        return value, gradient._replace(weights=gradient.weights.at[1].multiply(2))

    text = str(check_gradients(mse, params, data, gradient=one_wrong))
    assert "times the right one" not in text
    assert "only the bias" not in text


def test_what_is_no_pytree_passes_as_a_constant():
    class Plain:
        def __call__(self, x):
            return x

    for function in (Plain(), jax.tree_util.Partial(Plain(), 1.0), {"a": 1.0, "b": Plain()}):
        passed = as_pytree(function)
        assert all(isinstance(leaf, float) for leaf in jax.tree.leaves(passed))
        restored = jax.tree.leaves(as_function(passed))
        assert all(a is b for a, b in zip(restored, jax.tree.leaves(function), strict=True))
