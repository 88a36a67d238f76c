"""Pictures of fits, losses and gradients; needs matplotlib, `pip install matplotlib`.

Every function takes results and draws into the Axes it is given, or into a new figure, and returns
the Axes. The colours are those of Okabe and Ito (2008), told apart by colour-blind eyes; line
styles and markers differ too, so that a grey print can be read. On a dark background, such as that
of `plt.style.use("dark_background")`, they are its own. `save_picture` writes text as text.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from linreg_jax._plotting.animation import animate, film_writer
from linreg_jax._plotting.drawing import (
    axes_or_new,
    legend_above,
    names_of,
    palette_of,
    tidy,
)
from linreg_jax._plotting.fit_picture import FitPicture
from linreg_jax._plotting.level_paths import plot_quantile_path
from linreg_jax._plotting.loss_curves import plot_losses
from linreg_jax._plotting.rate_plots import plot_learning_rates
from linreg_jax._plotting.summary import plot_summary, save_picture
from linreg_jax._plotting.surface_plots import plot_surface
from linreg_jax._plotting.weight_paths import plot_lasso_path
from linreg_jax._plotting.worth_plots import (
    plot_coefficients,
    plot_leverage,
    plot_quantiles,
    plot_residuals,
)
from linreg_jax.checking import GradientReport
from linreg_jax.dataset import Dataset
from linreg_jax.model import Params

__all__ = [
    "animate",
    "film_writer",
    "plot_coefficients",
    "plot_fit",
    "plot_gradient_check",
    "plot_lasso_path",
    "plot_learning_rates",
    "plot_leverage",
    "plot_losses",
    "plot_quantile_path",
    "plot_quantiles",
    "plot_residuals",
    "plot_summary",
    "plot_surface",
    "save_picture",
]


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
    colours = palette_of(ax)
    compared = report.comparisons[::-1]  # the first one on top
    heights = np.arange(len(compared))
    bounds = np.array([one.bound for one in compared])
    errors = np.array([one.error for one in compared], float)
    least = np.min([*bounds[bounds > 0], *errors[errors > 0]], initial=1.0) / 10
    shown = np.where(np.isfinite(errors), np.maximum(errors, least), bounds * 1e3)
    ok = np.array([one.ok for one in compared])
    ax.hlines(heights, np.minimum(shown, bounds), np.maximum(shown, bounds), color=colours.grid)
    ax.plot(
        bounds, heights, "|", color=colours.ink, markersize=16, markeredgewidth=2, label="bound"
    )
    for chosen, marker, colour, label in [
        (ok & (errors > 0), "o", colours.second, "apart, within the bound"),
        (ok & (errors == 0), "<", colours.good, "equal to the last bit"),
        (~ok, "X", colours.first, "wrong"),
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
