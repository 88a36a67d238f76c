"""Calls that a newcomer gets wrong: the error names the argument, what was passed and the fix."""

import jax
import jax.experimental.sparse
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.sparse

from linreg_jax import (
    Params,
    adaptive,
    as_dataset,
    check_gradients,
    diagnose,
    epsilon_insensitive,
    fit,
    gradients,
    huber,
    init_params,
    initialize,
    invscaling,
    lasso,
    mse,
    predict,
    quantile,
    residuals,
    ridge,
    shuffled_index,
    solve,
    split,
    standardize,
    trajectory,
)
from tests.support import make_problem

PARAMS, DATA = make_problem(0, n=20, d=3)
KEY = jax.random.key(0)
MANY = np.arange(1000.0)


def run(**settings):
    """Three steps of `fit`, with other settings."""
    settings = {"learning_rate": 0.1, "num_steps": 3} | settings
    return fit(mse, PARAMS, DATA, **settings)


WRONG_CALLS = {
    "predict takes features": (
        lambda: predict(PARAMS, DATA),
        r"X must be an array, got Dataset: pass its features, predict\(params, data\.X\)",
    ),
    "predict takes parameters first": (
        lambda: predict(DATA.X, PARAMS),
        r"X must be an array, got Params: they come first, predict\(params, X\)",
    ),
    "as_dataset takes arrays": (
        lambda: as_dataset(DATA, DATA.y),
        r"X must be an array, got Dataset, a record of arrays: pass one of its fields \(X, y, ",
    ),
    "as_dataset takes numbers": (
        lambda: as_dataset(make_problem, DATA.y),
        "X must be an array, got function: pass the numbers themselves",
    ),
    "solve takes one data set": (
        lambda: solve(DATA.X, DATA.y),
        r"data must be a Dataset, got float32\[20, 3\] \(.*, \.\.\.\): as_dataset\(X, y\)",
    ),
    "solve takes the data first": (
        lambda: solve(mse, DATA),
        "data must be a Dataset, got SquaredError: check the order of the arguments",
    ),
    "diagnose takes the data first": (
        lambda: diagnose(mse, DATA),
        "data must be a Dataset, got SquaredError: check the order of the arguments",
    ),
    "a loss takes the parameters first": (
        lambda: mse(DATA, PARAMS),
        "data must be a Dataset, got Params: check the order of the arguments",
    ),
    "check_gradients takes the parameters first": (
        lambda: check_gradients(mse, DATA, PARAMS),
        "data must be a Dataset, got Params: check the order of the arguments",
    ),
    "check_gradients of a function takes the parameters first": (
        lambda: check_gradients(lambda params, data: mse(params, data), DATA, PARAMS),
        "data must be a Dataset, got Params: check the order of the arguments",
    ),
    "trajectory takes the parameters first": (
        lambda: trajectory(mse, DATA, PARAMS, learning_rate=0.1, steps=3),
        "data must be a Dataset, got Params: check the order of the arguments",
    ),
    "residuals take parameters": (
        lambda: residuals(mse, DATA),
        "params must be Params, got SquaredError: check the order of the arguments",
    ),
    "a seed is no key of init_params": (
        lambda: init_params(DATA, key=0),
        r"key must be one JAX random key, got 0: a seed becomes one by jax\.random\.key\(0\)",
    ),
    "a seed is no key of split": (
        lambda: split(DATA, 7, 0.2),
        r"key must be one JAX random key, got 7: a seed becomes one by jax\.random\.key\(7\)",
    ),
    "a seed is no key of shuffled_index": (
        lambda: shuffled_index(0, 5, 2),
        r"key must be one JAX random key, got 0: a seed becomes one",
    ),
    "nothing is no key": (
        lambda: split(DATA, None, 0.2),
        r"key must be one JAX random key, got None: pass jax\.random\.key\(0\)",
    ),
    "several keys are not one": (
        lambda: init_params(DATA, jax.random.split(KEY, 3)),
        r"key must be one JAX random key, got key<fry>\[3\]: pass one of them, or jax\.vmap",
    ),
    "a scale is a number": (
        lambda: init_params(DATA, KEY, scale="small"),
        "scale must be a finite number, at least 0, got 'small' of type str",
    ),
    "an intercept is a bool": (
        lambda: init_params(DATA, intercept="no"),
        "intercept must be True or False, got 'no'",
    ),
    "an intercept of solve is a bool": (
        lambda: solve(DATA, intercept=None),
        "intercept must be True or False, got None",
    ),
    "an intercept of diagnose is a bool": (
        lambda: diagnose(DATA, intercept=MANY),
        r"intercept must be True or False, got float64\[1000\] \(0, 1, 2, \.\.\.\)$",
    ),
    "center is a bool": (
        lambda: standardize(DATA, center="mean"),
        "center must be True or False, got 'mean'",
    ),
    "positions are integers": (
        lambda: shuffled_index(KEY, 5, "first"),
        "position must hold integers, got 'first'",
    ),
    "levels are mapped over": (
        lambda: quantile([0.1, 0.9]),
        r"level must be .*, got \[0\.1, 0\.9\] of type list; for several, "
        r"jax\.vmap\(lambda level: \.\.\.\)\(jnp\.array\(\[\.\.\.\]\)\)",
    ),
    "a gradient needs a loss": (
        lambda: gradients.vectorized(MANY),
        r"got float64\[1000\] \(0, 1, 2, \.\.\.\): pass one of this package",
    ),
    "a loss is a function": (
        lambda: check_gradients(DATA, PARAMS, DATA),
        r"loss must be a function \(params, data\) -> scalar, got a Dataset$",
    ),
    "a size is short in an error": (
        lambda: shuffled_index(KEY, list(range(1000)), 0),
        r"n must be a Python integer, got \[0, 1, 2, 3, 4, 5, \.\.\.\]: it is part of",
    ),
    "a seed is no key of fit": (
        lambda: run(batch_size=5, key=0),
        r"key must be one JAX random key, got 0: a seed becomes one by jax\.random\.key\(0\)",
    ),
    "invscaling is called": (
        lambda: run(learning_rate=invscaling),
        r"invscaling makes a schedule: call it, learning_rate=invscaling\(0\.1\)",
    ),
    "adaptive is called": (
        lambda: run(optimizer=adaptive),
        r"adaptive makes an optimizer: call it, optimizer=adaptive\(\)",
    ),
    "adaptive is no schedule": (
        lambda: run(learning_rate=adaptive),
        r"adaptive makes an optimizer: call it, optimizer=adaptive\(\)",
    ),
    "what makes schedules is called": (
        lambda: run(learning_rate=optax.exponential_decay),
        "learning_rate exponential_decay is no schedule, .* it raised TypeError: .*missing",
    ),
    "a schedule gives one number": (
        lambda: run(learning_rate=lambda step: jnp.ones(3) / (step + 1)),
        r"learning_rate <lambda> is no schedule, .*: it gave float32\[3\]",
    ),
    "a loss is no array": (
        lambda: fit(MANY, PARAMS, DATA, learning_rate=0.1, num_steps=3),
        r"loss must be a function \(params, data\) -> scalar, got float64\[1000\] \(0, 1, 2, ",
    ),
    "an optimizer is no array": (
        lambda: run(optimizer=MANY),
        r"got float64\[1000\] \(0, 1, 2, \.\.\.\): pass optax\.sgd",
    ),
    "a gradient is no array": (
        lambda: run(gradient=MANY),
        r"gradient must be .* got float64\[1000\] \(0, 1, 2, \.\.\.\): pass gradients",
    ),
    "progress is no array": (
        lambda: run(progress=MANY),
        r"progress must be .* got float64\[1000\] \(0, 1, 2, \.\.\.\)$",
    ),
    "compress is a bool": (
        lambda: run(compress=MANY),
        r"compress must be True, False or None, got float64\[1000\]",
    ),
    "record_params is a bool": (
        lambda: run(record_params="all"),
        "record_params must be True or False, got 'all'",
    ),
    "a strength is no key": (
        lambda: ridge(KEY),
        r"strength must be a finite number, at least 0, got an array of key<fry>",
    ),
    "a number of shards is an integer": (
        lambda: run(num_shards="all"),
        "num_shards must be a Python integer, got 'all'",
    ),
    "fit takes the loss first": (
        lambda: fit(PARAMS, mse, DATA, learning_rate=0.1, num_steps=3),
        "params must be Params, got SquaredError: check the order of the arguments",
    ),
}


