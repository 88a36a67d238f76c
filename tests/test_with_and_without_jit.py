"""Each loss and each way to its gradient, traced and not, beside loops in NumPy."""

import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from absl.testing import parameterized

from linreg_jax import Dataset, Loss, Params, gradients, huber, lasso, mse, quantile, ridge
from linreg_jax.gradients import ValueAndGradient
from tests.reference import TABLE, value_and_gradient
from tests.support import make_problem, relative_error

PROBLEM = make_problem(0, n=7, d=2, weighted=True)
ROUNDING = 2e-6  # of 7 terms of float32
OF_DIFFERENCES = 2e-4  # of float32, measured 6e-5
WAYS = {
    "autodiff": gradients.autodiff,
    "vectorized": gradients.vectorized,
    "by_loops": gradients.by_loops,
    "one_pass": functools.partial(gradients.one_pass, block_rows=3),
    "finite_difference": gradients.finite_difference,
}


class EachLoss(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.named_parameters((name, name) for name in TABLE)
    def test_its_value_and_gradient_each_way(self, name: str) -> None:
        value, *gradient = value_and_gradient(name, *PROBLEM)
        loss = TABLE[name].loss
        assert relative_error(self.variant(loss)(*PROBLEM), value) < ROUNDING
        for key, way in WAYS.items():
            found = self.variant(way(loss))(*PROBLEM)
            assert relative_error(found[0], value) < ROUNDING, key
            bound = OF_DIFFERENCES if key == "finite_difference" else ROUNDING
            assert relative_error(found[1], gradient) < bound, key

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.named_parameters((name, name) for name in WAYS)
    def test_the_gradient_is_shaped_as_the_parameters(self, name: str) -> None:
        for case in ({"k": 2}, {"intercept": False}):
            params, data = make_problem(1, n=5, d=3, **case)
            _, gradient = self.variant(WAYS[name](mse))(params, data)
            chex.assert_trees_all_equal_shapes_and_dtypes(gradient, params)


def one_program(way: Callable[[Loss], ValueAndGradient]) -> ValueAndGradient:
    """A way under `jit`, with the loss as an argument; tracing it twice is an error."""
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(loss: Loss, params: Params, data: Dataset) -> tuple[jax.Array, Params]:
        return way(loss)(params, data)

    return run


class EachWay(parameterized.TestCase):
    @parameterized.named_parameters((name, name) for name in WAYS)
    def test_other_settings_do_not_trace_again(self, name: str) -> None:
        for make in (huber, quantile, lambda setting: mse + ridge(setting) + lasso(setting)):
            run = one_program(WAYS[name])
            values = {
                float(run(make(setting), *PROBLEM)[0]) for setting in (0.25, 0.5, jnp.array(0.75))
            }
            assert len(values) == 3
