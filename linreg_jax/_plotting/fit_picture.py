"""A model beside its data, drawn once and moved to other parameters."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from linreg_jax._plotting.drawing import legend_above, palette_of, some_rows, tidy
from linreg_jax.dataset import Dataset, check_dataset
from linreg_jax.model import Params, check_params, predict

_MOST_RESIDUALS = 500  # more lines than these hide the points
_MARGIN = 0.06


class FitPicture:
    """The line through the data of one feature; predicted against observed with several.

    Attributes:
      ax: where it is drawn.
      moving: what `show` moves, and what lies above it, from the bottom up.
    """

    def __init__(self, ax: Axes, data: Dataset, names: Sequence[str], target_name: str) -> None:
        check_dataset(data)
        if data.y.ndim != 1:
            raise ValueError(
                f"y has shape {list(data.y.shape)}: one target is drawn, y [n]; take one column"
            )
        self.ax, self._data = ax, data
        rows, shown = some_rows(data.X.shape[0])
        self._X, self._y = np.asarray(data.X)[rows], np.asarray(data.y, float)[rows]
        self._is_line = data.X.shape[1] == 1
        across = self._X[:, 0].astype(float) if self._is_line else self._y
        low, high = across.min(), across.max()
        margin = _MARGIN * (high - low if high > low else 1.0)
        self._ends = np.array([low - margin, high + margin])
        self._across = across
        self._draw(shown)
        ax.set_xlim(*self._ends)
        if self._is_line:
            tidy(ax, names[0], target_name)
        else:
            tidy(ax, f"observed {target_name}", f"predicted {target_name}")
        legend_above(ax)

    def _draw(self, shown: str) -> None:
        """The points, the line, and the residuals where they would not hide the points."""
        few, colours = len(self._y) <= _MOST_RESIDUALS, palette_of(self.ax)
        size = 4 if few else 2
        (self._points,) = self.ax.plot(
            self._across, self._y, "o", color=colours.second, markersize=size, label=shown, zorder=3
        )
        label = "prediction" if self._is_line else "predicted = observed"
        style = "-" if self._is_line else "--"
        (self._line,) = self.ax.plot(
            self._ends, self._ends, style, color=colours.first, label=label
        )
        self._residuals = LineCollection(
            [], colors=colours.faint, linewidths=0.8, label="residuals"
        )
        if few:
            self.ax.add_collection(self._residuals)
        self.moving: list[Artist] = [*([self._residuals] if few else []), self._line, self._points]

    def show(self, params: Params, *, rescale: bool = True) -> None:
        """Moves the picture to other parameters; `rescale` chooses the vertical range anew."""
        check_params(params, self._data.X, self._data.y)
        predicted = np.asarray(predict(params, self._X), float)
        if self._is_line:
            line = predict(params, self._ends[:, None].astype(self._X.dtype))
            self._line.set_ydata(np.asarray(line, float))
            ends, heights = self._y, predicted
        else:
            self._points.set_ydata(predicted)
            ends, heights = predicted, self._y
        segments = np.stack([[self._across, ends], [self._across, heights]]).transpose(2, 0, 1)
        self._residuals.set_segments(list(segments))
        if rescale:
            drawn = np.concatenate([self._y, predicted])
            low, high = drawn.min(), drawn.max()
            margin = _MARGIN * (high - low if high > low else 1.0)
            self.ax.set_ylim(low - margin, high + margin)
