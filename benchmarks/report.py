"""Tables of at most 100 columns, a sentence that says who wins, and the JSON."""

import json
import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Row
from linreg_jax._files import write_whole

_WIDTH = 100
_NAME = 38  # columns of the longest name
_UNITS = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")]


def describe(about: dict[str, Any]) -> str:
    """The machine, the versions and the commit, in a few lines."""
    versions = ", ".join(f"{name} {v}" for name, v in about["versions"].items() if v is not None)
    lines = [
        f"{about['cpu']}, {about['cores']} cores; {about['device']} × {about['num_devices']}",
        f"{about['dtype']}, {about['threads']} threads each; Python {about['python']}, {versions}",
        f"commit {about['commit']}, {about['date']}; "
        f"memory is read at {about['read_bandwidth'] / 1e9:.1f} GB/s",
    ]
    return "\n".join(textwrap.fill(line, _WIDTH) for line in lines)


def heading(about: dict[str, Any]) -> str:
    """What is measured on, and how the tables are to be read."""
    return f"""{describe(about)}

median (least – most): seconds over the rounds. × faster: than the row that says 1.
read: the least that the way has to read, over its time; share: of memory's bandwidth, and beyond
100% it comes from the caches. error: of the result, against an independent one in float64."""


def case_table(rows: Sequence[Row]) -> str:
    """The rows of one case, under its title; in a growing problem ratios are to the row above."""
    ratio = "× faster" if rows[0].baseline else "× above"
    columns = (
        f"{'median':>9}  {'least – most':<13}  {ratio:>8}  {'read':>10} {'share':>5}  {'error':>6}"
    )
    return "\n".join([rows[0].case, f"{'':<{_NAME}} {columns}", *map(_line, rows)])


def _line(row: Row) -> str:
    name = f"  {_shortened(row.name, _NAME - 2)}"
    if row.kind in ("missing", "disagrees") or row.median is None:
        return f"{name:<{_NAME}} {row.note}"
    scale, unit = _unit(row.median)
    time = f"{_digits(row.median / scale):>6} {unit:<2}"
    if row.kind == "compile" or row.low is None or row.high is None:
        return f"{'    compiling, once':<{_NAME}} {time}".rstrip()
    spread = f"{_digits(row.low / scale)} – {_digits(row.high / scale)}"
    ratio = "" if row.ratio is None else _digits(row.ratio)
    read = "" if row.reads is None else f"{row.reads / row.median / 1e9:,.1f} GB/s"
    share = "" if row.share is None else f"{row.share:.0%}"
    error = "" if row.error is None else f"{row.error:.0e}"
    return (
        f"{name:<{_NAME}} {time}  {spread:<13}  {ratio:>8}  {read:>10} {share:>5}  {error:>6}"
    ).rstrip()


def ratio_table(rows: Sequence[Row]) -> str:
    """How many times faster than the baseline, a column a case; "" where there is one case."""
    compared = [row for row in rows if row.baseline and row.ratio is not None]
    titles = list(dict.fromkeys(row.case for row in compared))
    if len(titles) < 2:
        return ""
    width = (_WIDTH - _NAME) // len(titles)
    found = {(row.name, row.case): _digits(row.ratio or 0.0) for row in compared}
    lines = [f"times faster than {_whose(compared)}"]
    headers = [title.split(", ")[:2] for title in titles]
    for part in range(max(map(len, headers))):
        cells = [_brief(header[part]) if part < len(header) else "" for header in headers]
        lines.append(" " * _NAME + "".join(f"{cell:>{width}}" for cell in cells))
    for name in dict.fromkeys(row.name for row in compared):
        cells = [found.get((name, title), "–") for title in titles]
        line = f"  {_shortened(name, _NAME - 2)}"
        lines.append(f"{line:<{_NAME}}" + "".join(f"{cell:>{width}}" for cell in cells))
    return "\n".join(lines)


def verdict(rows: Sequence[Row]) -> str:
    """Who is fastest in each case, and where this package is slower than the baseline."""
    compared = [row for row in rows if row.baseline and row.ratio is not None]
    if not compared:
        return ""
    by_case = [
        [row for row in compared if row.case == title]
        for title in dict.fromkeys(row.case for row in compared)
    ]
    several = len(by_case) > 1
    fastest = _who(several, [max(here, key=lambda row: row.ratio or 0) for here in by_case])
    slower = _who(several, [row for row in compared if row.ours and (row.ratio or 0) < 1])
    text = f"Fastest: {fastest}. Ours that are slower than {_whose(compared)}: {slower}."
    return textwrap.fill(text, _WIDTH)


def _whose(rows: Sequence[Row]) -> str:
    """The baseline, where all rows have the same one."""
    baselines = {row.baseline for row in rows}
    return baselines.pop() if len(baselines) == 1 else "the row that says 1"


def _who(several_cases: bool, rows: Sequence[Row]) -> str:
    """The rows as a list in a sentence: the name, then in which cases with what ratio."""
    places: dict[str, list[str]] = {}
    for row in rows:
        where = f"{_brief(row.case)} " if several_cases else ""
        places.setdefault(row.name, []).append(f"{where}× {_digits(row.ratio or 0.0)}")
    return "; ".join(f"{name} ({', '.join(where)})" for name, where in places.items()) or "none"


def write_json(path: Path, about: dict[str, Any], rows: Sequence[Row]) -> None:
    """Writes `{"about": ..., "rows": [...]}`, whole or not at all."""
    records = [row._asdict() for row in rows]
    for record in records:
        if record["error"] == math.inf:  # JSON has no such number; the kind and the note say it
            record["error"] = None
    text = json.dumps({"about": about, "rows": records}, indent=1, allow_nan=False)
    write_whole(path, [text.encode(), b"\n"])


def _unit(seconds: float) -> tuple[float, str]:
    return next((pair for pair in _UNITS if seconds >= pair[0]), _UNITS[-1])


def _digits(value: float) -> str:
    """Three digits and never a power of ten: 0.0123, 1.23, 12.3, 1,234."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _brief(title: str) -> str:
    """A title with its shape written small: "1,048,576 × 32" is "1.05M×32"."""

    def smaller(match: re.Match[str]) -> str:
        number = int(match[0].replace(",", ""))
        scale, letter = (1e6, "M") if number >= 1e6 else (1e3, "k")
        return f"{number / scale:.3g}{letter}"

    return re.sub(r"\d{1,3}(,\d{3})+", smaller, title).replace(" × ", "×")
