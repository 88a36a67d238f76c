"""The linear model: its parameters, its predictions and what they miss by."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._conversion import as_numeric
from linreg_jax._kernels import Features, broadcast, on_device, per_example, product
from linreg_jax._typing import Array, Float, Key, UInt32
from linreg_jax._validation import (
    checked_key,
    flag,
    is_not_negative,
    kind_text,
    require_floating,
    shape_text,
    single_setting,
)
from linreg_jax.dataset import Dataset, check_dataset

_START = "init_params(data) makes a start of the right shape"


class Params(NamedTuple):
    """What the model learns, and the shape of every gradient of it.

    Attributes:
      weights: [d], or [d, k] for k targets.
      bias: [] or [k]; None for a model without an intercept.

    Example:
      >>> Params(weights=jnp.array([5.0]), bias=jnp.array(30.0))
      Params(weights=Array([5.], dtype=float32), bias=Array(30., dtype=float32...))
    """

    weights: Float[Array, " d *k"]
    bias: Float[Array, " *k"] | None


def check_params(
    params: object, X: Features | np.ndarray, y: Array | np.ndarray | None = None
) -> None:
    """Raises where parameters do not fit features (and targets); free while tracing.

    Raises:
      TypeError: not a `Params`, or not floating-point arrays.
      ValueError: shapes that do not fit X, y or each other.
    """
    if not isinstance(params, Params):
        fix = "pass its params" if hasattr(params, "params") else _START
        if callable(params) or isinstance(params, Dataset):
            fix = f"check the order of the arguments; {_START}"
        raise TypeError(f"params must be Params, got {kind_text(params)}: {fix}")
    weights, bias = params
    require_floating("weights", weights, _START)
    if weights.ndim not in (1, 2) or weights.shape[0] != X.shape[1]:
        d = X.shape[1]
        raise ValueError(
            f"weights has shape {shape_text(weights.shape)} but X is {shape_text(X.shape)}: "
            f"one weight a feature is [{d}], or [{d}, k] for k targets; {_START}"
        )
    if bias is not None:
        require_floating("bias", bias, _START)
        if bias.shape != weights.shape[1:]:
            raise ValueError(
                f"bias has shape {shape_text(bias.shape)} but weights is "
                f"{shape_text(weights.shape)}: it must be {shape_text(weights.shape[1:])}; {_START}"
            )
    if y is not None and y.shape[1:] != weights.shape[1:]:
        X_shape, y_shape = shape_text(X.shape), shape_text(y.shape)
        if weights.ndim == 2:
            k = weights.shape[1]
            fix = f"weights {shape_text(weights.shape)} need y [{X.shape[0]}, {k}]"
            fix += "; pass y[:, None]" if y.ndim == 1 and k == 1 else f"; {_START}"
        else:
            fix = f"one target per example is y [{X.shape[0]}]; "
            fix += "pass y[:, 0]" if y.shape[1] == 1 else f"for {y.shape[1]} targets {_START}"
        raise ValueError(f"y has shape {y_shape} but X is {X_shape}: {fix}")


def init_params(
    data: Dataset, key: Array | None = None, *, intercept: bool = True, scale: float = 0.01
) -> Params:
    """Where a fit starts: zeros, or small normal random numbers.

    Args:
      data: a `Dataset`; it gives the number of features and targets and the dtype.
      key: a JAX random key; None: zeros.
      intercept: whether the model has a bias.
      scale: standard deviation of the random numbers; unused without a key.

    Returns:
      `Params` with weights [d] and bias [] where y is [n], [d, k] and [k] where y is [n, k].

    Raises:
      TypeError: not a `Dataset`, not one JAX random key, or an intercept that is no bool.
      ValueError: a scale that is negative or not finite.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> init_params(data)
      Params(weights=Array([0.], dtype=float32), bias=Array(0., dtype=float32))
    """
    check_dataset(data)
    intercept = flag("intercept", intercept)
    d, targets, dtype = data.X.shape[1], data.y.shape[1:], data.X.dtype
    if key is None:
        weights, bias = (jax.device_put(np.zeros(s, dtype)) for s in ((d, *targets), targets))
    else:
        rule = "a finite number, at least 0"
        size = on_device(single_setting("scale", scale, rule, is_not_negative), dtype)
        weights, bias = _draw(checked_key(key), size, d, targets)
    return Params(weights, bias if intercept else None)


@functools.partial(jax.jit, static_argnums=(2, 3), inline=True)
def _draw(
    key: Key[Array, ""] | UInt32[Array, " words"],
    size: Float[Array, ""],
    d: int,
    targets: tuple[int, ...],
) -> tuple[Float[Array, " d *k"], Float[Array, " *k"]]:
    weights_key, bias_key = jax.random.split(key)
    weights = size * jax.random.normal(weights_key, (d, *targets), size.dtype)
    return weights, size * jax.random.normal(bias_key, targets, size.dtype)


def predict(params: Params, X: Any) -> Float[Array, " n *k"]:
    """The model: X weights + bias.

    Args:
      params: `Params`; weights [d] or [d, k].
      X: [n, d] features, any array or nested list.

    Returns:
      [n] or [n, k] predictions, in the units of the targets.

    Raises:
      TypeError: not `Params`, or X that holds something else than real numbers.
      ValueError: X is not [n, d] for the d of the weights.

    Example:
      >>> predict(Params(jnp.array([5.0]), jnp.array(30.0)), [[0.0], [2.0], [4.0]]).tolist()
      [30.0, 40.0, 50.0]
    """
    if isinstance(X, Params):
        raise TypeError("X must be an array, got Params: they come first, predict(params, X)")
    if isinstance(X, Dataset):
        raise TypeError(
            "X must be an array, got Dataset: pass its features, predict(params, data.X)"
        )
    X = jnp.asarray(as_numeric("X", X))
    if X.ndim != 2:
        raise ValueError(
            f"X has shape {shape_text(X.shape)}: examples are rows, X is [n, d]; "
            "pass X[None, :] for one example, X[:, None] for one feature"
        )
    check_params(params, X)
    return _predictions(params, X)


@jax.jit
def _predictions(params: Params, X: Array) -> Float[Array, " n *k"]:
    if params.bias is None:
        return product(X, params.weights)
    return product(X, params.weights) + broadcast(params.bias, X)


def residuals(params: Params, data: Dataset) -> Float[Array, " n *k"]:
    """prediction - target, for each example: X weights + bias - y.

    In compressed rows the bias counts `bias_column` times.

    Args:
      params: `Params`; weights [d] or [d, k].
      data: a `Dataset`; X [n, d], y [n] or [n, k].

    Returns:
      [n] or [n, k], in the units of the targets.

    Raises:
      TypeError, ValueError: as `check_dataset` and `check_params` say, while tracing too. Targets
        [n, 1] against weights [d] are refused: they would broadcast to [n, n].

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> residuals(Params(jnp.array([1.0]), jnp.array(0.0)), data).tolist()
      [-30.0, -38.0, -46.0]
    """
    check_dataset(data)
    check_params(params, data.X, data.y)
    return _residuals(params, data)


@functools.partial(jax.jit, inline=True)
def _residuals(params: Params, data: Dataset) -> Float[Array, " n *k"]:
    X, y = data.X, data.y
    if params.bias is None:
        return product(X, params.weights) - y
    bias = broadcast(params.bias, X)
    if data.bias_column is not None:
        bias = per_example(data.bias_column, bias) * bias
    return product(X, params.weights) + bias - y
