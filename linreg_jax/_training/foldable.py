"""Whether a run folds its rows: where it can, and where it pays."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax import _own_functions as own_functions
from linreg_jax._algebra.settled import Rows
from linreg_jax._kernels import placed, platform_of
from linreg_jax._loss import Loss
from linreg_jax._pytrees import as_pytree
from linreg_jax._sharding.shards import mesh_of
from linreg_jax._training.optimizers import flat_state, transformation_of, update_params
from linreg_jax._training.rates import LearningRate
from linreg_jax._training.views import all_rows
from linreg_jax._validation import is_traced, shown
from linreg_jax.dataset import Dataset
from linreg_jax.gradients import LossGradient, ValueAndGradient, autodiff, vectorized
from linreg_jax.losses import mse
from linreg_jax.model import Params

# With fewer numbers of X the program takes longer to compile than a thousand steps take; with more
# the second copy of X is too large to be made unasked.
_FEWEST, _MOST = 2**21, 2**27
_BY_PRODUCTS = (autodiff(mse).way, vectorized(mse).way)


def rows_to_fold(
    fold: Any,
    loss: Callable[[Params, Dataset], jax.Array],
    params: Params,
    data: Dataset,
    *,
    gradient: ValueAndGradient,
    optimizer: Callable,
    learning_rate: LearningRate,
    batch_size: int | None,
    validation: Dataset | None,
) -> Rows | None:
    """All rows by columns for a run that folds them, or None.

    The number of steps has no say, so that a run in two parts is the run in one.

    Args:
      fold: what `fit` was given; None: where it can be and is likely to pay.

    Raises:
      TypeError: `fold` is not True, False or None.
      ValueError: it is True where rows cannot be folded.
    """
    if fold is not None and not isinstance(fold, (bool, np.bool_)):
        raise TypeError(f"fold must be True, False or None, got {shown(fold)}")
    is_traced_call = any(map(is_traced, jax.tree.leaves((loss, params, data, learning_rate))))
    if not (fold or (fold is None and _is_likely_to_pay(data) and not is_traced_call)):
        return None
    obstacle = _obstacle(loss, data, gradient, batch_size, validation)
    if obstacle is None and _looks_elsewhere(optimizer, learning_rate, params):
        obstacle = "a line search looks at the loss beyond the radius"
    if fold and obstacle is not None:
        raise ValueError(f"fold=True, but rows cannot be folded: {obstacle}; leave fold out")
    if obstacle is not None:
        return None
    rows: Rows = all_rows(placed(as_pytree(loss)), params, data)
    return rows


def _obstacle(
    loss: Callable[[Params, Dataset], jax.Array],
    data: Dataset,
    gradient: ValueAndGradient,
    batch_size: int | None,
    validation: Dataset | None,
) -> str | None:
    """Why rows cannot be folded, or None."""
    if not isinstance(loss, Loss) or not loss.is_piecewise_quadratic:
        return f"{shown(loss)} is not known to be made of parabolas and lines"
    if loss.is_quadratic:
        return f"{loss} has no kinks, and compress=True is for it"
    if own_functions.is_own_gradient(gradient):
        return "a function of your own has to see the examples"
    if not isinstance(gradient, LossGradient) or gradient.way not in _BY_PRODUCTS:
        return "only the ways autodiff and vectorized read few rows"
    if batch_size is not None:
        return "mini-batches are drawn from all examples"
    if validation is not None:
        return "a run with validation data ends its periods too often"
    return None if mesh_of(data) is None else "the rows lie on several devices"


def _is_likely_to_pay(data: Dataset) -> bool:
    return platform_of(data.X) == "cpu" and _FEWEST <= data.X.size <= _MOST


def _looks_elsewhere(
    optimizer: Callable[[Any], Any], learning_rate: LearningRate, params: Params
) -> bool:
    """Whether an optimizer evaluates the loss at other parameters than those of the step."""
    calls: list[Params] = []

    def value_and_gradient(params: Params, _: Any) -> tuple[jax.Array, Params]:
        calls.append(params)
        return jnp.zeros((), params.weights.dtype), params

    def loss(params: Params, _: Any) -> jax.Array:
        return value_and_gradient(params, None)[0]

    def update(params: Params) -> Params:
        state = flat_state(transformation_of(optimizer, learning_rate).init(params))
        batch: Any = None
        return update_params(
            optimizer, learning_rate, value_and_gradient, loss, params, state, batch
        )[2]

    jax.eval_shape(update, params)
    return len(calls) > 1
