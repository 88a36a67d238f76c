"""What a right gradient does besides agreeing: finite, the same twice, J beside Jᵀ."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import jax
import numpy as np

from linreg_jax._checking.comparison import Check, Result, Results, flat
from linreg_jax._checking.problem import Problem
from linreg_jax._kernels import per_example
from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset
from linreg_jax.model import Params, residuals

Tree = TypeVar("Tree")

# Directions are drawn from a fixed key: the same call gives the same report.
_SEED = 20


def finite_check(results: Results, name: Callable[[int], str]) -> Check:
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


def repeat_check(
    calls: Mapping[str, Callable[[Params, Dataset], Result]],
    params: Params,
    data: Dataset,
    results: Results,
) -> Check:
    """The `Check` that calling again gives the same bits."""
    for way, call in calls.items():
        if _bits(call(params, data)) != _bits(results[way]):
            return Check("same bits twice", False, f"{way} gives other numbers when called again")
    return Check("same bits twice", True, ", ".join(calls))


def _bits(tree: object) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def _signs(seed: int, tree: Tree) -> Tree:
    """±1 at random, for each number of a pytree."""
    rng = np.random.default_rng(seed)
    signs: Tree = jax.tree.map(lambda v: rng.choice([-1, 1], v.shape).astype(v.dtype), tree)
    return signs


def direction(params: Params, data: Dataset) -> Params:
    """Signs over the largest entry of their columns, so that every column counts."""
    signs = _signs(_SEED, params)
    largest = np.abs(np.asarray(data.X)).max(axis=0)
    largest = np.where(largest > 0, largest, 1).astype(largest.dtype)
    weights = signs.weights / per_example(largest, signs.weights)
    return jax.device_put(signs._replace(weights=weights))


@jax.jit
def _both_derivatives(
    params: Params, data: Dataset, u: Params, v: Float[Array, " n *k"]
) -> tuple[Float[Array, " n *k"], Params]:
    """Ju and Jᵀv; J = d residuals / d params."""
    _, moved = jax.jvp(lambda p: residuals(p, data), (params,), (u,))
    _, transpose = jax.vjp(lambda p: residuals(p, data), params)
    return moved, transpose(v)[0]


def adjoint_check(problem: Problem) -> Check:
    """The `Check` that <Xu, v> is <u, Xᵀv>, as the residuals' two derivatives have it.

    Random signs make every running sum a random walk, whose n + d + 1 roundings of the root sum of
    squares, at most sqrt(size of J), are random: eight standard deviations.
    """
    _, params, data = problem
    u, v = direction(params, data), jax.device_put(_signs(_SEED + 1, data.y))
    moved, pulled = _both_derivatives(params, data, u, v)
    forward, backward = float(flat(moved) @ flat(v)), float(flat(u) @ flat(pulled))
    n, d = data.X.shape
    bias = 1 if data.bias_column is None else np.abs(np.asarray(data.bias_column)).max()
    size = float(data.y.size * (d + bias**2)) ** 0.5
    bound = 8 * problem.unit_roundoff * (n**0.5 + (d + 1) ** 0.5) * size
    error = abs(forward - backward)
    detail = f"<Xu, v> - <u, X'v> is {error:.1e} of {forward:.3g}, bound {bound:.1e}"
    return Check("adjoint", error <= bound, detail)
