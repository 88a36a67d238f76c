"""A picture of the ratios: one panel a scenario, one bar a competitor and case."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.harness import Row
from benchmarks.report import describe

_BAR = 0.22  # inches


def draw(path: Path, about: dict[str, Any], rows: Sequence[Row]) -> None:
    """Draws how many times faster than the baseline everybody is, on a logarithmic axis.

    Args:
      path: the picture; its ending says the format.
      about: the facts of the run, for the caption.
      rows: all of them; those without a ratio to a baseline are left out.

    Raises:
      ValueError: no row has a ratio to a baseline.
    """
    compared = [row for row in rows if row.ratio is not None and row.baseline]
    if not compared:
        raise ValueError("there is nothing to draw: no scenario of this run has a baseline")
    scenarios = list(dict.fromkeys(row.scenario for row in compared))
    panels = [[row for row in compared if row.scenario == name] for name in scenarios]
    heights = [len(panel) + 3 for panel in panels]
    figure = Figure(figsize=(10, _BAR * sum(heights) + 0.6), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, name, panel in zip(axes, scenarios, panels, strict=True):
        places = range(len(panel), 0, -1)
        ratios = np.array([row.ratio for row in panel])
        colours = ["tab:blue" if row.ours else "tab:gray" for row in panel]
        axis.barh(places, ratios - 1, left=1, color=colours)
        axis.set_yticks(places, [f"{row.case}: {row.name}" for row in panel], fontsize=7)
        axis.set_xscale("log")
        axis.margins(x=0.15, y=0.01)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.bar_label(axis.containers[0], [f" {ratio:.3g}" for ratio in ratios], fontsize=7)
        axis.set_title(f"{name}: times faster than {panel[0].baseline}", fontsize=9, loc="left")
    figure.supxlabel(describe(about), fontsize=7)
    figure.savefig(path, dpi=150)
