"""The same fit with its rows on one device, two, ...: on a CPU, as many devices as cores."""

from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.harness import Case, Competitor, Settings
from benchmarks.ours import fitting, start
from benchmarks.problems import descent, make_problem
from benchmarks.scenarios.robust import LOSSES, RATE
from linreg_jax import shard
from linreg_jax.gradients import WAYS


def cases(settings: Settings) -> Iterator[Case]:
    """Huber loss, full batches, by automatic differentiation and in one pass."""
    n, d = settings.pick(full=(1_048_576, 32), quick=(65_536, 32), tiny=(24, 3))
    num_steps = settings.pick(full=50, quick=20, tiny=3)
    problem = make_problem(n, d, settings.dtype)
    loss, _, rho, psi = LOSSES["huber"]
    params, data = start(problem)
    plan = {"learning_rate": RATE, "num_steps": num_steps}
    competitors: list[Competitor] = []
    for number in _numbers(len(jax.devices())):
        laid_out = shard(data, Mesh(np.array(jax.devices()[:number]), ("data",)))
        where = f"{number} device" + "s" * (number > 1)
        for way, readings in [("autodiff", 2), ("one_pass", 1)]:
            name, gradient = f"fit, {way}, {where}", WAYS[way](loss)
            reads = readings * problem.X.nbytes * num_steps
            competitors.append(
                fitting(name, reads, loss, params, laid_out, gradient=gradient, **plan)
            )
    expected = descent(problem, rho, psi, [slice(None)] * num_steps, RATE)
    yield Case(
        f"huber, {problem.title}",
        competitors,
        expected,
        settings.tolerance,
        baseline=competitors[0].name,
    )


def _numbers(most: int) -> list[int]:
    """1, 2, 4, ... devices, and all of them."""
    return sorted({most, *(2**i for i in range(most.bit_length()))})
