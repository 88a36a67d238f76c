"""Is the gradient of a function right of which nothing is known but its values?"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from linreg_jax._checking.properties import call_gradient, finite_check, repeat_check
from linreg_jax._checking.report import (
    GradientReport,
    compare,
    coordinate_name,
    explain,
    flat,
)
from linreg_jax.model import Params

# Steps shrink by 8 from 1 (or the coordinate's own size) to 1e-9 of it: squared functions want the
# first, functions with kinks or narrow valleys the last.
_RATIO, _NUM_STEPS = 8.0, 11

# Each coordinate of a plain function is checked up to this many, then a sample of them.
_EVERY_COORDINATE, _COORDINATES, _DIRECTIONS = 128, 64, 16


def check_function(loss, params, data, gradient):
    """Derivatives of a plain function beside extrapolated differences of its values."""
    shape = jax.eval_shape(loss, params, data)
    if getattr(shape, "shape", None) != ():
        raise ValueError(
            f"loss(params, data) must be one number, [], got {shape}: "
            "sum or average it over the examples"
        )
    directions, names, exhaustive = _sample_directions(params)
    autodiff = jax.jit(jax.value_and_grad(loss))
    ways: dict[str, Callable] = {"autodiff": autodiff}
    if gradient is not None:
        ways["yours"] = partial(call_gradient, gradient)
    results = {way: call(params, data) for way, call in ways.items()}
    own = flat(results["autodiff"][1])
    measured, rounding, precision = _measure(loss, autodiff, params, data, directions, own)
    unit = np.abs(directions).max(axis=1)  # back from steps to slopes

    comparisons = []
    for way, (_, found) in results.items():
        if way == "autodiff" and gradient is not None:
            continue
        if way == "yours":
            pair = flat(found), flat(results["autodiff"][1])
            name = partial(coordinate_name, params)
            comparisons.append(compare(way, "autodiff", pair, np.sqrt(2) * rounding, name))
        along = (directions @ flat(found)) / unit
        bound = np.hypot(np.abs(directions) @ rounding, measured.error) / unit
        pair = along, measured.slope / unit
        comparisons.append(compare(way, "finite_difference", pair, bound, names.__getitem__))
    tested = "autodiff" if gradient is None else "yours"
    checks = [
        finite_check(results, partial(coordinate_name, params)),
        repeat_check({tested: ways[tested]}, params, data, results),
    ]
    note = f"differences of values in {precision}"
    if gradient is not None and isinstance(params, Params):
        told = explain(results["yours"][1], results["autodiff"][1], 2 * rounding, data.X.shape[0])
        note += f"\n{told}" if told else ""
    if not exhaustive:
        note += f"\nfor {_COORDINATES} coordinates and {_DIRECTIONS} directions, drawn at random"
    title = f"gradient of {getattr(loss, '__name__', 'a function')}, a plain function"
    return GradientReport(title, tuple(comparisons), tuple(checks), None, note)


def _sample_directions(params):
    """[m, D] steps, at least the coordinate's own size long; their names; whether it is all."""
    x = flat(params)
    size = np.maximum(np.abs(x), 1)
    if x.size <= _EVERY_COORDINATE:
        return np.diag(size), [coordinate_name(params, j) for j in range(x.size)], True
    rng = np.random.default_rng(0)  # fixed: the same call gives the same report
    chosen = np.sort(rng.choice(x.size, _COORDINATES, replace=False))
    steps = np.zeros((_COORDINATES + _DIRECTIONS, x.size))
    steps[np.arange(_COORDINATES), chosen] = size[chosen]
    steps[_COORDINATES:] = rng.choice([-1.0, 1.0], (_DIRECTIONS, x.size))
    names = [coordinate_name(params, int(j)) for j in chosen]
    return steps, names + [f"direction {i}" for i in range(_DIRECTIONS)], False


def _measure(loss, autodiff, params, data, directions, own):
    """Slopes along the directions, the gradient's rounding [D], and the dtype they were taken in.

    The rounding is measured: how far the gradient in the caller's dtype is from the one in float64,
    and how far its inputs' own rounding moves that, a few times over; at least that of a sum.
    """
    dtype = jnp.result_type(*jax.tree.leaves(params))
    with jax.enable_x64(True):
        double = _in_double(params), _in_double(data)
        try:
            doubled = jax.eval_shape(loss, *double).dtype == jnp.float64
        except (TypeError, ValueError):  # the function insists on its own dtype
            doubled = False
        if doubled:
            found = _slopes_and_rounding(loss, autodiff, *double, directions, own, dtype)
            return *found, "float64"
    found = _slopes_and_rounding(loss, autodiff, params, data, directions, own, dtype)
    return *found, str(dtype)


