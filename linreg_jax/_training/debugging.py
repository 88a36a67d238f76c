"""`fit` under `jax.debug_nans`: a NaN of the loss is reported, one that means "nothing" is not."""

from collections.abc import Callable

import jax
import numpy as np

from linreg_jax._training.layout import Problem, Settings, full_batch, value_and_gradient
from linreg_jax._training.result import Fit, Status
from linreg_jax._validation import is_traced


def run_watching_nans(run: Callable[[], Fit], problem: Problem, settings: Settings) -> Fit:
    """The `Fit` of a run, whose histories are NaN from its end on, wherever NaNs are looked for.

    A run meets a NaN of the loss, of its gradient or of a step as a number that is not finite, and
    ends with the last parameters that were. There the loss and the gradient are computed again (on
    all the data), so that JAX names the operation; but for parameters that have exploded, whose
    predictions are differences of infinities.

    Raises:
      FloatingPointError: the loss or its gradient is NaN, where `jax_debug_nans` is on.
    """
    if not getattr(jax.config, "jax_debug_nans", False):
        return run()
    with jax.debug_nans(False):
        fitted = run()
    if is_traced(fitted.status) or int(fitted.status) != Status.DIVERGED:
        return fitted
    params = [np.asarray(leaf) for leaf in jax.tree.leaves(fitted.state.params)]
    has_exploded = any(np.abs(p).max() > np.sqrt(np.finfo(p.dtype).max) for p in params)
    if not has_exploded:
        value_and_gradient(problem, settings)(fitted.state.params, full_batch(problem))
    return fitted
