"""How time grows when examples, features or steps double."""

from collections.abc import Iterator, Sequence

from benchmarks.harness import Case, Settings
from benchmarks.ours import fitting, start
from benchmarks.problems import RATE, make_problem, squared_error_descent
from linreg_jax import mse


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
