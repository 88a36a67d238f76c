"""The largest error that rounding makes in sums over the examples; `bounds` has the analysis."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from linreg_jax._checking.quotients import FEW
from linreg_jax._typing import Float

# Accumulators side by side: what vector units of CPUs and warps of GPUs use, or a divisor of it.
LANES = 32

BLOCK_NUMBERS = 2**17  # in a block of rows, which a cache holds

# One-sidedness is measured in this many stretches, so that a change of direction hides nothing.
_STRETCHES = 8


class ExampleTerms(NamedTuple):
    """What each example of one target adds, [n] each; of k targets, [n, k].

    Attributes:
      slope: a rho'(r), which the gradient sums times X.
      slope_error: what the error of the residual makes of it.
      difference_error: the error of its difference quotient.
      cost: a rho(r), which the loss sums.
      cost_error: what the error of the residual makes of it.
    """

    slope: Float[np.ndarray, " n *k"]
    slope_error: Float[np.ndarray, " n *k"]
    difference_error: Float[np.ndarray, " n *k"]
    cost: Float[np.ndarray, " n *k"]
    cost_error: Float[np.ndarray, " n *k"]


class _Sums(NamedTuple):
    """Sums over the examples of the columns [slope X, slope b, cost, weight], c = d + 3 of them.

    Attributes:
      lanes: [lanes, c] the sum of each accumulator.
      one_sided: [c] abs(Σ rounding), over stretches.
      rounded: [c] Σ abs(rounding).
      path: [c] A, the mean size of the running sums.
      size: [c] Σ abs(term).
      slope_error, difference_error: [d + 1] the same errors times abs(X).
    """

    lanes: Float[np.ndarray, "lanes c"]
    one_sided: Float[np.ndarray, " c"]
    rounded: Float[np.ndarray, " c"]
    path: Float[np.ndarray, " c"]
    size: Float[np.ndarray, " c"]
    slope_error: Float[np.ndarray, " columns"]
    difference_error: Float[np.ndarray, " columns"]


def sum_bounds(
    X: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    terms: ExampleTerms,
    unit_roundoff: float,
) -> tuple[np.floating, Float[np.ndarray, " d+1"], Float[np.ndarray, " d+1"]]:
    """Bounds of the value [], gradient [d + 1] and difference [d + 1] of one target; bias last.

    Args:
      X, b: features, and what multiplies the bias; zeros where there is none.
      weights: what a mean divides by the sum of; zeros where it sums nothing.
      terms: of one target.
      unit_roundoff: u.
    """
    n, d = X.shape
    u, sums = unit_roundoff, _sums(X, b, weights, terms)
    # The root mean square of n random roundings is 0.56 sqrt(n) u A: seven of them at least.
    random = 2 / float(n) ** 0.5
    kappa = np.hypot(sums.one_sided / np.where(sums.rounded > 0, sums.rounded, 1), random)
    accumulated = 2 * np.minimum(kappa, 1) * n * u * sums.path
    # Terms below the smallest normal number may be flushed to 0.
    flushed = n * float(jnp.finfo(sums.lanes.dtype).tiny)
    bound = accumulated + FEW * u * sums.size + flushed
    # The sum of the weights, which a mean divides by, is rounded like the others.
    of_weights = accumulated[-1] / sums.size[-1] if sums.size[-1] > 0 else 0.0
    bound = bound + of_weights * np.abs(sums.lanes.sum(axis=0))
    value = bound[d + 1] + terms.cost_error.sum()
    return value, bound[: d + 1] + sums.slope_error, sums.difference_error


def _sums(
    X: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    terms: ExampleTerms,
) -> _Sums:
    """The `_Sums` of one target, block of rows by block of rows."""
    n, d = X.shape
    lanes = min(LANES, n)
    groups = -(-n // lanes)
    stretch = -(-groups // _STRETCHES) * lanes
    block = max(BLOCK_NUMBERS // (d + 3) // lanes, 1) * lanes
    running = np.zeros((lanes, d + 3), np.result_type(X, terms.slope))
    one_sided = rounded = path = size = running[0]
    slope_error = difference_error = running[0, : d + 1]
    for first in range(0, n, stretch):
        signed = np.zeros_like(running[0])
        for start in range(first, min(first + stretch, n), block):
            rows = slice(start, min(start + block, first + stretch))
            x = np.concatenate([X[rows], b[rows, None]], axis=1)
            columns = [terms.slope[rows, None] * x, terms.cost[rows, None], weights[rows, None]]
            added = in_lanes(np.concatenate(columns, axis=1), lanes)
            sums, rounding = _running_sums(running, added)
            running = sums[-1]
            signed = signed + rounding.sum(axis=(0, 1))
            rounded = rounded + np.abs(rounding).sum(axis=(0, 1))
            path = path + np.abs(sums).sum(axis=(0, 1)) / groups
            size = size + np.abs(added).sum(axis=(0, 1))
            slope_error = slope_error + terms.slope_error[rows] @ np.abs(x)
            difference_error = difference_error + terms.difference_error[rows] @ np.abs(x)
        one_sided = one_sided + np.abs(signed)
    return _Sums(running, one_sided, rounded, path, size, slope_error, difference_error)


def _running_sums(
    start: Float[np.ndarray, "lanes c"], added: Float[np.ndarray, "groups lanes c"]
) -> tuple[Float[np.ndarray, "groups lanes c"], Float[np.ndarray, "groups lanes c"]]:
    """The sum of each lane after each group, and the rounding of adding to a sum of that size."""
    sums = np.cumsum(np.concatenate([start[None], added]), axis=0)
    before = np.abs(sums[:-1]).sum(axis=1, keepdims=True)
    after = before + added
    kept = after - before  # two-sum: after + rounding == before + added, exactly
    rounding = (before - (after - kept)) + (added - kept)
    return sums[1:], rounding


def in_lanes(
    terms: Float[np.ndarray, "m ..."], lanes: int
) -> Float[np.ndarray, "groups lanes ..."]:
    """[m, ...] terms dealt out to accumulators, [groups, lanes, ...]; 0 where none are left."""
    groups = -(-len(terms) // lanes)
    dealt = np.zeros((groups * lanes, *terms.shape[1:]), terms.dtype)
    dealt[: len(terms)] = terms
    return dealt.reshape(groups, lanes, *terms.shape[1:])