@pytest.mark.parametrize(("call", "message"), WRONG_CALLS.values(), ids=list(WRONG_CALLS))
def test_wrong_calls_say_what_to_do(call, message):
    with pytest.raises(TypeError, match=message) as caught:
        call()
    assert len(str(caught.value)) < 400  # an array is never printed whole


def test_a_key_may_come_by_position_as_in_split():
    drawn = init_params(DATA, KEY)
    np.testing.assert_array_equal(drawn.weights, init_params(DATA, key=KEY).weights)
    assert np.any(drawn.weights)


@pytest.mark.parametrize("key", [jax.random.PRNGKey(0), np.asarray(jax.random.PRNGKey(0))])
def test_keys_of_the_old_kind_draw_the_same(key):
    np.testing.assert_array_equal(init_params(DATA, key).weights, init_params(DATA, KEY).weights)
    np.testing.assert_array_equal(split(DATA, key, 0.2)[0].X, split(DATA, KEY, 0.2)[0].X)
    assert shuffled_index(key, 5, 2) == shuffled_index(KEY, 5, 2)


def test_keys_map():
    keys = jax.random.split(KEY, 3)
    drawn = jax.vmap(lambda key: init_params(DATA, key))(keys)
    np.testing.assert_array_equal(drawn.weights[1], init_params(DATA, keys[1]).weights)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (huber(jnp.array([1.0, 2.0])), "delta"),
        (quantile(np.array([0.1, 0.9])), "level"),
        (epsilon_insensitive(jnp.array([0.1])), "epsilon"),
        (mse + ridge(np.array([0.1, 0.2])), "strength"),
        (mse + lasso(np.array([0.1, 0.2])), "strength"),
    ],
)
@pytest.mark.parametrize("n", [2, 20])
def test_settings_to_map_over_never_broadcast_against_the_residuals(loss, name, n):
    """Two settings and two examples: each example would silently get its own."""
    data = as_dataset(DATA.X[:n], DATA.y[:n])
    message = rf"{name} has shape \[\d\]: one loss takes one number; for several, jax\.vmap"
    for call in (loss, gradients.vectorized(loss), gradients.one_pass(loss)):
        with pytest.raises(ValueError, match=message):
            call(PARAMS, data)
    mapped = jax.vmap(lambda one: one(PARAMS, data))(loss)
    assert np.isfinite(mapped).all()


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost:", "::1", "host:http", ""])
def test_an_address_needs_a_port(address):
    with pytest.raises(ValueError, match=r'must be "address:port", got .*: add a free port'):
        initialize(address, 2, 0, timeout=0.1)


