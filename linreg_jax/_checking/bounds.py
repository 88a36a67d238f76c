"""The largest error that rounding makes in a right gradient: what `check_gradients` allows.

A float operation errs by at most u = eps/2 of its result. A sum of n terms therefore errs by at
most u Σ abs(S_i) over its n running sums S_i, in whatever order it is taken, and by far less where
the n roundings do not all push the same way. Two measured numbers bound the sum at hand::

    A      mean over i of Σ_l abs(S_il): the running sums of 32 interleaved lanes, each without
           its sign, so that it is at least any running sum of one accumulator, or of 2, 4, ... 32
    kappa  abs(Σ rounding) / Σ abs(rounding), of each term added to a sum as large as A has become:
           how one-sided roundings are, recovered exactly by Knuth's two-sum. About 1 / sqrt(n)
           where they are random, and 1 where equal terms are added again and again: there the
           worst case is what happens
    bound  2 kappa n u A

Source of the analysis: Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition,
chapters 3 and 4; two-sum: Knuth, "The Art of Computer Programming", volume 2, section 4.2.2.

Nothing here looks at a gradient under test, nor at psi: slopes are those of rho by automatic
differentiation.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from linreg_jax._checking.problem import (
    Problem,
    costs_and_slopes,
    host_bias_column,
    penalties_at,
    quietly,
    residual_state,
)
from linreg_jax._checking.quotients import FEW, quotient_rounding, quotient_truncation
from linreg_jax._checking.sums import BLOCK_NUMBERS, LANES, ExampleTerms, in_lanes, sum_bounds
from linreg_jax._kernels import per_example
from linreg_jax._typing import Float


class Bounds(NamedTuple):
    """The largest error that rounding makes in each number of `(value, gradient)`.

    Attributes:
      value: [] of the loss.
      gradient: [D] of the gradient, flat, by every way that evaluates psi or differentiates.
      difference: [D] what finite differences may err by besides.
    """

    value: Float[np.ndarray | np.floating, ""]
    gradient: Float[np.ndarray, " D"]
    difference: Float[np.ndarray, " D"]


@quietly
def residual_rounding(problem: Problem) -> Float[np.ndarray, " n *k"]:
    """The largest error that rounding makes in each residual; [n] or [n, k].

    The running sums of the products X[i, j] weights[j], in lanes as above, with sqrt(d) roundings
    that act at random: the lanes' sum is several standard deviations of a single running sum.
    Targets and bias are added in any order.
    """
    _, params, data = problem
    X, y, w = np.asarray(data.X), np.asarray(data.y), np.asarray(params.weights)
    n, d = X.shape
    added = np.abs(y)
    if params.bias is not None:
        added = added + np.abs(per_example(host_bias_column(data), y) * np.asarray(params.bias))
    rounding = np.empty_like(y)
    block = max(1, BLOCK_NUMBERS // d)
    for target in np.ndindex(y.shape[1:]):
        for first in range(0, n, block):
            rows = slice(first, first + block), *target
            terms = X[first : first + block] * w[:, *target]
            running = np.cumsum(in_lanes(terms.T, min(LANES, d)), axis=0)
            mean = np.abs(running).sum(axis=(0, 1)) / len(running)
            last = np.abs(running[-1].sum(axis=0))
            size = float(d) ** 0.5 * mean + 2 * added[rows] + 2 * last
            rounding[rows] = problem.unit_roundoff * size
    return rounding


@quietly
def rounding_bounds(problem: Problem, residual_error: Float[np.ndarray, " n *k"]) -> Bounds:
    """`Bounds` of the loss and its gradient.

    Per coordinate j, with s_i = a_i rho'(r_i)::

        the sum     2 kappa n u A of the terms s_i X[i, j]
        its terms   8 u Σ abs(s_i X[i, j])
        residuals   Σ a_i abs(X[i, j]) max abs(rho'(r_i ± error_i) - rho'(r_i))

    Args:
      problem: the loss and where.
      residual_error: [n] or [n, k], the largest error of each residual, as `residual_rounding`
        says.
    """
    loss, params, data = problem
    X = np.asarray(data.X)
    b = np.zeros(X.shape[0], X.dtype) if params.bias is None else host_bias_column(data)
    sums_weights = loss.reduction == "mean" and data.total_weight is None
    sums_weights = sums_weights and data.sample_weight is not None
    summed = np.asarray(data.sample_weight) if sums_weights else np.zeros_like(b)
    terms = _example_terms(problem, residual_error)
    by_target = []
    for target in np.ndindex(data.y.shape[1:]):
        of_target = ExampleTerms(*(each[:, *target] for each in terms))
        by_target.append(sum_bounds(X, b, summed, of_target, problem.unit_roundoff))
    value, gradient, difference = zip(*by_target, strict=True)
    has_bias = params.bias is not None
    sums = Bounds(np.sum(value), _flat(gradient, has_bias), _flat(difference, has_bias))
    return _with_penalties(problem, sums)


def _flat(
    by_target: tuple[Float[np.ndarray, " columns"], ...], has_bias: bool
) -> Float[np.ndarray, " D"]:
    """[d + 1] for each target, the bias last, in the order of the flat parameters."""
    columns = np.stack(by_target, axis=1)
    return np.ravel(columns if has_bias else columns[:-1]).astype(np.float64)


def _example_terms(problem: Problem, residual_error: Float[np.ndarray, " n *k"]) -> ExampleTerms:
    """What each example adds to its loss and slope, and to their errors; each shaped as y."""
    u = problem.unit_roundoff
    r, a, reach = residual_state(problem)
    evaluate = partial(costs_and_slopes, problem.rho)
    cost, slope = evaluate(np.stack([r, r + residual_error, r - residual_error]))
    raised = np.abs(cost[1:] - cost[0]).max(axis=0)
    moved = np.abs(slope[1:] - slope[0]).max(axis=0)
    if problem.loss.is_piecewise_quadratic:  # exact but for rounding, or declared wrongly
        difference = quotient_rounding(evaluate, r, reach, 1, u)
    else:
        difference = quotient_rounding(evaluate, r, reach, 4, u)
        difference = difference + quotient_truncation(evaluate, r, reach, 4, difference)
    return ExampleTerms(*(a * each for each in (slope[0], moved, difference, cost[0], raised)))


def _with_penalties(problem: Problem, bounds: Bounds) -> Bounds:
    """The bounds with those of the penalties, which act on the first entries, the weights."""
    if not problem.loss.penalties:
        return bounds
    u, w = problem.unit_roundoff, np.asarray(problem.params.weights)
    value, gradient, difference = bounds
    at_bias = np.zeros(len(gradient) - w.size)
    for penalty in problem.loss.penalties:
        evaluate, strength = partial(costs_and_slopes, penalty), float(penalty.strength)
        steepness = np.abs(evaluate(w[None])[1][0])
        h = np.where(w == 0, 1, np.abs(w) / 2).astype(w.dtype)
        rounding = quotient_rounding(evaluate, w, h, 1, u)
        rounding = rounding + quotient_truncation(evaluate, w, h, 1, rounding)
        gradient = gradient + np.append(FEW * u * strength * steepness, at_bias)
        difference = difference + np.append(strength * rounding, at_bias)
    added = np.abs(penalties_at(problem.loss, w[None])[0])
    return Bounds(value + u * (FEW + w.size) * added, gradient, difference)
