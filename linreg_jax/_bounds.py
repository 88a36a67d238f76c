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
differentiation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from linreg_jax._numerics import per_example
from linreg_jax.dataset import multiplies_bias
from linreg_jax.gradients import _eighth_order, _reach, _second_order
from linreg_jax.losses import example_weights
from linreg_jax.model import Params, residuals

# Accumulators side by side: what vector units of CPUs and warps of GPUs use, or a divisor of it.
_LANES = 32

# One-sidedness is measured in this many stretches, so that a change of direction hides nothing.
_STRETCHES = 8

# Elementary functions and short products are right to a few units of rounding: 8 of them.
_FEW = 8.0


class Bounds(NamedTuple):
    """How far rounding may put each number of `(value, gradient)` off.

    Attributes:
      value: [] for the loss.
      gradient: `Params`, for every way that evaluates psi or differentiates.
      difference: `Params`, what finite differences may be off by besides.
    """

    value: Array
    gradient: Params
    difference: Params


def as_argument(loss):
    """A loss as jitted functions take it: a subclass that is no pytree goes in as a constant."""
    return jax.tree_util.Partial(loss) if jax.tree.leaves(loss) == [loss] else loss


def as_loss(argument):
    """The loss back from `as_argument`."""
    return argument.func if isinstance(argument, jax.tree_util.Partial) else argument


