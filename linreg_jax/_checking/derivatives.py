"""Taylor's remainder of the loss, and the Hessian, along a random direction."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from linreg_jax._checking.bounds import Bounds, residual_rounding, rounding_bounds
from linreg_jax._checking.comparison import Check, Result, compare, coordinate_name, flat
from linreg_jax._checking.problem import (
    Problem,
    costs_and_slopes,
    penalties_at,
    products,
    residual_state,
    transposed_products,
)
from linreg_jax._checking.properties import direction
from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset
from linreg_jax.losses import Loss
from linreg_jax.model import Params


def _remainders(
    problem: Problem, gradient: Params, bounds: Bounds, v: Params
) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """[16] loss(p + hv) - loss(p) - h <gradient, v> at as many steps h, and its rounding.

    The residuals are moved by h Jv rather than predicted again, each by at most about its own size.
    """
    loss, params, data = problem
    r, a, _ = residual_state(problem)
    move = products(v, data)
    size = np.sqrt(np.mean(np.square(r / np.abs(r).max()))) * np.abs(r).max()
    size = size if np.isfinite(size) and size > 0 else 1.0
    size = size if loss.is_quadratic else min(size, 1.0)
    steps = (size / np.sqrt(np.mean(move * move)) * 0.5 ** np.arange(17)).astype(r.dtype)
    steps[-1] = 0  # where the others start from
    h = steps.reshape(-1, *[1] * r.ndim)
    cost = (a * costs_and_slopes(problem.rho, r + h * move)[0]).reshape(len(steps), -1)
    penalty = penalties_at(loss, np.asarray(params.weights) + h * np.asarray(v.weights))
    gained = (cost[:-1] - cost[-1]).sum(axis=1) + (penalty[:-1] - penalty[-1])
    spent = np.abs(cost).sum(axis=1) + np.abs(penalty)
    along = flat(gradient) @ flat(v)
    unsure = bounds.gradient @ np.abs(flat(v))
    rounding = 16 * problem.unit_roundoff * (spent[:-1] + spent[-1])
    return gained - steps[:-1] * along, rounding + steps[:-1] * unsure


def taylor_check(problem: Problem, way: str, gradient: Params, bounds: Bounds) -> Check:
    """The `Check` that what the gradient leaves of the loss shrinks as the square of the step.

    Read off the two smallest steps whose remainder stands clear of rounding. A wrong gradient
    leaves a remainder that shrinks as the step itself.

    Args:
      problem: the loss and where.
      way: the name of the way that gave the gradient.
      gradient: `Params`, what it gave.
      bounds: the errors that rounding makes in it.
    """
    name, loss = "Taylor", problem.loss
    if loss.kinks or any(penalty.kinks for penalty in loss.penalties):
        return Check(name, None, "not applicable: kinks, across which it need not shrink as h²")
    v = direction(problem.params, problem.data)
    with np.errstate(over="ignore", invalid="ignore"):  # reported by `finite_check`
        remainder, noise = _remainders(problem, gradient, bounds, v)
        remainder = np.abs(remainder)
    sure = remainder > 10 * noise
    both = sure[:-1] & sure[1:]
    if not both.any():
        return Check(name, None, "not applicable: what the slope leaves is all rounding")
    last = int(np.flatnonzero(both)[-1])
    slope = float(np.log2(remainder[last] / remainder[last + 1]))
    return Check(name, slope > 1.5, f"remainder of {way} falls as h to the {slope:.3f}; 2 is right")


def _penalty_slope(loss: Loss, weights: Float[Array, " d *k"]) -> Float[Array, " d *k"] | float:
    return loss.penalty_gradient(Params(weights, None))


def _hessian_product(
    problem: Problem, curvature: float, v: Params
) -> list[Float[np.ndarray, "..."]]:
    """Hv by hand, the leaves of a `Params`; H = curvature Xᵀ diag(a) X + the penalties' own."""
    loss, params, data = problem
    moved = products(v, data)  # Xv
    s = curvature * residual_state(problem).a * moved
    weights, bias = transposed_products(data, s)
    if loss.penalties:
        slope = partial(_penalty_slope, loss)
        weights = weights + np.asarray(jax.jvp(slope, (params.weights,), (v.weights,))[1])
    return [weights] if params.bias is None else [weights, bias]


def hessian_check(problem: Problem, way: str, call: Callable[[Params, Dataset], Result]) -> Check:
    """The gradient's own derivative along a random direction, beside the Hessian by hand.

    Args:
      problem: the loss and where.
      way: the name of the way to differentiate.
      call: the way.
    """
    name, (loss, params, data) = "Hessian", problem
    if not loss.is_quadratic or loss.curvature_bound is None:
        return Check(name, None, "not applicable: the loss is not squared")
    v = direction(params, data)
    # Where the targets are 0 the residuals of v are Xv, and the gradient is Hv: it rounds alike.
    at_zero = Problem(
        loss, v, data._replace(y=jax.device_put(np.zeros(data.y.shape, data.y.dtype)))
    )
    bounds = rounding_bounds(at_zero, residual_rounding(at_zero))
    expected = _hessian_product(problem, float(loss.curvature_bound), v)
    try:
        _, product = jax.jvp(lambda p: call(p, data)[1], (params,), (v,))
    except TypeError:  # NumPy met a tracer, or a custom_vjp a tangent
        return Check(name, None, f"not applicable: JAX cannot differentiate {way}")
    found = flat(product), flat(expected)
    bound = np.sqrt(2) * bounds.gradient
    worst = compare(way, "by hand", found, bound, partial(coordinate_name, params))
    ours, theirs = worst.values
    if worst.ok:
        detail = f"Hv is curvature X' diag(a) X v: error {worst.ratio:.1g} of the bound"
    else:
        detail = f"(Hv) at {worst.coordinate}: {way} {ours:.6g}, by hand {theirs:.6g}"
    return Check(name, worst.ok, detail)
