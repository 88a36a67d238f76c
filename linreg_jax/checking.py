"""`check_gradients`: is this gradient right?"""

import itertools
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax import gradients
from linreg_jax._checking.bounds import residual_rounding, residual_state, rounding_bounds
from linreg_jax._checking.plain import check_function
from linreg_jax._checking.properties import (
    adjoint_check,
    call_gradient,
    finite_check,
    hessian_check,
    repeat_check,
    taylor_check,
)
from linreg_jax._checking.report import (
    Check,
    Comparison,
    GradientError,
    GradientReport,
    Kinks,
    compare,
    coordinate_name,
    explain,
    flat,
)
from linreg_jax._own_functions import checked_gradient
from linreg_jax._pytrees import as_function, as_pytree
from linreg_jax._validation import is_traced
from linreg_jax.dataset import Dataset, check_dataset
from linreg_jax.losses import Loss, check_loss
from linreg_jax.model import Params, check_params

__all__ = ["Check", "Comparison", "GradientError", "GradientReport", "Kinks", "check_gradients"]

_WAYS = ("autodiff", "vectorized", "by_loops", "finite_difference")

_WEIGHED_ROWS = 96

# Residuals within rounding of a kink are moved this many roundings away from it.
_CLEAR = 4.0


def check_gradients(
    loss: Callable,
    params: Params,
    data: Dataset,
    *,
    gradient: gradients.ValueAndGradient | None = None,
) -> GradientReport:
    """Is the gradient right? Says where it is not, by how much, and against what bound.

    Sets the four ways of `gradients` against each other, or the caller's own function against the
    four. An error is held, coordinate by coordinate, to what rounding can do to this very sum in
    any usual order (see `_checking.bounds`), so that a float32 gradient wrong by 0.1 % in one
    coordinate is caught among 1,000 coordinates and 100,000 examples, and a right one is not
    accused. Besides:

    - values: the ways agree on the loss too;
    - on kinks: with every residual exactly on a kink, all give the subgradient of least norm;
    - same bits twice: a second call changes nothing;
    - adjoint: <Xu, v> = <u, Xᵀv>, for the derivative and the transposed derivative of `residuals`;
    - Taylor: loss(p + hv) - loss(p) - h <gradient, v> shrinks like h², where the loss is smooth;
    - Hessian: the gradient of a squared loss has the derivative curvature Xᵀ diag(a) X;
    - sample weights: a function of yours is right on weighted examples too. One that is not may be
      right for its own data, but `fit` has to refuse it where there are weights.

    A gradient that is everywhere a constant times the right one (2, 1/2, n, 1/n, -1), or wrong in
    the bias alone, is told so.

    Where a residual is within rounding of a kink, right gradients may differ by a whole example.
    The ways are then compared on targets moved off it by a few roundings.

    A plain function `(params, data) -> scalar` is checked too: `jax.value_and_grad` of it against
    extrapolated differences of its values, on a float64 copy of the data where the function
    allows; on a kink they give the midpoint of the two one-sided slopes. Up to 128 coordinates are
    checked each, of more only 64 and 16 directions, drawn at random.

    Args:
      loss: a loss of this package, a `Loss` of your own, or a plain function.
      params: `Params`; where the gradient is checked.
      data: a `Dataset`.
      gradient: your own `(params, data) -> (value, gradient)`, a drop-in for
        `jax.value_and_grad(loss)`, as `fit` takes it; None: check the package's ways.

    Returns:
      A `GradientReport`: `.ok`, `.raise_if_wrong()`, and `print(report)` is a table.

    Raises:
      TypeError, ValueError: as `residuals` says; a `gradient` or a loss that returns something
        else; a call under jit, vmap or grad, where values are not known.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> params = Params(jnp.array([1.0]), jnp.array(0.0))
      >>> check_gradients(mse, params, data).ok
      True
      >>> def forgets_the_mean(params, data):
      ...     return sse(params, data), jax.grad(sse)(params, data)
      >>> report = check_gradients(mse, params, data, gradient=forgets_the_mean)
      >>> report.ok, report.worst.coordinate, report.worst.values
      (False, 'bias', (-228.0, -76.0))
    """
    if any(is_traced(leaf) for leaf in jax.tree.leaves((loss, params, data))):
        raise TypeError(
            "check_gradients looks at values, which are unknown while JAX traces: "
            "call it outside jit, vmap and grad"
        )
    check_loss(loss)
    check_dataset(data)
    check_params(params, data.X, data.y)
    if gradient is not None:
        gradient = checked_gradient(gradient, loss)
    if isinstance(loss, Loss):
        return _check_loss(loss, params, data, gradient)
    return check_function(loss, params, data, gradient)


def _check_loss(loss, params, data, gradient):
    passed = as_pytree(loss)
    off = residual_rounding(params, data)
    kinks, moved = _move_off_kinks(loss, passed, params, data, off)
    ways = {way: partial(_by_way, passed, way=way) for way in _WAYS}
    pairs = list(itertools.combinations(_WAYS, 2))
    if gradient is not None:
        ways["yours"] = partial(call_gradient, gradient)
        pairs = [("yours", way) for way in _WAYS]

    bounds = rounding_bounds(passed, params, moved, off)
    results = {way: call(params, moved) for way, call in ways.items()}
    name = partial(coordinate_name, params)
    tested = ["autodiff", "vectorized"] if gradient is None else ["yours"]
    checks = [
        finite_check(results, name),
        _values_check(pairs, results, bounds),
        _on_kinks_check(loss, passed, params, data, ways, pairs),
        repeat_check({way: ways[way] for way in tested}, params, moved, results),
        adjoint_check(params, moved),
        taylor_check(loss, passed, params, moved, tested[0], results[tested[0]][1], bounds),
        hessian_check(loss, passed, params, moved, tested[0], ways[tested[0]]),
    ]
    comparisons = _comparisons(pairs, results, bounds, params)
    note = ""
    if gradient is not None:
        checks.append(_weights_check(passed, params, moved, ways["yours"]))
        if not all(comparison.ok for comparison in comparisons):
            allowed = 2 * flat(bounds.gradient)
            note = explain(results["yours"][1], results["autodiff"][1], allowed, data.X.shape[0])
    n, d = data.X.shape
    targets = f", {data.y.shape[1]} targets" if data.y.ndim == 2 else ""
    title = f"gradient of {loss}: {n:,} examples, {d:,} features{targets}, {data.X.dtype}"
    return GradientReport(title, comparisons, tuple(checks), kinks, note)


