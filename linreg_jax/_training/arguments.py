"""The arguments of `fit`: validated, and made values and settings of a program.

Nothing here compiles a program of its own, but for the rate "auto".
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from linreg_jax import _own_functions as own_functions
from linreg_jax._pytrees import as_pytree
from linreg_jax._training.batches import batches_per_epoch
from linreg_jax._training.layout import EarlyStopping
from linreg_jax._training.optimizers import check_called, function_name
from linreg_jax._training.rates import CheckedSchedule, LearningRate, automatic_rate
from linreg_jax._training.result import Fit, TrainState
from linreg_jax._validation import (
    checked_key,
    is_not_negative,
    is_traced,
    positive_integer,
    scalar_setting,
    shape_text,
    shown,
    single_setting,
)
from linreg_jax.dataset import Dataset, check_dataset
from linreg_jax.gradients import ValueAndGradient, require_loss
from linreg_jax.losses import Loss
from linreg_jax.model import Params, check_params

DEFAULT_PATIENCE = 5
_MOST_STEPS = 2**31 - 1
_STEPS_ARE = (
    ", as steps are counted in int32 (solve(data) is where a squared loss gets to in the end)"
)
_MAKE_KEY = "pass key=jax.random.key(0), or another seed"


def checked_start(start: Params | TrainState, data: Dataset) -> Params | TrainState:
    """The `Params` or `TrainState` to start from, which must fit the data.

    Whether the optimizer's arrays fit is for `optimizers.check_state` to say.

    Raises:
      TypeError, ValueError: neither of the two, shapes that do not fit, more than one dtype.
    """
    check_dataset(data)
    if isinstance(start, Fit):
        raise TypeError(
            "params must be Params or a TrainState, got Fit: pass its state to continue where it "
            "stopped, or its params to start afresh"
        )
    params = start.params if isinstance(start, TrainState) else start
    try:
        check_params(params, data.X, data.y)
    except ValueError as error:
        if isinstance(start, TrainState):
            raise ValueError(f"the state does not fit the data: {error}") from None
        raise
    for name, leaf in [("y", data.y), *params._asdict().items()]:
        if leaf is not None and leaf.dtype != data.X.dtype:
            raise TypeError(
                f"{name} is {leaf.dtype} but X is {data.X.dtype}: a fit computes in one dtype; "
                "as_dataset(X, y) and init_params(data) give one"
            )
    return start


def check_mini_batches(
    data: Dataset, batch_size: int, key: Array | None, start: Params | TrainState
) -> None:
    """Raises where mini-batches cannot be made of the data, or have no key."""
    positive_integer("batch_size", batch_size, data.X.shape[0], ", the rows of the data")
    if data.total_weight is not None:
        raise ValueError(
            "data has a total_weight (it is compressed), so its rows are not examples to make "
            "mini-batches of: pass the original data, or no batch_size"
        )
    if key is None and not (isinstance(start, TrainState) and start.key is not None):
        raise ValueError(f"batch_size needs a key, which the order is drawn from: {_MAKE_KEY}")


def as_rate(
    learning_rate: Any,
    loss: Callable[[Params, Dataset], Array],
    params: Params,
    data: Dataset,
    optimizer: Callable,
    batch_size: int | None,
) -> LearningRate:
    """The learning rate as a pytree: [] of the dtype of the data, or a schedule, step -> rate.

    Raises:
      TypeError, ValueError: not a number at least 0, a schedule or "auto"; "auto" for an optimizer
        or a loss whose best rate is not known.
    """
    if callable(learning_rate):
        return _checked_schedule(learning_rate)
    if isinstance(learning_rate, str) and learning_rate == "auto":
        if optimizer is not optax.sgd:
            raise ValueError(
                'learning_rate="auto" is for plain gradient descent, optimizer=optax.sgd, got '
                f"{function_name(optimizer)}: pass a number, such as 0.01"
            )
        known = require_loss(loss, 'learning_rate="auto"')
        return automatic_rate(known, data, intercept=params.bias is not None, batch_size=batch_size)
    rule = "a finite number, at least 0, a schedule (step -> rate) or 'auto'"
    rate = scalar_setting("learning_rate", learning_rate, rule, is_not_negative)
    if jnp.ndim(rate) != 0:
        raise ValueError(
            f"learning_rate has shape {shape_text(jnp.shape(rate))}: one fit takes one rate; "
            "jax.vmap(lambda rate: fit(..., learning_rate=rate))(rates) takes them all at once"
        )
    return as_array(rate, data.X.dtype)


def _checked_schedule(schedule: Callable[[Any], Any]) -> LearningRate:
    """A schedule as a pytree.

    Raises:
      TypeError: what it gives for a step is no number, or it fails, as what makes schedules does.
    """
    check_called(schedule)
    as_tree = as_pytree(schedule)
    try:
        rate = jax.eval_shape(as_tree, jax.ShapeDtypeStruct((), jnp.int32))
        is_number = rate.shape == () and jnp.issubdtype(rate.dtype, jnp.number)
    except Exception as error:  # of the caller's own function
        raise TypeError(
            f"learning_rate {function_name(schedule)} is no schedule, a function of the step that "
            f"gives a number; called with a step it raised {type(error).__name__}: {error}"
        ) from error
    if not is_number:
        raise TypeError(
            f"learning_rate {function_name(schedule)} is no schedule, a function of the step that "
            f"gives a number: it gave {rate.dtype}{shape_text(rate.shape)}"
        )
    return CheckedSchedule(as_tree)


def as_array(value: ArrayLike, dtype: DTypeLike) -> ArrayLike:
    """[] of a dtype: NumPy's for a host number, which is handed to a compiled program at once."""
    return value.astype(dtype) if isinstance(value, jax.Array) else np.asarray(value, dtype)


