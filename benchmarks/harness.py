"""Competitors agree on the result before they are timed, and take turns while they are."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from benchmarks.compiling import seconds_compiling

Answer = dict[str, np.ndarray]

Choice = TypeVar("Choice")

_LEAST_COMPILING = 1e-3  # seconds; less is a scalar converted, say, and no row of its own
_LEAST_OF_A_PROCESS = 1.0  # seconds, to import JAX and to make the data


class Settings(NamedTuple):
    """What one run of the benchmarks is asked for.

    Attributes:
      size: "full" for publishing, "quick" for a check, "tiny" for tests.
      dtype: "float32" or "float64", of every array of every competitor.
      threads: that NumPy's BLAS, PyTorch and JAX may use.
      bandwidth: bytes a second that all threads together read from memory; None: not measured.
      device_bandwidth: that of the device that JAX computes on; the same where it is the CPU.
    """

    size: Literal["full", "quick", "tiny"] = "full"
    dtype: str = "float32"
    threads: int = 1
    bandwidth: float | None = None
    device_bandwidth: float | None = None

    def pick(self, *, full: Choice, quick: Choice, tiny: Choice) -> Choice:
        """The one of three values that is meant for this size."""
        return {"full": full, "quick": quick, "tiny": tiny}[self.size]

    @property
    def tolerance(self) -> float:
        """How far rounding may take the result of a run, relative to its largest entry."""
        return {"float32": 2e-5, "float64": 1e-11}[self.dtype]


class Competitor(NamedTuple):
    """One way to do the work of a case.

    Attributes:
      name: as the table shall say it.
      run: the call that is timed; it returns when the result is there and not before.
      answer: what `run` returned -> {part: array}, to hold against what the case expects; None:
        there is no result to compare, and no ratio (the call moves data, or checks itself).
      expected, tolerance: in place of those of the case, where this way sees the data in an order
        of its own.
      reads: bytes of data that the way has to read, at the least, in one run; None: not counted.
      on_device: whether it reads them on the device that JAX computes on.
      ours: whether it is a function of linreg_jax.
      times_itself: whether `run` returns `(seconds, output)`, measured in a process of its own.
      starts_a_process: whether each call does, so that a turn is one of them.
    """

    name: str
    run: Callable[[], Any]
    answer: Callable[[Any], Answer] | None = lambda output: output
    expected: Answer | None = None
    tolerance: float | None = None
    reads: float | None = None
    on_device: bool = False
    ours: bool = False
    times_itself: bool = False
    starts_a_process: bool = False


class Missing(NamedTuple):
    """A competitor that cannot take part here, and why."""

    name: str
    why: str


class Case(NamedTuple):
    """One problem of a scenario.

    Attributes:
      title: the problem, "10,000 × 100".
      competitors: who takes part, in the order of the table.
      expected: {part: array} in float64, the result by an independent way.
      tolerance: the largest difference from it, relative to the part's largest entry.
      baseline: the name of the competitor that ratios are taken to; "": a growing problem, where
        each ratio is to the row above.
    """

    title: str
    competitors: Sequence[Competitor | Missing]
    expected: Answer
    tolerance: float
    baseline: str = "NumPy by hand"


class Row(NamedTuple):
    """One line of a table, and one record of the JSON. Times are seconds a run.

    Attributes:
      scenario, case, name: where it belongs, and whose it is.
      on_device, ours: as in `Competitor`.
      kind: "run"; "compile", what the first call of the same name spent on compiling; "missing"; or
        "disagrees", which is not timed.
      median, low, high: over the rounds.
      rounds: how many there were.
      ratio: how many times faster than the baseline; in a growing problem, how many times the time
        of the row above.
      baseline: whose time the ratio is to; "" in a growing problem.
      error, tolerance: how far the result is from the expected one, and how far it may be.
      reads: bytes read in one run, at the least.
      share: of the bandwidth measured in the same run, reads / median; above 1 where what is read
        comes from the caches.
      note: what there is to say in place of a time.
    """

    scenario: str
    case: str
    name: str
    kind: Literal["run", "compile", "missing", "disagrees"]
    on_device: bool = False
    ours: bool = False
    median: float | None = None
    low: float | None = None
    high: float | None = None
    rounds: int = 0
    ratio: float | None = None
    baseline: str = ""
    error: float | None = None
    tolerance: float | None = None
    reads: float | None = None
    share: float | None = None
    note: str = ""


def disagreement(answer: Answer, expected: Answer) -> float:
    """The largest difference in any part, relative to the part's largest expected entry.

    Infinite where the answer is not finite, lacks a part or has one of another shape.
    """
    if answer.keys() != expected.keys():
        return float("inf")
    worst = 0.0
    for part, right in expected.items():
        ours = np.asarray(answer[part], np.float64)
        if ours.shape != right.shape or not np.isfinite(ours).all():
            return float("inf")
        largest = np.abs(right).max()
        worst = max(worst, float(np.abs(ours - right).max() / (largest if largest > 0 else 1.0)))
    return worst


def measure(scenario: str, case: Case, settings: Settings) -> list[Row]:
    """The rows of a case: agreement first, then the time of those who agree.

    Args:
      scenario: its name, for the rows.
      case: the problem and its competitors.
      settings: size and bandwidth.

    Returns:
      A `Row` for each competitor, in order, and one after it for what it compiled.
    """
    groups, agreed = [], []
    for competitor in case.competitors:
        row = Row(scenario, case.title, competitor.name, "run", baseline=case.baseline)
        if isinstance(competitor, Missing):
            groups.append([row._replace(kind="missing", note=competitor.why)])
            continue
        group = _first_call(row, case, competitor)
        groups.append(group)
        if group[0].kind == "run":
            agreed.append(competitor)

    samples = _take_turns(agreed, settings)
    medians = {name: float(np.median(times)) for name, times in samples.items()}
    rows: list[Row] = []
    above = None
    for first, *compiled in groups:
        if first.kind == "run":
            times, median = samples[first.name], medians[first.name]
            first = first._replace(median=median, low=min(times), high=max(times))
            first = first._replace(rounds=len(times), ratio=_ratio(first, median, medians, above))
            bandwidth = settings.device_bandwidth if first.on_device else settings.bandwidth
            if first.reads is not None and bandwidth is not None:
                first = first._replace(share=first.reads / median / bandwidth)
            above = median
        rows += [first, *compiled]
    return rows


def _ratio(row: Row, median: float, medians: dict[str, float], above: float | None) -> float | None:
    """Of two medians, as `Row` says; None where there is no result or nothing to compare with."""
    if row.error is None:
        return None
    if row.baseline:
        return medians[row.baseline] / median if row.baseline in medians else None
    return None if above is None else median / above


def _first_call(row: Row, case: Case, competitor: Competitor) -> list[Row]:
    """Who it is and how far from the expected result; then what the first call compiled."""
    row = row._replace(reads=competitor.reads, on_device=competitor.on_device, ours=competitor.ours)
    compiling, output = seconds_compiling(competitor.run)
    if competitor.times_itself:
        output = output[1]
    if competitor.answer is not None:
        expected = case.expected if competitor.expected is None else competitor.expected
        tolerance = case.tolerance if competitor.tolerance is None else competitor.tolerance
        error = disagreement(competitor.answer(output), expected)
        row = row._replace(error=error, tolerance=tolerance)
        if not error <= tolerance:
            return [row._replace(kind="disagrees", note=f"disagrees by {error:.1e}, not timed")]
    if compiling < _LEAST_COMPILING:
        return [row]
    compiled = row._replace(kind="compile", median=compiling, reads=None)
    return [row, compiled._replace(error=None, tolerance=None)]


def _take_turns(competitors: Sequence[Competitor], settings: Settings) -> dict[str, list[float]]:
    """{name: seconds a call, one for each round}.

    A turn is as many calls as last a while, and every other round goes backwards, so that no one
    always follows the same neighbour. The number of rounds is what a time allows, 3 at least.
    """
    turn_seconds = settings.pick(full=0.02, quick=0.01, tiny=0.0)
    case_seconds = settings.pick(full=8.0, quick=0.8, tiny=0.0)
    least_rounds, most_rounds = settings.pick(full=(3, 25), quick=(3, 7), tiny=(1, 1))

    samples: dict[str, list[float]] = {competitor.name: [] for competitor in competitors}
    calls = dict.fromkeys(samples, 1)

    def run_once(competitor: Competitor) -> None:
        name = competitor.name
        samples[name].append(_seconds(competitor, calls[name]))

    for competitor in competitors:
        run_once(competitor)
    round_seconds = 0.0
    for competitor in competitors:
        times = samples[competitor.name]
        if competitor.starts_a_process:
            round_seconds += _LEAST_OF_A_PROCESS + times[0]
            continue
        calls[competitor.name] = max(1, round(turn_seconds / max(times[0], 1e-9)))
        round_seconds += calls[competitor.name] * times[0]
        if calls[competitor.name] > 1:
            times.clear()  # too short a turn: it told how many calls make one
    rounds = int(np.clip(case_seconds / max(round_seconds, 1e-9), least_rounds, most_rounds))
    for number in range(rounds):
        for competitor in reversed(competitors) if number % 2 == 0 else competitors:
            if len(samples[competitor.name]) < rounds:
                run_once(competitor)
    return samples


def _seconds(competitor: Competitor, calls: int) -> float:
    """Seconds a call, over several."""
    if competitor.times_itself:
        return float(np.mean([competitor.run()[0] for _ in range(calls)]))
    start = time.perf_counter()
    for _ in range(calls):
        competitor.run()
    return (time.perf_counter() - start) / calls