@partial(jax.jit, static_argnames="way")
def _by_way(passed, params, data, *, way):
    return getattr(gradients, way)(as_function(passed))(params, data)


def _comparisons(pairs, results, bounds, params):
    """Every pair, each coordinate held to what rounding may do to the two of them."""
    found = {way: flat(gradient) for way, (_, gradient) in results.items()}
    plain, difference = flat(bounds.gradient), flat(bounds.difference)
    name = partial(coordinate_name, params)

    def bound(way):
        return plain + difference if way == "finite_difference" else plain

    # Two roundings that know nothing of each other add up as squares.
    return tuple(
        compare(one, two, (found[one], found[two]), np.hypot(bound(one), bound(two)), name)
        for one, two in pairs
    )


def _values_check(pairs, results, bounds):
    found = {way: np.array([float(value)]) for way, (value, _) in results.items()}
    bound = np.array([np.hypot(bounds.value, bounds.value)], np.float64)
    worst = max(
        (compare(a, b, (found[a], found[b]), bound, lambda _: "value") for a, b in pairs),
        key=lambda comparison: comparison.ratio,
    )
    shown = f"{worst.values[0]:.6g}, apart by {worst.error:.1e}, bound {worst.bound:.1e}"
    return Check("values", worst.ok, shown if worst.ok else f"{worst.way} {shown}")


def _weights_check(passed, params, data, yours):
    """Whether the caller's function is right on weighted examples too, of weights 1, 2 and 0."""
    name, n = "sample weights", min(data.X.shape[0], _WEIGHED_ROWS)
    if n == 1 or data.bias_column is not None or data.total_weight is not None:
        return Check(name, None, "not applicable: no examples to weigh")
    weights = np.resize(np.asarray([1, 2, 0], data.X.dtype), n)
    rows = Dataset(data.X[:n], data.y[:n], jnp.asarray(weights))
    bounds = rounding_bounds(passed, params, rows, residual_rounding(params, rows))
    results = {
        "yours": yours(params, rows),
        "vectorized": _by_way(passed, params, rows, way="vectorized"),
    }
    [compared] = _comparisons([("yours", "vectorized")], results, bounds, params)
    if compared.ok:
        return Check(name, True, "honoured, tried with 1, 2 and 0")
    detail = "not honoured; fit refuses it where there are any (a partial last batch has some of 0)"
    return Check(name, None if data.sample_weight is None else False, detail)


def _move_off_kinks(loss, passed, params, data, off):
    """The `Kinks` met, and the data with targets that put residuals clear of them."""
    if not loss.kinks:
        return Kinks(0, 0, ()), data
    r = residual_state(passed, params, data).r
    on, near, clear = np.zeros(r.shape, bool), np.zeros(r.shape, bool), r
    for kink in sorted(np.asarray(kink, r.dtype) for kink in loss.kinks):
        on |= r == kink
        near |= np.abs(r - kink) <= off
        # Upwards, so that leaving one cannot lead back to the one before.
        clear = np.where(np.abs(clear - kink) <= off, kink + _CLEAR * off, clear)
    near |= on
    if not near.any():
        return Kinks(0, 0, ()), data
    first = tuple(tuple(place) for place in np.argwhere(near)[:5].tolist())
    exact = int(on.sum())
    y = jnp.asarray(np.asarray(data.y) - (clear - r))
    return Kinks(exact, int(near.sum()) - exact, first), data._replace(y=y)


def _on_kinks_check(loss, passed, params, data, ways, pairs):
    """With weights 0 every prediction is exactly 0, and minus a kink as target is met exactly."""
    name = "on kinks"
    if not loss.kinks:
        return Check(name, None, "not applicable: the loss has none")
    dtype = data.y.dtype
    held = [float(kink) for kink in loss.kinks]
    held = [kink for kink in held if float(np.asarray(kink, dtype)) == kink]
    if not held:
        return Check(name, None, f"not applicable: no {dtype} lies exactly on one")
    rows = np.resize(-np.asarray(held, dtype), data.y.shape[::-1]).T  # the kinks in turn
    on_kinks = data._replace(y=jnp.asarray(rows))
    origin = jax.tree.map(lambda p: jnp.asarray(np.zeros(p.shape, p.dtype)), params)
    results = {way: call(origin, on_kinks) for way, call in ways.items()}
    bounds = rounding_bounds(passed, origin, on_kinks, np.zeros(rows.shape, dtype))
    compared = _comparisons(pairs, results, bounds, params)
    worst = max(compared, key=lambda comparison: comparison.ratio)
    where = ", ".join(f"{kink:g}" for kink in held[:3])
    if worst.ok:
        return Check(name, True, f"all residuals at {where}: all agree")
    ours, theirs = worst.values
    detail = f"{worst.way} {ours:.4g}, {worst.other} {theirs:.4g} at {worst.coordinate}"
    return Check(name, False, detail)
