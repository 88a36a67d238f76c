"""What a first call costs, each in a process of its own, beside plain JAX in one `jit`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.first_call import OURS, PLAIN, STEPS
from benchmarks.harness import Answer, Case, Competitor, Settings
from benchmarks.problems import (
    least_squares,
    make_problem,
    normal_equations,
    squared_error_descent,
)

ROOT = Path(__file__).parents[2]
BASELINE = "plain JAX, one jit"

IMPORT = "import time; begin = time.perf_counter(); import {}; print(time.perf_counter() - begin)"


def cases(settings: Settings) -> Iterator[Case]:
    """Importing; then a case for each function at each shape."""
    names = settings.pick(full=list(OURS), quick=["fit"], tiny=["mse"])
    shapes = settings.pick(full=[(100, 1), (10_000, 100)], quick=[(100, 1)], tiny=[(8, 2)])
    yield Case(
        "importing", [_importing("jax, optax"), _importing("linreg_jax.training")], {}, 0.0, ""
    )
    for n, d in shapes:
        for name in names:
            yield _case(name, n, d, settings)


def _importing(modules: str) -> Competitor:
    call = partial(_run, ["-c", IMPORT.format(modules)])
    return Competitor(
        f"import {modules}",
        call,
        ours="linreg" in modules,
        times_itself=True,
        starts_a_process=True,
    )


def _case(name: str, n: int, d: int, settings: Settings) -> Case:
    shape = [name, str(n), str(d), settings.dtype]

    def competitor(whose: str, label: str) -> Competitor:
        call = partial(_run, ["-m", "benchmarks.first_call", whose, *shape])
        return Competitor(
            label, call, ours=whose == "ours", times_itself=True, starts_a_process=True
        )

    competitors = [competitor("ours", "linreg_jax")]
    if name in PLAIN:
        competitors.insert(0, competitor("plain", BASELINE))
    expected = _expected(name, n, d, settings.dtype)
    title = f"{name}, {n:,} × {d:,}"
    return Case(title, competitors, expected, 10 * settings.tolerance, BASELINE)


def _expected(name: str, n: int, d: int, dtype: str) -> Answer:
    """What the call returns, in float64; nothing where plain JAX has no counterpart."""
    problem = make_problem(n, d, dtype)
    numbers: dict[str, Callable[[], np.ndarray]] = {
        "mse": lambda: np.array([normal_equations(problem)[2]]),  # at zero
        "grad": lambda: -2 * normal_equations(problem)[1],
        "fit": lambda: squared_error_descent(problem, STEPS)["params"],
        "solve": lambda: least_squares(problem)["params"],
    }
    return {"numbers": numbers[name]()} if name in numbers else {}


def _run(arguments: list[str]) -> tuple[float, Answer]:
    """Seconds, and what was returned, of a Python of its own that keeps no compiled programs."""
    kept = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
    command = [sys.executable, *arguments]
    output = subprocess.run(
        command, cwd=ROOT, env=kept, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    seconds, _, numbers = output.partition("\n")
    return float(seconds), {"numbers": np.array(json.loads(numbers))} if numbers else {}
