"""What a right gradient does besides agreeing: it repeats, J and Jᵀ, Taylor, Hessian."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._checking.bounds import (
    costs_and_slopes,
    penalties_at,
    products,
    residual_rounding,
    residual_state,
    rounding_bounds,
    transposed_products,
    unit_roundoff,
)
from linreg_jax._checking.report import Check, compare, coordinate_name, flat
from linreg_jax._kernels import per_example
from linreg_jax._validation import shape_text, shown
from linreg_jax.model import Params, residuals

# Directions are drawn from a fixed key: the same call gives the same report.
_SEED = 20


def call_gradient(gradient, params, data):
    """`gradient(params, data)`, refused where it is not shaped as `jax.value_and_grad`'s."""
    given = gradient(params, data)
    fix = "return (value, gradient) as jax.value_and_grad(loss) does, gradient shaped as params"
    if type(given) is not tuple or len(given) != 2:
        got = f"{len(given)} items" if type(given) is tuple else f"{type(given).__name__} alone"
        raise TypeError(f"gradient(params, data) gave {got}: {fix}")
    value, derivative = given
    expected: object = jax.tree.structure(params)
    if jax.tree.structure(derivative) != expected:
        raise TypeError(
            f"the gradient that gradient(params, data) gave is {shown(derivative)}, which is not "
            f"{type(params).__name__} with the fields that params has: {fix}"
        )
    if jnp.shape(value) != ():
        raise ValueError(f"the value has shape {shape_text(jnp.shape(value))}, not []: {fix}")
    for (path, ours), theirs in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(derivative), strict=True
    ):
        if jnp.shape(ours) != jnp.shape(theirs):
            name = jax.tree_util.keystr(path).lstrip(".")
            raise ValueError(
                f"the gradient of {name} has shape {shape_text(jnp.shape(theirs))}, but {name} is "
                f"{shape_text(jnp.shape(ours))}: {fix}"
            )
    return given


def finite_check(results, name):
    """The `Check` that every value and every gradient is finite."""
    for way, (value, gradient) in results.items():
        if not np.isfinite(float(value)):
            return Check("finite", False, f"{way} gives the value {float(value)}")
        wrong = ~np.isfinite(flat(gradient))
        if wrong.any():
            first = int(wrong.argmax())
            shown = flat(gradient)[first]
            return Check("finite", False, f"{way} gives {shown} at {name(first)}")
    return Check("finite", True, "every value and every gradient")


def repeat_check(calls, params, data, results):
    """The `Check` that calling again gives the same bits."""
    for way, call in calls.items():
        if _bits(call(params, data)) != _bits(results[way]):
            return Check("same bits twice", False, f"{way} gives other numbers when called again")
    return Check("same bits twice", True, ", ".join(calls))


