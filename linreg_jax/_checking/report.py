"""What `check_gradients` hands back, and how it reads."""

import dataclasses
import math
from typing import NamedTuple

import jax
import numpy as np

from linreg_jax.model import Params

_SHORT = {"finite_difference": "differences"}


class GradientError(AssertionError):
    """A gradient is wrong; the message is the whole report."""


class Comparison(NamedTuple):
    """One way beside another, at the coordinate where they are furthest apart for their bound.

    Attributes:
      way, other: names of the ways; "yours" is the `gradient` that was passed.
      coordinate: `weights[3]`, `weights[3, 1]` or `bias`.
      values: what each way gives there.
      error: how far they are apart.
      bound: how far rounding can put two right gradients apart there.
    """

    way: str
    other: str
    coordinate: str
    values: tuple[float, float]
    error: float
    bound: float

    @property
    def ratio(self) -> float:
        """error / bound, at most 1 where both may be right; infinity where one is not finite."""
        if self.error == 0:
            return 0.0
        ratio = self.error / self.bound if self.bound > 0 else math.inf
        return ratio if math.isfinite(self.error + self.bound) else math.inf

    @property
    def ok(self) -> bool:
        """Whether both may be right."""
        return self.ratio <= 1


class Check(NamedTuple):
    """One more thing a right gradient does.

    Attributes:
      name: what is checked.
      ok: whether it holds; None where it does not apply.
      detail: the figures, or why it does not apply.
    """

    name: str
    ok: bool | None
    detail: str


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

    def __str__(self):
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

    def _verdict(self):
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


def _row(*cells):
    mark, way, other, place, value, others, error, bound = cells
    place = place if len(place) < 14 else place.replace("weights", "w")
    return f"{mark:2}{way:11} {other:11} {place:14}{value:>11} {others:>11} {error:>7} {bound:>7}"


def _kinks_text(kinks):
    places = ", ".join(str(list(place))[1:-1] for place in kinks.first)
    count = kinks.exact + kinks.close
    more = ", ..." if count > len(kinks.first) else ""
    what = "1 residual" if count == 1 else f"{count} residuals"
    return [
        f"kinks: {what} on one ({kinks.exact}) or within rounding of one ({kinks.close}), at",
        f"  {places}{more}; the table holds with their targets moved just off it",
    ]


def flat(tree):
    """[D] all numbers of a pytree, in float64 on the host."""
    return np.concatenate([np.ravel(np.asarray(v, np.float64)) for v in jax.tree.leaves(tree)])


def explain(yours: Params, right: Params, allowed: np.ndarray, n: int) -> str:
    """What a wrong gradient looks like: a constant times the right one, or wrong in the bias alone.

    Args:
      yours, right: `Params`.
      allowed: [D] how far rounding can put two right gradients apart.
      n: examples.

    Returns:
      A sentence; empty where it looks like neither.
    """
    found, expected = flat(yours), flat(right)
    factors = {
        "2": 2.0,
        "1/2": 0.5,
        "-1": -1.0,
        f"n = {n}": float(n),
        f"1/n = 1/{n}": 1 / n,
        f"2/n = 2/{n}": 2 / n,
        f"n/2 = {n}/2": n / 2,
    }
    if not (np.abs(expected) > allowed).any():
        return ""  # nothing to be a multiple of
    for name, factor in factors.items():
        bound = (abs(factor) + 1) * allowed
        if factor != 1 and (np.abs(found - factor * expected) <= bound).all():
            return f"yours is everywhere {name} times the right one"
    if right.bias is not None:
        at_bias = right.bias.size  # the last entries
        wrong = np.abs(found - expected) > allowed
        if wrong[-at_bias:].any() and not wrong[:-at_bias].any():
            return "only the bias is wrong: its gradient is the weighted sum (or mean) of psi(r)"
    return ""


def coordinate_name(params, index):
    """`weights[3]`, `weights[3, 1]` or `bias`: the name of an entry of `flat(params)`."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if index < leaf.size:
            name = jax.tree_util.keystr(path).lstrip(".")
            place = np.unravel_index(index, leaf.shape)
            return name if leaf.ndim == 0 else f"{name}{[int(i) for i in place]}"
        index -= leaf.size
    raise IndexError(index)


def compare(way, other, values, bound, name):
    """The `Comparison` of two flat gradients, at the coordinate with the largest ratio."""
    ours, theirs = values
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.abs(ours - theirs)
        ratio = np.where(error == 0, 0, error / bound)
    worst = int(np.where(np.isfinite(error + bound), ratio, np.inf).argmax())
    pair = float(ours[worst]), float(theirs[worst])
    return Comparison(way, other, name(worst), pair, float(error[worst]), float(bound[worst]))
