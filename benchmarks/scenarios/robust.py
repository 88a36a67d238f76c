"""Full-batch descent on losses with kinks, which cannot be compressed, in short runs and long."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import numpy_by_hand, pytorch
from benchmarks.harness import Case, Competitor, Missing, Settings
from benchmarks.ours import fitting, over_cores, start, transfer
from benchmarks.problems import Problem, descent, make_problem
from linreg_jax import Dataset, Loss, epsilon_insensitive, huber, mae, quantile
from linreg_jax.gradients import WAYS

SHAPES = [(10_000, 100), (1_048_576, 32), (524_288, 128)]
LONG_SHAPES = [(10_000, 100), (1_048_576, 32)]
RATE = 0.05
LONG_RATE = 0.5  # at which these losses come to their minimum in a part of the steps
DELTA, LEVEL, EPSILON = 1.0, 0.9, 0.5

# name: our loss, NumPy's way to it, rho and psi for the reference
LOSSES: dict[str, tuple[Any, Any, Any, Any]] = {
    "mae": (mae, numpy_by_hand.absolute, np.abs, np.sign),
    "huber": (
        huber(DELTA),
        numpy_by_hand.huber(DELTA),
        lambda r: np.where(np.abs(r) <= DELTA, r * r / 2, DELTA * (np.abs(r) - DELTA / 2)),
        lambda r: np.clip(r, -DELTA, DELTA),
    ),
    "quantile": (
        quantile(LEVEL),
        numpy_by_hand.quantile(LEVEL),
        lambda r: np.where(r < 0, -LEVEL, 1 - LEVEL) * r,
        lambda r: np.where(r < 0, -LEVEL, 1 - LEVEL) * (r != 0),
    ),
    "epsilon_insensitive": (
        epsilon_insensitive(EPSILON),
        numpy_by_hand.epsilon_insensitive(EPSILON),
        lambda r: np.maximum(np.abs(r) - EPSILON, 0),
        lambda r: np.sign(r) * (np.abs(r) > EPSILON),
    ),
}
SHORT = ["mae", "huber"]  # steps that read every row take as long with the others


def cases(settings: Settings) -> Iterator[Case]:
    """A case for each loss and shape."""
    for n, d in settings.pick(full=SHAPES, quick=[(65_536, 32)], tiny=[(64, 3)]):
        problem = make_problem(n, d, settings.dtype)
        for name in settings.pick(full=SHORT, quick=SHORT, tiny=["huber"]):
            yield _case(name, problem, settings)
    for n, d in settings.pick(full=LONG_SHAPES, quick=[(65_536, 32)], tiny=[(64, 3)]):
        problem = make_problem(n, d, settings.dtype)
        for name in settings.pick(full=LOSSES, quick=["mae", "huber"], tiny=["quantile"]):
            yield _long_case(name, problem, settings)


def _case(name: str, problem: Problem, settings: Settings) -> Case:
    loss, penalty, rho, psi = LOSSES[name]
    num_steps = settings.pick(full=50, quick=20, tiny=3)
    competitors = [
        *_by_hand(name, problem, penalty, num_steps),
        *_ours(loss, problem, num_steps),
        transfer(problem),
    ]
    expected = descent(problem, rho, psi, [slice(None)] * num_steps, RATE)
    title = f"{name}, {problem.title}"
    return Case(title, competitors, expected, settings.tolerance)


def _long_case(name: str, problem: Problem, settings: Settings) -> Case:
    """So many steps that rows settle on one side of every kink; PyTorch would read them all."""
    loss, penalty, rho, psi = LOSSES[name]
    num_steps = settings.pick(full=1_000, quick=200, tiny=40)
    params, data = start(problem)
    twice = 2 * problem.X.nbytes * num_steps
    plan = {"learning_rate": LONG_RATE, "num_steps": num_steps}
    competitors = [
        *_in_numpy(problem, penalty, num_steps, LONG_RATE),
        fitting("fit(fold=False)", twice, loss, params, data, fold=False, **plan),
        fitting("fit(fold=True)", None, loss, params, data, fold=True, **plan),
    ]
    expected = descent(problem, rho, psi, [slice(None)] * num_steps, LONG_RATE)
    title = f"{name}, {problem.title}, {num_steps:,} steps"
    # Long steps swing across the jumps of psi, where rounding decides on which side a row is:
    # NumPy's own ways differ by a thousandth.
    tolerance = 1e-2 if loss.is_piecewise_linear else settings.tolerance
    return Case(title, competitors, expected, tolerance)


def _in_numpy(
    problem: Problem, penalty: numpy_by_hand.Penalty, num_steps: int, rate: float
) -> list[Competitor]:
    plan = (problem, penalty, num_steps, rate)
    twice = 2 * problem.X.nbytes * num_steps
    return [
        Competitor("NumPy by hand", lambda: numpy_by_hand.full_batch(*plan), reads=twice),
        Competitor(
            "NumPy by hand, X by columns",
            lambda: numpy_by_hand.full_batch_by_columns(*plan),
            reads=twice,
        ),
    ]


def _by_hand(
    name: str, problem: Problem, penalty: numpy_by_hand.Penalty, num_steps: int
) -> list[Competitor | Missing]:
    once, twice = problem.X.nbytes * num_steps, 2 * problem.X.nbytes * num_steps
    plan = (problem, penalty, num_steps, RATE)
    in_numpy = [
        *_in_numpy(*plan),
        Competitor(
            "NumPy by hand, in blocks",
            lambda: numpy_by_hand.full_batch_in_blocks(*plan),
            reads=once,
        ),
    ]
    if pytorch.torch is None:
        return [*in_numpy, *pytorch.missing("PyTorch")]
    module = pytorch.loss_named(name)
    autograd = Competitor(
        "PyTorch, autograd and SGD",
        lambda: pytorch.full_batch(problem, module, num_steps, RATE),
        reads=twice,
    )
    return [*in_numpy, autograd]


def _ours(loss: Loss, problem: Problem, num_steps: int) -> list[Competitor | Missing]:
    params, data = start(problem)
    once, twice = problem.X.nbytes * num_steps, 2 * problem.X.nbytes * num_steps

    def by(way: str, reads: float, data: Dataset = data, where: str = "") -> Competitor:
        gradient = WAYS[way](loss)
        plan = {"learning_rate": RATE, "num_steps": num_steps, "gradient": gradient, "fold": False}
        return fitting(f"fit, {way}{where}", reads, loss, params, data, **plan)

    over_all, where = over_cores(data), ", rows over cores"
    return [
        by("autodiff", twice),
        by("vectorized", twice),
        by("one_pass", once),
        Missing(f"fit, one_pass{where}", "one device")
        if over_all is None
        else by("one_pass", once, over_all, where),
    ]
