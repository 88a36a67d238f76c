"""A page of four pictures for a fit, and pictures as files."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from linreg_jax._files import write_whole
from linreg_jax._plotting.drawing import names_of
from linreg_jax._plotting.fit_picture import FitPicture
from linreg_jax._plotting.loss_curves import plot_losses
from linreg_jax._plotting.surface import LossFunction, Over
from linreg_jax._plotting.surface_plots import plot_surface
from linreg_jax._plotting.worth_plots import draw_residuals
from linreg_jax._training.result import Fit
from linreg_jax.dataset import Dataset
from linreg_jax.losses import mse
from linreg_jax.model import predict

_PAGE = (10.0, 8.0)  # inches


def plot_summary(
    fit: Fit,
    data: Dataset,
    *,
    loss: LossFunction = mse,
    over: Over | None = None,
    feature_names: Sequence[str] | str | None = None,
    target_name: str = "y",
    record_every: int = 1,
    figure: FigureBase | None = None,
) -> np.ndarray:
    """A fit on a page: model and data, the loss by step, its surface with the path, residuals.

    Args:
      fit: of `fit`; with `record_params=True` its path is drawn on the surface.
      data: the `Dataset` it was fitted to, with one target and two parameters or more.
      loss: what was minimised.
      over: two parameters for the surface, as in `plot_surface`.
      feature_names: d names, with their units.
      target_name: name of the target, with its unit.
      record_every: what was given to `fit`.
      figure: to draw into, best with `layout="constrained"`; None: a new one.

    Returns:
      [4] Axes, in the order above.

    Raises:
      ValueError: as `plot_fit` and `plot_surface` say.

    Example:
      >>> from linreg_jax.plotting import plot_summary
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> start = init_params(data)
      >>> run = fit(mse, start, data, learning_rate=0.1, num_steps=50, record_params=True)
      >>> [ax.get_xlabel() for ax in plot_summary(run, data, feature_names="age (months)")]
      ['age (months)', 'step', 'slope over age (months)', 'predicted y']
    """
    names = names_of(feature_names, data.X.shape[1])
    if figure is None:
        figure = plt.figure(figsize=_PAGE, layout="constrained")
    axes: np.ndarray = figure.subplots(2, 2).ravel()
    FitPicture(axes[0], data, names, target_name).show(fit.params)
    plot_losses(fit, loss_name=str(loss), record_every=record_every, ax=axes[1])
    walked = [fit] if fit.path is not None else []
    plot_surface(loss, data, walked, over=over, feature_names=names, ax=axes[2])
    predicted = np.asarray(predict(fit.params, data.X), float)
    draw_residuals(axes[3], predicted, predicted - np.asarray(data.y, float), target_name)
    return axes


def save_picture(
    picture: Figure | Axes | Sequence[Axes] | np.ndarray, path: str | Path, *, dpi: float = 150
) -> Path:
    """Writes the figure of some Axes, whole or not at all; in SVG and PDF text stays text.

    Args:
      picture: what a function of this module returned, or a figure.
      path: the file to write, .png, .svg, .pdf or another kind that matplotlib knows.
      dpi: dots per inch, of a .png.

    Returns:
      The path.

    Raises:
      ValueError: a kind of file that matplotlib does not know.
      OSError: the file cannot be written.
    """
    path, drawn = Path(path), io.BytesIO()
    # Text as text: to be searched, copied and edited.
    with mpl.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}):
        kind = path.suffix.lower().lstrip(".") or "png"
        _figure_of(picture).savefig(drawn, format=kind, dpi=dpi)
    write_whole(path, [drawn.getvalue()])
    return path


def _figure_of(picture: Figure | Axes | Sequence[Axes] | np.ndarray) -> Figure:
    if isinstance(picture, Figure):
        return picture
    first = picture if isinstance(picture, Axes) else np.ravel(np.asarray(picture, object))[0]
    whole: Figure = first.figure.figure  # also where the Axes lie in a part of it
    return whole
