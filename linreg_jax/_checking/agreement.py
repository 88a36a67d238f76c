"""Do the ways to the gradient agree, within what rounding can do to each of them?"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax import gradients
from linreg_jax._checking.bounds import Bounds, residual_rounding, rounding_bounds
from linreg_jax._checking.comparison import (
    Check,
    Comparison,
    Result,
    Results,
    compare,
    coordinate_name,
    flat,
)
from linreg_jax._checking.problem import Problem, Rho
from linreg_jax._pytrees import as_function
from linreg_jax.dataset import Dataset
from linreg_jax.model import Params

Pairs = Sequence[tuple[str, str]]
"""The names of the ways that are compared."""

_WEIGHTED_ROWS = 96


@partial(jax.jit, static_argnames="way")
def call_way(rho: Rho, params: Params, data: Dataset, *, way: str) -> Result:
    """The value and gradient by one of `gradients.WAYS`, of a loss as `as_pytree` gives it."""
    return gradients.WAYS[way](as_function(rho))(params, data)


def comparisons(
    pairs: Pairs, results: Results, bounds: Bounds, params: Params
) -> tuple[Comparison, ...]:
    """Every pair, each coordinate held to what rounding may do to the two of them."""
    found = {way: flat(gradient) for way, (_, gradient) in results.items()}
    bound = dict.fromkeys(results, bounds.gradient)
    if "finite_difference" in bound:
        bound["finite_difference"] = bounds.gradient + bounds.difference
    name = partial(coordinate_name, params)
    # Two roundings that know nothing of each other add up as squares.
    return tuple(
        compare(one, two, (found[one], found[two]), np.hypot(bound[one], bound[two]), name)
        for one, two in pairs
    )


def values_check(pairs: Pairs, results: Results, bounds: Bounds) -> Check:
    """The `Check` that the ways give the same value of the loss."""
    found = {way: np.array([float(value)]) for way, (value, _) in results.items()}
    bound = np.array([np.hypot(bounds.value, bounds.value)], np.float64)
    worst = _worst(
        [compare(a, b, (found[a], found[b]), bound, lambda _: "value") for a, b in pairs]
    )
    shown = f"{worst.values[0]:.6g}, apart by {worst.error:.1e}, bound {worst.bound:.1e}"
    return Check("values", worst.ok, shown if worst.ok else f"{worst.way} {shown}")


def weights_check(problem: Problem, yours: Callable[[Params, Dataset], Result]) -> Check:
    """Whether the caller's function is right on weighted examples too, of weights 1, 2 and 0."""
    name, data = "sample weights", problem.data
    n = min(data.X.shape[0], _WEIGHTED_ROWS)
    if n == 1 or data.bias_column is not None or data.total_weight is not None:
        return Check(name, None, "not applicable: no examples to give weights to")
    weights = np.resize(np.asarray([1, 2, 0], data.X.dtype), n)
    rows = Dataset(data.X[:n], data.y[:n], jnp.asarray(weights))
    weighted = problem._replace(data=rows)
    results = {
        "yours": yours(problem.params, rows),
        "vectorized": call_way(problem.rho, problem.params, rows, way="vectorized"),
    }
    bounds = rounding_bounds(weighted, residual_rounding(weighted))
    [compared] = comparisons([("yours", "vectorized")], results, bounds, problem.params)
    if compared.ok:
        return Check(name, True, "honoured, tried with 1, 2 and 0")
    detail = "not honoured; fit refuses it where there are any (a partial last batch has some of 0)"
    return Check(name, None if data.sample_weight is None else False, detail)


def _worst(compared: Sequence[Comparison]) -> Comparison:
    return max(compared, key=lambda comparison: comparison.ratio)
