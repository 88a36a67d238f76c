"""`Solution`: what `solve` returns."""

import enum
from typing import NamedTuple

import jax
import numpy as np

from linreg_jax._typing import Array
from linreg_jax._validation import is_traced, shape_text
from linreg_jax.model import Params


class SolutionStatus(enum.IntEnum):
    """Whether a minimum was reached. Records hold it as an int32 array.

    Attributes:
      CONVERGED: 0, the value is the least one: the gap is at most 1e-12 of it in float64, 1e-5 in
        float32, or what rounding leaves where the least value is 0.
      NOT_CONVERGED: 1, the gap is larger; the best parameters found.
      NOT_FINITE: 2, the data, the weights or a setting of the loss are NaN or infinite, or out of
        range; no parameters were found.

    Example:
      >>> SolutionStatus(0)
      <SolutionStatus.CONVERGED: 0>
    """

    CONVERGED = 0
    NOT_CONVERGED = 1
    NOT_FINITE = 2


class Solution(NamedTuple):
    """What `solve` found; printed, whether it is the minimum, and how well it is known.

    Attributes:
      params: `Params` at the minimum. Where there are several minima, the shortest weights of a
        squared loss, and with a lasso one of them; of the other losses one in the middle, nearly,
        and the shortest as far as features that are made up of others leave a choice.
      value: [] the least loss. Where features lie far from 0, `loss(params, data)` may be larger,
        by what rounding takes from weights, bias and predictions.
      gap: [] how much larger than the least value it is at most; `solve` says what that rests on.
      unique: [] bool, whether no other parameters are as good.
      status: [] int32, a `SolutionStatus`.
      num_iterations: [] int32 weighted least-squares problems solved on the way, 0 for a squared
        loss; with a lasso, columns that came in or left. Of several targets, those of the one that
        took most.
      rank: [] of the features, centred on their means where there is an intercept. Less than d: a
        feature is constant or made up of others, or there are too few examples.
      condition_number: [] the largest singular value over the smallest that is not 0.
      singular_values: [min(n, d)] or [d], of the features centred and then scaled to length 1; for
        a squared loss with what ridge adds to them.
    """

    params: Params
    value: Array
    gap: Array
    unique: Array
    status: Array
    num_iterations: Array
    rank: Array
    condition_number: Array
    singular_values: Array

    def __repr__(self) -> str:
        if is_traced(self.status) or np.ndim(self.status) > 0:
            shapes = jax.tree.map(lambda leaf: shape_text(leaf.shape), self.params)
            return f"Solution(status {shape_text(self.status.shape)}, params {shapes})"
        status = SolutionStatus(int(self.status))
        name = status.name.replace("_", " ")
        parts = [name.lower() if status == SolutionStatus.CONVERGED else name]
        if status != SolutionStatus.NOT_FINITE:
            parts.append(f"loss {float(self.value):.6g}, gap {float(self.gap):.1g}")
            parts.append("unique" if self.unique else "not unique")
        parts.append(f"rank {int(self.rank)}")
        return f"Solution({', '.join(parts)})"
