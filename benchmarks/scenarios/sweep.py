"""Many learning rates on the same data, each a full run of gradient descent."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import numpy_by_hand
from benchmarks.harness import Case, Competitor, Settings
from benchmarks.ours import path_answer, start
from benchmarks.problems import make_problem, squared_error_descent
from linreg_jax import mse
from linreg_jax.training import fit
from linreg_jax.trajectory import trajectory


def cases(settings: Settings) -> Iterator[Case]:
    """One case: rates evenly spaced in their logarithm, up to near the largest stable one."""
    n, d = settings.pick(full=(10_000, 20), quick=(10_000, 20), tiny=(24, 3))
    num_rates = settings.pick(full=256, quick=32, tiny=3)
    num_steps = settings.pick(full=200, quick=100, tiny=4)
    problem = make_problem(n, d, settings.dtype)
    rates = np.geomspace(1e-3, 0.4, num_rates).astype(settings.dtype)
    params, data = start(problem)
    once, twice_a_step = problem.X.nbytes, 2 * problem.X.nbytes * num_steps
    steps = jnp.arange(num_steps + 1)

    def mapped(**choices):
        @jax.jit
        def fits(rates):
            def run(rate):
                return fit(mse, params, data, learning_rate=rate, num_steps=num_steps, **choices)

            return jax.vmap(run)(rates)

        return lambda: jax.block_until_ready(fits(rates))

    def of_fits(fits):
        return path_answer(fits.params, fits.losses)

    competitors = [
        Competitor(
            "NumPy by hand",
            lambda: numpy_by_hand.sweep_one_by_one(problem, num_steps, rates),
            reads=twice_a_step * num_rates,
        ),
        Competitor(
            "NumPy by hand, rates as columns",
            lambda: numpy_by_hand.sweep_as_columns(problem, num_steps, rates),
            reads=twice_a_step,
        ),
        Competitor(
            "vmap of fit(compress=False)",
            mapped(compress=False),
            of_fits,
            reads=twice_a_step,
            on_device=True,
            ours=True,
        ),
        Competitor("vmap of fit", mapped(), of_fits, reads=once, ours=True),
        Competitor(
            "trajectory",
            lambda: jax.block_until_ready(
                trajectory(mse, params, data, learning_rate=jnp.asarray(rates), steps=steps)
            ),
            lambda path: path_answer(
                jax.tree.map(lambda leaf: leaf[:, -1], path.params), path.losses[:, :-1]
            ),
            reads=once,
            on_device=True,
            ours=True,
        ),
    ]
    runs = [squared_error_descent(problem, num_steps, rate) for rate in rates.tolist()]
    expected = {part: np.stack([run[part] for run in runs]) for part in ("params", "losses")}
    title = f"{problem.title}, {num_rates} rates × {num_steps} steps"
    yield Case(title, competitors, expected, settings.tolerance)
