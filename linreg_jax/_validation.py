"""What every door shares: errors that name the argument, the rule, what came and the mend."""

import numbers
import operator

import jax
import jax.numpy as jnp
import numpy as np


def is_traced(value) -> bool:
    """Whether the value is unknown because a transformation is tracing the call."""
    return isinstance(value, jax.core.Tracer)


def shape_text(shape) -> str:
    """`(64, 1)` as the documentation writes shapes: `[64, 1]`."""
    return str(list(shape))


def require_shape(name, array, shape, meaning):
    """Raises ValueError unless `array.shape == shape`.

    Args:
      name: the argument as the user knows it.
      array: what came.
      shape: what its shape must be.
      meaning: the rule and the mend, the end of the sentence.
    """
    if tuple(array.shape) != tuple(shape):
        raise ValueError(f"{name} has shape {shape_text(array.shape)}: {meaning}")


def require_floating(name, array, mend):
    """Raises TypeError unless `array` holds real floating-point numbers."""
    if not hasattr(array, "dtype") or not hasattr(array, "shape"):
        raise TypeError(f"{name} must be an array, got {type(array).__name__}: {mend}")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must hold floating-point numbers, got {array.dtype}: {mend}")
    if jnp.finfo(array.dtype).bits < 32:
        raise TypeError(
            f"{name} holds {array.dtype}, and everything is computed in float32 or float64: "
            f"convert it, {name}.astype(jnp.float32)"
        )


def scalar_setting(name, value, rule, accept):
    """A hyper-parameter as it is kept: a Python float, or the array that is traced or mapped over.

    One spelling for every host number, so that `1`, `1.0` and `numpy.float32(1)` compile once.

    Args:
      name: the argument as the user knows it.
      value: a number, a zero-dimensional array, a tracer, or an array to map over.
      rule: the end of the sentence `name must be ...`.
      accept: float -> bool, checked for each value that is known.

    Raises:
      TypeError: `value` is not a real number.
      ValueError: a known value is refused by `accept`.
    """
    if is_traced(value):
        return value
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number and not isinstance(value, (np.ndarray, np.generic, jax.Array)):
        raise TypeError(f"{name} must be {rule}, got {value!r} of type {type(value).__name__}")
    known = np.asarray(value)
    if (
        known.dtype == bool
        or not jnp.issubdtype(known.dtype, jnp.number)
        or (jnp.issubdtype(known.dtype, jnp.complexfloating))
    ):
        raise TypeError(f"{name} must be {rule}, got an array of {known.dtype}")
    for one in known.ravel().tolist():
        if not accept(one):
            raise ValueError(f"{name} must be {rule}, got {one}")
    return float(known) if known.ndim == 0 else value


def is_not_negative(value) -> bool:
    """Whether a number is finite and at least 0."""
    return 0 <= value < float("inf")


def is_positive(value) -> bool:
    """Whether a number is finite and more than 0."""
    return 0 < value < float("inf")


def positive_integer(name, value, at_most=None, meaning=""):
    """A Python int, 1 or more.

    Args:
      name: the argument as the user knows it.
      value: what came.
      at_most: the largest that is accepted, or None.
      meaning: what `at_most` is, the end of the sentence.

    Raises:
      TypeError: not an integer known while tracing.
      ValueError: less than 1, or more than `at_most`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be a Python integer, got {value!r}: it is part of the compiled program"
        ) from None
    if isinstance(value, bool) or number < 1:
        raise ValueError(f"{name} must be an integer of 1 or more, got {value!r}")
    if at_most is not None and number > at_most:
        raise ValueError(f"{name} must be at most {at_most}{meaning}, got {number}")
    return number
