"""The command line: arguments, one table a scenario, and the files asked for."""

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from benchmarks import pytorch
from benchmarks.harness import Row, Settings, measure
from benchmarks.machine import about, device_bandwidth, read_bandwidth
from benchmarks.report import case_table, heading, ratio_table, verdict, write_json
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.threads import usable_cores
from linreg_jax._files import is_same_file, require_writable


def main(flags: list[str]) -> int:
    """Parses the arguments, measures, writes; returns 1 where a competitor disagreed, else 0.

    Args:
      flags: the arguments after `python -m benchmarks`.
    """
    arguments = _parse(flags)
    if arguments.float64:
        jax.config.update("jax_enable_x64", True)
    threads = usable_cores()
    pytorch.use_threads(threads)
    bandwidth = read_bandwidth(threads)
    settings = Settings(
        size="quick" if arguments.quick else "full",
        dtype="float64" if arguments.float64 else "float32",
        threads=threads,
        bandwidth=bandwidth,
        device_bandwidth=bandwidth if jax.default_backend() == "cpu" else device_bandwidth(),
    )
    facts = about(settings, flags)
    print(heading(facts), flush=True)
    rows: list[Row] = []

    def record(new: Sequence[Row]) -> None:
        rows.extend(new)
        if arguments.json is not None:  # after each case: an interrupted run keeps the others
            write_json(arguments.json, facts, rows)

    for name in arguments.only or SCENARIOS:
        run(SCENARIOS[name], settings, record)
    if arguments.plot is not None:
        from benchmarks.plot import draw  # needs matplotlib, an extra

        draw(arguments.plot, facts, rows)
    return int(any(row.kind == "disagrees" for row in rows))


def run(
    scenario: Scenario,
    settings: Settings,
    record: Callable[[Sequence[Row]], None] = lambda rows: None,
) -> list[Row]:
    """Measures a scenario and prints its tables as they come; returns their rows.

    Args:
      scenario: what to measure.
      settings: of the run.
      record: called with the rows of each case before its table is printed.
    """
    print(f"\n{scenario.name}: {scenario.what}", flush=True)
    rows: list[Row] = []
    for case in scenario.cases(settings):
        new = measure(scenario.name, case, settings)
        record(new)
        print(f"\n{case_table(new)}", flush=True)
        rows += new
    for text in (ratio_table(rows), verdict(rows)):
        if text:
            print(f"\n{text}", flush=True)
    return rows


def _parse(flags: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times linreg_jax beside NumPy by hand, PyTorch, scikit-learn and plain JAX.",
    )
    parser.add_argument("--quick", action="store_true", help="small problems, about a minute")
    parser.add_argument(
        "--only", action="append", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS)
    )
    parser.add_argument("--float64", action="store_true", help="everything in float64")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every row there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios there")
    arguments = parser.parse_args(flags)
    for option in ("json", "plot"):
        file = getattr(arguments, option)
        if file is not None:
            try:
                require_writable(file)
            except OSError as error:
                parser.error(f"--{option}: {error}")
    outputs = [file for file in (arguments.json, arguments.plot) if file is not None]
    if len(outputs) == 2 and is_same_file(*outputs):
        parser.error(f"--json and --plot must be different files, got {arguments.json} for both")
    if arguments.plot is not None and importlib.util.find_spec("matplotlib") is None:
        parser.error('--plot needs matplotlib, which is not installed: pip install ".[plot]"')
    return arguments
