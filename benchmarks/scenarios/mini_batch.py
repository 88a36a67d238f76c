"""Epochs of shuffled mini-batches on the mean squared error."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import jax_loops, numpy_by_hand, pytorch, scikit_learn
from benchmarks.harness import Case, Competitor, Missing, Settings
from benchmarks.ours import fitting, path_answer, start, transfer
from benchmarks.problems import descent, make_problem
from linreg_jax import Dataset, mse
from linreg_jax._training.batches import batches_per_epoch, mini_batches

# examples, features, batch size, epochs
PLANS = [(10_000, 20, 64, 5), (100_000, 100, 256, 2), (1_000_000, 32, 1_024, 2)]
RATE = 0.05
SEED = 0


def cases(settings: Settings) -> Iterator[Case]:
    """A case for each plan."""
    tiny = [(24, 3, 5, 2)]
    for plan in settings.pick(full=PLANS, quick=PLANS[:1], tiny=tiny):
        yield _case(plan, settings)


def _case(plan, settings):
    n, d, batch_size, num_epochs = plan
    problem = make_problem(n, d, settings.dtype)
    params, data = start(problem)
    reads = problem.X.nbytes * num_epochs
    num_steps = batches_per_epoch(n, batch_size) * num_epochs
    key = jax.random.key(SEED)

    def numpy_orders():
        rng = np.random.default_rng(SEED)
        return (rng.permutation(n) for _ in range(num_epochs))

    def in_batches(orders):
        return [
            np.asarray(order)[start : start + batch_size]
            for order in orders
            for start in range(0, n, batch_size)
        ]

    def on(batches):
        """The float64 run on these batches: every way draws its own order, so each has its own."""
        return descent(problem, np.square, lambda r: 2 * r, batches, RATE)

    expected = on(in_batches(numpy_orders()))
    competitors: list[Competitor | Missing] = [
        Competitor(
            "NumPy by hand",
            lambda: numpy_by_hand.mini_batches(problem, numpy_orders(), batch_size, RATE),
            reads=reads,
        ),
        *pytorch.missing("PyTorch, autograd and SGD"),
        *scikit_learn.missing("scikit-learn, SGDRegressor"),
    ]
    if pytorch.torch is not None:

        def torch_orders():
            return pytorch.permutations(n, num_epochs, SEED)

        competitors.append(
            Competitor(
                "PyTorch, autograd and SGD",
                lambda: pytorch.mini_batches(problem, torch_orders(), batch_size, RATE),
                expected=on(in_batches(torch_orders())),
                reads=reads,
            )
        )
    if scikit_learn.linear_model is not None:
        competitors.append(_scikit_learn(problem, num_epochs, batch_size, reads, expected))

    def jax_orders():
        return jax_loops.permutations(n, num_epochs, SEED)

    epochs = {"num_epochs": num_epochs, "batch_size": batch_size, "key": key}
    competitors += [
        Competitor(
            "JAX steps, jax.random.permutation",
            lambda: jax_loops.mini_batches(params, data, jax_orders(), batch_size, RATE),
            answer=lambda output: path_answer(*output),
            expected=on(in_batches(jax_orders())),
            reads=reads,
            on_device=True,
        ),
        fitting("fit", reads, mse, params, data, learning_rate=RATE, **epochs)._replace(
            expected=on(_batches_of_fit(n, batch_size, num_steps, key))
        ),
        transfer(problem),
    ]
    title = f"{problem.title}, {batch_size:,} a batch, {num_epochs} epochs"
    return Case(title, competitors, expected, settings.tolerance)


def _batches_of_fit(n, batch_size, num_steps, key):
    """The rows that `fit` sees in each step: mini-batches of a data set of row numbers."""
    number = jnp.arange(n, dtype=jnp.float32)  # exact up to 2²⁴
    rows = Dataset(number[:, None], number)
    chosen = jax.jit(mini_batches, static_argnums=3)
    batches = chosen(rows, key, jnp.arange(num_steps), batch_size)
    numbers = np.asarray(batches.X[..., 0]).astype(int)
    if batches.sample_weight is None:
        return list(numbers)
    held = np.asarray(batches.sample_weight) > 0
    return [row[keep] for row, keep in zip(numbers, held, strict=True)]


def _scikit_learn(problem, num_epochs, batch_size, reads, expected):
    """One example at a time: another algorithm, held to the mean squared error that it reaches.

    Its rate is divided by the batch size, which to first order moves as far in an epoch.
    """
    X, y = problem.X.astype(np.float64), problem.y.astype(np.float64)

    def mean_squared_error(answer):
        params = np.asarray(answer["params"], np.float64)
        return {"mse": np.array([np.mean((X @ params[:-1] + params[-1] - y) ** 2)])}

    return Competitor(
        "scikit-learn, SGDRegressor",
        lambda: scikit_learn.sgd(problem, num_epochs, 2 * RATE / batch_size, seed=SEED),
        answer=mean_squared_error,
        expected=mean_squared_error(expected),
        tolerance=0.05,  # the orders differ, and its steps are smaller
        reads=reads,
    )
