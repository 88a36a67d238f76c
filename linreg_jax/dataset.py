"""`Dataset`, and what turns one into another."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._conversion import (
    as_numeric,
    converted,
    decides_dtype,
    require_nothing_lost,
    require_usable_weights,
)
from linreg_jax._host import namespace_of
from linreg_jax._typing import AnyArray, Array, Float, Int, Key, UInt32
from linreg_jax._validation import (
    checked_key,
    is_between_0_and_1,
    is_traced,
    kind_text,
    require_floating,
    require_shape,
    scalar_setting,
    shape_text,
)

_CONVERT = "as_dataset(X, y) converts lists, NumPy, pandas and integers"


class Dataset(NamedTuple):
    """Examples to fit, one a row.

    A `NamedTuple` of arrays, so it passes through `jit`, `vmap`, `grad` and device placement. Build
    it with `as_dataset`, which checks the values too; built by hand, its shapes and dtypes are
    checked where it is used.

    Attributes:
      X: [n, d] features.
      y: [n] or [n, k] targets.
      sample_weight: [n] weight of each example, or None: 1 each. A weight of 2 is the example
        twice, a weight of 0 is the example left out. Their sum must be a number that can be divided
        by: from 1.2e-38 to 8.5e37 in float32, where smaller weights than 1.2e-38 count as 0.
        `as_dataset` refuses others; where values are unknown, or a `Dataset` is built by hand, mean
        losses, their gradients and exact answers are NaN then. Dividing the weights by their mean
        changes no mean.
      bias_column: [n] what multiplies the bias in each row, or None: 1 each.
      total_weight: [] what a mean divides by, or None: the sum of the weights.

    Example:
      >>> data = Dataset(X=jnp.array([[0.0], [2.0], [4.0]]), y=jnp.array([30.0, 40.0, 50.0]))
      >>> data.X.shape, data.y.shape, data.sample_weight
      ((3, 1), (3,), None)
    """

    X: Float[Array, "n d"]
    y: Float[Array, " n *k"]
    sample_weight: Float[Array, " n"] | None = None
    bias_column: Float[Array, " n"] | None = None
    total_weight: Float[Array, ""] | None = None


def check_dataset(data: object, name: str = "data") -> None:
    """Raises where the shapes or dtypes of a `Dataset` do not fit together; free while tracing.

    Raises:
      TypeError: not a `Dataset`, or a field that is not a floating-point array.
      ValueError: X not [n, d] with n, d ≥ 1, or a field whose length is not n.
    """
    if not isinstance(data, Dataset):
        fix = "as_dataset(X, y) makes one"
        if callable(data) or hasattr(data, "weights"):
            fix = f"check the order of the arguments; {fix}"
        raise TypeError(f"{name} must be a Dataset, got {kind_text(data)}: {fix}")
    X, y, sample_weight, bias_column, total_weight = data
    require_floating("X", X, _CONVERT)
    require_floating("y", y, _CONVERT)
    if X.ndim != 2:
        fix = "pass X[:, None] for one feature" if X.ndim == 1 else "reshape it to two dimensions"
        shape = shape_text(X.shape)
        raise ValueError(f"X has shape {shape}: examples are rows, X is [n, d]; {fix}")
    n, d = X.shape
    if n == 0 or d == 0:
        what = "examples (rows)" if n == 0 else "features (columns)"
        shape = shape_text(X.shape)
        raise ValueError(f"X has shape {shape}: it holds no {what}; pass at least one")
    if y.ndim not in (1, 2) or y.shape[0] != n or y.size == 0:
        turned = "; examples are rows of X, pass X.T" if y.shape[:1] == (d,) else ""
        raise ValueError(
            f"y has shape {shape_text(y.shape)} but X is {shape_text(X.shape)}: "
            f"y is [{n}], one target an example, or [{n}, k]{turned}"
        )
    for name, column in [("sample_weight", sample_weight), ("bias_column", bias_column)]:
        if column is not None:
            require_floating(name, column, _CONVERT)
            require_shape(name, column, (n,), f"one for each of the {n} rows of X is [{n}]")
    if total_weight is not None:
        require_floating("total_weight", total_weight, "pass jnp.array(100.0), for instance")
        require_shape("total_weight", total_weight, (), "a mean divides by one number, []")


def is_compressed(data: Dataset) -> bool:
    """Whether the rows stand for others (see `compress`), with the same squared losses only."""
    return data.bias_column is not None and data.total_weight is not None


def bias_multipliers(data: Dataset) -> Float[AnyArray, " n"]:
    """[n] what multiplies the bias in each row."""
    if data.bias_column is not None:
        return data.bias_column
    return namespace_of(data.X).ones(data.X.shape[0], data.X.dtype)


def mean_divisor(data: Dataset) -> Float[AnyArray, ""]:
    """[] what a mean over the examples divides by; NaN where the sum of the weights is lost."""
    if data.total_weight is not None:
        return data.total_weight
    if data.sample_weight is None:
        return namespace_of(data.X).asarray(data.X.shape[0], data.X.dtype)
    s, xp = data.sample_weight, namespace_of(data.sample_weight)
    total, smallest = xp.sum(s), jnp.finfo(s.dtype).tiny
    # Processors take numbers below the smallest normal one for 0; their bits, but for the sign,
    # are not 0.
    bits = s.view(f"int{jnp.finfo(s.dtype).bits}")
    usable = (total >= smallest) & (total <= 1 / smallest)
    return xp.where(usable | ~xp.any(bits << 1 != 0), total, jnp.nan)


def as_dataset(X: Any, y: Any, sample_weight: Any = None) -> Dataset:
    """Lists, NumPy, pandas-like and JAX arrays, validated and converted.

    The dtype is the widest floating-point dtype of the arrays X and y; lists and integers follow
    the other array, or take the default float. float16 and bfloat16 become float32, for sums over
    many examples need its digits. As everywhere in JAX, float64 becomes float32 unless
    `jax_enable_x64` is on. Under a transformation, where values are unknown, shapes and
    dtypes are checked and values are not.

    Args:
      X: [n, d] features, one example a row.
      y: [n] targets, or [n, k] for k targets at once.
      sample_weight: [n] weights, at least 0 and not all 0; None: 1 each.

    Returns:
      A `Dataset` of floating-point JAX arrays of one dtype.

    Raises:
      TypeError: strings, objects, complex numbers, dates, durations.
      ValueError: shapes that do not fit together, no rows or no columns, NaN or infinity, masked
        entries, values too large for the dtype, a column of which all are too small for it, weights
        that are negative or whose sum is 0 or cannot be divided by.

    Example:
      >>> data = as_dataset([[0], [2], [4]], [30, 40, 50])
      >>> data.X.dtype, data.y.tolist()
      (dtype('float32'), [30.0, 40.0, 50.0])
    """
    X, y = as_numeric("X", X), as_numeric("y", y)
    floating = [array for array in (X, y) if decides_dtype(array)]
    dtype = jnp.result_type(*floating) if floating else jnp.result_type(float)
    dtype = jnp.promote_types(dtype, jnp.float32)
    if sample_weight is not None:
        sample_weight = as_numeric("sample_weight", sample_weight)
    data = Dataset(
        converted("X", X, dtype),
        converted("y", y, dtype),
        None if sample_weight is None else converted("sample_weight", sample_weight, dtype),
    )
    check_dataset(data)
    require_nothing_lost("X", X, dtype)
    require_nothing_lost("y", y, dtype)
    if sample_weight is not None and not is_traced(data.sample_weight):
        require_usable_weights(np.asarray(data.sample_weight))
    return data


def split(data: Dataset, key: Array, fraction: float) -> tuple[Dataset, Dataset]:
    """The rows divided at random in two: to train on, and to hold out.

    Args:
      data: a `Dataset` of n rows.
      key: a JAX random key; the same key gives the same split.
      fraction: the share of the rows to hold out, between 0 and 1; rounded up to whole rows.

    Returns:
      `(train, held_out)`, two `Dataset`s.

    Raises:
      TypeError: not a `Dataset`, not one JAX random key, or a fraction that is no number.
      ValueError: a fraction that leaves one side without rows; compressed data, whose rows are not
        examples.

    Example:
      >>> data = as_dataset([[0], [1], [2], [3], [4]], [0, 1, 2, 3, 4])
      >>> train, held_out = split(data, jax.random.key(0), 0.2)
      >>> train.X.shape, held_out.X.shape
      ((4, 1), (1, 1))
    """
    check_dataset(data)
    rule = "a number between 0 and 1"
    fraction = float(scalar_setting("fraction", fraction, rule, is_between_0_and_1))
    if is_compressed(data):
        raise ValueError("data is compressed, its rows are not examples: split the original first")
    n = data.X.shape[0]
    key = checked_key(key)
    held_out = math.ceil(fraction * n)
    if held_out == n:
        raise ValueError(
            f"fraction {fraction} of {n} rows leaves none to train on: "
            "hold out fewer, or pass more rows"
        )
    return _split(data, key, held_out)


@functools.partial(jax.jit, static_argnums=2)
def _split(
    data: Dataset, key: Key[Array, ""] | UInt32[Array, " words"], held_out: int
) -> tuple[Dataset, Dataset]:
    order = jax.random.permutation(key, data.X.shape[0])

    def rows(chosen: Int[Array, " m"]) -> Dataset:
        return jax.tree.map(lambda column: column[chosen] if column.ndim else column, data)

    return rows(order[held_out:]), rows(order[:held_out])
