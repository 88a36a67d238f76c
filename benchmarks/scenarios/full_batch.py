"""Full-batch gradient descent on the mean squared error."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from benchmarks import jax_loops, numpy_by_hand, pytorch
from benchmarks.harness import Answer, Case, Competitor, Missing, Settings
from benchmarks.ours import fitting, path_answer, start, trajectory_answer, transfer
from benchmarks.problems import RATE, Problem, make_problem, squared_error_descent
from linreg_jax import Dataset, Params, mse
from linreg_jax._trajectory import trajectory

Descend = Callable[[Problem, int, float], Answer]

SHAPES = [(100, 1), (1_000, 10), (10_000, 100), (100_000, 100), (1_000_000, 32), (131_072, 512)]


def cases(settings: Settings) -> Iterator[Case]:
    """A case for each shape."""
    num_steps = settings.pick(full=1_000, quick=250, tiny=4)
    for n, d in settings.pick(full=SHAPES, quick=SHAPES[:3], tiny=[(24, 3)]):
        yield _case(n, d, num_steps, settings)


def _case(n: int, d: int, num_steps: int, settings: Settings) -> Case:
    problem = make_problem(n, d, settings.dtype)
    params, data = start(problem)
    competitors = [
        *_in_numpy(problem, num_steps),
        *_in_pytorch(problem, num_steps),
        *_in_jax(problem, params, data, num_steps),
        transfer(problem),
    ]
    expected = squared_error_descent(problem, num_steps)
    title = f"{problem.title}, {num_steps:,} steps"
    return Case(title, competitors, expected, settings.tolerance)


def _in_numpy(problem: Problem, num_steps: int) -> list[Competitor]:
    once, twice_a_step = problem.X.nbytes, 2 * problem.X.nbytes * num_steps
    ways: list[tuple[str, Descend, float]] = [
        ("NumPy by hand", numpy_by_hand.squared_error, twice_a_step),
        ("NumPy, [X 1] by columns", numpy_by_hand.squared_error_by_columns, twice_a_step),
        ("NumPy on its own Gram matrix", numpy_by_hand.squared_error_on_gram, once),
    ]
    return [
        Competitor(name, partial(descend, problem, num_steps, RATE), reads=reads)
        for name, descend, reads in ways
    ]


def _in_pytorch(problem: Problem, num_steps: int) -> Sequence[Competitor | Missing]:
    if pytorch.torch is None:
        return pytorch.missing("PyTorch")
    loss, reads = pytorch.loss_named("mse"), 2 * problem.X.nbytes * num_steps
    return [
        Competitor(
            "PyTorch, autograd and SGD",
            partial(pytorch.full_batch, problem, loss, num_steps, RATE),
            reads=reads,
        ),
        Competitor(
            "PyTorch by hand",
            partial(pytorch.full_batch_by_hand, problem, num_steps, RATE),
            reads=reads,
        ),
    ]


def _in_jax(problem: Problem, params: Params, data: Dataset, num_steps: int) -> list[Competitor]:
    """Steps called from Python, and this package's loop and its formula."""
    once, twice_a_step = problem.X.nbytes, 2 * problem.X.nbytes * num_steps
    plan = {"learning_rate": RATE, "num_steps": num_steps}
    steps = jnp.arange(num_steps + 1)
    return [
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
            answer=trajectory_answer,
            reads=once,
            on_device=True,
            ours=True,
        ),
    ]
