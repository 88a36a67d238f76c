"""What `fit` refuses, and what it makes of its arguments, before anything compiles."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from linreg_jax._numerics import rows_to_add
from linreg_jax._sharding.shards import mesh_of
from linreg_jax._training.rates import automatic_rate
from linreg_jax._training.updates import flat_state, has_lasso, name_of, transformation_of
from linreg_jax._validation import (
    checked_key,
    flag,
    is_not_negative,
    is_traced,
    positive_integer,
    scalar_setting,
    shape_text,
    shown,
    single_setting,
)
from linreg_jax.batching import batches_per_epoch, pad
from linreg_jax.compression import compress as compressed
from linreg_jax.dataset import check_dataset
from linreg_jax.losses import Loss, check_loss
from linreg_jax.model import check_params
from linreg_jax.records import Fit, TrainState
from linreg_jax.schedules import adaptive, invscaling

_MAKE_KEY = "pass key=jax.random.key(0), or another seed"
_UNCALLED = {
    invscaling: "invscaling makes a schedule: call it, learning_rate=invscaling(0.1)",
    adaptive: "adaptive makes an optimizer: call it, optimizer=adaptive() with learning_rate=0.1",
}
_MOST_STEPS = 2**31 - 1
_STEPS_ARE = (
    ", as steps are counted in int32 (solve(data) is where a squared loss gets to in the end)"
)


def checked_start(start, data):
    """The `Params` or `TrainState` to start from, which must fit the data.

    Raises:
      TypeError, ValueError: neither of the two, shapes that do not fit, more than one dtype.
    """
    check_dataset(data)
    if isinstance(start, Fit):
        raise TypeError(
            "params must be Params or a TrainState, got Fit: pass its state to go on from where it "
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


def check_mini_batches(data, batch_size, key, start):
    """Raises where mini-batches cannot be made of the data, or have no key."""
    positive_integer("batch_size", batch_size, data.X.shape[0], ", the rows of the data")
    if data.count is not None:
        raise ValueError(
            "data has a count (it is compressed), so its rows are not examples to make "
            "mini-batches of: pass the original data, or no batch_size"
        )
    if key is None and not (isinstance(start, TrainState) and start.key is not None):
        raise ValueError(f"batch_size needs a key, which the order is drawn from: {_MAKE_KEY}")


def as_rate(learning_rate, loss, params, data, optimizer, batch_size):
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
                f"{name_of(optimizer)}: pass a number, such as 0.01"
            )
        return automatic_rate(loss, data, intercept=params.bias is not None, batch_size=batch_size)
    rule = "a finite number, at least 0, a schedule (step -> rate) or 'auto'"
    rate = scalar_setting("learning_rate", learning_rate, rule, is_not_negative)
    if jnp.ndim(rate) != 0:
        raise ValueError(
            f"learning_rate has shape {shape_text(jnp.shape(rate))}: one fit takes one rate; "
            "jax.vmap(lambda rate: fit(..., learning_rate=rate))(rates) takes them all at once"
        )
    return as_array(rate, data.X.dtype)


def _checked_schedule(schedule: Callable[[Any], Any]) -> Any:
    """A schedule as a pytree.

    Raises:
      TypeError: what it gives for a step is no number, or it fails, as what makes schedules does.
    """
    if schedule is invscaling or schedule is adaptive:
        raise TypeError(_UNCALLED[schedule])
    as_tree = as_pytree(schedule)
    try:
        rate = jax.eval_shape(as_tree, jax.ShapeDtypeStruct((), jnp.int32))
        is_number = rate.shape == () and jnp.issubdtype(rate.dtype, jnp.number)
    except Exception as error:  # of the caller's own function
        raise TypeError(
            f"learning_rate {name_of(schedule)} is no schedule, a function of the step that gives "
            f"a number; called with a step it raised {type(error).__name__}: {error}"
        ) from error
    if not is_number:
        raise TypeError(
            f"learning_rate {name_of(schedule)} is no schedule, a function of the step that gives "
            f"a number: it gave {rate.dtype}{shape_text(rate.shape)}"
        )
    return as_tree


def as_array(value, dtype):
    """[] of a dtype: NumPy's for a host number, which is handed to a compiled program at once."""
    return value.astype(dtype) if isinstance(value, jax.Array) else np.asarray(value, dtype)


def as_pytree(function):
    """A function that can be an argument of a compiled one: a pytree as it is, others wrapped."""
    if any(leaf is function for leaf in jax.tree.leaves(function)):
        return jax.tree_util.Partial(function)
    return function


def check_factories(loss, optimizer, gradient):
    """Raises where the loss, the optimizer or the gradient is not what `fit` calls it as."""
    check_loss(loss)
    if optimizer is invscaling or optimizer is adaptive:
        raise TypeError(_UNCALLED[optimizer])
    if isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            "optimizer must be a factory, learning rate -> optax.GradientTransformation, got what "
            "one makes: pass optax.sgd, not optax.sgd(0.1), or lambda rate: optax.sgd(rate, 0.9)"
        )
    if not callable(optimizer):
        raise TypeError(
            "optimizer must be a factory, learning rate -> optax.GradientTransformation, got "
            f"{shown(optimizer)}: pass optax.sgd, for instance"
        )
    if not callable(gradient):
        raise TypeError(
            f"gradient must be a way to the gradient, got {shown(gradient)}: pass "
            "gradients.autodiff or gradients.vectorized, for instance"
        )
    if has_lasso(loss) and optimizer is not optax.sgd:
        raise ValueError(
            f"{loss} has a lasso, which is trained by plain proximal steps: leave "
            "optimizer=optax.sgd as it is, or put a ridge in place of the lasso"
        )


