"""Many learning rates on the same data, each a full run of gradient descent."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import numpy_by_hand
from benchmarks.harness import Case, Competitor, Settings
from benchmarks.ours import path_answer, start, trajectory_answer
from benchmarks.problems import Problem, make_problem, squared_error_descent
from linreg_jax import mse
from linreg_jax._trajectory import trajectory
from linreg_jax._typing import Array, Float
from linreg_jax.training import Fit, fit

Rates = Float[np.ndarray, " rates"]


def cases(settings: Settings) -> Iterator[Case]:
    """One case: rates evenly spaced in their logarithm, up to near the largest stable one."""
    n, d = settings.pick(full=(10_000, 20), quick=(10_000, 20), tiny=(24, 3))
    num_rates = settings.pick(full=256, quick=32, tiny=3)
    num_steps = settings.pick(full=200, quick=100, tiny=4)
    problem = make_problem(n, d, settings.dtype)
    rates = np.geomspace(1e-3, 0.4, num_rates).astype(settings.dtype)
    competitors = [*_in_numpy(problem, num_steps, rates), *_ours(problem, num_steps, rates)]
    runs = [squared_error_descent(problem, num_steps, rate) for rate in rates.tolist()]
    expected = {part: np.stack([run[part] for run in runs]) for part in ("params", "losses")}
    title = f"{problem.title}, {num_rates} rates × {num_steps} steps"
    yield Case(title, competitors, expected, settings.tolerance)


def _in_numpy(problem: Problem, num_steps: int, rates: Rates) -> list[Competitor]:
    reads = 2 * problem.X.nbytes * num_steps
    return [
        Competitor(
            "NumPy by hand",
            lambda: numpy_by_hand.sweep_one_by_one(problem, num_steps, rates),
            reads=reads * len(rates),
        ),
        Competitor(
            "NumPy by hand, rates as columns",
            lambda: numpy_by_hand.sweep_as_columns(problem, num_steps, rates),
            reads=reads,
        ),
    ]


def _ours(problem: Problem, num_steps: int, rates: Rates) -> list[Competitor]:
    """`fit` mapped over the rates, on the data as they are and compressed; and its formula."""
    params, data = start(problem)
    once, twice_a_step = problem.X.nbytes, 2 * problem.X.nbytes * num_steps
    steps = jnp.arange(num_steps + 1)

    def mapped(name: str, reads: float, *, compress: bool | None, on_device: bool) -> Competitor:
        @jax.jit
        @jax.vmap
        def fits(rate: Float[Array, ""]) -> Fit:
            return fit(
                mse, params, data, learning_rate=rate, num_steps=num_steps, compress=compress
            )

        return Competitor(
            name,
            lambda: jax.block_until_ready(fits(rates)),
            lambda runs: path_answer(runs.params, runs.losses),
            reads=reads,
            on_device=on_device,
            ours=True,
        )

    return [
        mapped("vmap of fit(compress=False)", twice_a_step, compress=False, on_device=True),
        mapped("vmap of fit", once, compress=None, on_device=False),
        Competitor(
            "trajectory",
            lambda: jax.block_until_ready(
                trajectory(mse, params, data, learning_rate=jnp.asarray(rates), steps=steps)
            ),
            trajectory_answer,
            reads=once,
            on_device=True,
            ours=True,
        ),
    ]
