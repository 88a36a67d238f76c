"""How far rounding can put a right gradient off: what `check_gradients` holds errors to.

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
differentiation. All but rho is NumPy in the dtype of the data: compiled, most of it would take
longer to compile than to run, and compilers may take a two-sum apart.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._algebra.differences import eighth_order, reach_of, second_order
from linreg_jax._kernels import per_example
from linreg_jax._loss import example_weights
from linreg_jax._pytrees import as_function
from linreg_jax.model import Params, residuals

# Accumulators side by side: what vector units of CPUs and warps of GPUs use, or a divisor of it.
_LANES = 32

# One-sidedness is measured in this many stretches, so that a change of direction hides nothing.
_STRETCHES = 8

# Elementary functions and short products are right to a few units of rounding: 8 of them.
_FEW = 8.0

_BLOCK_NUMBERS = 2**17  # in a block of rows, which a cache holds
_POINTS = 7  # at which rho is evaluated together

# What is not finite is reported by `finite_check`.
_quietly = np.errstate(over="ignore", invalid="ignore", divide="ignore")


class Bounds(NamedTuple):
    """How far rounding may put each number of `(value, gradient)` off.

    Attributes:
      value: [] for the loss.
      gradient: `Params`, for every way that evaluates psi or differentiates.
      difference: `Params`, what finite differences may be off by besides.
    """

    value: np.ndarray
    gradient: Params
    difference: Params


class ResidualState(NamedTuple):
    """A loss at some parameters, on the host.

    Attributes:
      r: [n] or [n, k] residuals.
      a: [n] or [n, 1] what multiplies the rho of each in the loss.
      reach: how far finite differences move each residual; shaped as r.
    """

    r: np.ndarray
    a: np.ndarray
    reach: np.ndarray


def unit_roundoff(params, data):
    """u: half the spacing of the numbers next to 1, in the coarsest dtype of the arguments."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves((params, data))]
    return max(float(jnp.finfo(dtype).eps) for dtype in dtypes) / 2


def residual_state(argument, params, data):
    """The `ResidualState` of a loss, as `as_pytree` gives it."""
    return ResidualState(*map(np.asarray, _residual_state(argument, params, data)))


@jax.jit
def _residual_state(argument, params, data):
    loss, r = as_function(argument), residuals(params, data)
    a = jnp.broadcast_to(example_weights(loss, data), r.shape[:1])
    return r, per_example(a, r), reach_of(loss, r)[0]


