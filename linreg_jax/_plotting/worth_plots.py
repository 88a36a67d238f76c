"""What coefficients are worth, and what single examples do, as pictures."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes

from linreg_jax._inference.result import Inference
from linreg_jax._influence import Influence
from linreg_jax._plotting.drawing import (
    axes_or_new,
    legend_above,
    names_of,
    palette_of,
    some_rows,
    tidy,
)
from linreg_jax._typing import Array, Float

_COOK = (0.5, 1.0)  # distances whose contours are drawn, as R's plot.lm has them


def plot_coefficients(
    inference: Inference,
    *,
    feature_names: Sequence[str] | str | None = None,
    intercept: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Each coefficient and its interval, and where 0 is.

    Args:
      inference: what `infer` returned, for one target.
      feature_names: d names.
      intercept: whether to draw the bias too, which has other units.
      ax: Axes to draw into; None: a new figure.

    Returns:
      The Axes. A coefficient that is not identified has a name and no line.

    Raises:
      ValueError: several targets, or names that do not fit.

    Example:
      >>> from linreg_jax.plotting import plot_coefficients
      >>> data = as_dataset([[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 4.0, 7.0])
      >>> plot_coefficients(infer(data), feature_names="age").get_yticklabels()[0].get_text()
      'age'
    """
    _require_one_target(inference.params.weights, "inference")
    names = names_of(feature_names, len(inference.params.weights))
    parts = [inference.params, inference.lower, inference.upper]
    columns = [np.asarray(part.weights, float) for part in parts]
    if intercept and inference.params.bias is not None:
        names = ["intercept", *names]
        columns = [
            np.append(np.asarray(part.bias, float), column)
            for part, column in zip(parts, columns, strict=True)
        ]
    middle, lower, upper = columns
    ax, heights = axes_or_new(ax), np.arange(len(names))[::-1]  # the first one on top
    ax.axvline(0, color=palette_of(ax).ink, linewidth=0.8)
    label = f"{100 * float(inference.level):g} % interval"
    ax.hlines(heights, lower, upper, color=palette_of(ax).second, linewidth=2, label=label)
    ax.plot(middle, heights, "o", color=palette_of(ax).first, markersize=6, label="coefficient")
    ax.set_yticks(heights, names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    tidy(ax, "coefficient", "")
    legend_above(ax)
    return ax


def plot_residuals(
    influence: Influence, y: ArrayLike, *, target_name: str = "y", ax: Axes | None = None
) -> Axes:
    """Residuals, prediction - target, against predictions: a spread that changes, a curve.

    Args:
      influence: what `influence` returned, for one target.
      y: [n] the targets.
      target_name: name of the target, with its unit.
      ax: Axes to draw into; None: a new figure.

    Returns:
      The Axes.

    Raises:
      ValueError: several targets.
    """
    _require_one_target(influence.residuals, "influence")
    r, ax = np.asarray(influence.residuals, float), axes_or_new(ax)
    draw_residuals(ax, r + np.asarray(y, float), r, target_name)
    return ax


def draw_residuals(
    ax: Axes, fitted: Float[np.ndarray, " n"], r: Float[np.ndarray, " n"], target_name: str
) -> None:
    """The residuals over the predictions, and where 0 is."""
    rows, shown = some_rows(len(r))
    ax.axhline(0, color=palette_of(ax).ink, linewidth=0.8)
    ax.plot(fitted[rows], r[rows], "o", color=palette_of(ax).second, markersize=4, label=shown)
    tidy(ax, f"predicted {target_name}", "residual")
    legend_above(ax)


def plot_quantiles(influence: Influence, *, ax: Axes | None = None) -> Axes:
    """Studentized residuals in order, against those of normal errors: a Q-Q plot.

    The i-th of n lies at the quantile of (i - 1/2) / n.

    Args:
      influence: what `influence` returned, for one target and a squared loss.
      ax: Axes to draw into; None: a new figure.

    Returns:
      The Axes.

    Raises:
      ValueError: several targets, or no studentized residuals.
    """
    _require_one_target(influence.residuals, "influence")
    _require_studentized(influence)
    values = np.asarray(influence.internally_studentized, float)
    values = np.sort(values[~np.isnan(values)])
    rows, shown = some_rows(len(values))
    at = (np.arange(len(values)) + 0.5) / len(values)
    normal = np.array([NormalDist().inv_cdf(probability) for probability in at])
    ax = axes_or_new(ax)
    ends = normal[[0, -1]]
    ax.plot(ends, ends, "--", color=palette_of(ax).first, label="normal errors")
    ax.plot(normal[rows], values[rows], "o", color=palette_of(ax).second, markersize=4, label=shown)
    tidy(ax, "quantile of the normal distribution", "studentized residual")
    legend_above(ax)
    return ax


def plot_leverage(influence: Influence, *, ax: Axes | None = None) -> Axes:
    """Studentized residuals against leverages, with contours of Cook's distance.

    On a contour D the studentized residual is ± sqrt(D p (1 - h) / h), of p coefficients. The
    three examples of largest distance bear their row's number.

    Args:
      influence: what `influence` returned, for one target and a squared loss.
      ax: Axes to draw into; None: a new figure.

    Returns:
      The Axes.

    Raises:
      ValueError: several targets, or no studentized residuals.
    """
    _require_one_target(influence.residuals, "influence")
    _require_studentized(influence)
    h, t, distance = (
        np.asarray(part, float)
        for part in (
            influence.leverages,
            influence.internally_studentized,
            influence.cooks_distance,
        )
    )
    rows, shown = some_rows(len(h))
    ax = axes_or_new(ax)
    ax.axhline(0, color=palette_of(ax).ink, linewidth=0.8)
    ax.plot(h[rows], t[rows], "o", color=palette_of(ax).second, markersize=4, label=shown)
    for i in np.argsort(-np.nan_to_num(distance))[:3]:
        ax.annotate(str(i), (h[i], t[i]), xytext=(4, 4), textcoords="offset points", fontsize=8)
    right = min(1.15 * np.max(h), 1.0)
    height = 1.3 * np.nanmax(np.abs(t))
    along = np.linspace(right / 200, right, 200)
    for i, level in enumerate(_COOK):
        edge = np.sqrt(level * np.sum(h) * (1 - along) / along)
        style = ("--", ":")[i]
        ax.plot(along, edge, style, color=palette_of(ax).first, label=f"Cook's distance {level:g}")
        ax.plot(along, -edge, style, color=palette_of(ax).first)
    ax.set(xlim=(0, right), ylim=(-height, height))
    tidy(ax, "leverage", "studentized residual")
    legend_above(ax)
    return ax


def _require_one_target(array: Array, name: str) -> None:
    if array.ndim != 1:
        raise ValueError(f"{name} is of several targets: one is drawn; pass y[:, 0] alone")


def _require_studentized(influence: Influence) -> None:
    if np.isnan(np.asarray(influence.internally_studentized)).all():
        raise ValueError(
            "influence holds no studentized residuals: they are of squared losses; "
            "pass influence(data)"
        )
