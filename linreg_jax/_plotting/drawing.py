"""What all pictures share: colours, line styles, markers, and axes to draw into."""

from collections.abc import Sequence
from typing import TypedDict

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from linreg_jax._typing import Int

LineStyle = str | tuple[int, tuple[int, ...]]

# Okabe and Ito's colours, the ones dark enough to be seen on white and on light blue.
BLACK, VERMILLION, BLUE, PURPLE, GREEN = "#000000", "#d55e00", "#0072b2", "#cc79a7", "#009e73"
COLOURS = (VERMILLION, BLUE, BLACK, GREEN, PURPLE)
LINES: tuple[LineStyle, ...] = ("-", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v")

MOST_POINTS = 5000
"""More examples than these make a blot, and slow."""

_LETTER = 4.7  # points, the width of one in a legend
_HANDLE = 42  # points, of what stands before a label, and of the space behind it


class Style(TypedDict):
    """Keywords of a line."""

    color: str
    linestyle: LineStyle


def style_of(i: int) -> Style:
    """Keywords of the i-th of several lines: a colour and a line style of its own."""
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[i % len(LINES)]}


def axes_or_new(ax: Axes | None) -> Axes:
    """`ax`, or the Axes of a new figure."""
    return plt.figure(layout="constrained").subplots() if ax is None else ax


def tidy(ax: Axes, xlabel: str, ylabel: str) -> None:
    """Labels, and a frame that stands back."""
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)


def legend_above(ax: Axes, title: str | None = None) -> None:
    """A legend between the axes and the title, where it covers no data."""
    handles, labels = ax.get_legend_handles_labels()
    widest = _HANDLE + _LETTER * max(map(len, labels))
    points = ax.get_position().width * ax.figure.bbox.width / ax.figure.dpi * 72
    ax.legend(
        handles,
        labels,
        title=title,
        alignment="left",
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=int(np.clip(points // widest, 1, len(labels))),
        frameon=False,
        borderaxespad=0.2,
        columnspacing=1.5,
        fontsize="small",
        title_fontsize="small",
    )


def some_rows(n: int) -> tuple[Int[np.ndarray, " m"], str]:
    """`(rows, text)`: the rows to draw, evenly spread, and what the legend says of them."""
    if n <= MOST_POINTS:
        return np.arange(n), f"{n:,} examples"
    return np.linspace(0, n - 1, MOST_POINTS).astype(int), f"{MOST_POINTS:,} of {n:,} examples"


def names_of(feature_names: Sequence[str] | str | None, d: int) -> list[str]:
    """[d] names to write; x, or feature 0, feature 1, ... where none were given.

    Raises:
      ValueError: not d names.
    """
    if feature_names is None:
        return ["x"] if d == 1 else [f"feature {j}" for j in range(d)]
    names = [feature_names] if isinstance(feature_names, str) else list(feature_names)
    if len(names) != d:
        raise ValueError(f"feature_names must name the {d} features, got {len(names)}: {names}")
    return names


def parameter_name(which: int | str, names: Sequence[str]) -> str:
    """What the axis of one parameter is called; `names` as `names_of` gives them."""
    if isinstance(which, str):
        return "intercept"
    return f"slope over {names[0]}" if len(names) == 1 else f"weight of {names[which]}"
