"""One value and gradient of the mean squared error, each way, and the cost of checking them."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import numpy_by_hand, pytorch
from benchmarks.harness import Answer, Case, Competitor, Missing, Settings
from benchmarks.ours import params_answer, start
from benchmarks.problems import Problem, make_problem
from linreg_jax import Dataset, Params, mse
from linreg_jax._typing import Float
from linreg_jax.checking import check_gradients
from linreg_jax.gradients import WAYS

# The textbook's loops and the check are for reading and testing: they sit out larger problems.
MOST_NUMBERS = 1_000_000


def cases(settings: Settings) -> Iterator[Case]:
    """A case for each shape."""
    full = [(1_000, 10), (10_000, 100), (1_000_000, 32)]
    for n, d in settings.pick(full=full, quick=full[:1], tiny=[(24, 3)]):
        yield _case(n, d, settings)


def _case(n: int, d: int, settings: Settings) -> Case:
    problem = make_problem(n, d, settings.dtype)
    _, data = start(problem)
    point = np.random.default_rng(1).standard_normal(d + 1).astype(settings.dtype)
    params = Params(jnp.asarray(point[:-1]), jnp.asarray(point[-1]))
    once, twice = problem.X.nbytes, 2 * problem.X.nbytes

    by_hand = numpy_by_hand.value_and_gradient(problem, numpy_by_hand.squared)
    competitors: list[Competitor | Missing] = [
        Competitor("NumPy by hand", lambda: by_hand(point), reads=twice),
        *pytorch.missing("PyTorch, autograd"),
    ]
    if pytorch.torch is not None:
        autograd = pytorch.value_and_gradient(problem, pytorch.loss_named("mse"))
        competitors.append(Competitor("PyTorch, autograd", lambda: autograd(point), reads=twice))
    reads = {"one_pass": once, "by_loops": None}
    for name in WAYS:
        if name != "by_loops" or problem.X.size <= MOST_NUMBERS:
            competitors.append(_ours(name, reads.get(name, twice), params, data))
    if problem.X.size <= MOST_NUMBERS and settings.size != "tiny":  # it compiles for seconds
        check = Competitor("check_gradients", lambda: check_gradients(mse, params, data))
        competitors.append(check._replace(answer=None, ours=True))
    expected = _in_float64(problem, point.astype(np.float64))
    return Case(problem.title, competitors, expected, settings.tolerance)


def _ours(name: str, reads: float | None, params: Params, data: Dataset) -> Competitor:
    """One of the ways of `gradients`, compiled."""
    compiled = jax.jit(WAYS[name](mse))
    return Competitor(
        name,
        lambda: jax.block_until_ready(compiled(params, data)),
        answer=lambda pair: {
            "value": np.asarray(pair[0])[None],
            "gradient": params_answer(pair[1]),
        },
        reads=reads,
        on_device=True,
        ours=True,
    )


def _in_float64(problem: Problem, point: Float[np.ndarray, " p"]) -> Answer:
    X, y = problem.X.astype(np.float64), problem.y.astype(np.float64)
    r = X @ point[:-1] + point[-1] - y
    gradient = np.append(2 * r @ X, 2 * r.sum()) / len(r)
    return {"value": np.array([np.mean(r**2)]), "gradient": gradient}
