"""Is the gradient of a function right of which nothing is known but its values?"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from linreg_jax._checking.comparison import (
    Comparison,
    Result,
    Results,
    compare,
    coordinate_name,
    flat,
)
from linreg_jax._checking.explanation import explain
from linreg_jax._checking.extrapolation import Function, Slopes, slopes_along
from linreg_jax._checking.properties import finite_check, repeat_check
from linreg_jax._checking.report import GradientReport
from linreg_jax._own_functions import call_gradient
from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset
from linreg_jax.gradients import ValueAndGradient
from linreg_jax.model import Params

Tree = TypeVar("Tree", Params, Dataset)

# Each coordinate of a plain function is checked up to this many, then a sample of them.
_EVERY_COORDINATE, _COORDINATES, _DIRECTIONS = 128, 64, 16


def check_function(
    loss: Function, params: Params, data: Dataset, gradient: ValueAndGradient | None
) -> GradientReport:
    """Derivatives of a plain function beside extrapolated differences of its values.

    Args:
      loss: `(params, data) -> scalar`.
      params, data: where.
      gradient: the caller's own; None: check `jax.value_and_grad(loss)`.

    Raises:
      ValueError: the function gives something else than one number.
    """
    shape = jax.eval_shape(loss, params, data)
    if getattr(shape, "shape", None) != ():
        raise ValueError(
            f"loss(params, data) must be one number, [], got {shape}: "
            "sum or average it over the examples"
        )
    autodiff = jax.jit(jax.value_and_grad(loss))
    ways: dict[str, Callable[[Params, Dataset], Result]] = {"autodiff": autodiff}
    if gradient is not None:
        ways["yours"] = partial(call_gradient, gradient)
    results = {way: call(params, data) for way, call in ways.items()}
    own = flat(results["autodiff"][1])
    directions, names, exhaustive = _sample_directions(params)
    measured, rounding, precision = _measure(loss, autodiff, params, data, directions, own)
    tested = "autodiff" if gradient is None else "yours"
    checks = (
        finite_check(results, partial(coordinate_name, params)),
        repeat_check({tested: ways[tested]}, params, data, results),
    )
    compared = _comparisons(results, params, directions, names, measured, rounding)
    note = f"differences of values in {precision}"
    if gradient is not None:
        right, n = results["autodiff"][1], data.X.shape[0]
        told = explain(results["yours"][1], right, 2 * rounding, n)
        note += f"\n{told}" if told else ""
    if not exhaustive:
        note += f"\nfor {_COORDINATES} coordinates and {_DIRECTIONS} directions, drawn at random"
    title = f"gradient of {getattr(loss, '__name__', 'a function')}, a plain function"
    return GradientReport(title, compared, checks, None, note)


def _comparisons(
    results: Results,
    params: Params,
    directions: Float[np.ndarray, "m D"],
    names: list[str],
    measured: Slopes,
    rounding: Float[np.ndarray, " D"],
) -> tuple[Comparison, ...]:
    """Autodiff beside the slopes; or the caller's gradient beside autodiff and the slopes."""
    unit = np.abs(directions).max(axis=1)  # back from steps to slopes
    tested = "yours" if "yours" in results else "autodiff"
    gradient = flat(results[tested][1])
    compared = []
    if tested == "yours":
        pair = gradient, flat(results["autodiff"][1])
        name = partial(coordinate_name, params)
        compared.append(compare(tested, "autodiff", pair, np.sqrt(2) * rounding, name))
    bound = np.hypot(np.abs(directions) @ rounding, measured.error) / unit
    pair = (directions @ gradient) / unit, measured.slope / unit
    compared.append(compare(tested, "finite_difference", pair, bound, names.__getitem__))
    return tuple(compared)


def _sample_directions(params: Params) -> tuple[Float[np.ndarray, "m D"], list[str], bool]:
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


def _measure(
    loss: Function,
    autodiff: ValueAndGradient,
    params: Params,
    data: Dataset,
    directions: Float[np.ndarray, "m D"],
    own: Float[np.ndarray, " D"],
) -> tuple[Slopes, Float[np.ndarray, " D"], str]:
    """Slopes along the directions, the gradient's rounding [D], and the dtype they were taken in.

    The rounding is measured: how far the gradient in the caller's dtype is from the one in float64,
    and how far its inputs' own rounding moves that, a few times over; at least that of a sum.
    """
    dtype = jnp.result_type(*jax.tree.leaves(params))
    with jax.enable_x64(True):
        wide = _in_float64(params), _in_float64(data)
        try:
            is_wide = jax.eval_shape(loss, *wide).dtype == jnp.float64
        except (TypeError, ValueError):  # the function insists on its own dtype
            is_wide = False
        if is_wide:
            found = _slopes_and_rounding(loss, autodiff, *wide, directions, own, dtype)
            return *found, "float64"
    found = _slopes_and_rounding(loss, autodiff, params, data, directions, own, dtype)
    return *found, str(dtype)


def _slopes_and_rounding(
    loss: Function,
    autodiff: ValueAndGradient,
    params: Params,
    data: Dataset,
    directions: Float[np.ndarray, "m D"],
    own: Float[np.ndarray, " D"],
    dtype: DTypeLike,
) -> tuple[Slopes, Float[np.ndarray, " D"]]:
    u = float(jnp.finfo(dtype).eps) / 2
    reference = flat(autodiff(params, data)[1])
    moved = np.zeros_like(own)
    rng = np.random.default_rng(1)  # fixed: the same call gives the same report

    def nudge(leaf: Array) -> np.ndarray:
        nudges = (1 + 2 * u * rng.choice([-1, 1], leaf.shape)).astype(leaf.dtype)
        return np.asarray(np.asarray(leaf) * nudges)

    for _ in range(4):
        nudged = jax.tree.map(nudge, (params, data))
        moved = np.maximum(moved, np.abs(flat(autodiff(*nudged)[1]) - reference))
    longest = max(leaf.shape[0] if leaf.ndim else 1 for leaf in jax.tree.leaves((params, data)))
    summed = 4 * np.sqrt(longest) * u * np.abs(reference)
    measured = slopes_along(loss, params, data, directions)
    if measured.kink.any():
        moved = 0 * moved  # what is nudged off a kink jumps, which says nothing about rounding
    return measured, 4 * np.abs(own - reference) + 8 * moved + summed


def _in_float64(tree: Tree) -> Tree:
    """A pytree of floating-point arrays in float64; call it where x64 is on."""
    wide: Tree = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), tree)
    return wide
