"""What `check_gradients` hands back, and how it reads."""

import dataclasses
import math
from typing import NamedTuple

from linreg_jax._checking.comparison import Check, Comparison

_SHORT = {"finite_difference": "differences"}


class GradientError(AssertionError):
    """A gradient is wrong; the message is the whole report."""


class Kinks(NamedTuple):
    """Residuals where the loss has no slope, or where rounding decides on which side they are.

    Attributes:
      exact: how many are on a kink.
      close: how many more are within rounding of one.
      first: the indexes of the first few of both, `(i,)` or `(i, target)`.
    """

    exact: int
    close: int
    first: tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class GradientReport:
    """What `check_gradients` found; `print(report)` is a table.

    Attributes:
      title: the loss and the size of the problem.
      comparisons: every way beside every other, a `Comparison` each.
      checks: what else was checked, a `Check` each.
      kinks: the `Kinks` met; None where the loss is a plain function, whose kinks are not known.
      note: what a reader must know about how it was done; empty mostly.
    """

    title: str
    comparisons: tuple[Comparison, ...]
    checks: tuple[Check, ...]
    kinks: Kinks | None
    note: str = ""

    @property
    def worst(self) -> Comparison:
        """The comparison with the largest ratio of error to bound."""
        return max(self.comparisons, key=lambda comparison: comparison.ratio)

    @property
    def ok(self) -> bool:
        """Whether every comparison is within its bound and no check failed."""
        within = all(comparison.ok for comparison in self.comparisons)
        return within and all(check.ok is not False for check in self.checks)

    def raise_if_wrong(self) -> None:
        """Raises GradientError, with the report as its message, unless `ok`."""
        if not self.ok:
            raise GradientError(f"a gradient is wrong\n{self}")

    def __str__(self) -> str:
        lines = [self.title, ""]
        lines += [_row("", "way", "against", "worst at", "value", "the other's", "error", "bound")]
        for one in self.comparisons:
            lines.append(
                _row(
                    "" if one.ok else "x",
                    _SHORT.get(one.way, one.way),
                    _SHORT.get(one.other, one.other),
                    one.coordinate,
                    *(f"{value:.5g}" for value in one.values),
                    f"{one.error:.1e}",
                    f"{one.bound:.1e}",
                )
            )
        lines.append("")
        for check in self.checks:
            mark = {True: "", False: "x", None: "-"}[check.ok]
            lines.append(f"{mark:2}{check.name:17}{check.detail}")
        if self.kinks is not None and self.kinks.exact + self.kinks.close:
            lines += ["", *_kinks_text(self.kinks)]
        if self.note:
            lines += ["", self.note]
        return "\n".join([*lines, "", self._verdict()])

    def _verdict(self) -> str:
        if self.ok:
            return "ok: every gradient is right, as far as rounding lets anybody tell"
        worst = self.worst
        if worst.ok:
            failed = ", ".join(check.name for check in self.checks if check.ok is False)
            return f"WRONG: the gradients agree, but look at: {failed}"
        ratio = f"{worst.ratio:.3g} times the bound" if math.isfinite(worst.ratio) else "no bound"
        return (
            f"WRONG, most of all at {worst.coordinate} ({ratio}):\n"
            f"  {worst.way} {worst.values[0]:.9g}, {worst.other} {worst.values[1]:.9g}"
        )


def _row(*cells: str) -> str:
    mark, way, other, place, value, others, error, bound = cells
    place = place if len(place) < 14 else place.replace("weights", "w")
    return f"{mark:2}{way:11} {other:11} {place:14}{value:>11} {others:>11} {error:>7} {bound:>7}"


def _kinks_text(kinks: Kinks) -> list[str]:
    places = ", ".join(str(list(place))[1:-1] for place in kinks.first)
    count = kinks.exact + kinks.close
    more = ", ..." if count > len(kinks.first) else ""
    what = "1 residual" if count == 1 else f"{count} residuals"
    return [
        f"kinks: {what} on one ({kinks.exact}) or within rounding of one ({kinks.close}), at",
        f"  {places}{more}; the table holds with their targets moved just off it",
    ]
