"""Pictures of the loss over two parameters, and of the paths that fits took on it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.contour import QuadContourSet
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import LogFormatterMathtext, LogLocator

from linreg_jax._plotting.drawing import (
    MARKERS,
    axes_or_new,
    by_number,
    legend_above,
    names_of,
    palette_of,
    parameter_name,
    style_of,
)
from linreg_jax._plotting.runs import as_fits, labels_of
from linreg_jax._plotting.surface import (
    Limits,
    LossFunction,
    Over,
    Surface,
    make_surface,
    walked,
)
from linreg_jax._plotting.ticks import number_text, readable_ticks
from linreg_jax._training.result import Fit
from linreg_jax._typing import Float
from linreg_jax.dataset import Dataset, check_dataset

MOST_MARKERS = 40  # iterates marked on a path: the first ones, which are furthest apart


def plot_surface(
    loss: LossFunction,
    data: Dataset,
    fits: Fit | Sequence[Fit] = (),
    *,
    over: Over | None = None,
    limits: Limits | None = None,
    labels: Sequence[str] | None = None,
    feature_names: Sequence[str] | str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Contours of the loss over two parameters, and the paths that fits walked over it.

    The other parameters are held where the loss is least. The levels are evenly spaced in the
    logarithm of the loss above its minimum, so that the floor of the valley is seen however steep
    its sides are. For a squared loss the minimum is exact; for another one the other parameters are
    those of the best fit given (or of least squares, if they are better). A path that leaves the
    window ends there in an arrow.

    Args:
      loss: what was minimised.
      data: a `Dataset` with one target, as it was given to `fit`.
      fits: results of `fit(..., record_params=True)`.
      over: two parameters, each the number or the name of a feature, or "bias"; None: slope and
        intercept with one feature, the weights of the first two otherwise.
      limits: ((left, right), (bottom, top)) of the window; None: as far as the paths go, but for
        those of runs that diverged or ended with a larger loss than they began with.
      labels: what to call each fit; None: by their learning rates.
      feature_names: d names, with their units.
      ax: Axes to draw into; None: a new figure.

    Returns:
      The Axes.

    Raises:
      ValueError: a fit without recorded parameters, or many in one; several targets; parameters
        that are not there; limits that are none; names that do not fit.

    Example:
      >>> from linreg_jax.plotting import plot_surface
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> start = init_params(data)
      >>> run = fit(mse, start, data, learning_rate=0.1, num_steps=50, record_params=True)
      >>> plot_surface(mse, data, run).get_ylabel()
      'intercept'
    """
    fits = as_fits(fits)
    check_dataset(data)
    names = names_of(feature_names, data.X.shape[1])
    labels = labels_of(fits, labels)
    surface = make_surface(loss, data, fits, by_number(over, names), limits)
    ax = axes_or_new(ax)
    contours = draw_surface(ax, surface, names)
    bar = ax.figure.colorbar(contours, ax=ax, ticks=LogLocator(), format=LogFormatterMathtext())
    bar.set_label(f"{loss} above its minimum, {number_text(surface.value)}")
    for i, (run, label) in enumerate(zip(fits, labels, strict=True)):
        draw_path(ax, walked(run, surface.over), i, label)
    mark_minimum(ax, surface)
    legend_above(ax)
    return ax


def draw_surface(ax: Axes, surface: Surface, names: Sequence[str]) -> QuadContourSet:
    """The contours alone; the filled ones are returned, for a colour bar."""
    levels, colours = surface.levels, palette_of(ax)
    filled = np.concatenate([[levels[0] ** 2 / levels[1]], levels])
    excess = np.clip(surface.excess, filled[0], filled[-1])
    norm = LogNorm(filled[0], filled[-1])
    contours = ax.contourf(surface.x, surface.y, excess, filled, norm=norm, cmap=colours.valley)
    ax.contour(surface.x, surface.y, excess, levels, colors=colours.contour, linewidths=0.6)
    over = [parameter_name(which, names) for which in surface.over]
    ax.set(xlabel=over[0], ylabel=over[1])
    ax.set_xlim(surface.x[0], surface.x[-1])
    ax.set_ylim(surface.y[0], surface.y[-1])
    readable_ticks(ax)
    return contours


class DrawnPath(NamedTuple):
    """A path and what belongs to it.

    Attributes:
      points: [m, 2] what is drawn of it.
      halo, line: below every path, and on top.
      arrow: where it leaves the window; None where it ends inside.
    """

    points: Float[np.ndarray, "m 2"]
    halo: Line2D
    line: Line2D
    arrow: Annotation | None


def draw_path(ax: Axes, points: Float[np.ndarray, "m 2"], i: int, label: str | None) -> DrawnPath:
    """The i-th path [m, 2] as far as it is in the window, its first iterates marked."""
    seen, leaves = in_sight(ax, points)
    style, paper = style_of(ax, i), palette_of(ax).paper
    (halo,) = ax.plot(*seen.T, color=paper, linewidth=3, zorder=2)
    (line,) = ax.plot(
        *seen.T,
        **style,
        linewidth=1.5,
        marker=MARKERS[i % len(MARKERS)],
        markersize=4.5,
        markeredgecolor=paper,
        markeredgewidth=0.4,
        markevery=range(min(len(seen) - leaves, MOST_MARKERS)),
        zorder=3,
        label=label,
    )
    arrow = _arrow(ax, seen[-2], seen[-1], style["color"]) if leaves else None
    return DrawnPath(seen, halo, line, arrow)


def in_sight(
    ax: Axes, points: Float[np.ndarray, "m 2"]
) -> tuple[Float[np.ndarray, "seen 2"], bool]:
    """`(points, leaves)`: all of a path, or up to the edge it first crosses, if it ends beyond."""
    low, high = np.transpose([ax.get_xlim(), ax.get_ylim()])
    inside = ((points >= low) & (points <= high)).all(axis=1)
    if inside[-1] or not inside.any():
        far = 1000 * (high - low)  # as near as drawing needs
        return np.clip(points, low - far, high + far), False
    first = int(np.argmax(inside))
    last = first + int(np.argmin(inside[first:])) - 1
    move = points[last + 1] - points[last]
    room = np.where(move > 0, high - points[last], low - points[last])
    share = np.min(room[move != 0] / move[move != 0])
    return np.concatenate([points[: last + 1], [points[last] + share * move]]), True


def _arrow(
    ax: Axes, start: Float[np.ndarray, "2"], end: Float[np.ndarray, "2"], colour: str
) -> Annotation:
    """The head of an arrow at the end of a line, of one size whatever the line's length.

    Its shaft, which is not drawn, has to be longer than the head.
    """
    window = np.ptp([ax.get_xlim(), ax.get_ylim()], axis=1)
    move = (end - start) / window
    tail = end - 0.15 * window * move / max(float(np.linalg.norm(move)), 1e-12)
    head = {
        "arrowstyle": "-|>",
        "color": colour,
        "mutation_scale": 18,
        "linewidth": 0,
        "shrinkB": 0,
    }
    return ax.annotate("", (end[0], end[1]), (tail[0], tail[1]), arrowprops=head, zorder=4)


def mark_minimum(ax: Axes, surface: Surface) -> Line2D:
    """A star where the loss is least."""
    (star,) = ax.plot(
        *surface.minimum,
        "*",
        color="#f0e442",
        markeredgecolor=palette_of(ax).ink,
        markersize=13,
        linestyle="none",
        zorder=4,
        label="minimum",
    )
    return star
