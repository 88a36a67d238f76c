"""What users hand over as numbers, made arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from linreg_jax._typing import Array, Float, Num
from linreg_jax._validation import is_traced, shape_text

_ALIGNMENT = 64  # bytes
_LOOKED_AT_BY_NUMPY = 2**16  # numbers; XLA would compile for tens of milliseconds


class _Listed(np.ndarray):
    """Numbers that came without a dtype of their own, as Python lists do."""


def as_numeric(name: str, value: Any) -> Num[Array | np.ndarray, "..."]:
    """`value` as an array of real numbers, its own dtype kept.

    Raises:
      TypeError: something else than real numbers.
      ValueError: masked entries, rows of different lengths.
    """
    array: Array | np.ndarray
    _refuse_what_is_no_array(name, value)
    if isinstance(value, jax.Array):
        array = value
    else:
        if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
            hidden = np.ma.getmaskarray(value).sum()
            raise ValueError(f"{name} masks {hidden} entries: fill them or drop their rows first")
        try:
            array = np.asarray(value)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name} is not a rectangular array of numbers: {error}") from error
        if isinstance(value, (list, tuple)):
            array = array.view(_Listed)
        elif array.dtype == object and hasattr(value, "columns"):
            array = _numbers_of_frame(name, value)
    if array.dtype.kind == "m":
        raise TypeError(
            f"{name} must hold real numbers, got durations, {array.dtype} (from "
            f'{type(value).__name__}): divide by a unit, such as {name} / np.timedelta64(1, "s")'
        )
    real = jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool
    if not real or jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(
            f"{name} must hold real numbers, got {array.dtype} (from {type(value).__name__}): "
            "convert or encode it first, for instance with astype(float)"
        )
    return array


def _refuse_what_is_no_array(name: str, value: Any) -> None:
    """Raises TypeError for a record such as a `Dataset`, a sparse matrix and a function."""
    kind = type(value).__name__
    if hasattr(value, "_fields"):
        raise TypeError(
            f"{name} must be an array, got {kind}, a record of arrays: pass one of its fields "
            f"({', '.join(value._fields)})"
        )
    for method in ("toarray", "todense"):  # SciPy's and JAX's sparse arrays
        if hasattr(value, method):
            raise TypeError(
                f"{name} must be a dense array, got a sparse {kind}: pass its .{method}(), which "
                "needs memory for every entry"
            )
    if callable(value):
        raise TypeError(f"{name} must be an array, got {kind}: pass the numbers themselves")


def _numbers_of_frame(name: str, frame: Any) -> np.ndarray:
    """[n, d] the columns of a data frame whose dtypes have no common one in NumPy.

    Raises:
      TypeError: a column holds something else than numbers, such as text or missing values.
    """
    # pandas pairs names and columns itself, where a name may come twice.
    pairs = frame.items() if hasattr(frame, "items") else ((c, frame[c]) for c in frame.columns)
    columns = []
    for label, series in pairs:
        column = np.asarray(series.to_list())
        columns.append(column)
        if column.dtype.kind not in "biuf":
            raise TypeError(
                f"{name} must hold real numbers, got {series.dtype} in column {label!r}: "
                "encode its values, fill what is missing, or leave the column out"
            )
    return np.column_stack(columns)


def decides_dtype(array: Array | np.ndarray) -> bool:
    """Whether an array came with a floating-point dtype of its own."""
    return jnp.issubdtype(array.dtype, jnp.floating) and not isinstance(array, _Listed)


def converted(
    name: str, array: Num[Array | np.ndarray, "..."], dtype: DTypeLike
) -> Float[Array, "..."]:
    """What `as_numeric` gave as a JAX array of a floating-point dtype, all of it finite.

    Raises:
      ValueError: NaN or infinity, or numbers too large for the dtype.
    """
    if not isinstance(array, np.ndarray):
        result = array.astype(dtype)
        if not is_traced(array) and not _is_finite(result):
            _refuse_not_finite(name, np.asarray(array), np.asarray(result))
        return result
    with np.errstate(over="ignore", under="ignore"):  # reported with their place
        on_host = _copied(np.asarray(array), dtype)
    # NumPy looks without compiling a program for every shape.
    if not np.isfinite(on_host).all():
        _refuse_not_finite(name, array, on_host)
    with jax.ensure_compile_time_eval():  # within a program too its values are known
        return jax.device_put(on_host)


def _is_finite(array: Array) -> bool:
    """Whether all numbers are; of few of them without compiling a program for their shape."""
    few = array.size <= _LOOKED_AT_BY_NUMPY and array.is_fully_addressable
    return bool(np.isfinite(jax.device_get(array)).all() if few else jnp.isfinite(array).all())


def _copied(array: np.ndarray, dtype: DTypeLike) -> Float[np.ndarray, "..."]:
    """A copy of a dtype that lies where JAX on a CPU takes it as it is, with `device_put`.

    JAX's own copy takes several times as long as NumPy's, which asks for large pages of memory.
    """
    itemsize = np.dtype(dtype).itemsize
    memory = np.empty(array.size * itemsize + _ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % _ALIGNMENT
    copy = memory[first : first + array.size * itemsize].view(dtype).reshape(array.shape)
    np.copyto(copy, array, casting="unsafe")
    return copy


def require_nothing_lost(
    name: str, array: Num[Array | np.ndarray, "..."], dtype: DTypeLike
) -> None:
    """Raises ValueError where a smaller dtype would make zeros of a column of numbers.

    Args:
      name: the argument as the user knows it.
      array: what `as_numeric` gave.
      dtype: what it is converted to.
    """
    least = np.finfo(dtype).tiny  # what is smaller counts as 0 on most processors
    narrows = array.dtype.kind == "f" and array.dtype.itemsize > np.dtype(dtype).itemsize
    if is_traced(array) or not narrows or array.size == 0:
        return
    size = np.maximum(array.max(axis=0), -array.min(axis=0))  # of each column
    lost = (size > 0) & (size < least)
    if lost.any():
        index = np.flatnonzero(lost)[0]
        column = name if array.ndim == 1 else f"{name}[:, {index}]"
        raise ValueError(
            f"{column} holds numbers of at most {np.ravel(size)[index]:.2g}, and {np.dtype(dtype)} "
            f"takes what is below {least:.2g} for 0: rescale {column}, or keep float64 with "
            'jax.config.update("jax_enable_x64", True)'
        )


def _refuse_not_finite(name: str, source: np.ndarray, result: np.ndarray) -> None:
    wrong = ~np.isfinite(source)
    if wrong.any():
        raise ValueError(
            f"{name} holds {wrong.sum()} values that are not finite, {first_wrong(source, wrong)}: "
            "drop or fill those rows first"
        )
    wrong = ~np.isfinite(result)
    raise ValueError(
        f"{name} holds {wrong.sum()} values that do not fit {result.dtype} (largest "
        f"{np.finfo(result.dtype).max:.2g}), {first_wrong(source, wrong)}: rescale {name}, or "
        'keep float64 with jax.config.update("jax_enable_x64", True)'
    )


def first_wrong(array: np.ndarray, wrong: np.ndarray) -> str:
    """`nan at [17, 2]`: the first entry that is wrong, and where."""
    place = tuple(np.argwhere(wrong)[0].tolist())
    return f"the first {array[place]} at {shape_text(place)}"


def require_usable_weights(weights: Float[np.ndarray, " n"]) -> None:
    """Raises unless sample weights are at least 0 and their sum can be divided by.

    Raises:
      ValueError: a negative weight, or a sum that is 0, or that over- or underflows.
    """
    if (weights < 0).any():
        raise ValueError(
            f"sample_weight must be at least 0, got {first_wrong(weights, weights < 0)}: "
            "a weight counts how often an example stands in the data"
        )
    if not weights.any():
        raise ValueError("sample_weight sums to 0: at least one weight must be more than 0")
    least = np.finfo(weights.dtype).tiny  # what is smaller counts as 0 on most processors
    most = 1 / np.float64(least)
    total = weights[weights >= least].sum(dtype=np.float64)
    if not least <= total <= most:
        raise ValueError(
            f"sample_weight sums to {weights.sum(dtype=np.float64):.3g}, which {weights.dtype} "
            f"cannot divide by (from {least:.2g} to {most:.2g} it can): divide the weights by "
            "their mean, in float64"
        )
