"""A lasso at a hundred strengths, centring and compressing counted."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from benchmarks import scikit_learn
from benchmarks.harness import Answer, Case, Competitor, Missing, Settings
from benchmarks.ours import params_answer, start
from benchmarks.problems import Problem, make_problem, normal_equations
from linreg_jax import Params, compress, half_mse, lasso_path
from linreg_jax._typing import Float

NUM_STRENGTHS = 100
SMALLEST = 1e-3  # of the strength that leaves no weight
ACCURACY = 1e-3
# Of coordinate descent, relative to the squares of the targets; less is not reached in the dtype.
PEER_TOLERANCE = {"float32": 1e-6, "float64": 1e-8}


def cases(settings: Settings) -> Iterator[Case]:
    """A case for each shape."""
    shapes = settings.pick(
        full=[(10_000, 100), (1_000_000, 32)], quick=[(10_000, 20)], tiny=[(24, 3)]
    )
    for n, d in shapes:
        yield _case(n, d, settings)


def _case(n: int, d: int, settings: Settings) -> Case:
    problem = make_problem(n, d, settings.dtype)
    _, data = start(problem)
    strengths, expected = _by_coordinates(problem)

    def ours(*, few: bool) -> Params:
        path = lasso_path(compress(data) if few else data, half_mse)
        return jax.block_until_ready(path.at(strengths.astype(settings.dtype)))

    def answer(found: Params) -> Answer:
        return {"params": params_answer(found)}

    competitors: list[Competitor | Missing] = [
        Competitor("lasso_path(compress(data))", lambda: ours(few=True), answer, ours=True),
        Competitor("lasso_path(data)", lambda: ours(few=False), answer, ours=True),
        *scikit_learn.missing("scikit-learn, lasso_path"),
    ]
    if scikit_learn.linear_model is not None:
        peer = Competitor(
            "scikit-learn, lasso_path",
            lambda: scikit_learn.lasso_path(problem, strengths, PEER_TOLERANCE[settings.dtype]),
        )
        competitors.append(peer)
    title = f"{problem.title}, {NUM_STRENGTHS} strengths"
    return Case(title, competitors, expected, ACCURACY, baseline="scikit-learn, lasso_path")


def _by_coordinates(problem: Problem) -> tuple[Float[np.ndarray, " m"], Answer]:
    """The strengths, and the minimum at each by coordinate descent in float64."""
    G, c, _ = normal_equations(problem)
    mean_X, mean_y = G[-1, :-1], c[-1]
    A, b = G[:-1, :-1] - np.outer(mean_X, mean_X), c[:-1] - mean_X * mean_y
    strengths = np.abs(b).max() * np.geomspace(1, SMALLEST, NUM_STRENGTHS)
    w, found = np.zeros(len(b)), []
    for strength in strengths:
        w = _descended(A, b, strength, w)
        found.append(np.append(w, mean_y - mean_X @ w))
    return strengths, {"params": np.array(found)}


def _descended(A: Any, b: Any, strength: float, w: Float[np.ndarray, " d"]) -> Any:
    w, moved = w.copy(), np.inf
    while moved > 1e-9 * max(np.abs(w).max(), 1e-30):
        before = w.copy()
        for j in range(len(b)):
            left = b[j] - A[j] @ w + A[j, j] * w[j]
            w[j] = np.sign(left) * max(abs(left) - strength, 0) / A[j, j]
        moved = np.abs(w - before).max()
    return w
