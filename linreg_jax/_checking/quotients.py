"""The errors of difference quotients of rho: rounding, and truncation where rho is no parabola."""

from collections.abc import Callable

import numpy as np

from linreg_jax._checking.problem import POINTS
from linreg_jax._differences import eighth_order, second_order
from linreg_jax._typing import Float

Evaluate = Callable[
    [Float[np.ndarray, "m ..."]], tuple[Float[np.ndarray, "m ..."], Float[np.ndarray, "m ..."]]
]
"""points [m, ...] -> rho and its derivative there, each shaped as the points."""

# Elementary functions and short products are right to a few units of rounding: 8 of them.
FEW = 8.0


def quotient_rounding(
    evaluate: Evaluate, r: Float[np.ndarray, "*s"], h: Float[np.ndarray, "*s"], arms: int, u: float
) -> Float[np.ndarray, "*s"]:
    """The largest error that rounding makes in the difference quotient of step h at r.

    Each rho errs by some units of its own size, by what the rounding of its argument makes of its
    slope there, and by what second differences over a few roundings show, for a rho that cancels
    inside.

    Args:
      evaluate: rho and its derivative.
      r, h: points and steps.
      arms: how many steps the quotient reaches to each side.
      u: the unit roundoff.
    """
    ulps = np.asarray([0, 8, -8, 20, -20, 44, -44], r.dtype).reshape(POINTS, *[1] * r.ndim)
    error = np.zeros_like(r)
    for arm in range(-arms, arms + 1):
        size = np.abs(r) + abs(arm) * h
        around, slope = evaluate(r + arm * h + ulps * (u * size))
        cancelled = np.abs(around[1::2] - 2 * around[0] + around[2::2]).max(axis=0)
        here = u * (np.abs(around[0]) + size * np.abs(slope[0]))
        error = np.maximum(error, here + cancelled)
    return FEW * error / h


def quotient_truncation(
    evaluate: Evaluate,
    r: Float[np.ndarray, "*s"],
    h: Float[np.ndarray, "*s"],
    arms: int,
    rounding: Float[np.ndarray, "*s"],
) -> Float[np.ndarray, "*s"]:
    """Its error besides: what steps 4, 16, ... times smaller change beyond rounding."""
    quotient = second_order if arms == 1 else eighth_order
    smaller = 4.0 ** np.arange(12).astype(r.dtype).reshape(12, *[1] * r.ndim)
    found = quotient(lambda points: evaluate(points)[0], r, 1, h / smaller)
    changes = np.abs(found[0] - found[1:]) - rounding * smaller[1:]
    return np.maximum(2 * changes, 0).max(axis=0)
