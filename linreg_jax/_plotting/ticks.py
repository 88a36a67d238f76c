"""Ticks that can be read: as many as their labels leave room for."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.ticker import FixedLocator, Formatter, MaxNLocator

_MOST = 9  # intervals
_STEPS = [1, 2, 2.5, 5, 10]
_LETTER = 0.62  # widths of a digit, in sizes of the font
_LINES = 1.8  # heights of a line, from one label of a vertical axis to the next
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class NumberFormatter(Formatter):
    """Numbers as they are written by hand: 1950, 12,500, 3.5×10⁷, all with as many decimals."""

    _ticks: tuple[float, ...] = ()

    def set_locs(self, locs: Sequence[float]) -> None:
        """Where all ticks are."""
        self._ticks = tuple(map(float, locs))

    def __call__(self, value: float, pos: int | None = None) -> str:
        """The label of one tick, to the decimals that all ticks need."""
        ticks = self._ticks or (float(value),)
        largest = max(map(abs, ticks), default=0.0)
        power = 0 if largest == 0 or 1e-4 <= largest < 1e7 else math.floor(math.log10(largest))
        number = value / 10.0**power
        text = f"{number:.{_decimals([tick / 10.0**power for tick in ticks])}f}"
        if power == 0 and largest >= 10_000:
            text = f"{number:,.{_decimals(ticks)}f}"
        if not any(digit in text for digit in "123456789"):
            return "0"
        text = text.replace("-", "−")
        return text if power == 0 else f"{text}×10{str(power).translate(_SUPERSCRIPTS)}"


def number_text(value: float, digits: int = 4) -> str:
    """A number in a sentence: 49730, 4.151×10¹⁰, 1.9×10⁻⁶."""
    text = f"{value:.{digits}g}"
    number, e, power = text.partition("e")
    if not e:
        return text
    if 0 < int(power) < 7:
        return f"{float(text):,.0f}"
    return f"{number}×10{str(int(power)).translate(_SUPERSCRIPTS)}"


def _decimals(ticks: Sequence[float]) -> int:
    """Behind the point, so that each tick is what is written of it."""
    steps = np.diff(np.sort(np.asarray(ticks, float)))
    steps = steps[steps > 0]
    allowed = 1e-3 * steps.min() if len(steps) else 1e-6 * max(map(abs, ticks), default=1.0)
    for decimals in range(15):
        if all(abs(round(tick, decimals) - tick) <= allowed for tick in ticks):
            return decimals
    return 15


class RoomyLocator(MaxNLocator):
    """Ticks at round numbers, as many as their labels leave room for.

    matplotlib's own takes every label to be three letters wide.
    """

    def __init__(self, axis: Axis, *, integer: bool = False) -> None:
        super().__init__(_MOST, steps=_STEPS, integer=integer)
        self._along = axis

    def __call__(self) -> list[float]:
        """The ticks for the range of the axis and its size at the moment."""
        low, high = sorted(self._along.get_view_interval())
        for most in range(_MOST, 0, -1):
            self.set_params(nbins=most)
            ticks = [float(tick) for tick in self.tick_values(low, high) if low <= tick <= high]
            if len(ticks) < 2 or self._fits(ticks, low, high):
                break
        return ticks if len(ticks) < 2 or self._fits(ticks, low, high) else ticks[:1]

    def _fits(self, ticks: list[float], low: float, high: float) -> bool:
        """Whether no label of these ticks reaches the next one, with a letter in between."""
        axis = self._along
        labels = axis.get_major_formatter().format_ticks(ticks)
        font = axis.get_major_ticks(1)[0].label1.get_fontproperties().get_size_in_points()
        is_horizontal = isinstance(axis, XAxis)
        box = axis.axes.bbox
        points = (box.width if is_horizontal else box.height) / axis.axes.figure.dpi * 72
        apart = points * float(np.min(np.diff(ticks))) / (high - low)
        needed = _LETTER * (max(map(len, labels)) + 1.5) if is_horizontal else _LINES
        return bool(apart >= needed * font)


def readable_ticks(ax: Axes, *, integer: bool = False) -> None:
    """Such ticks on the linear axes; `integer`: whole numbers along the horizontal one."""
    for axis in (ax.xaxis, ax.yaxis):
        has_names = isinstance(axis.get_major_locator(), FixedLocator)
        if axis.get_scale() == "linear" and not has_names:
            axis.set_major_locator(RoomyLocator(axis, integer=integer and axis is ax.xaxis))
            axis.set_major_formatter(NumberFormatter())
