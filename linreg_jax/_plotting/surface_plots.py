"""Pictures of the loss over two parameters, and of what learning rates do on it."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.ticker import LogFormatterMathtext, LogLocator

from linreg_jax._plotting.drawing import (
    BLACK,
    COLOURS,
    MARKERS,
    axes_or_new,
    legend_above,
    names_of,
    parameter_name,
    style_of,
    tidy,
)
from linreg_jax._plotting.surface import is_squared, make_surface, walked
from linreg_jax._training.result import Fit, Status
from linreg_jax._validation import kind_text
from linreg_jax.compression import compress
from linreg_jax.dataset import Dataset, check_dataset
from linreg_jax.diagnosis import diagnose
from linreg_jax.model import Params, init_params
from linreg_jax.training import fit

# White at the minimum, so that paths are seen where they end; dark enough above for the contours.
_VALLEY = LinearSegmentedColormap.from_list("valley", ["#ffffff", "#d4e5f2", "#93bfdd", "#5b96c4"])
MOST_MARKERS = 40  # iterates marked on a path: the first ones, which are furthest apart
_NUM_RATES = 100
_COLUMNS = 3
_LETTERS = 22  # of a label below a small picture


def plot_surface(
    loss: Any,
    data: Dataset,
    fits: Fit | Sequence[Fit] = (),
    *,
    over: tuple[int | str, int | str] | None = None,
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


def as_fits(fits: Fit | Iterable[Any]) -> list[Fit]:
    """Results of `fit` as one list, out of one, of several and of lists of them.

    Raises:
      TypeError: something else among them.
    """
    if isinstance(fits, Fit):
        return [fits]
    runs: list[Fit] = []
    for run in fits:
        if isinstance(run, Fit):
            runs.append(run)
        elif isinstance(run, (list, tuple)) and all(isinstance(one, Fit) for one in run):
            runs.extend(run)
        else:
            raise TypeError(f"fits must be what fit returned, got {kind_text(run)}")
    return runs


def labels_of(fits: Sequence[Fit], labels: Sequence[str] | None) -> list[str]:
    """What to call each of some fits.

    Raises:
      ValueError: not one label a fit.
    """
    if labels is None:
        return [f"learning rate {float(np.ravel(run.learning_rate)[0]):.3g}" for run in fits]
    if len(labels) != len(fits):
        raise ValueError(f"labels must name the {len(fits)} fits, got {len(labels)}: {labels}")
    return list(labels)


def draw_surface(ax, surface, names):
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


def draw_path(ax, points, i, label):
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


def in_sight(ax, points):
    """Points of an exploding path brought as near as drawing needs; others as they are."""
    limits = np.array([ax.get_xlim(), ax.get_ylim()])
    room = 1000 * (limits[:, 1] - limits[:, 0])
    return np.clip(points, limits[:, 0] - room, limits[:, 1] + room)


def mark_minimum(ax, surface):
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


def plot_learning_rates(
    loss: Any,
    data: Dataset,
    rates: Sequence[float],
    *,
    num_steps: int = 20,
    params: Params | None = None,
    over: tuple[int | str, int | str] | None = None,
    feature_names: Sequence[str] | str | None = None,
    ax: Sequence[Axes] | None = None,
) -> np.ndarray:
    """What learning rates lead to: the loss reached by rate, and the path of each rate given.

    The curve is gradient descent with full batches at many rates around those given, trained in one
    program; the dashed line is the largest stable rate, for losses that have one (see `diagnose`).

    Args:
      loss: what to minimise.
      data: a `Dataset` with one target.
      rates: the learning rates whose paths are drawn.
      num_steps: steps each takes.
      params: where they start; None: at zero.
      over: the two parameters of the paths, as in `plot_surface`.
      feature_names: d names, with their units.
      ax: 1 + len(rates) Axes to draw into, the first one for the curve; None: a new figure.

    Returns:
      [1 + len(rates)] Axes.

    Raises:
      ValueError: no rates, a rate that is not more than 0, or Axes that do not fit their number;
        and as `plot_surface` says.
    """
    check_dataset(data)
    rates = [float(rate) for rate in rates]
    if not rates or not all(0 < rate < float("inf") for rate in rates):
        raise ValueError(f"rates must be finite numbers more than 0, at least one, got {rates}")
    if ax is None:
        height = 4.0 + 3.2 * -(-len(rates) // _COLUMNS)
        ax = rate_axes(plt.figure(figsize=(8.0, height), layout="constrained"), len(rates))
    axes = np.asarray(ax, object).ravel()
    if len(axes) != 1 + len(rates):
        raise ValueError(f"ax must be {1 + len(rates)} Axes, one and one a rate, got {len(axes)}")
    names = names_of(feature_names, data.X.shape[1])
    start = init_params(data) if params is None else params
    small = compress(data) if is_squared(loss) and data.total_weight is None else data

    @jax.jit
    def sweep(rates):
        def run(rate):
            return fit(loss, start, small, learning_rate=rate, num_steps=num_steps)

        runs = jax.vmap(run)(rates)
        reached = jax.vmap(lambda params: loss(params, small))(runs.state.params)
        return jnp.where(runs.status == Status.DIVERGED, jnp.inf, reached)

    limit = _largest_stable_rate(loss, data)
    around = [*rates, *([limit] if limit is not None else [])]
    many = np.geomspace(min(around) / 10, max(around) * 1.2, _NUM_RATES)
    reached = np.asarray(sweep(jnp.asarray([*many, *rates], data.X.dtype)), float)
    runs = [
        fit(loss, start, small, learning_rate=rate, num_steps=num_steps, record_params=True)
        for rate in rates
    ]
    first = float(loss(start, small))
    _draw_reached(axes[0], many, reached[:_NUM_RATES], rates, reached[_NUM_RATES:], limit, first)
    axes[0].set_ylabel(f"{loss} after {num_steps} steps")
    legend_above(axes[0])
    surface = make_surface(loss, data, runs, over)
    for i, (run, rate) in enumerate(zip(runs, rates, strict=True)):
        draw_surface(axes[1 + i], surface, names)
        draw_path(axes[1 + i], walked(run, surface.over), i, None)
        mark_minimum(axes[1 + i], surface)
        axes[1 + i].set_title(f"learning rate {rate:.3g}", fontsize="medium")
        # Narrow axes, wide names.
        axes[1 + i].set_xlabel(textwrap.fill(axes[1 + i].get_xlabel(), _LETTERS))
        ylabel = "" if i % _COLUMNS else textwrap.fill(axes[1 + i].get_ylabel(), _LETTERS)
        axes[1 + i].set_ylabel(ylabel)
    return axes


def rate_axes(figure, num_rates):
    """Axes for the curve, across the figure, and small ones below for the rates."""
    columns = min(num_rates, _COLUMNS)
    rows = -(-num_rates // columns)
    grid = figure.add_gridspec(1 + rows, columns)
    small = [figure.add_subplot(grid[1 + i // columns, i % columns]) for i in range(num_rates)]
    return np.array([figure.add_subplot(grid[0, :]), *small], object)


def _largest_stable_rate(loss, data):
    try:
        limit = float(diagnose(data, loss).largest_stable_rate)
    except (TypeError, ValueError):  # a loss that has none, or whose curvature nobody knows
        return None
    return limit if np.isfinite(limit) else None


def _draw_reached(ax, many, reached, rates, reached_by_rates, limit, first):
    top = 30 * first
    ax.plot(many, np.where(reached < 100 * top, reached, np.nan), color=BLACK, linewidth=1.2)
    for i, (rate, value) in enumerate(zip(rates, reached_by_rates, strict=True)):
        off = not value < top
        ax.plot(
            rate,
            top if off else value,
            marker=MARKERS[i % len(MARKERS)],
            color=COLOURS[i % len(COLOURS)],
            linestyle="none",
            markersize=8,
            clip_on=False,
            zorder=4,
            label=f"rate {rate:.3g}: {'off the top' if off else f'{value:.4g}'}",
        )
    if limit is not None:
        ax.axvline(
            limit,
            color=BLACK,
            linestyle="--",
            linewidth=1,
            label=f"largest stable rate, {limit:.3g}",
        )
    ax.axhline(first, color="0.5", linestyle=":", linewidth=1.2, label=f"at the start, {first:.4g}")
    ax.set(xscale="log", yscale="log")
    ax.set_ylim(top=top)
    tidy(ax, "learning rate", "")
