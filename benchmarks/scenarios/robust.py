"""Full-batch descent on the mean absolute error and on Huber's loss, which cannot be compressed."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import numpy_by_hand, pytorch
from benchmarks.harness import Case, Competitor, Missing, Settings
from benchmarks.ours import fitting, over_cores, start, transfer
from benchmarks.problems import descent, make_problem
from linreg_jax import huber, mae
from linreg_jax.gradients import autodiff, one_pass, vectorized

SHAPES = [(10_000, 100), (1_048_576, 32), (524_288, 128)]
RATE = 0.05
DELTA = 1.0

# name: our loss, NumPy's way to it, rho and psi for the reference
LOSSES: dict[str, tuple[Any, Any, Any, Any]] = {
    "mae": (mae, numpy_by_hand.absolute, np.abs, np.sign),
    "huber": (
        huber(DELTA),
        numpy_by_hand.huber(DELTA),
        lambda r: np.where(np.abs(r) <= DELTA, r * r / 2, DELTA * (np.abs(r) - DELTA / 2)),
        lambda r: np.clip(r, -DELTA, DELTA),
    ),
}


def cases(settings: Settings) -> Iterator[Case]:
    """A case for each loss and shape."""
    for n, d in settings.pick(full=SHAPES, quick=[(65_536, 32)], tiny=[(64, 3)]):
        problem = make_problem(n, d, settings.dtype)
        for name in settings.pick(full=LOSSES, quick=LOSSES, tiny=["huber"]):
            yield _case(name, problem, settings)


def _case(name, problem, settings):
    loss, penalty, rho, psi = LOSSES[name]
    num_steps = settings.pick(full=50, quick=20, tiny=3)
    params, data = start(problem)
    once, twice = problem.X.nbytes * num_steps, 2 * problem.X.nbytes * num_steps

    def by_hand(name, function, reads):
        return Competitor(name, lambda: function(problem, penalty, num_steps, RATE), reads=reads)

    def ours(gradient, reads, data=data, where=""):
        name = f"fit, {gradient.__name__}{where}"
        plan = {"learning_rate": RATE, "num_steps": num_steps, "gradient": gradient(loss)}
        return fitting(name, reads, loss, params, data, **plan)

    competitors: list[Competitor | Missing] = [
        by_hand("NumPy by hand", numpy_by_hand.full_batch, twice),
        by_hand("NumPy by hand, in blocks", numpy_by_hand.full_batch_in_blocks, once),
        *pytorch.missing("PyTorch"),
    ]
    if pytorch.torch is not None:
        module = pytorch.loss_named(name)
        competitors.append(
            Competitor(
                "PyTorch, autograd and SGD",
                lambda: pytorch.full_batch(problem, module, num_steps, RATE),
                reads=twice,
            )
        )
    competitors += [ours(autodiff, twice), ours(vectorized, twice), ours(one_pass, once)]
    sharded = over_cores(data)
    if sharded is None:
        competitors.append(Missing("fit, one_pass, rows over cores", "one device"))
    else:
        competitors.append(ours(one_pass, once, sharded, ", rows over cores"))
    competitors.append(transfer(problem))
    expected = descent(problem, rho, psi, [slice(None)] * num_steps, RATE)
    title = f"{name}, {problem.title}"
    return Case(title, competitors, expected, settings.tolerance)
