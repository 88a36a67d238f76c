"""Two gradients side by side, and the outcome of a check."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, SupportsFloat

import jax
import numpy as np

from linreg_jax._typing import Float
from linreg_jax.model import Params

Result = tuple[SupportsFloat, Params]
"""What a way gives: a value [] and a gradient."""

Results = Mapping[str, Result]
"""The results of some ways, by their names."""


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


def flat(tree: object) -> Float[np.ndarray, " D"]:
    """[D] all numbers of a pytree, in float64 on the host."""
    return np.concatenate([np.ravel(np.asarray(v, np.float64)) for v in jax.tree.leaves(tree)])


def coordinate_name(params: Params, index: int) -> str:
    """`weights[3]`, `weights[3, 1]` or `bias`: the name of an entry of `flat(params)`."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if index < leaf.size:
            name = jax.tree_util.keystr(path).lstrip(".")
            place = np.unravel_index(index, leaf.shape)
            return name if leaf.ndim == 0 else f"{name}{[int(i) for i in place]}"
        index -= leaf.size
    raise IndexError(index)


def compare(
    way: str,
    other: str,
    values: tuple[Float[np.ndarray, " D"], Float[np.ndarray, " D"]],
    bound: Float[np.ndarray, " D"],
    name: Callable[[int], str],
) -> Comparison:
    """The `Comparison` of two flat gradients, at the coordinate with the largest ratio.

    Args:
      way, other: their names.
      values: the two gradients.
      bound: how far apart two right ones can be.
      name: index -> the coordinate's name.
    """
    ours, theirs = values
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.abs(ours - theirs)
        ratio = np.where(error == 0, 0, error / bound)
    worst = int(np.where(np.isfinite(error + bound), ratio, np.inf).argmax())
    pair = float(ours[worst]), float(theirs[worst])
    return Comparison(way, other, name(worst), pair, float(error[worst]), float(bound[worst]))
