"""Checks of arguments: errors that name the argument, the rule, what was passed and the fix."""

import numbers
import operator
import reprlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_FIRST = 3  # numbers of an array that an error shows
_LONGEST = 80  # characters of anything else


def is_traced(value: object) -> bool:
    """Whether the value is unknown because a transformation is tracing the call."""
    return isinstance(value, jax.core.Tracer)


def shape_text(shape: Sequence[int | str]) -> str:
    """`(64, 1)` as the documentation writes shapes: `[64, 1]`."""
    return str(list(shape))


def shown(value: object) -> str:
    """A value as an error shows it: an array by dtype, shape and first numbers, the rest cut."""
    if isinstance(value, (np.ndarray, jax.Array)):
        text = f"{value.dtype}{shape_text(value.shape)}"
        if is_traced(value) or not jnp.issubdtype(value.dtype, np.number) or value.size == 0:
            return text
        first = ", ".join(f"{number:.6g}" for number in np.ravel(np.asarray(value))[:_FIRST])
        return f"{text} ({first}{', ...' if value.size > _FIRST else ''})"
    if hasattr(value, "_fields"):  # a record of arrays
        return f"a {type(value).__name__}"
    text = reprlib.repr(value) if isinstance(value, (list, tuple, str, dict, set)) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def kind_text(value: object) -> str:
    """What a value is where something else was expected: its type, or what array it is."""
    return shown(value) if isinstance(value, (np.ndarray, jax.Array)) else type(value).__name__


def several_by_vmap(name: str) -> str:
    """The suggested fix where one number is taken and several were passed."""
    return f"for several, jax.vmap(lambda {name}: ...)(jnp.array([...]))"


def require_shape(
    name: str,
    array: Array | np.ndarray | np.generic | jax.ShapeDtypeStruct,
    shape: Sequence[int | str],
    meaning: str,
) -> None:
    """Raises ValueError unless `array.shape == shape`.

    Args:
      name: the argument as the user knows it.
      array: what came.
      shape: what its shape must be.
      meaning: the rule and the fix, the end of the sentence.
    """
    if tuple(array.shape) != tuple(shape):
        raise ValueError(f"{name} has shape {shape_text(array.shape)}: {meaning}")


_COMPUTED_IN = (np.dtype(np.float32), np.dtype(np.float64))


def require_floating(name: str, array: Any, fix: str) -> None:
    """Raises TypeError unless `array` holds real floating-point numbers."""
    if isinstance(array, jax.Array) and array.dtype in _COMPUTED_IN:
        return  # at once: a fit asks this of every array it is given
    if not hasattr(array, "dtype") or not hasattr(array, "shape"):
        raise TypeError(f"{name} must be an array, got {type(array).__name__}: {fix}")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must hold floating-point numbers, got {array.dtype}: {fix}")
    if jnp.finfo(array.dtype).bits < 32:
        raise TypeError(
            f"{name} holds {array.dtype}, and everything is computed in float32 or float64: "
            f"convert it, {name}.astype(jnp.float32)"
        )


def scalar_setting(name: str, value: Any, rule: str, accept: Callable[[Any], Any]) -> float | Array:
    """A hyper-parameter as it is kept: a Python float, or the array that is traced or mapped over.

    One spelling for every host number, so that `1`, `1.0` and `numpy.float32(1)` compile once. One
    that is traced, and not known to be in range, is NaN where it is not.

    Args:
      name: the argument as the user knows it.
      value: a number, a zero-dimensional array, a tracer, or an array to map over.
      rule: the end of the sentence `name must be ...`.
      accept: whether a number is in range, such as `is_positive`.

    Raises:
      TypeError: `value` is not a real number.
      ValueError: a known value is refused by `accept`.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number and not isinstance(value, (np.ndarray, np.generic, jax.Array)):
        fix = f"; {several_by_vmap(name)}" if isinstance(value, (list, tuple)) else ""
        raise TypeError(
            f"{name} must be {rule}, got {shown(value)} of type {type(value).__name__}{fix}"
        )
    dtype = getattr(value, "dtype", float)  # a random key has one, and no numbers
    if not jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"{name} must be {rule}, got an array of {dtype}")
    if is_traced(value):
        return jnp.where(accept(value), value, jnp.nan)
    known = np.asarray(value)
    for one in known.ravel().tolist():
        if not accept(one):
            raise ValueError(f"{name} must be {rule}, got {one}")
    return float(known) if known.ndim == 0 else value


def single_setting(name: str, value: Any, rule: str, accept: Callable[[Any], Any]) -> float | Array:
    """`scalar_setting` of one number, which may be traced.

    Raises:
      TypeError, ValueError: as `scalar_setting` says, and an array of several numbers.
    """
    setting = scalar_setting(name, value, rule, accept)
    if jnp.ndim(setting) > 0:
        shape = shape_text(jnp.shape(setting))
        raise ValueError(f"{name} has shape {shape}: it is one number; {several_by_vmap(name)}")
    return setting


# What a setting may be. Written with &, so that each takes a number that is traced too.


def is_not_negative(value: float | Array) -> bool | Array:
    """Whether a number is finite and at least 0."""
    return (value >= 0) & (value < float("inf"))


def is_positive(value: float | Array) -> bool | Array:
    """Whether a number is finite and more than 0."""
    return (value > 0) & (value < float("inf"))


def is_between_0_and_1(value: float | Array) -> bool | Array:
    """Whether a number is more than 0 and less than 1."""
    return (value > 0) & (value < 1)


def flag(name: str, value: object) -> bool:
    """A Python bool.

    Raises:
      TypeError: neither True nor False.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def checked_key(key: Any) -> Array:
    """One JAX random key, of the new kind or the old (uint32 words).

    Raises:
      TypeError: something else, such as a seed or several keys.
    """
    if isinstance(key, np.ndarray):
        key = jnp.asarray(key)
    if isinstance(key, jax.Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            if key.ndim == 0:
                return key
        elif key.dtype == jnp.uint32 and key.ndim == 1:
            return key
    fix = "pass jax.random.key(0), or another seed"
    if isinstance(key, numbers.Integral) and not isinstance(key, bool):
        fix = f"a seed becomes one by jax.random.key({key})"
    elif isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        fix = "pass one of them, or jax.vmap over all"
    raise TypeError(f"key must be one JAX random key, got {shown(key)}: {fix}")


def positive_integer(name: str, value: Any, at_most: int | None = None, meaning: str = "") -> int:
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
            f"{name} must be a Python integer, got {shown(value)}: it is part of the compiled "
            "program"
        ) from None
    if isinstance(value, bool) or number < 1:
        raise ValueError(f"{name} must be an integer of 1 or more, got {shown(value)}")
    if at_most is not None and number > at_most:
        raise ValueError(f"{name} must be at most {at_most}{meaning}, got {number}")
    return number