def _slopes_and_rounding(loss, autodiff, params, data, directions, own, dtype):
    u = float(jnp.finfo(dtype).eps) / 2
    reference = flat(autodiff(params, data)[1])
    moved = np.zeros_like(own)
    rng = np.random.default_rng(1)  # fixed: the same call gives the same report

    def nudge(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        nudges = (1 + 2 * u * rng.choice([-1, 1], leaf.shape)).astype(leaf.dtype)
        return np.asarray(leaf) * nudges

    for _ in range(4):
        nudged = jax.tree.map(nudge, (params, data))
        moved = np.maximum(moved, np.abs(flat(autodiff(*nudged)[1]) - reference))
    longest = max(leaf.shape[0] if leaf.ndim else 1 for leaf in jax.tree.leaves((params, data)))
    summed = 4 * np.sqrt(longest) * u * np.abs(reference)
    measured = _slopes(loss, params, data, directions)
    if measured.kink.any():
        moved = 0 * moved  # what is nudged off a kink jumps, which says nothing about rounding
    return measured, 4 * np.abs(own - reference) + 8 * moved + summed


class _Slopes(NamedTuple):
    """Directional derivatives measured from values.

    Attributes:
      slope: [m] along each direction.
      error: [m] how far each may be off.
      kink: [m] whether the two one-sided derivatives differ.
    """

    slope: np.ndarray
    error: np.ndarray
    kink: np.ndarray


def _in_double(tree):
    """The floating-point leaves of a pytree as float64; call it where x64 is on."""

    def convert(leaf):
        floating = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(np.asarray(leaf), jnp.float64) if floating else leaf

    return jax.tree.map(convert, tree)


def _slopes(function, params, data, directions):
    """Derivatives of `function(params, data)` along directions, by extrapolated differences.

    Central differences D(h) at steps h, h/8, h/64, ... err by c h² + ..., so that
    (64 D(h/8) - D(h)) / 63 errs by a fourth power (Richardson). Among the steps the one is taken
    whose neighbours agree best once the noise of the values, measured from fourth differences over
    a few roundings (Hamming), is added. On a kink it is the midpoint of the two one-sided slopes.

    Source: Ridders 1982, Advances in Engineering Software 4.

    Args:
      function: `(params, data) -> scalar`.
      params: a pytree of floating-point arrays, D numbers in all.
      data: passed on.
      directions: [m, D]; each is a unit of step along it.
    """
    dtype = jnp.result_type(*jax.tree.leaves(params))
    eps = float(jnp.finfo(dtype).eps)
    h = _RATIO ** -np.arange(_NUM_STEPS)
    ladder = 64 * eps * np.arange(-4, 5)
    steps = np.concatenate([h, -h, ladder]).astype(dtype)

    @jax.jit
    def values(params, data, directions, steps):
        x, unravel = ravel_pytree(params)

        def along(direction):
            def at(step):
                return jnp.asarray(function(unravel(x + step * direction), data), x.dtype)

            return lax.map(at, steps)

        return lax.map(along, directions)

    found = np.asarray(values(params, data, directions.astype(dtype), steps), np.float64)
    ahead, behind, near = np.split(found, [_NUM_STEPS, 2 * _NUM_STEPS], axis=1)
    # The fourth difference of independent noise has variance 1 + 16 + 36 + 16 + 1 = 70.
    noise = np.abs(np.diff(near, 4, axis=1)).max(axis=1) / np.sqrt(70)
    size = np.maximum(np.abs(ahead), np.abs(behind))
    noise = 4 * noise[:, None] + eps * size
    quotient = (ahead - behind) / (2 * h)
    refined = (_RATIO**2 * quotient[:, 1:] - quotient[:, :-1]) / (_RATIO**2 - 1)
    changes = np.abs(np.diff(refined, axis=1))
    error = np.maximum(changes[:, 1:], changes[:, :-1]) + noise[:, 2:-1] / h[2:-1]
    error = np.where(np.isfinite(error), error, np.inf)
    best = error.argmin(axis=1)
    every = np.arange(len(best))
    # The difference of the one-sided slopes shrinks with the step, except on a kink.
    bend = np.abs(ahead + behind - 2 * near[:, 4:5])
    kink = (bend[:, -1] > 10 * noise[:, -1]) & (bend[:, -1] > 0.5 * bend[:, -2] / _RATIO)
    return _Slopes(refined[every, best + 1], 4 * error[every, best], kink)
