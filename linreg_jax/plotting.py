"""Pictures of fits, losses and gradients; needs matplotlib, `pip install matplotlib`.

Every function takes results and draws into the Axes it is given, or into a new figure, and returns
the Axes. The colours are those of Okabe and Ito (2008), told apart by colour-blind eyes; line
styles and markers differ too, so that a grey print can be read.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from linreg_jax._plotting.animation import animate, film_writer
from linreg_jax._plotting.drawing import (
    BLACK,
    BLUE,
    GREEN,
    MARKERS,
    VERMILLION,
    axes_or_new,
    legend_above,
    names_of,
    style_of,
    tidy,
)
from linreg_jax._plotting.fit_picture import FitPicture
from linreg_jax._plotting.surface_plots import as_fits, labels_of, plot_learning_rates, plot_surface
from linreg_jax._training.result import Fit, Status
from linreg_jax.checking import GradientReport
from linreg_jax.dataset import Dataset
from linreg_jax.model import Params

__all__ = [
    "animate",
    "film_writer",
    "plot_fit",
    "plot_gradient_check",
    "plot_learning_rates",
    "plot_losses",
    "plot_surface",
]

# A run that explodes is followed up to so many times the loss where the runs started.
_HEADROOM = 1e3


def plot_fit(
    params: Params,
    data: Dataset,
    *,
    feature_names: Sequence[str] | str | None = None,
    target_name: str = "y",
    ax: Axes | None = None,
) -> Axes:
    """The line through the data with one feature; predicted against observed with several.

    Vertical lines are the residuals, prediction - target. Of many examples a few thousand are
    drawn.

    Args:
      params: `Params` with one target.
      data: a `Dataset`; X [n, d], y [n].
      feature_names: d names, with their units: "distance (Mpc)".
      target_name: name of the target, with its unit.
      ax: Axes to draw into; None: a new figure.

    Returns:
      The Axes.

    Raises:
      ValueError: several targets, or names that do not fit.
    """
    names = names_of(feature_names, data.X.shape[1])
    picture = FitPicture(axes_or_new(ax), data, names, target_name)
    picture.show(params)
    return picture.ax


def plot_losses(
    *fits: Fit | Sequence[Fit],
    labels: Sequence[str] | None = None,
    loss_name: str = "loss",
    record_every: int = 1,
    steps_per_epoch: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The loss by step, logarithmic, one line a run; validation dashed, divergence marked.

    Args:
      fits: of `fit`, one run each; or a list of them.
      labels: what to call each; None: by their learning rates.
      loss_name: of the axis, with a unit if it has one: "mse (km²/s²)".
      record_every: what was given to `fit`.
      steps_per_epoch: draws epochs in place of steps; `batches_per_epoch(n, batch_size)`.
      ax: Axes to draw into; None: a new figure.

    Returns:
      The Axes.

    Raises:
      TypeError: something else than results of `fit`.
      ValueError: no run, a mapped fit, or labels that do not fit.

    Example:
      >>> from linreg_jax.plotting import plot_losses
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> runs = [fit(mse, init_params(data), data, learning_rate=rate, num_steps=50)
      ...         for rate in (0.05, 0.1)]
      >>> plot_losses(*runs).get_xlabel()
      'step'
    """
    runs = as_fits(fits)
    if not runs or any(np.ndim(run.status) > 0 for run in runs):
        raise ValueError(
            "plot_losses takes one or more runs: of a mapped fit pass "
            "*(jax.tree.map(lambda leaf: leaf[i], fits) for i in range(len(fits.status)))"
        )
    labels = labels_of(runs, labels)
    ax = axes_or_new(ax)
    unit = 1 if steps_per_epoch is None else steps_per_epoch
    for i, (run, label) in enumerate(zip(runs, labels, strict=True)):
        style, marker = style_of(i), MARKERS[i % len(MARKERS)]
        first = int(run.state.step) - int(run.num_steps)
        losses = _drawable(run.losses)
        steps = (first + record_every * np.arange(len(losses))) / unit
        ax.plot(steps, losses, label=label, **style)
        if run.validation_losses is not None:
            held_out = _drawable(run.validation_losses)
            every = _validated_every(len(losses) * record_every, len(held_out), steps_per_epoch)
            after = np.minimum(every * np.arange(1, len(held_out) + 1), int(run.num_steps))
            ax.plot(
                (first + after) / unit,
                held_out,
                color=style["color"],
                linestyle="--",
                marker=marker,
                markevery=max(1, len(held_out) // 12),
                markersize=4,
                label=f"{label}, validation",
            )
        if int(run.status) == Status.DIVERGED:
            ax.plot(
                steps[np.isfinite(losses)][-1:],
                np.fmin(losses[np.isfinite(losses)][-1:], _HEADROOM / 3 * losses[0]),
                "X",
                color=style["color"],
                markeredgecolor=BLACK,
                markersize=9,
                clip_on=False,
                zorder=4,
                label=f"diverged at step {int(run.state.step):,}",
            )
    ax.set_yscale("log")
    if any(int(run.status) == Status.DIVERGED for run in runs):
        drawn = np.concatenate([_drawable(run.losses) for run in runs])
        starts = [float(run.losses[0]) for run in runs]
        ax.set_ylim(np.nanmin(drawn) / 2, _HEADROOM * max(starts))
    if steps_per_epoch is None:
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    tidy(ax, "step" if steps_per_epoch is None else "epoch", loss_name)
    legend_above(ax)
    return ax


def _drawable(losses):
    """Losses as float64; those that have no place on a logarithmic axis are gaps."""
    losses = np.asarray(losses, float)
    return np.where(np.isfinite(losses) & (losses > 0), losses, np.nan)


def _validated_every(num_steps, num_validated, steps_per_epoch):
    """Steps from one validation to the next."""
    return -(-num_steps // num_validated) if steps_per_epoch is None else steps_per_epoch


def plot_gradient_check(report: GradientReport, *, ax: Axes | None = None) -> Axes:
    """Each way to the gradient against each other: how far apart, and how far they may be.

    Args:
      report: of `check_gradients`.
      ax: Axes to draw into; None: a new figure.

    Returns:
      The Axes.

    Example:
      >>> from linreg_jax.plotting import plot_gradient_check
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> plot_gradient_check(check_gradients(mse, init_params(data), data)).get_xscale()
      'log'
    """
    ax = axes_or_new(ax)
    compared = report.comparisons[::-1]  # the first one on top
    heights = np.arange(len(compared))
    bounds = np.array([one.bound for one in compared])
    errors = np.array([one.error for one in compared], float)
    least = np.min([*bounds[bounds > 0], *errors[errors > 0]], initial=1.0) / 10
    shown = np.where(np.isfinite(errors), np.maximum(errors, least), bounds * 1e3)
    ok = np.array([one.ok for one in compared])
    ax.hlines(heights, np.minimum(shown, bounds), np.maximum(shown, bounds), color="0.8", zorder=1)
    ax.plot(bounds, heights, "|", color=BLACK, markersize=16, markeredgewidth=2, label="bound")
    for chosen, marker, colour, label in [
        (ok & (errors > 0), "o", BLUE, "apart, within the bound"),
        (ok & (errors == 0), "<", GREEN, "equal to the last bit"),
        (~ok, "X", VERMILLION, "wrong"),
    ]:
        if chosen.any():
            ax.plot(shown[chosen], heights[chosen], marker, color=colour, markersize=8, label=label)
    names = [f"{one.way} – {one.other}\nat {one.coordinate}" for one in compared]
    ax.set_yticks(heights, [name.replace("_", " ") for name in names])
    ax.set_xscale("log")
    ax.set_ylim(-0.6, len(compared) - 0.4)
    tidy(ax, "difference where it is largest for its bound", "")
    legend_above(ax, report.title.replace(": ", "\n", 1))
    return ax
