"""`check_gradients`: is this gradient right?"""

import itertools
from collections.abc import Callable
from functools import partial

import jax

from linreg_jax import gradients
from linreg_jax._checking.agreement import call_way, comparisons, values_check, weights_check
from linreg_jax._checking.bounds import residual_rounding, rounding_bounds
from linreg_jax._checking.comparison import Check, Comparison, Result, coordinate_name
from linreg_jax._checking.derivatives import hessian_check, taylor_check
from linreg_jax._checking.explanation import explain
from linreg_jax._checking.kinks import move_off_kinks, on_kinks_check
from linreg_jax._checking.plain import check_function
from linreg_jax._checking.problem import Problem
from linreg_jax._checking.properties import adjoint_check, finite_check, repeat_check
from linreg_jax._checking.report import GradientError, GradientReport, Kinks
from linreg_jax._own_functions import call_gradient, checked_gradient
from linreg_jax._typing import Array
from linreg_jax._validation import is_traced
from linreg_jax.dataset import Dataset, check_dataset
from linreg_jax.losses import Loss, check_loss
from linreg_jax.model import Params, check_params

__all__ = ["Check", "Comparison", "GradientError", "GradientReport", "Kinks", "check_gradients"]

# `one_pass` is `vectorized`, block of rows by block of rows: no derivation of its own.
_WAYS = [way for way in gradients.WAYS if way != "one_pass"]


def check_gradients(
    loss: Callable[[Params, Dataset], Array],
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


def _check_loss(
    loss: Loss, params: Params, data: Dataset, gradient: gradients.ValueAndGradient | None
) -> GradientReport:
    problem = Problem(loss, params, data)
    residual_error = residual_rounding(problem)
    kinks, moved = move_off_kinks(problem, residual_error)
    ways: dict[str, Callable[[Params, Dataset], Result]] = {
        way: partial(call_way, problem.rho, way=way) for way in _WAYS
    }
    pairs, tested = list(itertools.combinations(_WAYS, 2)), ["autodiff", "vectorized"]
    if gradient is not None:
        ways["yours"] = partial(call_gradient, gradient)
        pairs, tested = [("yours", way) for way in _WAYS], ["yours"]

    clear = problem._replace(data=moved)
    bounds = rounding_bounds(clear, residual_error)
    results = {way: call(params, moved) for way, call in ways.items()}
    first = tested[0]
    checks = [
        finite_check(results, partial(coordinate_name, params)),
        values_check(pairs, results, bounds),
        on_kinks_check(problem, ways, pairs),
        repeat_check({way: ways[way] for way in tested}, params, moved, results),
        adjoint_check(clear),
        taylor_check(clear, first, results[first][1], bounds),
        hessian_check(clear, first, ways[first]),
    ]
    compared = comparisons(pairs, results, bounds, params)
    note = ""
    if gradient is not None:
        checks.append(weights_check(clear, ways["yours"]))
        if not all(comparison.ok for comparison in compared):
            right, allowed = results["autodiff"][1], 2 * bounds.gradient
            note = explain(results["yours"][1], right, allowed, data.X.shape[0])
    return GradientReport(_title(problem), compared, tuple(checks), kinks, note)


def _title(problem: Problem) -> str:
    """The loss and the size of the problem."""
    X, y = problem.data.X, problem.data.y
    targets = f", {y.shape[1]} targets" if y.ndim == 2 else ""
    size = f"{X.shape[0]:,} examples, {X.shape[1]:,} features{targets}, {X.dtype}"
    return f"gradient of {problem.loss}: {size}"