def _bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def _signs(seed, tree):
    """±1 at random, for each number of a pytree."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda v: rng.choice([-1, 1], v.shape).astype(v.dtype), tree)


def _direction(params, data):
    """Signs over the largest entry of their columns, so that every column counts."""
    signs = _signs(_SEED, params)
    largest = np.abs(np.asarray(data.X)).max(axis=0)
    largest = np.where(largest > 0, largest, 1).astype(largest.dtype)
    return signs._replace(weights=signs.weights / per_example(largest, signs.weights))


@jax.jit
def _both_derivatives(params, data, u, v):
    """Ju and Jᵀv; J = d residuals / d params."""
    _, moved = jax.jvp(lambda p: residuals(p, data), (params,), (u,))
    _, transpose = jax.vjp(lambda p: residuals(p, data), params)
    return moved, transpose(v)[0]


def adjoint_check(params, data):
    """The `Check` that <Xu, v> is <u, Xᵀv>, as the residuals' two derivatives have it.

    Random signs make every running sum a random walk, whose n + d + 1 roundings of the root sum of
    squares, at most sqrt(size of J), are random: eight standard deviations.
    """
    u, v = _direction(params, data), _signs(_SEED + 1, data.y)
    moved, pulled = _both_derivatives(params, data, u, v)
    forward, backward = float(flat(moved) @ flat(v)), float(flat(u) @ flat(pulled))
    n, d = data.X.shape
    bias = 1 if data.bias_column is None else np.abs(np.asarray(data.bias_column)).max()
    size = float(data.y.size * (d + bias**2)) ** 0.5
    bound = 8 * unit_roundoff(params, data) * (n**0.5 + (d + 1) ** 0.5) * size
    error = abs(forward - backward)
    detail = f"<Xu, v> - <u, X'v> is {error:.1e} of {forward:.3g}, bound {bound:.1e}"
    return Check("adjoint", error <= bound, detail)


def _remainders(loss, passed, params, data, gradient, bounds, v):
    """[16] loss(p + hv) - loss(p) - h <gradient, v> at as many steps h, and its rounding.

    The residuals are moved by h Jv rather than predicted again, each by at most about its own size.
    """
    u = unit_roundoff(params, data)
    r, a, _ = residual_state(passed, params, data)
    move = products(v, data)
    size = np.sqrt(np.mean(np.square(r / np.abs(r).max()))) * np.abs(r).max()
    size = size if np.isfinite(size) and size > 0 else 1.0
    size = size if loss.is_quadratic else min(size, 1.0)
    steps = (size / np.sqrt(np.mean(move * move)) * 0.5 ** np.arange(17)).astype(r.dtype)
    steps[-1] = 0  # where the others start from
    h = steps.reshape(-1, *[1] * r.ndim)
    cost = (a * costs_and_slopes(passed, r + h * move)[0]).reshape(len(steps), -1)
    penalty = penalties_at(loss, np.asarray(params.weights) + h * v.weights)
    gained = (cost[:-1] - cost[-1]).sum(axis=1) + (penalty[:-1] - penalty[-1])
    spent = np.abs(cost).sum(axis=1) + np.abs(penalty)
    along = flat(gradient) @ flat(v)
    unsure = flat(bounds.gradient) @ np.abs(flat(v))
    return gained - steps[:-1] * along, 16 * u * (spent[:-1] + spent[-1]) + steps[:-1] * unsure


def taylor_check(loss, passed, params, data, way, gradient, bounds):
    """The `Check` that what the gradient leaves of the loss shrinks as the square of the step.

    Read off the two smallest steps whose remainder stands clear of rounding. A wrong gradient
    leaves a remainder that shrinks as the step itself.
    """
    name = "Taylor"
    if loss.kinks or any(penalty.kinks for penalty in loss.penalties):
        return Check(name, None, "not applicable: kinks, across which it need not shrink as h²")
    v = _direction(params, data)
    with np.errstate(over="ignore", invalid="ignore"):  # reported by `finite_check`
        remainder, noise = _remainders(loss, passed, params, data, gradient, bounds, v)
        remainder = np.abs(remainder)
    sure = remainder > 10 * noise
    both = sure[:-1] & sure[1:]
    if not both.any():
        return Check(name, None, "not applicable: what the slope leaves is all rounding")
    last = int(np.flatnonzero(both)[-1])
    slope = float(np.log2(remainder[last] / remainder[last + 1]))
    return Check(name, slope > 1.5, f"remainder of {way} falls as h to the {slope:.3f}; 2 is right")


def _penalty_slope(loss, weights):
    return loss.penalty_gradient(Params(weights, None))


def _hessian_product(loss, passed, params, data, v):
    """Hv by hand; H = curvature Xᵀ diag(a) X + the penalties' own."""
    moved = products(v, data)  # Xv
    s = loss.curvature_bound * residual_state(passed, params, data).a * moved
    weights, bias = transposed_products(data, s)
    if loss.penalties:
        slope = partial(_penalty_slope, loss)
        weights = weights + jax.jvp(slope, (params.weights,), (v.weights,))[1]
    return Params(weights, None if params.bias is None else bias)


def hessian_check(loss, passed, params, data, way, call):
    """The gradient's own derivative along a random direction, beside the Hessian by hand."""
    name = "Hessian"
    if not loss.is_quadratic:
        return Check(name, None, "not applicable: the loss is not squared")
    v = _direction(params, data)
    # Where the targets are 0 the residuals of v are Xv, and the gradient is Hv: it rounds alike.
    at_zero = data._replace(y=np.zeros(data.y.shape, data.y.dtype))
    off = residual_rounding(v, at_zero)
    bounds = rounding_bounds(passed, v, at_zero, off).gradient
    expected = _hessian_product(loss, passed, params, data, v)
    try:
        _, product = jax.jvp(lambda p: call(p, data)[1], (params,), (v,))
    except TypeError:  # NumPy met a tracer, or a custom_vjp a tangent
        return Check(name, None, f"not applicable: JAX cannot differentiate {way}")
    bound = np.sqrt(2) * flat(bounds)
    found = flat(product), flat(expected)
    worst = compare(way, "by hand", found, bound, partial(coordinate_name, params))
    ours, theirs = worst.values
    if worst.ok:
        detail = f"Hv is curvature X' diag(a) X v: off by {worst.ratio:.1g} of the bound"
    else:
        detail = f"(Hv) at {worst.coordinate}: {way} {ours:.6g}, by hand {theirs:.6g}"
    return Check(name, worst.ok, detail)