def test_sparse_matrices_are_named():
    sparse = scipy.sparse.csr_matrix(np.eye(3))
    message = r"X must be a dense array, got a sparse csr_matrix: pass its \.toarray\(\)"
    with pytest.raises(TypeError, match=message):
        as_dataset(sparse, np.ones(3))
    with pytest.raises(TypeError, match=message):
        predict(PARAMS, sparse)
    of_jax = jax.experimental.sparse.BCOO.fromdense(jnp.eye(3))
    with pytest.raises(TypeError, match=r"got a sparse BCOO: pass its \.todense\(\)"):
        as_dataset(of_jax, np.ones(3))


def test_parameters_are_no_features():
    with pytest.raises(TypeError, match="X must be an array, got Params"):
        as_dataset(Params(jnp.ones(2), None), np.ones(2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 10**12}, "num_steps must be at most 2147483647, as steps are counted in"),
        (
            {"num_steps": None, "num_epochs": 10**9, "batch_size": 2, "key": KEY},
            "num_epochs must be at most 214748364, as steps are counted in int32 .*solve",
        ),
        (
            {"average_from": MANY.astype(int)},
            r"average_from must be a step, .* got int64\[1000\] \(0, 1, 2, \.\.\.\)$",
        ),
    ],
)
def test_numbers_of_steps_have_a_limit(settings, message):
    with pytest.raises(ValueError, match=message):
        run(**settings)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: run(tolerance=np.ones(3)), "tolerance"),
        (lambda: init_params(DATA, KEY, scale=np.ones(3)), "scale"),
        (lambda: run(learning_rate=np.ones(3)), "learning_rate"),
    ],
    ids=["tolerance", "scale", "learning_rate"],
)
def test_one_number_is_never_three(call, name):
    """Three would broadcast against three weights."""
    with pytest.raises(ValueError, match=rf"{name} has shape \[3\]: .*jax\.vmap\(lambda"):
        call()
