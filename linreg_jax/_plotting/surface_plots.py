"""Pictures of the loss over two parameters, and of the paths that fits took on it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.contour import QuadContourSet
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatterMathtext, LogLocator

from linreg_jax._plotting.drawing import (
    BLACK,
    MARKERS,
    axes_or_new,
    legend_above,
    names_of,
    parameter_name,
    style_of,
)
from linreg_jax._plotting.runs import as_fits, labels_of
from linreg_jax._plotting.surface import LossFunction, Over, Surface, make_surface, walked
from linreg_jax._training.result import Fit
from linreg_jax._typing import Float
from linreg_jax.dataset import Dataset, check_dataset

# White at the minimum, so that paths are seen where they end; dark enough above for the contours.
_VALLEY = LinearSegmentedColormap.from_list("valley", ["#ffffff", "#d4e5f2", "#93bfdd", "#5b96c4"])
MOST_MARKERS = 40  # iterates marked on a path: the first ones, which are furthest apart


def plot_surface(
    loss: LossFunction,
    data: Dataset,
    fits: Fit | Sequence[Fit] = (),
    *,
    over: Over | None = None,
    labels: Sequence[str] | None = None,
    feature_names: Sequence[str] | str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Contours of the loss over two parameters, and the paths that fits walked over it.

    The other parameters are held where the loss is least. The levels are evenly spaced in the
    logarithm of the loss above its minimum, so that the floor of the valley is seen however steep
    its sides are. For a squared loss the minimum is exact; for another one the other parameters are
    those of the best fit given (or of least squares, if they are better).

    Args:
      loss: what was minimised.
      data: a `Dataset` with one target, as it was given to `fit`.
      fits: results of `fit(..., record_params=True)`.
      over: two parameters, each the number of a feature or "bias"; None: slope and intercept with
        one feature, the weights of the first two otherwise.
      labels: what to call each fit; None: by their learning rates.
      feature_names: d names, with their units.
      ax: Axes to draw into; None: a new figure.

    Returns:
      The Axes.

    Raises:
      ValueError: a fit without recorded parameters, or many in one; several targets; parameters
        that are not there; names that do not fit.

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
    surface = make_surface(loss, data, fits, over)
    ax = axes_or_new(ax)
    contours = draw_surface(ax, surface, names)
    bar = ax.figure.colorbar(contours, ax=ax, ticks=LogLocator(), format=LogFormatterMathtext())
    bar.set_label(f"{loss} above its minimum, {surface.value:.4g}")
    for i, (run, label) in enumerate(zip(fits, labels, strict=True)):
        draw_path(ax, walked(run, surface.over), i, label)
    mark_minimum(ax, surface)
    legend_above(ax)
    return ax


def draw_surface(ax: Axes, surface: Surface, names: Sequence[str]) -> QuadContourSet:
    """The contours alone; the filled ones are returned, for a colour bar."""
    levels = surface.levels
    filled = np.concatenate([[levels[0] ** 2 / levels[1]], levels])
    excess = np.clip(surface.excess, filled[0], filled[-1])
    norm = LogNorm(filled[0], filled[-1])
    contours = ax.contourf(surface.x, surface.y, excess, filled, norm=norm, cmap=_VALLEY)
    ax.contour(surface.x, surface.y, excess, levels, colors="#35648c", linewidths=0.6)
    over = [parameter_name(which, names) for which in surface.over]
    ax.set(xlabel=over[0], ylabel=over[1])
    ax.set_xlim(surface.x[0], surface.x[-1])
    ax.set_ylim(surface.y[0], surface.y[-1])
    return contours


def draw_path(
    ax: Axes, points: Float[np.ndarray, "m 2"], i: int, label: str | None
) -> tuple[Line2D, Line2D]:
    """The i-th path [m, 2], its first iterates marked; `(halo, line)` are returned."""
    seen = in_sight(ax, points).T
    (halo,) = ax.plot(*seen, color="white", linewidth=3, zorder=2)  # below every path
    (line,) = ax.plot(
        *seen,
        **style_of(i),
        linewidth=1.5,
        marker=MARKERS[i % len(MARKERS)],
        markersize=4.5,
        markeredgecolor="white",
        markeredgewidth=0.4,
        markevery=range(min(len(points), MOST_MARKERS)),
        zorder=3,
        label=label,
    )
    return halo, line


def in_sight(ax: Axes, points: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, "m 2"]:
    """Points of an exploding path brought as near as drawing needs; others as they are."""
    limits = np.array([ax.get_xlim(), ax.get_ylim()])
    margin = 1000 * (limits[:, 1] - limits[:, 0])
    return np.clip(points, limits[:, 0] - margin, limits[:, 1] + margin)


def mark_minimum(ax: Axes, surface: Surface) -> None:
    """A star where the loss is least."""
    ax.plot(
        *surface.minimum,
        "*",
        color="#f0e442",
        markeredgecolor=BLACK,
        markersize=13,
        linestyle="none",
        zorder=4,
        label="minimum",
    )
