"""JAX's debugging tools, as users turn them on: the transfer guard and `jax_debug_nans`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import (
    Status,
    adaptive,
    as_dataset,
    check_gradients,
    compress,
    diagnose,
    fit,
    fit_chunks,
    huber,
    init_params,
    invscaling,
    mse,
    predict,
    ridge,
    shuffled_index,
    solve,
    split,
    standardize,
    trajectory,
)
from tests.support import make_problem

KEY = jax.random.key(0)
PARAMS, DATA = make_problem(0, weighted=True)
PENALIZED = mse + ridge(0.1)

ON_DEVICE = {
    "init_params": lambda: (init_params(DATA), init_params(DATA, KEY)),
    "predict": lambda: predict(PARAMS, DATA.X),
    "split": lambda: split(DATA, KEY, 0.2),
    "shuffled_index": lambda: shuffled_index(KEY, 100, 3, epoch=1),
    "solve": lambda: solve(DATA, PENALIZED),
    "diagnose": lambda: diagnose(DATA, huber(1.0) + ridge(0.1)).curvatures,
    "steps_to": lambda: diagnose(DATA).steps_to(0.01),
    "overflow_step": lambda: diagnose(DATA).overflow_step(10.0),
    "fit": lambda: fit(PENALIZED, PARAMS, DATA, learning_rate=0.1, num_steps=9).losses,
    "fit, every setting": lambda: (
        fit(
            huber(1.0) + ridge(0.1),
            PARAMS,
            DATA,
            learning_rate=invscaling(0.1),
            num_steps=9,
            batch_size=6,
            key=KEY,
            validation=DATA,
            tolerance=1e-3,
            average_from=2,
            optimizer=adaptive(),
        ).losses
    ),
    "fit by itself": lambda: fit(mse, PARAMS, DATA, learning_rate="auto", num_steps=9).losses,
    "trajectory": lambda: trajectory(PENALIZED, PARAMS, DATA, learning_rate=0.1, steps=range(3)),
}


@pytest.mark.parametrize("call", ON_DEVICE.values(), ids=list(ON_DEVICE))
def test_nothing_is_transferred_behind_the_callers_back(call):
    expected = call()
    with jax.transfer_guard("disallow"):
        found = call()
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.fixture
def debug_nans():
    """The test with `jax_debug_nans` on, and nothing compiled before that was not looked at."""
    with jax.debug_nans(True):
        yield


FITS = {
    "full batches": {},
    "to a tolerance": {"tolerance": 1e-2},
    "mini-batches": {"batch_size": 6, "key": KEY},
    "validation": {"validation": DATA},
    "an early stop": {"batch_size": 6, "key": KEY, "validation": DATA, "tolerance": 0.1},
    "recorded": {"record_params": True, "record_every": 7, "tolerance": 1e-2},
    "averaged": {"average_from": 10},
    "adaptive": {"optimizer": adaptive()},
    "watched": {"progress": lambda progress: None, "tolerance": 1e-2},
}


@pytest.mark.parametrize("settings", FITS.values(), ids=list(FITS))
def test_a_fit_without_nans_runs_where_they_are_looked_for(settings, debug_nans):
    result = fit(mse, PARAMS, DATA, learning_rate=0.1, num_steps=60, **settings)
    assert float(mse(result.params, DATA)) < float(mse(PARAMS, DATA))
    assert np.isnan(result.largest_stable_rate)


def test_fits_map_where_nans_are_looked_for(debug_nans):
    rates = jnp.array([0.01, 0.1])
    runs = jax.vmap(
        lambda rate: fit(mse, PARAMS, DATA, learning_rate=rate, num_steps=9, tolerance=1e-2)
    )(rates)
    assert runs.status.shape == (2,)


def test_a_run_that_explodes_is_a_result_where_nans_are_looked_for(debug_nans):
    result = fit(mse, PARAMS, DATA, learning_rate=100.0, num_steps=60)
    assert int(result.status) == Status.DIVERGED
    assert 0 < float(result.largest_stable_rate) < 100


@pytest.mark.parametrize("settings", [{}, {"batch_size": 6, "key": KEY}], ids=["full", "batches"])
def test_a_nan_of_the_loss_is_reported(settings, debug_nans):
    def root_of_the_bias(params, data):
        return mse(params, data) + jnp.sqrt(params.bias)

    start = PARAMS._replace(bias=-jnp.ones(()))
    with pytest.raises(FloatingPointError, match="nan"):
        fit(root_of_the_bias, start, DATA, learning_rate=0.1, num_steps=9, **settings)


@pytest.mark.exhaustive
def test_the_rest_of_the_package_meets_no_nans_of_its_own(debug_nans):
    rank_deficient = as_dataset(np.repeat(DATA.X[:, :1], 2, axis=1), DATA.y)
    one_example = as_dataset([[1.0, 2.0]], [3.0])
    for data in (DATA, rank_deficient, one_example, as_dataset(np.ones((5, 2)), np.ones(5))):
        params = init_params(data)
        assert np.isfinite(solve(data, PENALIZED).value)
        assert np.isfinite(solve(data).params.weights).all()
        trajectory(mse, params, data, learning_rate=[0.1, 10.0], steps=range(100))
        standardize(data)
        compress(data)
    assert check_gradients(huber(1.0), PARAMS, DATA).ok
    str(diagnose(DATA))
    str(diagnose(rank_deficient))
    chunks = fit_chunks(
        mse, PARAMS, [DATA, DATA], learning_rate=0.1, num_epochs=1, batch_size=6, key=KEY
    )
    assert np.isfinite(chunks.params.weights).all()