def unit_roundoff(params, data):
    """u: half the spacing of the numbers next to 1, in the coarsest dtype of the arguments."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves((params, data))]
    return max(float(jnp.finfo(dtype).eps) for dtype in dtypes) / 2


@jax.jit
def residual_rounding(params, data):
    """How far rounding can put each residual off; [n] or [n, k].

    The running sums of the products X[i, j] weights[j], in lanes as above, with sqrt(d) roundings
    that act at random: the lanes' sum is several standard deviations of a single running sum.
    Targets and bias are added in any order.
    """
    u = unit_roundoff(params, data)
    n, d = data.X.shape
    lanes, rows = min(_LANES, d), min(n, 8192)
    groups = -(-d // lanes)
    b = multiplies_bias(data)

    def one_target(target):
        w, bias, y = target

        def block(i, rounding):
            first = jnp.minimum(i * rows, n - rows)
            x = lax.dynamic_slice_in_dim(data.X, first, rows)

            def add_group(g, sums):
                running, total = sums
                start = jnp.minimum(g * lanes, d - lanes)
                fresh = start + jnp.arange(lanes) >= g * lanes
                weights = jnp.where(fresh, lax.dynamic_slice_in_dim(w, start, lanes), 0)
                running = running + lax.dynamic_slice_in_dim(x, start, lanes, 1) * weights[None, :]
                return running, total + jnp.sum(jnp.abs(running), axis=1)

            dtype = jnp.result_type(x, w)
            start = jnp.zeros((rows, lanes), dtype), jnp.zeros(rows, dtype)
            running, total = lax.fori_loop(0, groups, add_group, start)
            added = lax.dynamic_slice_in_dim(b, first, rows) * bias
            added = jnp.abs(added) + jnp.abs(lax.dynamic_slice_in_dim(y, first, rows))
            products = jnp.sqrt(float(d)) * (total / groups)
            off = u * (products + 2 * added + 2 * jnp.abs(jnp.sum(running, axis=1)))
            return lax.dynamic_update_slice_in_dim(rounding, off.astype(y.dtype), first, 0)

        return lax.fori_loop(0, -(-n // rows), block, jnp.zeros_like(y))

    targets = (params.weights, params.bias, data.y)
    if params.bias is None:
        targets = (params.weights, jnp.zeros(params.weights.shape[1:], data.X.dtype), data.y)
    if data.y.ndim == 1:
        return one_target(targets)
    return lax.map(one_target, jax.tree.map(lambda leaf: leaf.T, targets)).T


def rounding_bounds(argument, params, data, off):
    """`Bounds` of the loss and its gradient.

    Per coordinate j, with s_i = a_i rho'(r_i)::

        the sum     2 kappa n u A of the terms s_i X[i, j]
        its terms   8 u Σ abs(s_i X[i, j])
        residuals   Σ a_i abs(X[i, j]) max abs(rho'(r_i ± off_i) - rho'(r_i))

    Args:
      argument: the loss, as `as_argument` gives it.
      params, data: where.
      off: [n] or [n, k], how far each residual may be off, as `residual_rounding` says.
    """
    loss, u = as_loss(argument), unit_roundoff(params, data)
    n = data.X.shape[0]
    b = jnp.zeros(n, data.X.dtype) if params.bias is None else multiplies_bias(data)
    averaged = data.sample_weight is not None and data.count is None and loss.reduction == "mean"
    counted = data.sample_weight if averaged else jnp.zeros_like(b)
    # Apart from the first, these compile once for every loss.
    terms = _terms(argument, params, data, off)
    value, gradient, difference = _sum_bounds(data.X, b, counted, terms, u)
    bias = None if params.bias is None else gradient[-1]
    bias_difference = None if params.bias is None else difference[-1]
    bounds = Bounds(value, Params(gradient[:-1], bias), Params(difference[:-1], bias_difference))
    return _with_penalties(argument, params, bounds, u) if loss.penalties else bounds


@jax.jit
def _terms(argument, params, data, off):
    """What each example adds to its loss and slope, and to their errors; each shaped as y."""
    loss, u = as_loss(argument), unit_roundoff(params, data)
    r = residuals(params, data)
    a = jnp.broadcast_to(example_weights(loss, data), data.y.shape[:1])
    cost, slope = _with_slope(loss.rho)(jnp.stack([r, r + off, r - off]))
    raised = jnp.max(jnp.abs(cost[1:] - cost[:1]), axis=0)
    moved = jnp.max(jnp.abs(slope[1:] - slope[:1]), axis=0)
    each = slope[0], moved, _difference_rounding(loss, r, u), cost[0], raised
    return tuple(per_example(a, r) * value for value in each)


@jax.jit
def _with_penalties(argument, params, bounds, u):
    loss, w = as_loss(argument), params.weights
    value, gradient, difference = bounds
    for p in loss.penalties:
        steepness = jnp.abs(_with_slope(p.rho)(w)[1])
        h = jnp.where(w == 0, 1, jnp.abs(w) / 2)
        rounding = sum(_quotient_rounding(p.rho, w, h, 1, u))
        weights = gradient.weights + _FEW * u * p.strength * steepness
        gradient = gradient._replace(weights=weights)
        difference = difference._replace(weights=difference.weights + p.strength * rounding)
    return Bounds(value + u * (_FEW + w.size) * jnp.abs(loss.penalty(params)), gradient, difference)


def _with_slope(rho):
    return lambda r: jax.jvp(rho, (r,), (jnp.ones_like(r),))


def _difference_rounding(loss, r, u):
    """How far the central difference that stands for psi(r) may be off; shaped as r."""
    reach, _ = _reach(loss, r)
    if loss.pieces == "quadratic":  # exact but for rounding, or declared wrongly
        return _quotient_rounding(loss.rho, r, reach, 1, u)[0]
    return sum(_quotient_rounding(loss.rho, r, reach, 4, u))


def _quotient_rounding(rho, r, h, arms, u):
    """Rounding and truncation of the difference quotient of step h at r, each shaped as r.

    Rounding: each rho errs by some units of its own size, by what the rounding of its argument
    makes of its slope there, and by what second differences over a few roundings show, for a rho
    that cancels inside. Truncation: what steps 4, 16, ... times smaller change, over and above
    their own rounding.
    """
    quotient = _second_order if arms == 1 else _eighth_order
    ulps = jnp.asarray([0, 8, -8, 20, -20, 44, -44], r.dtype).reshape(7, *[1] * r.ndim)

    def widen(i, error):
        arm = i - arms
        size = jnp.abs(r) + jnp.abs(arm) * h
        around, slope = _with_slope(rho)((r + arm * h)[None] + ulps * (u * size)[None])
        cancelled = jnp.max(jnp.abs(around[1::2] - 2 * around[:1] + around[2::2]), axis=0)
        here = u * (jnp.abs(around[0]) + size * jnp.abs(slope[0]))
        return jnp.maximum(error, here + cancelled)

    error = _FEW * lax.fori_loop(0, 2 * arms + 1, widen, jnp.zeros_like(r))
    whole = quotient(rho, r, 1, h)

    def refine(i, truncation):
        smaller = h / 4.0**i
        change = jnp.abs(whole - quotient(rho, r, 1, smaller)) - error / smaller
        return jnp.maximum(truncation, 2 * change)

    return error / h, lax.fori_loop(1, 12, refine, jnp.zeros_like(r))


@jax.jit
def _sum_bounds(X, b, counted, terms, u):
    """Bounds of the value [], gradient [d + 1] and difference [d + 1], or [d + 1, k]; bias last."""
    if terms[0].ndim == 1:
        return _one_target(X, b, counted, terms, u)
    by_target = tuple(each.T for each in terms)
    value, gradient, difference = lax.map(
        lambda target: _one_target(X, b, counted, target, u), by_target
    )
    return jnp.sum(value), gradient.T, difference.T


def _one_target(X, b, counted, target, u):
    s, moved, difference, cost, raised = target
    n, d = X.shape
    lanes = min(_LANES, n)
    groups = -(-n // lanes)
    stretch = -(-groups // _STRETCHES)
    columns = d + 3

    def add_group(g, carry):
        running, signed, rounded, path, size, spread = carry
        start = jnp.minimum(g * lanes, n - lanes)
        fresh = start + jnp.arange(lanes) >= g * lanes  # none where g is past the last group

        def rows(column):
            return jnp.where(fresh, lax.dynamic_slice_in_dim(column, start, lanes), 0)[:, None]

        x = lax.dynamic_slice_in_dim(X, start, lanes)
        x = jnp.concatenate([x, lax.dynamic_slice_in_dim(b, start, lanes)[:, None]], axis=1)
        terms = jnp.concatenate([rows(s) * x, rows(cost), rows(counted)], axis=1)
        reached = jnp.sum(jnp.abs(running), axis=0)
        before = reached[None, :]
        after = before + terms
        kept = after - before  # two-sum: after + rounding == before + terms, exactly
        rounding = (before - (after - kept)) + (terms - kept)
        running = running + terms
        x = jnp.abs(x)
        return (
            running,
            signed + jnp.sum(rounding, axis=0),
            rounded + jnp.sum(jnp.abs(rounding), axis=0),
            path + jnp.sum(jnp.abs(running), axis=0) / groups,
            size + jnp.sum(jnp.abs(terms), axis=0),
            (spread[0] + jnp.sum(rows(moved) * x, 0), spread[1] + jnp.sum(rows(difference) * x, 0)),
        )

    def add_stretch(i, carry):
        *sums, one_sided = carry
        sums[1] = jnp.zeros_like(sums[1])
        sums = lax.fori_loop(i * stretch, (i + 1) * stretch, add_group, tuple(sums))
        return *sums, one_sided + jnp.abs(sums[1])

    dtype = jnp.result_type(X, s)
    zero, lane = jnp.zeros(columns, dtype), jnp.zeros((lanes, columns), dtype)
    spread = (jnp.zeros(d + 1, dtype), jnp.zeros(d + 1, dtype))
    carry = (lane, zero, zero, zero, zero, spread, zero)
    carry = lax.fori_loop(0, _STRETCHES, add_stretch, carry)
    running, _, rounded, path, size, (spread, difference), one_sided = carry
    # The root mean square of n random roundings is 0.56 sqrt(n) u A: seven of them at least.
    kappa = jnp.hypot(one_sided / jnp.where(rounded > 0, rounded, 1), 2 / float(n) ** 0.5)
    accumulated = 2 * jnp.minimum(kappa, 1) * n * u * path
    # Terms below the smallest normal number may be flushed to 0.
    flushed = n * float(jnp.finfo(dtype).tiny)
    bound = accumulated + _FEW * u * size + flushed
    # The sum of the weights, which a mean divides by, is rounded like the others.
    weighed = jnp.where(size[-1] > 0, accumulated[-1] / jnp.where(size[-1] > 0, size[-1], 1), 0)
    bound = bound + weighed * jnp.abs(jnp.sum(running, axis=0))
    return bound[d + 1] + jnp.sum(raised), bound[: d + 1] + spread, difference
