"""What all pictures share: colours, line styles, markers, and axes to draw into."""

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb

from linreg_jax._plotting.ticks import readable_ticks
from linreg_jax._typing import Int

LineStyle = str | tuple[int, tuple[int, ...]]

LINES: tuple[LineStyle, ...] = ("-", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v")

MOST_POINTS = 5000
"""More examples than these make a blot, and slow."""

_LETTER = 4.7  # points, the width of one in a legend
_HANDLE = 42  # points, of what stands before a label, and of the space behind it


class Palette(NamedTuple):
    """Colours of one background: Okabe and Ito's (2008), those that are seen on it.

    Attributes:
      ink, paper: of lines that are no data, and of what is behind everything.
      grid, faint: of lines that stand back, and of those a little nearer.
      first, second, good: of what is fitted, of data, of what is as it should be.
      lines: of several runs.
      valley: from the floor of a loss surface up; the floor is paper, so that paths are seen there.
      contour: of its contours.
    """

    ink: str
    paper: str
    grid: str
    faint: str
    first: str
    second: str
    good: str
    lines: tuple[str, ...]
    valley: LinearSegmentedColormap
    contour: str


_LIGHT = Palette(
    ink="#000000",
    paper="#ffffff",
    grid="0.9",
    faint="0.5",
    first="#d55e00",
    second="#0072b2",
    good="#009e73",
    lines=("#d55e00", "#0072b2", "#000000", "#009e73", "#cc79a7"),
    valley=LinearSegmentedColormap.from_list("day", ["#ffffff", "#d4e5f2", "#93bfdd", "#5b96c4"]),
    contour="#35648c",
)
_DARK = Palette(
    ink="#ffffff",
    paper="#000000",
    grid="0.25",
    faint="0.6",
    first="#e69f00",
    second="#56b4e9",
    good="#00c594",
    lines=("#e69f00", "#56b4e9", "#ffffff", "#00c594", "#cc79a7"),
    valley=LinearSegmentedColormap.from_list("night", ["#000000", "#0c2233", "#16415f", "#245e87"]),
    contour="#7fb2d6",
)


def palette_of(ax: Axes) -> Palette:
    """The colours for the background that the labels of the axes are made to be read on."""
    brightness = np.dot([0.3, 0.6, 0.1], to_rgb(ax.xaxis.label.get_color()))
    return _DARK if brightness > 0.5 else _LIGHT


class Style(TypedDict):
    """Keywords of a line."""

    color: str
    linestyle: LineStyle


def style_of(ax: Axes, i: int) -> Style:
    """Keywords of the i-th of several lines: a colour and a line style of its own."""
    colours = palette_of(ax).lines
    return {"color": colours[i % len(colours)], "linestyle": LINES[i % len(LINES)]}


def axes_or_new(ax: Axes | None) -> Axes:
    """`ax`, or the Axes of a new figure."""
    return plt.figure(layout="constrained").subplots() if ax is None else ax


def tidy(ax: Axes, xlabel: str, ylabel: str) -> None:
    """Labels, ticks that can be read, and a frame that stands back."""
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color=palette_of(ax).grid, linewidth=0.8)
    ax.set_axisbelow(True)
    readable_ticks(ax)


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


def by_number(
    over: Sequence[int | str] | None, names: Sequence[str]
) -> tuple[int | str, ...] | None:
    """Parameters given by the names of features, with or without units, as their numbers.

    Raises:
      ValueError: a name that no feature has.
    """
    if over is None:
        return None
    known: dict[str, int | str] = {name.split(" (")[0]: j for j, name in enumerate(names)}
    known |= {name: j for j, name in enumerate(names)} | {"intercept": "bias", "bias": "bias"}
    for which in over:
        if isinstance(which, str) and which not in known:
            raise ValueError(f"over names {which!r}, and there are {', '.join(known)}")
    return tuple(known[which] if isinstance(which, str) else which for which in over)


def parameter_name(which: int | str, names: Sequence[str]) -> str:
    """What the axis of one parameter is called; `names` as `names_of` gives them."""
    if isinstance(which, str):
        return "intercept"
    if len(names) > 1:
        return f"weight of {names[which]}"
    return "slope" if names[0] == "x" else f"slope over {names[0]}"
