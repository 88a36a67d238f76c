"""The weights over the strength of a lasso."""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from linreg_jax._plotting.drawing import (
    axes_or_new,
    legend_above,
    names_of,
    palette_of,
    style_of,
    tidy,
)
from linreg_jax._typing import Float
from linreg_jax.paths import LassoPath


def plot_lasso_path(
    path: LassoPath,
    *,
    feature_names: Sequence[str] | str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Each weight over the strength, from the knot where the first one leaves 0 to the last.

    Lines between knots are exact. The strength falls to the right, on a logarithmic axis; of a path
    that ends at 0, the last knot is drawn a tenth below the one before.

    Args:
      path: of `lasso_path`.
      feature_names: d names, with their units: "distance (Mpc)".
      ax: Axes to draw into; None: a new figure.

    Returns:
      The Axes.

    Raises:
      ValueError: several paths, or names that do not fit.

    Example:
      >>> from linreg_jax.plotting import plot_lasso_path
      >>> X = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]
      >>> plot_lasso_path(lasso_path(as_dataset(X, [5.0, 3.0, -3.0, -5.0]))).get_xlabel()
      'strength of lasso'
    """
    if np.ndim(path.num_knots) > 0:
        raise ValueError(
            "plot_lasso_path takes one path: of a mapped one pass "
            "jax.tree.map(lambda leaf: leaf[i], path)"
        )
    last = int(path.num_knots)
    strengths = np.asarray(path.strengths[:last], float)
    names = names_of(feature_names, path.params.weights.shape[1])
    positive = strengths[strengths > 0]
    ends = [positive[-1] / 10] if len(positive) < last and len(positive) else []
    shown = _dense(positive, ends)
    weights = np.asarray(path.at(shown).weights, float)
    ax = axes_or_new(ax)
    for j, name in enumerate(names):
        ax.plot(shown, weights[:, j], label=name, **style_of(ax, j))
    for knot in positive:
        ax.axvline(knot, color=palette_of(ax).grid, linewidth=0.6, zorder=0)
    if len(positive):
        ax.set_xscale("log")
        ax.set_xlim(shown[0], shown[-1])
    tidy(ax, "strength of lasso", "weight")
    legend_above(ax)
    return ax


def _dense(knots: Float[np.ndarray, " knots"], ends: list[float]) -> Float[np.ndarray, " m"]:
    """Falling strengths with the knots among them: a line is bent on a logarithmic axis."""
    places = np.concatenate([knots, ends])
    between = [
        np.geomspace(high, low, 20, endpoint=False) for high, low in itertools.pairwise(places)
    ]
    return np.concatenate([*between, places[-1:]])