def costs_and_slopes(argument, points):
    """rho and its derivative, elementwise, at points [m, ...]: one program whatever m is."""
    m = len(points)
    padding = np.zeros((-m % _POINTS, *points.shape[1:]), points.dtype)
    parts = np.split(np.concatenate([points, padding]), -(-m // _POINTS))
    found = [_cost_and_slope(argument, part) for part in parts]
    cost, slope = (
        np.concatenate([np.asarray(v) for v in each]) for each in zip(*found, strict=True)
    )
    return cost[:m], slope[:m]


@jax.jit
def _cost_and_slope(argument, r):
    return jax.jvp(as_function(argument).rho, (r,), (jnp.ones_like(r),))


@_quietly
def penalties_at(loss, weights):
    """[m] what the penalties add to the loss, at weights [m, d] or [m, d, k]."""
    added = np.zeros(len(weights), weights.dtype)
    for p in loss.penalties:
        cost = costs_and_slopes(p, weights)[0]
        added = added + float(p.strength) * cost.reshape(len(weights), -1).sum(axis=1)
    return added


@_quietly
def products(params, data):
    """X weights + bias, [n] or [n, k], on the host."""
    found = np.asarray(data.X) @ np.asarray(params.weights)
    if params.bias is None:
        return found
    b = _bias_column(data)
    return found + per_example(b, found) * np.asarray(params.bias)


def transposed_products(data, s):
    """Xᵀ s and what `bias_multipliers` gives times s, for s [n] or [n, k], on the host."""
    return np.asarray(data.X).T @ s, _bias_column(data) @ s


def _bias_column(data):
    if data.bias_column is None:
        return np.ones(data.X.shape[0], data.X.dtype)
    return np.asarray(data.bias_column)


@_quietly
def residual_rounding(params, data):
    """How far rounding can put each residual off; [n] or [n, k].

    The running sums of the products X[i, j] weights[j], in lanes as above, with sqrt(d) roundings
    that act at random: the lanes' sum is several standard deviations of a single running sum.
    Targets and bias are added in any order.
    """
    u = unit_roundoff(params, data)
    X, y, w = np.asarray(data.X), np.asarray(data.y), np.asarray(params.weights)
    n, d = X.shape
    added = np.abs(y)
    if params.bias is not None:
        added = added + np.abs(per_example(_bias_column(data), y) * np.asarray(params.bias))
    rounding = np.empty_like(y)
    block = max(1, _BLOCK_NUMBERS // d)
    for target in np.ndindex(y.shape[1:]):
        for first in range(0, n, block):
            rows = slice(first, first + block), *target
            terms = X[first : first + block] * w[:, *target]
            running = np.cumsum(_in_lanes(terms.T, min(_LANES, d)), axis=0)
            mean = np.abs(running).sum(axis=(0, 1)) / len(running)
            last = np.abs(running[-1].sum(axis=0))
            rounding[rows] = u * (float(d) ** 0.5 * mean + 2 * added[rows] + 2 * last)
    return rounding


def _in_lanes(terms, lanes):
    """[m, ...] terms dealt out to accumulators, [groups, lanes, ...]; 0 where none are left."""
    groups = -(-len(terms) // lanes)
    dealt = np.zeros((groups * lanes, *terms.shape[1:]), terms.dtype)
    dealt[: len(terms)] = terms
    return dealt.reshape(groups, lanes, *terms.shape[1:])


@_quietly
def rounding_bounds(argument, params, data, off):
    """`Bounds` of the loss and its gradient.

    Per coordinate j, with s_i = a_i rho'(r_i)::

        the sum     2 kappa n u A of the terms s_i X[i, j]
        its terms   8 u Σ abs(s_i X[i, j])
        residuals   Σ a_i abs(X[i, j]) max abs(rho'(r_i ± off_i) - rho'(r_i))

    Args:
      argument: the loss, as `as_pytree` gives it.
      params, data: where.
      off: [n] or [n, k], how far each residual may be off, as `residual_rounding` says.
    """
    loss, u = as_function(argument), unit_roundoff(params, data)
    X = np.asarray(data.X)
    b = np.zeros(X.shape[0], X.dtype) if params.bias is None else _bias_column(data)
    averaged = (
        data.sample_weight is not None and data.total_weight is None and loss.reduction == "mean"
    )
    counted = np.asarray(data.sample_weight) if averaged else np.zeros_like(b)
    terms = _terms(argument, params, data, off, u)
    targets = [[each[:, *target] for each in terms] for target in np.ndindex(data.y.shape[1:])]
    value, gradient, difference = zip(
        *(_sum_bounds(X, b, counted, each, u) for each in targets), strict=True
    )
    bounds = Bounds(np.sum(value), _as_params(gradient, params), _as_params(difference, params))
    return _with_penalties(loss, params, bounds, u)


def _as_params(by_target: Any, params):
    """[d + 1] for each target, the bias last, shaped as params."""
    columns: Any = np.stack(by_target, axis=1)
    bias = None if params.bias is None else columns[-1].reshape(params.bias.shape)
    return Params(columns[:-1].reshape(params.weights.shape), bias)


def _terms(argument, params, data, off, u):
    """What each example adds to its loss and slope, and to their errors; each shaped as y."""
    r, a, reach = residual_state(argument, params, data)
    evaluate = partial(costs_and_slopes, argument)
    cost, slope = evaluate(np.stack([r, r + off, r - off]))
    raised = np.abs(cost[1:] - cost[0]).max(axis=0)
    moved = np.abs(slope[1:] - slope[0]).max(axis=0)
    if as_function(argument).is_piecewise_quadratic:  # exact but for rounding, or declared wrongly
        difference = _quotient_rounding(evaluate, r, reach, 1, u)
    else:
        difference = _quotient_rounding(evaluate, r, reach, 4, u)
        difference = difference + _quotient_truncation(evaluate, r, reach, 4, difference)
    return [a * each for each in (slope[0], moved, difference, cost[0], raised)]


def _with_penalties(loss, params, bounds, u):
    if not loss.penalties:
        return bounds
    w = np.asarray(params.weights)
    value, gradient, difference = bounds
    for p in loss.penalties:
        evaluate, strength = partial(costs_and_slopes, p), float(p.strength)
        steepness = np.abs(evaluate(w[None])[1][0])
        h = np.where(w == 0, 1, np.abs(w) / 2).astype(w.dtype)
        rounding = _quotient_rounding(evaluate, w, h, 1, u)
        rounding = rounding + _quotient_truncation(evaluate, w, h, 1, rounding)
        weights = gradient.weights + _FEW * u * strength * steepness
        gradient = gradient._replace(weights=weights)
        difference = difference._replace(weights=difference.weights + strength * rounding)
    added = np.abs(penalties_at(loss, w[None])[0])
    return Bounds(value + u * (_FEW + w.size) * added, gradient, difference)


def _quotient_rounding(evaluate, r, h, arms, u):
    """How far rounding may put the difference quotient of step h at r off, shaped as r.

    Each rho errs by some units of its own size, by what the rounding of its argument makes of its
    slope there, and by what second differences over a few roundings show, for a rho that cancels
    inside.
    """
    ulps = np.asarray([0, 8, -8, 20, -20, 44, -44], r.dtype).reshape(_POINTS, *[1] * r.ndim)
    error = np.zeros_like(r)
    for arm in range(-arms, arms + 1):
        size = np.abs(r) + abs(arm) * h
        around, slope = evaluate(r + arm * h + ulps * (u * size))
        cancelled = np.abs(around[1::2] - 2 * around[0] + around[2::2]).max(axis=0)
        here = u * (np.abs(around[0]) + size * np.abs(slope[0]))
        error = np.maximum(error, here + cancelled)
    return _FEW * error / h


def _quotient_truncation(evaluate, r, h, arms, rounding):
    """How far off it is besides: what steps 4, 16, ... times smaller change beyond rounding."""
    quotient = second_order if arms == 1 else eighth_order
    smaller = 4.0 ** np.arange(12).astype(r.dtype).reshape(12, *[1] * r.ndim)
    found = quotient(lambda points: evaluate(points)[0], r, 1, h / smaller)
    changes = np.abs(found[0] - found[1:]) - rounding * smaller[1:]
    return np.maximum(2 * changes, 0).max(axis=0)


def _sum_bounds(X, b, counted, target, u):
    """Bounds of the value [], gradient [d + 1] and difference [d + 1] of one target; bias last."""
    s, moved, difference, cost, raised = target
    n, d = X.shape
    lanes = min(_LANES, n)
    groups = -(-n // lanes)
    stretch = -(-groups // _STRETCHES) * lanes
    block = max(_BLOCK_NUMBERS // (d + 3) // lanes, 1) * lanes
    running = np.zeros((1, lanes, d + 3), np.result_type(X, s))
    one_sided = rounded = path = size = running[0, 0]
    spread = differences = running[0, 0, : d + 1]
    for first in range(0, n, stretch):
        signed = 0
        for start in range(first, min(first + stretch, n), block):
            rows = slice(start, min(start + block, first + stretch))
            x = np.concatenate([X[rows], b[rows, None]], axis=1)
            columns = [s[rows, None] * x, cost[rows, None], counted[rows, None]]
            terms = _in_lanes(np.concatenate(columns, axis=1), lanes)
            sums = np.cumsum(np.concatenate([running, terms]), axis=0)
            before = np.abs(sums[:-1]).sum(axis=1, keepdims=True)
            after = before + terms
            kept = after - before  # two-sum: after + rounding == before + terms, exactly
            rounding = (before - (after - kept)) + (terms - kept)
            running = sums[-1:]
            signed = signed + rounding.sum(axis=(0, 1))
            rounded = rounded + np.abs(rounding).sum(axis=(0, 1))
            path = path + np.abs(sums[1:]).sum(axis=(0, 1)) / groups
            size = size + np.abs(terms).sum(axis=(0, 1))
            spread = spread + moved[rows] @ np.abs(x)
            differences = differences + difference[rows] @ np.abs(x)
        one_sided = one_sided + np.abs(signed)
    # The root mean square of n random roundings is 0.56 sqrt(n) u A: seven of them at least.
    kappa = np.hypot(one_sided / np.where(rounded > 0, rounded, 1), 2 / float(n) ** 0.5)
    accumulated = 2 * np.minimum(kappa, 1) * n * u * path
    # Terms below the smallest normal number may be flushed to 0.
    flushed = n * float(jnp.finfo(running.dtype).tiny)
    bound = accumulated + _FEW * u * size + flushed
    # The sum of the weights, which a mean divides by, is rounded like the others.
    weighed = accumulated[-1] / size[-1] if size[-1] > 0 else 0.0
    bound = bound + weighed * np.abs(running.sum(axis=(0, 1)))
    return bound[d + 1] + raised.sum(), bound[: d + 1] + spread, differences
