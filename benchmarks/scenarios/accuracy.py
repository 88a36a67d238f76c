"""How long each way takes to the same accuracy: descent is not how least squares is solved."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from benchmarks import scikit_learn
from benchmarks.harness import Answer, Case, Competitor, Missing, Settings
from benchmarks.ours import fitting, params_answer, start
from benchmarks.problems import least_squares, make_problem, normal_equations
from linreg_jax import mse
from linreg_jax._typing import Float
from linreg_jax.exact import Solution, solve
from linreg_jax.training import Fit

ACCURACY = 1e-3
CONDITION = 1e3  # of XᵀX; the steps of plain gradient descent are in proportion to it
MOST_STEPS = 100_000

Vector = Float[np.ndarray, " p"]


class Rule(NamedTuple):
    """How an optimizer moves, twice: for `fit`, and in NumPy to count the steps it takes.

    Attributes:
      optimizer: learning rate -> `optax.GradientTransformation`.
      rate: the learning rate.
      move: (gradient, state, step) -> (what is subtracted, state); step counts from 1.
    """

    optimizer: Callable[[float], optax.GradientTransformation]
    rate: float
    move: Callable[[Vector, Any, int], tuple[Vector, Any]]


def cases(settings: Settings) -> Iterator[Case]:
    """A case for each shape."""
    shapes = settings.pick(
        full=[(10_000, 20), (100_000, 100)], quick=[(10_000, 20)], tiny=[(24, 3)]
    )
    for n, d in shapes:
        yield _case(n, d, settings)


def _case(n: int, d: int, settings: Settings) -> Case:
    problem = make_problem(n, d, settings.dtype, condition=CONDITION)
    params, data = start(problem)
    expected = least_squares(problem)

    def params_of(result: Fit | Solution) -> Answer:
        return {"params": params_answer(result.params)}

    competitors: list[Competitor | Missing] = [
        Competitor("solve", lambda: jax.block_until_ready(solve(data)), params_of, ours=True),
        *scikit_learn.missing("scikit-learn, LinearRegression and Ridge"),
    ]
    if scikit_learn.linear_model is not None:
        competitors += [
            Competitor(
                "scikit-learn, LinearRegression", lambda: scikit_learn.least_squares(problem)
            ),
            Competitor("scikit-learn, Ridge(1e-6)", lambda: scikit_learn.ridge(problem, 1e-6)),
        ]
    G, c, _ = normal_equations(problem)
    for name, rule in _rules(2 * G).items():
        num_steps = _steps_needed(G, c, rule, expected["params"])
        name = f"fit, {name}, {num_steps:,} steps"
        plan = {"learning_rate": rule.rate, "optimizer": rule.optimizer, "num_steps": num_steps}
        competitor = fitting(name, None, mse, params, data, **plan)
        competitors.append(competitor._replace(answer=params_of))
    title = f"{problem.title}, to within {ACCURACY:g} of the largest parameter"
    return Case(title, competitors, expected, ACCURACY, baseline="solve")


def _rules(hessian: Float[np.ndarray, "p p"]) -> dict[str, Rule]:
    """Each optimizer at the best constant rate that its theory gives; adam at a usual one."""
    curvatures = np.linalg.eigvalsh(hessian)
    smallest, largest = float(curvatures[0]), float(curvatures[-1])
    # Polyak 1964: the rate and momentum of the heavy ball that contract a quadratic most.
    momentum = ((largest**0.5 - smallest**0.5) / (largest**0.5 + smallest**0.5)) ** 2
    ball_rate = 4 / (largest**0.5 + smallest**0.5) ** 2
    plain_rate, adam_rate = 2 / (largest + smallest), 0.03

    def heavy_ball(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
        return optax.sgd(learning_rate, momentum=momentum)

    def move_plainly(gradient: Vector, state: Any, step: int) -> tuple[Vector, Any]:
        return plain_rate * gradient, state

    def move_ball(gradient: Vector, velocity: Vector, step: int) -> tuple[Vector, Vector]:
        velocity = momentum * velocity + gradient
        return ball_rate * velocity, velocity

    def move_adam(gradient: Vector, moments: Any, step: int) -> tuple[Vector, Any]:
        first, second = (0, 0) if step == 1 else moments
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        unbiased = first / (1 - 0.9**step), second / (1 - 0.999**step)
        return adam_rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8), (first, second)

    return {
        "gradient descent": Rule(optax.sgd, plain_rate, move_plainly),
        "momentum": Rule(heavy_ball, ball_rate, move_ball),
        "adam": Rule(optax.adam, adam_rate, move_adam),
    }


def _steps_needed(G: Float[np.ndarray, "p p"], c: Vector, rule: Rule, right: Vector) -> int:
    """Steps to 0.9 of the accuracy, the rest being for rounding; in float64, with 2(G theta - c).

    Raises:
      RuntimeError: it does not get there in `MOST_STEPS`.
    """
    params, state = np.zeros_like(c), 0.0
    enough = 0.9 * ACCURACY * np.abs(right).max()
    for step in range(1, MOST_STEPS + 1):
        moved, state = rule.move(2 * (G @ params - c), state, step)
        params = params - moved
        if np.abs(params - right).max() <= enough:
            return step
    raise RuntimeError(f"not within {ACCURACY} of the minimum after {MOST_STEPS} steps")