def check_state(start, optimizer, learning_rate):
    """Raises where the optimizer makes no transformation, or not one for the start's state."""
    if isinstance(learning_rate, jax.Array) and not is_traced(learning_rate):
        # A number of the host: optimizers compute with the rate, and here it is only tried.
        learning_rate = np.ones((), learning_rate.dtype)
    try:
        transformation = transformation_of(optimizer, learning_rate)
    except TypeError as error:
        if str(error).startswith("optimizer must be"):
            raise
        raise TypeError(
            f"optimizer(learning_rate) failed, {error}: pass a factory of one argument, "
            "lambda rate: ..."
        ) from error
    if not isinstance(start, TrainState):
        return
    expected = jax.eval_shape(lambda params: flat_state(transformation.init(params)), start.params)
    had = [(leaf.shape, leaf.dtype) for leaf in start.optimizer_state]
    wanted = [(leaf.shape, leaf.dtype) for leaf in expected]
    if had != wanted:
        raise ValueError(
            f"the state does not fit the optimizer: it holds arrays {_shapes(had)}, and "
            f"{name_of(optimizer)} needs {_shapes(wanted)}; pass the optimizer that made it, or "
            "state.params to start it afresh"
        )


def _shapes(arrays):
    return "[" + ", ".join(f"{dtype}{shape_text(shape)}" for shape, dtype in arrays) + "]"


def number_of_steps(data, num_steps, num_epochs, batch_size):
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


def number_of_turns(num_steps, tolerance, progress):
    """How often a run is looked at: what may end early does at most one in so many too much."""
    if progress is not None:
        return min(1024, num_steps)
    return None if tolerance is None else min(64, num_steps)


def checked_progress(progress):
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


def data_for_steps(data, loss, batch_size, compress):
    """The data that the steps are taken on: compressed or padded where they are the same steps.

    Compression goes by the shape alone and not by the number of steps, and is a program of its own,
    so that a run in two parts has the very rows of the run in one.

    Raises:
      TypeError: `compress` is not True, False or None.
      ValueError: it is True for a loss that is not squared, or for mini-batches.
    """
    if compress is not None:
        try:
            compress = flag("compress", compress)
        except TypeError:
            raise TypeError(
                f"compress must be True, False or None, got {shown(compress)}"
            ) from None
    squared = isinstance(loss, Loss) and loss.curvature is not None
    if compress and not squared:
        raise ValueError(
            f"compress=True needs a squared loss, which few rows can stand for, got {loss}: "
            "leave compress out"
        )
    if compress and batch_size is not None:
        raise ValueError(
            "compress=True leaves no examples to make mini-batches of: leave compress out, or pass "
            "no batch_size"
        )
    if batch_size is not None or not isinstance(loss, Loss):
        return data
    n, d = data.X.shape
    pays = squared and data.count is None and n >= 8 * (d + 1 + math.prod(data.y.shape[1:]))
    if compress or (compress is None and pays):
        return compressed(data)
    missing = rows_to_add(n, d) if mesh_of(data) is None else 0
    return data if missing == 0 else pad(data, missing)


def checked_step(name, value):
    """[] int32 of a step, None for None.

    Raises:
      TypeError, ValueError: not an integer, or less than 0.
    """
    if value is None or is_traced(value):
        return value
    if not np.issubdtype(np.asarray(value).dtype, np.integer) or np.ndim(value) or value < 0:
        raise ValueError(f"{name} must be a step, an integer of 0 or more, got {shown(value)}")
    return np.asarray(value, np.int32)


def as_tolerance(tolerance, validation, data, batch_size):
    """The tolerance as an array of the data's dtype, or None; the validation data is checked.

    Raises:
      TypeError, ValueError: a negative tolerance; mini-batches without validation data to stop on;
        validation data of other features or targets.
    """
    if validation is not None:
        check_dataset(validation, "validation")
        for name in ("X", "y"):
            ours, theirs = getattr(data, name), getattr(validation, name)
            if ours.shape[1:] != theirs.shape[1:] or ours.dtype != theirs.dtype:
                raise ValueError(
                    f"validation.{name} is {theirs.dtype}{shape_text(theirs.shape)} but data.{name}"
                    f" is {ours.dtype}{shape_text(ours.shape)}: they differ in rows only"
                )
    if tolerance is None:
        return None
    if batch_size is not None and validation is None:
        raise ValueError(
            "tolerance with mini-batches needs validation data, whose loss it is about (the "
            "gradient of one batch says little): pass validation=, or no tolerance"
        )
    rule = "a finite number, at least 0"
    tolerance = single_setting("tolerance", tolerance, rule, is_not_negative)
    return as_array(tolerance, data.X.dtype)


def as_key_data(key):
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
