"""What learning rates lead to: the loss they reach, and their paths on the surface."""

import textwrap
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from linreg_jax._plotting.drawing import (
    MARKERS,
    by_number,
    legend_above,
    names_of,
    palette_of,
    tidy,
)
from linreg_jax._plotting.surface import (
    LossFunction,
    Over,
    Surface,
    is_squared,
    make_surface,
    walked,
)
from linreg_jax._plotting.surface_plots import draw_path, draw_surface, mark_minimum
from linreg_jax._plotting.ticks import number_text
from linreg_jax._training.result import Fit, Status
from linreg_jax._typing import Array, Float
from linreg_jax.compression import compress
from linreg_jax.dataset import Dataset, check_dataset
from linreg_jax.diagnosis import diagnose
from linreg_jax.losses import Loss
from linreg_jax.model import Params, init_params
from linreg_jax.training import fit

_NUM_RATES = 100
_COLUMNS = 3
_LETTERS = 22  # of a label below a small picture


def plot_learning_rates(
    loss: LossFunction,
    data: Dataset,
    rates: Sequence[float],
    *,
    num_steps: int = 20,
    params: Params | None = None,
    over: Over | None = None,
    feature_names: Sequence[str] | str | None = None,
    ax: Sequence[Axes] | np.ndarray | None = None,
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
    axes = _checked_axes(ax, len(rates))
    names = names_of(feature_names, data.X.shape[1])
    start = init_params(data) if params is None else params
    small = compress(data) if is_squared(loss) and data.total_weight is None else data
    _draw_curve(axes[0], loss, start, small, rates, num_steps, _largest_stable_rate(loss, data))
    runs = [
        fit(loss, start, small, learning_rate=rate, num_steps=num_steps, record_params=True)
        for rate in rates
    ]
    surface = make_surface(loss, data, runs, by_number(over, names))
    for i, (run, rate) in enumerate(zip(runs, rates, strict=True)):
        _draw_small_surface(axes[1 + i], surface, names, run, i)
        axes[1 + i].set_title(f"learning rate {number_text(rate, 3)}", fontsize="medium")
    return axes


def _checked_axes(ax: Sequence[Axes] | np.ndarray | None, num_rates: int) -> np.ndarray:
    """[1 + num_rates] Axes: those given, or of a new figure."""
    if ax is None:
        height = 4.0 + 3.2 * -(-num_rates // _COLUMNS)
        return rate_axes(plt.figure(figsize=(8.0, height), layout="constrained"), num_rates)
    axes = np.asarray(ax, object).ravel()
    if len(axes) != 1 + num_rates:
        raise ValueError(f"ax must be {1 + num_rates} Axes, one and one a rate, got {len(axes)}")
    return axes


def rate_axes(figure: FigureBase, num_rates: int) -> np.ndarray:
    """Axes for the curve, across the figure, and small ones below for the rates."""
    columns = min(num_rates, _COLUMNS)
    rows = -(-num_rates // columns)
    grid = figure.add_gridspec(1 + rows, columns)
    small = [figure.add_subplot(grid[1 + i // columns, i % columns]) for i in range(num_rates)]
    return np.array([figure.add_subplot(grid[0, :]), *small], object)


def _largest_stable_rate(loss: LossFunction, data: Dataset) -> float | None:
    if not isinstance(loss, Loss):
        return None
    try:
        limit = float(diagnose(data, loss).largest_stable_rate)
    except (TypeError, ValueError):  # its curvature is not known
        return None
    return limit if np.isfinite(limit) else None


def _losses_reached(
    loss: LossFunction, start: Params, data: Dataset, rates: Sequence[float], num_steps: int
) -> Float[np.ndarray, " m"]:
    """[m] the loss after some steps at each rate, in one program; infinite where it diverged."""

    @jax.jit
    def sweep(rates: Float[Array, " m"]) -> Float[Array, " m"]:
        runs = jax.vmap(
            lambda rate: fit(loss, start, data, learning_rate=rate, num_steps=num_steps)
        )(rates)
        reached = jax.vmap(lambda params: loss(params, data))(runs.state.params)
        return jnp.where(runs.status == Status.DIVERGED, jnp.inf, reached)

    return np.asarray(sweep(jnp.asarray(rates, data.X.dtype)), float)


def _draw_curve(
    ax: Axes,
    loss: LossFunction,
    start: Params,
    data: Dataset,
    rates: Sequence[float],
    num_steps: int,
    limit: float | None,
) -> None:
    """The loss reached by rate, the rates given marked, and the largest stable rate, if any."""
    around = [*rates, *([limit] if limit is not None else [])]
    many = np.geomspace(min(around) / 10, max(around) * 1.2, _NUM_RATES)
    reached = _losses_reached(loss, start, data, [*many, *rates], num_steps)
    first = float(loss(start, data))
    top, colours = 30 * first, palette_of(ax)
    curve = reached[:_NUM_RATES]
    ax.plot(many, np.where(curve < 100 * top, curve, np.nan), color=colours.ink, linewidth=1.2)
    for i, (rate, value) in enumerate(zip(rates, reached[_NUM_RATES:], strict=True)):
        is_drawn = value < top
        reaches = number_text(value) if is_drawn else "off the top"
        ax.plot(
            rate,
            value if is_drawn else top,
            marker=MARKERS[i % len(MARKERS)],
            color=colours.lines[i % len(colours.lines)],
            linestyle="none",
            markersize=8,
            clip_on=False,
            zorder=4,
            label=f"rate {number_text(rate, 3)}: {reaches}",
        )
    if limit is not None:
        label = f"largest stable rate, {number_text(limit, 3)}"
        ax.axvline(limit, color=colours.ink, linestyle="--", linewidth=1, label=label)
    label = f"at the start, {number_text(first)}"
    ax.axhline(first, color=colours.faint, linestyle=":", linewidth=1.2, label=label)
    ax.set(xscale="log", yscale="log")
    ax.set_ylim(top=top)
    tidy(ax, "learning rate", f"{loss} after {num_steps} steps")
    legend_above(ax)


def _draw_small_surface(ax: Axes, surface: Surface, names: Sequence[str], run: Fit, i: int) -> None:
    """The i-th path on the surface, in narrow axes whose names may be wide."""
    draw_surface(ax, surface, names)
    draw_path(ax, walked(run, surface.over), i, None)
    mark_minimum(ax, surface)
    ax.set_xlabel(textwrap.fill(ax.get_xlabel(), _LETTERS))
    ax.set_ylabel("" if i % _COLUMNS else textwrap.fill(ax.get_ylabel(), _LETTERS))
