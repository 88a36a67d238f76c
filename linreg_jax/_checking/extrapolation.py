"""Slopes of a function of which only the values are known, by extrapolated differences."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from linreg_jax._typing import Array, Bool, Float
from linreg_jax.dataset import Dataset
from linreg_jax.model import Params

Function = Callable[[Params, Dataset], Array]
"""`(params, data) -> scalar`."""

# Steps shrink by 8 from 1 (or the coordinate's own size) to 1e-9 of it: squared functions want the
# first, functions with kinks or narrow valleys the last.
_RATIO, _NUM_STEPS = 8.0, 11


class Slopes(NamedTuple):
    """Directional derivatives measured from values.

    Attributes:
      slope: [m] along each direction.
      error: [m] the largest error of each.
      kink: [m] whether the two one-sided derivatives differ.
    """

    slope: Float[np.ndarray, " m"]
    error: Float[np.ndarray, " m"]
    kink: Bool[np.ndarray, " m"]


def slopes_along(
    function: Function, params: Params, data: Dataset, directions: Float[np.ndarray, "m D"]
) -> Slopes:
    """Derivatives of `function(params, data)` along directions, by extrapolated differences.

    Central differences D(h) at steps h, h/8, h/64, ... err by c h² + ..., so that
    (64 D(h/8) - D(h)) / 63 errs by a fourth power (Richardson). Among the steps the one is taken
    whose neighbours agree best once the noise of the values, measured from fourth differences over
    a few roundings (Hamming), is added. On a kink it is the midpoint of the two one-sided slopes.

    Source: Ridders 1982, Advances in Engineering Software 4.

    Args:
      function: `(params, data) -> scalar`.
      params: `Params` of D numbers in all.
      data: passed on.
      directions: [m, D]; each is a unit of step along it.
    """
    dtype = jnp.result_type(*jax.tree.leaves(params))
    eps = float(jnp.finfo(dtype).eps)
    h = _RATIO ** -np.arange(_NUM_STEPS)
    ladder = 64 * eps * np.arange(-4, 5)
    steps = np.concatenate([h, -h, ladder]).astype(dtype)
    found = _values(function, params, data, directions.astype(dtype), steps)
    ahead, behind, near = np.split(found, [_NUM_STEPS, 2 * _NUM_STEPS], axis=1)
    # The fourth difference of independent noise has variance 1 + 16 + 36 + 16 + 1 = 70.
    noise = np.abs(np.diff(near, 4, axis=1)).max(axis=1) / np.sqrt(70)
    size = np.maximum(np.abs(ahead), np.abs(behind))
    noise = 4 * noise[:, None] + eps * size
    quotient = (ahead - behind) / (2 * h)
    refined = (_RATIO**2 * quotient[:, 1:] - quotient[:, :-1]) / (_RATIO**2 - 1)
    changes = np.abs(np.diff(refined, axis=1))
    error = np.maximum(changes[:, 1:], changes[:, :-1]) + noise[:, 2:-1] / h[2:-1]
    error = np.where(np.isfinite(error), error, np.inf)
    best = error.argmin(axis=1)
    every = np.arange(len(best))
    # The difference of the one-sided slopes shrinks with the step, except on a kink.
    bend = np.abs(ahead + behind - 2 * near[:, 4:5])
    kink = (bend[:, -1] > 10 * noise[:, -1]) & (bend[:, -1] > 0.5 * bend[:, -2] / _RATIO)
    return Slopes(refined[every, best + 1], 4 * error[every, best], kink)


def _values(
    function: Function,
    params: Params,
    data: Dataset,
    directions: Float[np.ndarray, "m D"],
    steps: Float[np.ndarray, " steps"],
) -> Float[np.ndarray, "m steps"]:
    """The values of a function at steps along directions from the parameters, in float64."""

    @jax.jit
    def values(
        params: Params,
        data: Dataset,
        directions: Float[Array, "m D"],
        steps: Float[Array, " steps"],
    ) -> Float[Array, "m steps"]:
        x, unravel = ravel_pytree(params)

        def along(direction: Float[Array, " D"]) -> Float[Array, " steps"]:
            def at(step: Float[Array, ""]) -> Float[Array, ""]:
                return jnp.asarray(function(unravel(x + step * direction), data), x.dtype)

            return lax.map(at, steps)

        return lax.map(along, directions)

    return np.asarray(values(params, data, directions, steps), np.float64)
