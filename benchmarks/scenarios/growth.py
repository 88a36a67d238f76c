"""How time grows when examples, features or steps double, and what a first call costs."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.harness import Case, Competitor, Settings
from benchmarks.ours import fitting, start
from benchmarks.problems import RATE, make_problem, squared_error_descent
from linreg_jax import mse

# Prints seconds: importing; a first fit; a second one on other data of the same shape.
FRESH_PROCESS = """
import time
begin = time.perf_counter()
import jax, numpy as np, linreg_jax
from linreg_jax import as_dataset, init_params, mse
from linreg_jax.training import fit
jax.config.update("jax_enable_x64", {x64})
print(time.perf_counter() - begin)
rng = np.random.default_rng(0)
for _ in range(2):
    data = as_dataset(rng.normal(size=({n}, {d})).astype("{dtype}"),
                      rng.normal(size={n}).astype("{dtype}"))
    jax.block_until_ready(data)
    begin = time.perf_counter()
    fitted = fit(mse, init_params(data), data, learning_rate=0.1, num_steps={num_steps})
    jax.block_until_ready(fitted)
    print(time.perf_counter() - begin)
"""


def cases(settings: Settings) -> Iterator[Case]:
    """A case for each of examples, features and steps, with and without compression."""
    n, d, num_steps = settings.pick(
        full=(16_384, 32, 1_000), quick=(4_096, 16, 250), tiny=(24, 3, 4)
    )
    doublings = settings.pick(full=4, quick=2, tiny=1)
    grown = [2**i for i in range(doublings)]
    for compress in (False, True):
        yield _case("n", [(n * m, d, num_steps) for m in grown], compress, settings)
        yield _case("d", [(n, d * m, num_steps) for m in grown], compress, settings)
        yield _case("steps", [(n, d, num_steps * m) for m in grown], compress, settings)
    yield _first_calls(settings)


def _case(
    what: str, sizes: Sequence[tuple[int, int, int]], compress: bool, settings: Settings
) -> Case:
    competitors = []
    for n, d, num_steps in sizes:
        problem = make_problem(n, d, settings.dtype)
        reads = problem.X.nbytes * (1 if compress else 2 * num_steps)
        plan = {"learning_rate": RATE, "num_steps": num_steps, "compress": compress}
        name, (params, data) = f"{n:,} × {d:,}, {num_steps:,} steps", start(problem)
        competitor = fitting(name, reads, mse, params, data, **plan)
        expected = squared_error_descent(problem, num_steps)
        competitors.append(competitor._replace(expected=expected))
    title = f"fit(compress={compress}), doubling {what}"
    return Case(title, competitors, {}, settings.tolerance, baseline="")


def _first_calls(settings: Settings) -> Case:
    """Import, first fit and second fit in a fresh process; each process gives all three."""
    n, d, num_steps = settings.pick(
        full=(10_000, 100, 1_000), quick=(10_000, 100, 1_000), tiny=(8, 2, 2)
    )
    script = FRESH_PROCESS.format(
        n=n, d=d, num_steps=num_steps, dtype=settings.dtype, x64=settings.dtype == "float64"
    )
    shape = f"{n:,} × {d:,}"
    measured: dict[str, list[float]] = {
        "import linreg_jax": [],
        f"first fit of {shape}, compiling": [],
        "second fit, other data of that shape": [],
    }

    def seconds(name: str) -> float:
        if not measured[name]:
            command = [sys.executable, "-c", script]
            printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            for times, line in zip(measured.values(), printed.split(), strict=True):
                times.append(float(line))
        return measured[name].pop()

    competitors = [
        Competitor(name, partial(seconds, name), answer=None, ours=True, times_itself=True)
        for name in measured
    ]
    return Case("a fresh process", competitors, {}, 0.0)
