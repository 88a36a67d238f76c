"""Functions as pytrees: told apart by their class, and traced by their fields."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import pytest

from linreg_jax import Loss, fit, gradients, invscaling, lasso, mae, mse, ridge
from linreg_jax._pytrees import as_function, as_pytree
from tests.reference import TABLE
from tests.support import make_problem, relative_error


@dataclasses.dataclass(frozen=True)
class Scaled(Loss):
    """A loss of the caller's own."""

    scale: float = 1.0

    def rho(self, r):
        return self.scale * r * r

    def psi(self, r):
        return 2 * self.scale * r


@dataclasses.dataclass(frozen=True)
class Other(Scaled):
    """Another one with the same fields."""


FUNCTIONS = [
    *(loss for loss, *_ in TABLE.values()),
    Scaled(),
    Other(),
    mse + ridge(0.1),
    mse + lasso(0.1),
    ridge(0.1),
    lasso(0.1),
    invscaling(0.1),
    gradients.vectorized(mse),
    gradients.autodiff(mse),
    gradients.vectorized(mae),
]


@pytest.mark.parametrize("wrapped", [False, True])
def test_no_two_functions_have_one_structure(wrapped):
    """Or a program that was compiled for one could be run for the other."""
    trees = [(function, 1.0) if wrapped else function for function in FUNCTIONS]
    for one, other in itertools.combinations(map(jax.tree.structure, trees), 2):
        assert one != other, (one, other)
    for function in FUNCTIONS:
        assert jax.tree.structure(function) == jax.tree.structure(function)


def test_dataclasses_that_the_caller_registered_are_told_apart():
    def registered(name):
        made = dataclasses.make_dataclass(name, [("rate", float)], frozen=True)
        made.__call__ = lambda self, step: self.rate
        return jax.tree_util.register_dataclass(made)(0.1)

    one, other = registered("One"), registered("Other")
    assert jax.tree.structure(as_pytree(one)) != jax.tree.structure(as_pytree(other))
    assert as_function(as_pytree(one)) == one
    params, data = make_problem(0, n=20, d=2)
    expected = fit(mse, params, data, learning_rate=0.1, num_steps=5).params
    for schedule in (one, other):
        found = fit(mse, params, data, learning_rate=schedule, num_steps=5).params
        assert relative_error(found, expected) < 1e-6  # the same steps in float32


def test_a_function_is_taken_apart_and_put_together():
    for function in FUNCTIONS:
        leaves, structure = jax.tree.flatten(function)
        again = jax.tree.unflatten(structure, leaves)
        assert type(again) is type(function)
        assert jax.tree.leaves(again) == leaves
        assert repr(again) == repr(function)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, Scaled(3.0))
    assert doubled == Scaled(6.0)
    [(path, _)] = jax.tree_util.tree_leaves_with_path(Scaled(3.0))
    assert jax.tree_util.keystr(path) == ".scale"


def test_fields_of_the_callers_own_are_traced():
    run = jax.jit(lambda loss: loss.rho(jnp.float32(2.0)))
    assert [float(run(Scaled(scale))) for scale in (1.0, 3.0)] == [4.0, 12.0]
    assert run._cache_size() == 1
