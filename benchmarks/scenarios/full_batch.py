"""Full-batch gradient descent on the mean squared error."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from benchmarks import jax_loops, numpy_by_hand, pytorch
from benchmarks.harness import Case, Competitor, Missing, Settings
from benchmarks.ours import fitting, path_answer, start, transfer
from benchmarks.problems import RATE, make_problem, squared_error_descent
from linreg_jax import mse
from linreg_jax.trajectory import trajectory

SHAPES = [(100, 1), (1_000, 10), (10_000, 100), (100_000, 100), (1_000_000, 32), (131_072, 512)]


def cases(settings: Settings) -> Iterator[Case]:
    """A case for each shape."""
    num_steps = settings.pick(full=1_000, quick=250, tiny=4)
    for n, d in settings.pick(full=SHAPES, quick=SHAPES[:3], tiny=[(24, 3)]):
        yield _case(n, d, num_steps, settings)


def _case(n, d, num_steps, settings):
    problem = make_problem(n, d, settings.dtype)
    params, data = start(problem)
    once, twice_a_step = problem.X.nbytes, 2 * problem.X.nbytes * num_steps

    def by_hand(name, function, reads):
        return Competitor(name, lambda: function(problem, num_steps, RATE), reads=reads)

    competitors: list[Competitor | Missing] = [
        by_hand("NumPy by hand", numpy_by_hand.squared_error, twice_a_step),
        by_hand("NumPy, [X 1] by columns", numpy_by_hand.squared_error_by_columns, twice_a_step),
        by_hand("NumPy on its own Gram matrix", numpy_by_hand.squared_error_on_gram, once),
        *pytorch.missing("PyTorch"),
    ]
    if pytorch.torch is not None:
        loss = pytorch.loss_named("mse")
        competitors += [
            Competitor(
                "PyTorch, autograd and SGD",
                lambda: pytorch.full_batch(problem, loss, num_steps, RATE),
                reads=twice_a_step,
            ),
            by_hand("PyTorch by hand", pytorch.full_batch_by_hand, twice_a_step),
        ]
    plan = {"learning_rate": RATE, "num_steps": num_steps}
    steps = jnp.arange(num_steps + 1)
    competitors += [
        Competitor(
            "JAX steps from Python",
            lambda: jax_loops.full_batch(params, data, num_steps, RATE),
            answer=lambda output: path_answer(*output),
            reads=twice_a_step,
            on_device=True,
        ),
        fitting("fit(compress=False)", twice_a_step, mse, params, data, compress=False, **plan),
        fitting("fit", once, mse, params, data, **plan),
        Competitor(
            "trajectory",
            lambda: jax.block_until_ready(
                trajectory(mse, params, data, learning_rate=RATE, steps=steps)
            ),
            answer=_path_of_trajectory,
            reads=once,
            on_device=True,
            ours=True,
        ),
        transfer(problem),
    ]
    expected = squared_error_descent(problem, num_steps)
    title = f"{problem.title}, {num_steps:,} steps"
    return Case(title, competitors, expected, settings.tolerance)


def _path_of_trajectory(path):
    """The parameters after the last step, and the losses before each step."""
    return path_answer(jax.tree.map(lambda leaf: leaf[-1], path.params), path.losses[:-1])
