"""Gradient descent on a squared loss, after any number of steps at once."""

import math
import numbers
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from linreg_jax._algebra.linalg import target_columns, triangular_factor
from linreg_jax._algebra.quadratic import quadratic, require_squared
from linreg_jax._numerics import matmul, on_device, placed
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
    learning_rate: float | Array | Sequence[float],
    steps: int | Array | Sequence[int],
    momentum: float | Array = 0.0,
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
    require_squared(loss, "trajectory")
    check_params(params, data.X, data.y)
    rule = "a finite number, at least 0"
    given = np.asarray(learning_rate) if isinstance(learning_rate, Sequence) else learning_rate
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
    return _trajectory(placed(loss), params, data, rates, counts, momentum)


def _whole_numbers(steps):
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


@jax.jit
def _trajectory(loss, params, data, rates, steps, momentum):
    R = triangular_factor(data, intercept=params.bias is not None)
    F, z, rest = quadratic(loss, data, R, curvature=loss.curvature)
    theta = target_columns(params.weights)
    if params.bias is not None:
        theta = jnp.concatenate([jnp.reshape(params.bias, (1, -1)), theta])
    U, s, Vt = jnp.linalg.svd(F, full_matrices=False)
    # Below this a singular value is the rounding of 0, and nothing moves along its vector.
    s = jnp.where(s > 4 * math.sqrt(F.shape[1]) * jnp.finfo(s.dtype).eps * s[0], s, 0)
    start = matmul(U.T, matmul(F, theta) - z)  # [q, k]: sqrt(h) q(0), which needs no division by h
    decay = jnp.outer(s * s, rates)
    left, change = _powers(decay, momentum, steps.reshape(-1))  # [q, r, s] each

    shape = (*left.shape, start.shape[1])
    values = _times(left[..., None], start[:, None, None, :], shape)
    losses = rest + jnp.sum(values * values, axis=(0, 3)) / 2

    per_unit = jnp.where(s > 0, 1 / jnp.where(s > 0, s, 1), 0)
    way = _times(change[..., None], (per_unit[:, None] * start)[:, None, None, :], shape)
    moved = matmul(Vt.T, way.reshape(shape[0], -1)).reshape(-1, *shape[1:])
    theta = jnp.moveaxis(theta[:, None, None, :] + moved, 0, 2)  # [r, s, p, k]
    if params.weights.ndim == 1:
        theta = theta[..., 0]
    weights, bias = (theta, None) if params.bias is None else (theta[:, :, 1:], theta[:, :, 0])
    # Infinities that have cancelled are infinite still; and no axis for what was one number.
    axes = tuple(axis for axis, setting in enumerate((rates, steps)) if setting.ndim == 0)
    return jax.tree.map(
        lambda leaf: jnp.squeeze(jnp.where(jnp.isnan(leaf), jnp.inf, leaf), axes),
        Trajectory(Params(weights, bias), losses),
    )


def _powers(decay, momentum, steps):
    """The upper left entry of M^t, M = [[1 - decay, -momentum], [decay, momentum]], by squaring.

    Everything is kept twice, as M^t and as M^t - 1. The second keeps its digits while little has
    happened yet, where the first would lose those of a small decay; the first keeps them when
    little is left.

    Args:
      decay: [q, r] learning rate times curvature.
      momentum: [].
      steps: [s].

    Returns:
      `(power, power - 1)`, [q, r, s] each.
    """

    def both(power, minus_one):
        early = jnp.abs(minus_one) < 0.5
        return jnp.where(early, 1 + minus_one, power), jnp.where(early, minus_one, power - 1)

    def step(carry):
        t, (a, a1, b, c, d, d1), (x, x1, v) = carry
        # [x v] becomes M [x v] where the bit is set: M = [[a b] [c d]], a1 = a - 1, d1 = d - 1.
        moved, moved1 = both(_times(a, x) + _times(b, v), x1 + _times(a1, x) + _times(b, v))
        bit = (t & 1) == 1
        state = (
            jnp.where(bit, moved, x),
            jnp.where(bit, moved1, x1),
            jnp.where(bit, _times(c, x) + _times(d, v), v),
        )
        trace, bc = a + d, _times(b, c)
        a, a1 = both(_times(a, a) + bc, 2 * a1 + _times(a1, a1) + bc)
        d, d1 = both(_times(d, d) + bc, 2 * d1 + _times(d1, d1) + bc)
        return t >> 1, (a, a1, _times(b, trace), _times(c, trace), d, d1), state

    shape = (*decay.shape, steps.shape[0])
    one, zero = jnp.ones(shape, decay.dtype), jnp.zeros(shape, decay.dtype)
    decay = decay[:, :, None]
    momentum = jnp.broadcast_to(momentum, decay.shape)
    matrix = (1 - decay, -decay, -momentum, decay, momentum, momentum - 1)
    start = (jnp.broadcast_to(steps, shape), matrix, (one, zero, zero))
    _, _, (x, x1, _) = lax.while_loop(lambda carry: jnp.any(carry[0] > 0), step, start)
    return x, x1


def _times(a, b, shape=None):
    """a b, and 0 where either is 0 and the other has overflowed."""
    shape = shape or jnp.broadcast_shapes(a.shape, b.shape)
    a, b = jnp.broadcast_to(a, shape), jnp.broadcast_to(b, shape)
    return jnp.where((a == 0) | (b == 0), 0, a * b)
