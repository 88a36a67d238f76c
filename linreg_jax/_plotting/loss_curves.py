"""The loss by step, a line a run."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from linreg_jax._plotting.drawing import (
    MARKERS,
    axes_or_new,
    legend_above,
    palette_of,
    style_of,
    tidy,
)
from linreg_jax._plotting.runs import as_fits, labels_of
from linreg_jax._plotting.ticks import readable_ticks
from linreg_jax._training.result import Fit, Status
from linreg_jax._typing import Array, Float

# A run that explodes is followed up to so many times the loss where the runs started.
_HEADROOM = 1e3


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
    for i, (run, label) in enumerate(zip(runs, labels, strict=True)):
        _draw_run(ax, run, i, label, record_every, steps_per_epoch)
    ax.set_yscale("log")
    if any(int(run.status) == Status.DIVERGED for run in runs):
        drawn = np.concatenate([_drawable(run.losses) for run in runs])
        starts = [float(run.losses[0]) for run in runs]
        ax.set_ylim(np.nanmin(drawn) / 2, _HEADROOM * max(starts))
    tidy(ax, "step" if steps_per_epoch is None else "epoch", loss_name)
    readable_ticks(ax, integer=steps_per_epoch is None)
    legend_above(ax)
    return ax


def _draw_run(
    ax: Axes, run: Fit, i: int, label: str, record_every: int, steps_per_epoch: int | None
) -> None:
    """The i-th run: its losses, those of validation, and where it diverged."""
    style, unit = style_of(ax, i), steps_per_epoch or 1
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
            marker=MARKERS[i % len(MARKERS)],
            markevery=max(1, len(held_out) // 12),
            markersize=4,
            label=f"{label}, validation",
        )
    if int(run.status) == Status.DIVERGED:
        last = np.flatnonzero(np.isfinite(losses))[-1:]
        ax.plot(
            steps[last],
            np.fmin(losses[last], _HEADROOM / 3 * losses[0]),
            "X",
            color=style["color"],
            markeredgecolor=palette_of(ax).ink,
            markersize=9,
            clip_on=False,
            zorder=4,
            label=f"diverged at step {int(run.state.step):,}",
        )


def _drawable(losses: Float[Array, " m"]) -> Float[np.ndarray, " m"]:
    """Losses as float64; those that have no place on a logarithmic axis are gaps."""
    numbers = np.asarray(losses, float)
    return np.where(np.isfinite(numbers) & (numbers > 0), numbers, np.nan)


def _validated_every(num_steps: int, num_validated: int, steps_per_epoch: int | None) -> int:
    """Steps from one validation to the next."""
    return -(-num_steps // num_validated) if steps_per_epoch is None else steps_per_epoch
