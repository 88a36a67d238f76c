"""A loss to be checked, with its residuals, costs and products on the host.

All but rho is NumPy in the dtype of the data: compiled, most of it would take longer to compile
than to run, and compilers may take a two-sum apart.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from linreg_jax._differences import reach_of
from linreg_jax._kernels import per_example
from linreg_jax._loss import Loss, example_weights
from linreg_jax._pytrees import as_function, as_pytree
from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset
from linreg_jax.model import Params, residuals
from linreg_jax.penalties import Penalty

Rho = Loss | Penalty | Partial
"""What has a `rho`, as `as_pytree` gives it to compiled programs."""

POINTS = 7  # at which rho is evaluated together

# What is not finite is reported by `finite_check`.
quietly = np.errstate(over="ignore", invalid="ignore", divide="ignore")


class Problem(NamedTuple):
    """What is checked, and where.

    Attributes:
      loss: the loss.
      params: `Params`, the point.
      data: the `Dataset`.
    """

    loss: Loss
    params: Params
    data: Dataset

    @property
    def rho(self) -> Rho:
        """The loss as an argument of compiled programs."""
        return as_pytree(self.loss)

    @property
    def unit_roundoff(self) -> float:
        """u: half the spacing of the numbers next to 1, in the coarsest dtype of the arguments."""
        dtypes = [leaf.dtype for leaf in jax.tree.leaves((self.params, self.data))]
        return max(float(jnp.finfo(dtype).eps) for dtype in dtypes) / 2


class ResidualState(NamedTuple):
    """The residuals of a loss at some parameters, on the host.

    Attributes:
      r: [n] or [n, k] residuals.
      a: [n] or [n, 1] what multiplies the rho of each in the loss.
      reach: how far finite differences move each residual; shaped as r.
    """

    r: Float[np.ndarray, " n *k"]
    a: Float[np.ndarray, " n *one"]
    reach: Float[np.ndarray, " n *k"]


def residual_state(problem: Problem) -> ResidualState:
    """The `ResidualState` of a problem."""
    state = _residual_state(problem.rho, problem.params, problem.data)
    return ResidualState(*map(np.asarray, state))


@jax.jit
def _residual_state(
    argument: Rho, params: Params, data: Dataset
) -> tuple[Float[Array, " n *k"], Float[Array, " n *one"], Float[Array, " n *k"]]:
    loss, r = as_function(argument), residuals(params, data)
    a = jnp.broadcast_to(example_weights(loss, data), r.shape[:1])
    return r, per_example(a, r), reach_of(loss, r)[0]


def costs_and_slopes(
    rho: Rho, points: Float[np.ndarray, "m ..."]
) -> tuple[Float[np.ndarray, "m ..."], Float[np.ndarray, "m ..."]]:
    """rho and its derivative, elementwise, at points [m, ...]: one program whatever m is."""
    m = len(points)
    padding = np.zeros((-m % POINTS, *points.shape[1:]), points.dtype)
    parts = np.split(np.concatenate([points, padding]), -(-m // POINTS))
    found = [_cost_and_slope(rho, part) for part in parts]
    cost, slope = (
        np.concatenate([np.asarray(v) for v in each]) for each in zip(*found, strict=True)
    )
    return cost[:m], slope[:m]


@jax.jit
def _cost_and_slope(
    rho: Rho, r: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    return jax.jvp(as_function(rho).rho, (r,), (jnp.ones_like(r),))


@quietly
def penalties_at(loss: Loss, weights: Float[np.ndarray, "m d *k"]) -> Float[np.ndarray, " m"]:
    """[m] what the penalties add to the loss, at weights [m, d] or [m, d, k]."""
    added = np.zeros(len(weights), weights.dtype)
    for penalty in loss.penalties:
        cost = costs_and_slopes(penalty, weights)[0]
        added = added + float(penalty.strength) * cost.reshape(len(weights), -1).sum(axis=1)
    return added


@quietly
def products(params: Params, data: Dataset) -> Float[np.ndarray, " n *k"]:
    """X weights + bias, [n] or [n, k], on the host."""
    found = np.asarray(data.X) @ np.asarray(params.weights)
    if params.bias is None:
        return found
    b = host_bias_column(data)
    return found + per_example(b, found) * np.asarray(params.bias)


def transposed_products(
    data: Dataset, s: Float[np.ndarray, " n *k"]
) -> tuple[Float[np.ndarray, " d *k"], Float[np.ndarray, "*k"]]:
    """Xᵀ s and what `bias_multipliers` gives times s, for s [n] or [n, k], on the host."""
    return np.asarray(data.X).T @ s, np.asarray(host_bias_column(data) @ s)


def host_bias_column(data: Dataset) -> Float[np.ndarray, " n"]:
    """[n] what multiplies the bias in each row."""
    if data.bias_column is None:
        return np.ones(data.X.shape[0], data.X.dtype)
    return np.asarray(data.bias_column)
