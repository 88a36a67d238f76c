"""JAX's debugging tools, as users turn them on: the transfer guard and `jax_debug_nans`."""

import jax
import numpy as np
import pytest

from linreg_jax import (
    diagnose,
    huber,
    init_params,
    mse,
    predict,
    ridge,
    shuffled_index,
    solve,
    split,
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
    "trajectory": lambda: trajectory(PENALIZED, PARAMS, DATA, learning_rate=0.1, steps=range(3)),
}


@pytest.mark.parametrize("call", ON_DEVICE.values(), ids=list(ON_DEVICE))
def test_nothing_is_transferred_behind_the_callers_back(call):
    expected = call()
    with jax.transfer_guard("disallow"):
        found = call()
    jax.tree.map(np.testing.assert_array_equal, found, expected)
