"""Many losses in one program: each is computed by its own functions."""

import dataclasses

import jax
from jax import Array

from linreg_jax import Loss, gradients, mse
from linreg_jax.penalties import Penalty
from tests.support import make_problem

# Compiled programs are found by hashes, of which jax 0.10 looks at 7 bits before it asks for
# equality: among so many classes dozens of pairs share them, in every process.
MANY = 120


def test_no_loss_of_many_is_computed_by_the_functions_of_another() -> None:
    called: set[type] = set()

    def make_loss() -> Loss:
        @dataclasses.dataclass(frozen=True)
        class Recorded(Loss):
            def rho(self, r: Array) -> Array:
                called.add(type(self))
                return r * r

            def psi(self, r: Array) -> Array:
                return 2 * r

        return Recorded()

    problem = make_problem(1)
    losses = [make_loss() for _ in range(MANY)]
    for ways in (losses, [gradients.vectorized(loss) for loss in losses]):
        called.clear()
        jax.eval_shape(lambda ways=ways: [way(*problem) for way in ways])
        assert called == {type(loss) for loss in losses}


def test_no_penalty_of_many_is_computed_by_the_functions_of_another() -> None:
    called: set[type] = set()

    def make_penalty() -> Penalty:
        @dataclasses.dataclass(frozen=True)
        class Recorded(Penalty):
            def rho(self, w: Array) -> Array:
                called.add(type(self))
                return w * w

            def psi(self, w: Array) -> Array:
                return 2 * w

        return Recorded(0.1)

    problem = make_problem(1)
    penalties = [make_penalty() for _ in range(MANY)]
    jax.eval_shape(lambda *problem: [(mse + one)(*problem) for one in penalties], *problem)
    assert called == {type(one) for one in penalties}
