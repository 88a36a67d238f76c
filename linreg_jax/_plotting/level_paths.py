"""The coefficients of quantile regressions over their level."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from linreg_jax._plotting.drawing import legend_above, names_of, palette_of, tidy
from linreg_jax._typing import Bool, Float
from linreg_jax.model import Params
from linreg_jax.quantiles import QuantilePath

_PANEL = 3.4, 2.7  # inches
_MOST_ACROSS = 3


def plot_quantile_path(
    path: QuantilePath,
    *,
    feature_names: Sequence[str] | str | None = None,
    least_squares: Params | None = None,
    figure: FigureBase | None = None,
) -> np.ndarray:
    """Each coefficient over the level, in a panel of its own, as `plot.rqs` of R's quantreg draws.

    A coefficient that rises with the level says that the feature spreads the targets, one that is
    level that it only shifts them. Where the minimum is not the only one the marker is hollow.

    Args:
      path: of `quantile_path`, for one target.
      feature_names: d names, with their units: "income (kF)".
      least_squares: `solve(data).params`, drawn as dashed lines to compare with.
      figure: to draw into, best with `layout="constrained"`; None: a new one.

    Returns:
      The Axes of the panels, the intercept first, where there is one: [1 + d] or [d].

    Raises:
      ValueError: several paths or targets, names or parameters that do not fit.

    Example:
      >>> from linreg_jax.plotting import plot_quantile_path
      >>> data = as_dataset([[1.0], [2.0], [3.0], [4.0]], [1.0, 3.0, 2.0, 7.0])
      >>> panels = plot_quantile_path(quantile_path(data, [0.3, 0.6]), feature_names="age (y)")
      >>> [ax.get_ylabel() for ax in panels]
      ['intercept', 'age (y)']
    """
    if np.ndim(path.levels) != 1 or np.ndim(path.params.weights) != 2:
        raise ValueError(
            "plot_quantile_path takes one path of one target, got levels "
            f"{np.shape(path.levels)} and weights {np.shape(path.params.weights)}: of a mapped one "
            "pass jax.tree.map(lambda leaf: leaf[i], path)"
        )
    d = path.params.weights.shape[1]
    names, values = names_of(feature_names, d), _columns(path.params)
    if path.params.bias is not None:
        names = ["intercept", *names]
    others = None if least_squares is None else _columns(least_squares)
    if others is not None and others.shape != values.shape[1:]:
        raise ValueError(
            f"least_squares has {others.size} coefficients, and the path has {values.shape[1]}: "
            "pass Params of the same features and target, with an intercept where the path has one"
        )
    axes = _panels(figure, len(names))
    for j, (name, ax) in enumerate(zip(names, axes, strict=True)):
        _draw(ax, path, values[:, j])
        if others is not None:
            ax.axhline(
                others[j], color=palette_of(ax).second, linestyle="--", label="least squares"
            )
        tidy(ax, "level", name)
    if others is not None:
        legend_above(axes[0])
    return axes


def _columns(params: Params) -> Float[np.ndarray, "*m p"]:
    """[m, p] or [p] the bias first, where there is one."""
    weights = np.asarray(params.weights, float)
    if params.bias is None:
        return weights
    return np.concatenate([np.asarray(params.bias, float)[..., None], weights], axis=-1)


def _panels(figure: FigureBase | None, count: int) -> np.ndarray:
    """[count] Axes."""
    across = min(count, _MOST_ACROSS)
    down = -(-count // across)
    if figure is None:
        size = _PANEL[0] * across, _PANEL[1] * down
        figure = plt.figure(figsize=size, layout="constrained")
    axes: np.ndarray = figure.subplots(down, across, squeeze=False).ravel()
    for unused in axes[count:]:
        unused.remove()
    return axes[:count]


def _draw(ax: Axes, path: QuantilePath, values: Float[np.ndarray, " m"]) -> None:
    levels, colour = np.asarray(path.levels, float), palette_of(ax).first
    ax.plot(levels, values, color=colour, linewidth=1.2, label="quantile regression")
    alone: Bool[np.ndarray, " m"] = np.asarray(path.unique)
    for which, inside in ((alone, colour), (~alone, palette_of(ax).paper)):
        if which.any():
            ax.plot(
                levels[which],
                values[which],
                "o",
                markerfacecolor=inside,
                markeredgecolor=colour,
                markersize=4,
            )
