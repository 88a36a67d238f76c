"""Kinks of the loss, where rounding decides which of two slopes a residual sees."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._checking.agreement import Pairs, comparisons
from linreg_jax._checking.bounds import rounding_bounds
from linreg_jax._checking.comparison import Check, Result
from linreg_jax._checking.problem import Problem, residual_state
from linreg_jax._checking.report import Kinks
from linreg_jax._typing import Float
from linreg_jax.dataset import Dataset
from linreg_jax.model import Params

# Residuals within rounding of a kink are moved this many roundings away from it.
_CLEAR = 4.0


def move_off_kinks(
    problem: Problem, residual_error: Float[np.ndarray, " n *k"]
) -> tuple[Kinks, Dataset]:
    """The `Kinks` met, and the data with targets that put residuals clear of them.

    Args:
      problem: the loss and where.
      residual_error: the largest error of each residual, as `residual_rounding` says.
    """
    loss, data = problem.loss, problem.data
    if not loss.kinks:
        return Kinks(0, 0, ()), data
    r = residual_state(problem).r
    on, near, clear = np.zeros(r.shape, bool), np.zeros(r.shape, bool), r
    for kink in sorted(np.asarray(kink, r.dtype) for kink in loss.kinks):
        on |= r == kink
        near |= np.abs(r - kink) <= residual_error
        # Upwards, so that leaving one cannot lead back to the one before.
        is_near = np.abs(clear - kink) <= residual_error
        clear = np.where(is_near, kink + _CLEAR * residual_error, clear)
    near |= on
    if not near.any():
        return Kinks(0, 0, ()), data
    first = tuple(tuple(place) for place in np.argwhere(near)[:5].tolist())
    exact = int(on.sum())
    y = jnp.asarray(np.asarray(data.y) - (clear - r))
    return Kinks(exact, int(near.sum()) - exact, first), data._replace(y=y)


def on_kinks_check(
    problem: Problem, ways: Mapping[str, Callable[[Params, Dataset], Result]], pairs: Pairs
) -> Check:
    """The `Check` that all ways give the same subgradient where every residual is on a kink.

    With weights 0 every prediction is exactly 0, and minus a kink as target is met exactly.
    """
    name, (loss, params, data) = "on kinks", problem
    if not loss.kinks:
        return Check(name, None, "not applicable: the loss has none")
    dtype = data.y.dtype
    exact = [float(kink) for kink in loss.kinks]
    exact = [kink for kink in exact if float(np.asarray(kink, dtype)) == kink]
    if not exact:
        return Check(name, None, f"not applicable: no {dtype} lies exactly on one")
    targets = np.resize(-np.asarray(exact, dtype), data.y.shape[::-1]).T  # one kink after another
    on_kinks = data._replace(y=jnp.asarray(targets))
    origin: Params = jax.tree.map(lambda p: jnp.asarray(np.zeros(p.shape, p.dtype)), params)
    results = {way: call(origin, on_kinks) for way, call in ways.items()}
    bounds = rounding_bounds(Problem(loss, origin, on_kinks), np.zeros(targets.shape, dtype))
    compared = comparisons(pairs, results, bounds, params)
    worst = max(compared, key=lambda comparison: comparison.ratio)
    where = ", ".join(f"{kink:g}" for kink in exact[:3])
    if worst.ok:
        return Check(name, True, f"all residuals at {where}: all agree")
    ours, theirs = worst.values
    detail = f"{worst.way} {ours:.4g}, {worst.other} {theirs:.4g} at {worst.coordinate}"
    return Check(name, False, detail)