def number_of_steps(
    data: Dataset, num_steps: int | None, num_epochs: int | None, batch_size: int | None
) -> int:
    """How many steps a run has.

    Raises:
      TypeError, ValueError: both or neither of num_steps and num_epochs, not integers, less than 1.
    """
    if (num_steps is None) == (num_epochs is None):
        given = "neither" if num_steps is None else "both"
        raise ValueError(f"pass num_steps or num_epochs: one of them says how long, got {given}")
    if num_epochs is None:
        return positive_integer("num_steps", num_steps, _MOST_STEPS, _STEPS_ARE)
    per_epoch = 1 if batch_size is None else batches_per_epoch(data.X.shape[0], batch_size)
    most = _MOST_STEPS // per_epoch
    return positive_integer("num_epochs", num_epochs, most, _STEPS_ARE) * per_epoch


def checked_progress(
    progress: bool | Callable[..., object] | None,
) -> Literal[True] | Callable[..., object] | None:
    """What shows the progress: a function, True or, for False and None, None.

    Raises:
      TypeError: anything else.
    """
    if progress is None or progress is False:
        return None
    if progress is True or callable(progress):
        return progress
    raise TypeError(
        f"progress must be True or a function that is called with a Progress, got {shown(progress)}"
    )


def check_compress(
    compress: Any,
    loss: Callable[[Params, Dataset], Array],
    gradient: ValueAndGradient,
    batch_size: int | None,
) -> None:
    """Raises where `compress` is no answer, or True where few rows cannot stand for the data.

    Raises:
      TypeError: `compress` is not True, False or None.
      ValueError: it is True for a loss that is not squared, for a gradient of the caller's own, or
        for mini-batches.
    """
    if compress is not None and not isinstance(compress, (bool, np.bool_)):
        raise TypeError(f"compress must be True, False or None, got {shown(compress)}")
    if not compress:
        return
    if not isinstance(loss, Loss) or not loss.is_quadratic:
        raise ValueError(
            f"compress=True needs a squared loss, which few rows can stand for, got {loss}: "
            "leave compress out"
        )
    if own_functions.is_own_gradient(gradient):
        raise ValueError(
            "compress=True gives rows that a gradient of your own does not know about: leave "
            "compress or gradient out"
        )
    if batch_size is not None:
        raise ValueError(
            "compress=True leaves no examples to make mini-batches of: leave compress out, or pass "
            "no batch_size"
        )


def checked_step(name: str, value: Any) -> ArrayLike | None:
    """[] int32 of a step, None for None.

    Raises:
      ValueError: not an integer, or less than 0.
    """
    if value is None or is_traced(value):
        return value
    if not np.issubdtype(np.asarray(value).dtype, np.integer) or np.ndim(value) or value < 0:
        raise ValueError(f"{name} must be a step, an integer of 0 or more, got {shown(value)}")
    return np.asarray(value, np.int32)


def check_validation(validation: Dataset, data: Dataset) -> None:
    """Raises where the validation data differ from the data in more than their rows."""
    check_dataset(validation, "validation")
    for name in ("X", "y"):
        ours, theirs = getattr(data, name), getattr(validation, name)
        if ours.shape[1:] != theirs.shape[1:] or ours.dtype != theirs.dtype:
            raise ValueError(
                f"validation.{name} is {theirs.dtype}{shape_text(theirs.shape)} but data.{name}"
                f" is {ours.dtype}{shape_text(ours.shape)}: they differ in rows only"
            )


def as_stopping(
    tolerance: Any,
    patience: int | None,
    validation: Dataset | None,
    dtype: DTypeLike,
    *,
    is_full_batch: bool,
) -> tuple[ArrayLike | None, EarlyStopping | None]:
    """The tolerance of the gradient's norm, and when to stop on validation; see `fit`.

    Raises:
      TypeError, ValueError: a negative tolerance, patience that is no integer of 1 or more, or
        either of them without the validation data that it is about.
    """
    if tolerance is not None:
        rule = "a finite number, at least 0"
        tolerance = single_setting("tolerance", tolerance, rule, is_not_negative)
        tolerance = as_array(tolerance, dtype)
    if patience is not None:
        patience = positive_integer("patience", patience, 2**31 - 1, ", as steps are int32")
        if validation is None:
            raise ValueError(
                "patience needs validation data, whose loss the run waits for: pass validation=, "
                "or no patience"
            )
    elif tolerance is None or is_full_batch:
        return tolerance, None
    elif validation is None:
        raise ValueError(
            "tolerance with mini-batches needs validation data, whose loss it is about (the "
            "gradient of one batch says little): pass validation=, or no tolerance"
        )
    return None, EarlyStopping(
        as_array(0.0, dtype) if tolerance is None else tolerance,
        np.asarray(DEFAULT_PATIENCE if patience is None else patience, np.int32),
    )


def as_key_data(key: Any) -> Array | None:
    """[2] uint32 of a JAX random key, so that states hold plain arrays; None stays None.

    Raises:
      TypeError: not one JAX random key.
    """
    if key is None:
        return None
    key = checked_key(key)
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        data = jax.random.key_data(key)
        return data if data.shape == (2,) else jax.random.bits(key, (2,), jnp.uint32)
    if key.shape == (2,):
        return key
    raise TypeError(f"key must be one JAX random key, got {shown(key)}: {_MAKE_KEY}")
