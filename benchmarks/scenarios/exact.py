"""The minimum of losses that are not squared, by whatever way, to the same value of the loss."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from benchmarks import scikit_learn, stats_models
from benchmarks.harness import Answer, Case, Competitor, Missing, Settings
from benchmarks.minima_by_hand import Vector, linear_programme, newton, quasi_newton, reweighted
from benchmarks.ours import params_answer, start
from benchmarks.problems import Problem, make_problem
from linreg_jax import Loss, huber, mae, quantile, solve

LEVEL, DELTA = 0.9, 0.5
ACCURACY = 1e-3  # of the loss, relative: what the others stop at is within it
MOST_ROWS_OF_HIGHS = 10_000  # beyond which it takes minutes
PASSES = 20


class Kind(NamedTuple):
    """A loss.

    Attributes:
      loss: ours.
      rho: in NumPy, of predictions less targets.
      name, by_hand: a way in NumPy to the parameters [d + 1], and what the table calls it.
      programme: the same by HiGHS, for few rows; None: by_hand is as good.
    """

    loss: Loss
    rho: Callable[[Vector], Vector]
    name: str
    by_hand: Callable[[Problem], Vector]
    programme: Callable[[Problem], Vector] | None = None


QUANTILE = Kind(
    quantile(LEVEL),
    lambda r: np.maximum((1 - LEVEL) * r, -LEVEL * r),
    "NumPy, reweighted least squares",
    partial(reweighted, level=LEVEL),
    partial(linear_programme, level=LEVEL),
)
MAE = Kind(
    mae,
    np.abs,
    "NumPy, reweighted least squares",
    partial(reweighted, level=0.5),
    partial(linear_programme, level=0.5),
)
HUBER = Kind(
    huber(DELTA),
    lambda r: np.where(np.abs(r) <= DELTA, r * r / 2, DELTA * (np.abs(r) - DELTA / 2)),
    "NumPy, Newton",
    partial(newton, delta=DELTA),
)


def cases(settings: Settings) -> Iterator[Case]:
    """A case for each loss and shape."""
    few, many = settings.pick(
        full=((10_000, 10), (100_000, 20)),
        quick=((1_000, 10), (2_000, 10)),
        tiny=((40, 3), (60, 3)),
    )
    for n, d in (few, many):
        yield _quantile_case(make_problem(n, d, settings.dtype))
    n, d = settings.pick(full=(1_048_576, 32), quick=(20_000, 10), tiny=(40, 3))
    problem = make_problem(n, d, settings.dtype)
    scipy = _competitor("SciPy, L-BFGS-B", partial(quasi_newton, delta=DELTA), HUBER, problem)
    yield _case(HUBER, problem, [scipy], scipy.name)
    passes = Competitor(
        f"NumPy, {PASSES} passes over X",
        partial(_read, problem),
        answer=None,
        reads=PASSES * problem.X.nbytes,
    )
    yield _case(MAE, problem, [passes], MAE.name)


def _quantile_case(problem: Problem) -> Case:
    of_sklearn, of_statsmodels = "scikit-learn, QuantileRegressor", "statsmodels, QuantReg"
    peers: list[Competitor | Missing] = []
    if is_few := len(problem.y) <= MOST_ROWS_OF_HIGHS:
        peers += scikit_learn.missing(of_sklearn)
        if scikit_learn.linear_model is not None:
            highs = partial(scikit_learn.quantile, level=LEVEL)
            peers.append(_competitor(of_sklearn, highs, QUANTILE, problem))
    peers += stats_models.missing(of_statsmodels)
    if stats_models.api is not None:
        theirs = partial(stats_models.quantile, level=LEVEL)
        peers.append(_competitor(of_statsmodels, theirs, QUANTILE, problem))
    return _case(QUANTILE, problem, peers, of_sklearn if is_few else of_statsmodels)


def _case(kind: Kind, problem: Problem, peers: list[Competitor | Missing], baseline: str) -> Case:
    _, data = start(problem)

    def ours(_: Problem) -> Vector:
        return params_answer(jax.block_until_ready(solve(data, kind.loss).params))

    wide = Problem(problem.X.astype(np.float64), problem.y.astype(np.float64))
    is_few = len(problem.y) <= MOST_ROWS_OF_HIGHS
    way = kind.programme if is_few and kind.programme is not None else kind.by_hand
    expected = _value(kind, problem, way(wide))
    competitors = [
        _competitor("solve", ours, kind, problem)._replace(ours=True),
        _competitor(kind.name, kind.by_hand, kind, problem),
        *peers,
    ]
    return Case(f"{kind.loss}, {problem.title}", competitors, expected, ACCURACY, baseline)


def _competitor(
    name: str, minimise: Callable[[Problem], Vector], kind: Kind, problem: Problem
) -> Competitor:
    return Competitor(name, partial(minimise, problem), partial(_value, kind, problem))


def _value(kind: Kind, problem: Problem, theta: Vector) -> Answer:
    """The loss at parameters, in float64."""
    theta = theta.astype(np.float64)
    r = problem.X @ theta[:-1] + (theta[-1] - problem.y)
    return {"value": np.array([kind.rho(r).mean()])}


def _read(problem: Problem) -> None:
    w = np.zeros(problem.X.shape[1], problem.X.dtype)
    for _ in range(PASSES):
        w[0] += 1e-9 * (problem.X @ w)[0]
