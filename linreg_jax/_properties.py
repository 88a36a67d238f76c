"""What a right gradient does besides agreeing: it repeats, J and Jᵀ, Taylor, Hessian."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._bounds import as_loss, residual_rounding, rounding_bounds, unit_roundoff
from linreg_jax._numerics import matmul, per_example
from linreg_jax._report import Check, compare, coordinate_name, flat
from linreg_jax._validation import shape_text
from linreg_jax.dataset import multiplies_bias
from linreg_jax.losses import example_weights
from linreg_jax.model import Params, residuals
from linreg_jax.penalties import Lasso

# Directions are drawn from a fixed key: the same call gives the same report.
_SEED = 20


def call_gradient(gradient, params, data):
    """`gradient(params, data)`, refused where it is not shaped as `jax.value_and_grad`'s."""
    given = gradient(params, data)
    mend = "return (value, gradient) as jax.value_and_grad(loss) does, gradient shaped as params"
    if type(given) is not tuple or len(given) != 2:
        got = f"{len(given)} items" if isinstance(given, tuple) else type(given).__name__
        raise TypeError(f"gradient(params, data) gave {got}: {mend}")
    value, derivative = given
    structure: object = jax.tree.structure(derivative)
    if structure != jax.tree.structure(params):
        raise TypeError(
            f"the gradient that gradient(params, data) gave is {structure}, but params is "
            f"{jax.tree.structure(params)}: {mend}"
        )
    if jnp.shape(value) != ():
        raise ValueError(f"the value has shape {shape_text(jnp.shape(value))}, not []: {mend}")
    for (path, ours), theirs in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(derivative), strict=True
    ):
        if jnp.shape(ours) != jnp.shape(theirs):
            name = jax.tree_util.keystr(path).lstrip(".")
            raise ValueError(
                f"the gradient of {name} has shape {shape_text(jnp.shape(theirs))}, but {name} is "
                f"{shape_text(jnp.shape(ours))}: {mend}"
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
    return jax.tree.map(lambda v: jnp.asarray(rng.choice([-1, 1], v.shape), v.dtype), tree)


@jax.jit
def _scaled(signs, data):
    """Signs over the largest entry of their columns, so that every column counts."""
    largest = jnp.max(jnp.abs(data.X), axis=0)
    largest = jnp.where(largest > 0, largest, 1)
    return signs._replace(weights=signs.weights / per_example(largest, signs.weights))


def _direction(params, data):
    return _scaled(_signs(_SEED, params), data)


@jax.jit
def _adjoint_gap(params, data, u, v):
    """<Ju, v>, <u, Jᵀv> and what rounding can put between them; J = d residuals / d params.

    Random signs make every running sum a random walk, whose n + d + 1 roundings of the root sum of
    squares, at most sqrt(size of J), are random: eight standard deviations.
    """
    _, moved = jax.jvp(lambda p: residuals(p, data), (params,), (u,))
    _, transpose = jax.vjp(lambda p: residuals(p, data), params)
    pulled = jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(a * b), u, transpose(v)[0]))
    n, d = data.X.shape
    bias = 1 if data.bias_column is None else jnp.max(jnp.abs(data.bias_column))
    size = (data.y.size * (d + bias**2)) ** 0.5
    bound = 8 * unit_roundoff(params, data) * (n**0.5 + (d + 1) ** 0.5) * size
    return jnp.sum(moved * v), sum(pulled), bound


def adjoint_check(params, data):
    """The `Check` that <Xu, v> is <u, Xᵀv>, as the residuals' two derivatives have it."""
    forward, backward, bound = map(
        float, _adjoint_gap(params, data, _direction(params, data), _signs(_SEED + 1, data.y))
    )
    error = abs(forward - backward)
    detail = f"<Xu, v> - <u, X'v> is {error:.1e} of {forward:.3g}, bound {bound:.1e}"
    return Check("adjoint", error <= bound, detail)


@jax.jit
def _remainders(passed, params, data, gradient, bounds, v):
    """[16] loss(p + hv) - loss(p) - h <gradient, v> at as many steps h, and its rounding.

    The residuals are moved by h Jv rather than predicted again, each by at most about its own size.
    """
    loss, u = as_loss(passed), unit_roundoff(params, data)
    r = residuals(params, data)
    _, move = jax.jvp(lambda p: residuals(p, data), (params,), (v,))
    a = per_example(example_weights(loss, data), r)
    size = jnp.sqrt(jnp.mean(jnp.square(r / jnp.max(jnp.abs(r))))) * jnp.max(jnp.abs(r))
    size = jnp.where(jnp.isfinite(size) & (size > 0), size, 1)
    size = size if loss.curvature is not None else jnp.minimum(size, 1)
    steps = size / jnp.sqrt(jnp.mean(move * move)) * 0.5 ** jnp.arange(16, dtype=r.dtype)
    along = [jnp.sum(p * q) for p, q in zip(*map(jax.tree.leaves, (gradient, v)), strict=True)]
    unsure = [
        jnp.sum(p * jnp.abs(q))
        for p, q in zip(*map(jax.tree.leaves, (bounds.gradient, v)), strict=True)
    ]
    before = loss.penalty(params)

    def at(h):
        ahead = loss.rho(r + h * move)
        after = loss.penalty(params._replace(weights=params.weights + h * v.weights))
        gained = jnp.sum(a * (ahead - loss.rho(r))) + (after - before)
        noise = jnp.sum(a * (jnp.abs(ahead) + jnp.abs(loss.rho(r)))) + abs(after) + abs(before)
        return gained - h * sum(along), 16 * u * noise + h * sum(unsure)

    return jax.lax.map(at, steps)


def taylor_check(loss, passed, params, data, way, gradient, bounds):
    """The `Check` that what the gradient leaves of the loss shrinks as the square of the step.

    Read off the two smallest steps whose remainder stands clear of rounding. A wrong gradient
    leaves a remainder that shrinks as the step itself.
    """
    name = "Taylor"
    if loss.kinks or any(isinstance(penalty, Lasso) for penalty in loss.penalties):
        return Check(name, None, "not applicable: kinks, across which it need not shrink as h²")
    gradient = jax.tree.map(lambda g, p: jnp.asarray(g, p.dtype), gradient, params)
    v = _direction(params, data)
    remainder, noise = map(np.asarray, _remainders(passed, params, data, gradient, bounds, v))
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


@jax.jit
def _hessian_product(passed, params, at_zero, v):
    """Hv by hand; H = curvature Xᵀ diag(a) X + the penalties' own."""
    loss = as_loss(passed)
    moved = residuals(v, at_zero)  # Xv
    s = loss.curvature * per_example(example_weights(loss, at_zero), moved) * moved
    bias = None if params.bias is None else matmul(multiplies_bias(at_zero), s)
    weights = matmul(s.T, at_zero.X).T
    if loss.penalties:
        slope = partial(_penalty_slope, loss)
        weights = weights + jax.jvp(slope, (params.weights,), (v.weights,))[1]
    return Params(weights, bias)


def hessian_check(loss, passed, params, data, way, call):
    """The gradient's own derivative along a random direction, beside the Hessian by hand."""
    name = "Hessian"
    if loss.curvature is None:
        return Check(name, None, "not applicable: the loss is not squared")
    v = _direction(params, data)
    at_zero = data._replace(y=jnp.zeros_like(data.y))  # there the residuals of v are Xv, and
    off = residual_rounding(v, at_zero)  # the gradient is Hv: it rounds alike
    bounds = rounding_bounds(passed, v, at_zero, off).gradient
    expected = _hessian_product(passed, params, at_zero, v)
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
