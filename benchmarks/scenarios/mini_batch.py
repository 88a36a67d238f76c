"""Epochs of shuffled mini-batches on the mean squared error."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import jax_loops, numpy_by_hand, pytorch, scikit_learn
from benchmarks.harness import Answer, Case, Competitor, Missing, Settings
from benchmarks.ours import fitting, path_answer, start, transfer
from benchmarks.problems import Problem, descent, make_problem
from linreg_jax import Dataset, mse
from linreg_jax._training.batches import batches_per_epoch, mini_batches
from linreg_jax._typing import Array, Int, Key

RATE = 0.05
SEED = 0

Rows = Int[np.ndarray, " b"]


class Plan(NamedTuple):
    """The size of a case.

    Attributes:
      n, d: examples and features.
      batch_size: rows in a batch; the last one of an epoch may be smaller.
      num_epochs: how often each example is seen.
    """

    n: int
    d: int
    batch_size: int
    num_epochs: int

    def in_batches(self, orders: Iterable[Any]) -> list[Rows]:
        """The rows of each step, of the order [n] of each epoch."""
        return [
            np.asarray(order)[start : start + self.batch_size]
            for order in orders
            for start in range(0, self.n, self.batch_size)
        ]


PLANS = [
    Plan(10_000, 20, 32, 5),
    Plan(100_000, 100, 256, 2),
    Plan(1_000_000, 30, 1_024, 2),
    Plan(1_000_000, 32, 1_024, 2),
]


def cases(settings: Settings) -> Iterator[Case]:
    """A case for each plan."""
    tiny = [Plan(24, 3, 5, 2)]
    for plan in settings.pick(full=PLANS, quick=PLANS[:1], tiny=tiny):
        yield _case(plan, settings)


def _case(plan: Plan, settings: Settings) -> Case:
    problem = make_problem(plan.n, plan.d, settings.dtype)
    expected = _expected(problem, plan.in_batches(_numpy_orders(plan)))
    competitors = [
        _numpy(problem, plan),
        *_pytorch(problem, plan),
        *_scikit_learn(problem, plan, expected),
        *_jax(problem, plan),
        transfer(problem),
    ]
    title = f"{problem.title}, {plan.batch_size:,} a batch, {plan.num_epochs} epochs"
    return Case(title, competitors, expected, settings.tolerance)


def _expected(problem: Problem, batches: Sequence[Rows]) -> Answer:
    """The float64 run on these batches: every way draws its own order, so each has its own."""
    return descent(problem, np.square, lambda r: 2 * r, batches, RATE)


def _reads(problem: Problem, plan: Plan) -> float:
    return problem.X.nbytes * plan.num_epochs


def _numpy_orders(plan: Plan) -> Iterator[Rows]:
    rng = np.random.default_rng(SEED)
    return (rng.permutation(plan.n) for _ in range(plan.num_epochs))


def _numpy(problem: Problem, plan: Plan) -> Competitor:
    return Competitor(
        "NumPy by hand",
        lambda: numpy_by_hand.mini_batches(problem, _numpy_orders(plan), plan.batch_size, RATE),
        reads=_reads(problem, plan),
    )


def _pytorch(problem: Problem, plan: Plan) -> Sequence[Competitor | Missing]:
    name = "PyTorch, autograd and SGD"
    if pytorch.torch is None:
        return pytorch.missing(name)

    def orders() -> Iterable[Any]:
        return pytorch.permutations(plan.n, plan.num_epochs, SEED)

    return [
        Competitor(
            name,
            lambda: pytorch.mini_batches(problem, orders(), plan.batch_size, RATE),
            expected=_expected(problem, plan.in_batches(orders())),
            reads=_reads(problem, plan),
        )
    ]


def _jax(problem: Problem, plan: Plan) -> list[Competitor]:
    """Steps called from Python, and `fit`."""
    params, data = start(problem)
    key, reads = jax.random.key(SEED), _reads(problem, plan)

    def orders() -> Iterable[jax.Array]:
        return jax_loops.permutations(plan.n, plan.num_epochs, SEED)

    settings = {"num_epochs": plan.num_epochs, "batch_size": plan.batch_size, "key": key}
    fitted = fitting("fit", reads, mse, params, data, learning_rate=RATE, **settings)
    return [
        Competitor(
            "JAX steps, jax.random.permutation",
            lambda: jax_loops.mini_batches(params, data, orders(), plan.batch_size, RATE),
            answer=lambda output: path_answer(*output),
            expected=_expected(problem, plan.in_batches(orders())),
            reads=reads,
            on_device=True,
        ),
        fitted._replace(expected=_expected(problem, _batches_of_fit(plan, key))),
    ]


def _batches_of_fit(plan: Plan, key: Key[Array, ""]) -> list[Rows]:
    """The rows that `fit` sees in each step: mini-batches of a data set of row numbers."""
    number = jnp.arange(plan.n, dtype=jnp.float32)  # exact up to 2²⁴
    num_steps = batches_per_epoch(plan.n, plan.batch_size) * plan.num_epochs
    chosen = jax.jit(mini_batches, static_argnums=3)
    batches = chosen(Dataset(number[:, None], number), key, jnp.arange(num_steps), plan.batch_size)
    numbers = np.asarray(batches.X[..., 0]).astype(int)
    if batches.sample_weight is None:
        return list(numbers)
    is_row = np.asarray(batches.sample_weight) > 0
    return [row[keep] for row, keep in zip(numbers, is_row, strict=True)]


def _scikit_learn(problem: Problem, plan: Plan, expected: Answer) -> Sequence[Competitor | Missing]:
    """One example at a time: another algorithm, held to the mean squared error that it reaches.

    Its rate is divided by the batch size, which to first order moves as far in an epoch.
    """
    name, rate = "scikit-learn, SGDRegressor", 2 * RATE / plan.batch_size
    if scikit_learn.linear_model is None:
        return scikit_learn.missing(name)
    X, y = problem.X.astype(np.float64), problem.y.astype(np.float64)

    def mean_squared_error(answer: Answer) -> Answer:
        params = np.asarray(answer["params"], np.float64)
        return {"mse": np.array([np.mean((X @ params[:-1] + params[-1] - y) ** 2)])}

    return [
        Competitor(
            name,
            lambda: scikit_learn.sgd(problem, plan.num_epochs, rate, seed=SEED),
            answer=mean_squared_error,
            expected=mean_squared_error(expected),
            tolerance=0.05,  # the orders differ, and its steps are smaller
            reads=_reads(problem, plan),
        )
    ]
