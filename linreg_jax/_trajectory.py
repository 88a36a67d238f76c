"""Gradient descent on a squared loss, after any number of steps at once."""

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from linreg_jax._algebra.linalg import centred_factor, target_columns
from linreg_jax._algebra.path import descend, descended
from linreg_jax._algebra.quadratic import determined, gram_of_loss, quadratic, require_quadratic
from linreg_jax._host import computed, held, is_on_host, namespace_of
from linreg_jax._kernels import on_device, placed
from linreg_jax._typing import AnyArray, Array, Int
from linreg_jax._validation import is_not_negative, is_traced, scalar_setting, shape_text, shown
from linreg_jax.dataset import Dataset, check_dataset
from linreg_jax.losses import Loss
from linreg_jax.model import Params, check_params


class Trajectory(NamedTuple):
    """Where gradient descent is after some steps; arrays of rates and steps lead the shapes.

    Attributes:
      params: weights [r, s, d] or [r, s, d, k], bias [r, s] or [r, s, k]. The axis r is there for
        learning rates [r], the axis s for steps [s].
      losses: [r, s] the loss at those parameters.
    """

    params: Params
    losses: Array


def trajectory(
    loss: Loss,
    params: Params,
    data: Dataset,
    *,
    learning_rate: ArrayLike | Sequence[float],
    steps: ArrayLike | Sequence[int],
    momentum: ArrayLike = 0.0,
) -> Trajectory:
    """Full-batch gradient descent after any number of steps, with no loop over them.

    The Hessian of a squared loss is one matrix, H = V diag(h) Vᵀ, and the eigenvectors never meet:
    along the j-th, what is left of the way to the minimum, q_j, is after t steps::

        plain       q_j(t) = (1 - learning_rate h_j)^t q_j(0)

        momentum    [q_j(t)]   [1 - learning_rate h_j   -momentum]^t [q_j(0)]
                    [  ... ] = [    learning_rate h_j    momentum]   [   0  ]

        loss(t)     = minimum + Σ_j h_j q_j(t)² / 2

    Momentum is that of `optax.sgd(learning_rate, momentum=momentum)` and of PyTorch's SGD:
    velocity = momentum velocity + gradient, params = params - learning_rate velocity. The powers
    are taken by squaring, so that a thousand rates and a million steps are one small program; after
    the one pass over the data nothing depends on n.

    Parameters and losses have derivatives, forward and in reverse, with respect to data, start,
    rates, momentum and the strength of ridge: a function of H changes as H does by its divided
    differences along the eigenvectors, equal eigenvalues included. They take (d + 1)² numbers for
    each rate and step. With respect to data and strength there are no second derivatives, and what
    has overflowed has NaN.

    Args:
      loss: `mse`, `half_mse`, `sse` or `half_sse`, with ridge penalties or none.
      params: `Params`, where it starts.
      data: a `Dataset`; X [n, d], y [n] or [n, k].
      learning_rate: [] or [r], at least 0.
      steps: [] or [s] whole numbers, at least 0; 0 is the start.
      momentum: [] at least 0; 0 is plain gradient descent.

    Returns:
      A `Trajectory` of the parameters and the losses; axes in the order rates, steps. What has
      overflowed is infinite, without a meaning in its sign.

    Raises:
      TypeError: steps that are not whole numbers.
      ValueError: a loss that is not squared, a lasso penalty; a rate, steps or momentum negative or
        not finite.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> start = Params(jnp.array([1.0]), jnp.array(0.0))
      >>> path = trajectory(half_sse, start, data, learning_rate=0.01, steps=jnp.array([0, 1]))
      >>> print(path.params.weights[:, 0].round(2), path.params.bias.round(2), path.losses.round())
      [1.  3.6] [0.   1.14] [2230. 1511.]
    """
    check_dataset(data)
    require_quadratic(loss, "trajectory")
    check_params(params, data.X, data.y)
    rule = "a finite number, at least 0"
    given = (
        np.asarray(learning_rate)
        if isinstance(learning_rate, (list, tuple, range))
        else learning_rate
    )
    rates = on_device(scalar_setting("learning_rate", given, rule, is_not_negative), data.X.dtype)
    momentum = on_device(scalar_setting("momentum", momentum, rule, is_not_negative), data.X.dtype)
    counts = _whole_numbers(steps)
    for name, array, most in [
        ("learning_rate", rates, 1),
        ("steps", counts, 1),
        ("momentum", momentum, 0),
    ]:
        if array.ndim > most:
            accepted = "one number, []" if most == 0 else "one number, [], or a list of them, [m]"
            raise ValueError(f"{name} has shape {shape_text(array.shape)}: it must be {accepted}")
    arguments = placed(loss), params, data, rates, counts, momentum
    size = data.X.size + data.y.size + params.weights.size * rates.size * counts.size
    return computed(_on_path, *arguments, size=size)


def _whole_numbers(steps: Any) -> Int[Array, "..."]:
    """`steps` as an integer array, checked as far as it is known."""
    rule = "steps must be whole numbers from 0 to 2147483647"
    if not isinstance(steps, (jax.Array, np.ndarray, np.generic)):
        counts = steps if isinstance(steps, (list, tuple, range)) else [steps]
        for count in counts:
            if not isinstance(count, numbers.Integral) or isinstance(count, bool):
                raise TypeError(f"{rule}, got {shown(count)} of type {type(count).__name__}")
        steps = np.asarray(steps)
    if not jnp.issubdtype(steps.dtype, jnp.integer):
        raise TypeError(f"{rule}, got an array of {steps.dtype}: convert it, steps.astype(int)")
    if not is_traced(steps):
        for count in np.ravel(steps).tolist():
            if not 0 <= count < 2**31:
                raise ValueError(f"{rule}, got {count}")
    return on_device(steps, jnp.int32)


def _on_path(
    loss: Loss,
    params: Params,
    data: Dataset,
    rates: AnyArray,
    steps: AnyArray,
    momentum: AnyArray,
) -> Trajectory:
    intercept, xp = params.bias is not None, namespace_of(data.X)
    data = data._replace(y=target_columns(data.y))
    theta = target_columns(params.weights)
    if params.bias is not None:
        theta = xp.concatenate([xp.reshape(params.bias, (1, -1)), theta])
    p, k = theta.shape
    fixed_loss, fixed = held((loss, data))
    rows, R = centred_factor(fixed, intercept=intercept, least_rows=p + k)
    _, rank = determined(fixed_loss, R, data.X.shape[1], intercept=intercept)
    R = rows.undo(R, intercept=intercept)
    given = theta, rates.reshape(-1), momentum, steps.reshape(-1)
    known = quadratic(fixed_loss, fixed, R), rank
    if is_on_host(theta):
        theta, losses = descended(*known, *given)
    else:
        theta, losses = descend(*known, gram_of_loss(loss, data, intercept=intercept), *given)
    theta = xp.moveaxis(theta, 0, 2)  # [r, s, p, k]
    if params.weights.ndim == 1:
        theta = theta[..., 0]
    weights, bias = (theta, None) if params.bias is None else (theta[:, :, 1:], theta[:, :, 0])
    # Infinities that have cancelled are infinite still; and no axis for what was one number.
    axes = tuple(axis for axis, setting in enumerate((rates, steps)) if setting.ndim == 0)
    return jax.tree.map(
        lambda leaf: xp.squeeze(xp.where(xp.isnan(leaf), xp.inf, leaf), axes),
        Trajectory(Params(weights, bias), losses),
    )
