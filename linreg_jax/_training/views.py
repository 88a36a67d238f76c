"""What a step of a folded run reads: every row, or the few near a kink and one quadratic.

`fold` has the derivation. Here the rows that were kept are folded again, about a nearer anchor, so
that few of few are read; the quadratic of the inner ones is the outer one moved to that anchor,
with the rows that have settled since.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from linreg_jax._algebra.settled import (
    Quadratic,
    Reached,
    Rows,
    as_params,
    as_theta,
    by_columns,
    settle,
    sum_of_columns,
    weighted_sum,
)
from linreg_jax._kernels import matmul, sum_of_examples
from linreg_jax._loss import Loss, example_weights
from linreg_jax._pytrees import as_function
from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset
from linreg_jax.model import Params


class View(NamedTuple):
    """A loss near an anchor.

    Attributes:
      rows: those that are read.
      sums: [p] of their columns of A.
      quadratic: what all the others cost; None: there are no others.
    """

    rows: Rows
    sums: Float[Array, " p"]
    quadratic: Quadratic | None

    @classmethod
    def of(cls, rows: Rows, quadratic: Quadratic | None = None) -> "View":
        """The view of some rows."""
        return cls(rows, sum_of_columns(rows.A), quadratic)


def value_and_gradient(loss: Loss, params: Params, view: View) -> tuple[Float[Array, ""], Params]:
    """The loss on all the data, its penalties with it, and its gradient; within the radius."""
    theta, rows = as_theta(params), view.rows
    r = matmul(theta, rows.A) - rows.y
    share = rows.share if r.ndim == 1 else rows.share[None, :]
    costs, s = share * loss.rho(r), share * loss.psi(r)
    value = sum_of_examples(costs if r.ndim == 1 else jnp.sum(costs, axis=0))
    slopes = weighted_sum(rows.A, s, view.sums)
    if view.quadratic is not None:
        settled, pull = view.quadratic.at(theta)
        value, slopes = value + settled, slopes + pull
    gradient = as_params(slopes, params)
    weights = gradient.weights + loss.penalty_gradient(params)
    return value + loss.penalty(params), gradient._replace(weights=weights)


@jax.jit
def all_rows(argument: object, params: Params, data: Dataset) -> Rows:
    """Every row of a data set by columns.

    Args:
      argument: the loss, as `as_pytree` gives it.
      params: with a bias or without.
      data: a `Dataset`.
    """
    loss: Loss = as_function(argument)
    share = jnp.broadcast_to(example_weights(loss, data), data.X.shape[:1])
    return by_columns(data, share, intercept=params.bias is not None)


def folded(
    loss: Loss, view: View, theta: Float[Array, "*k p"], reached: Reached, most: int
) -> View:
    """The view about theta that keeps so many rows, for as far as was reached."""
    rows = view.rows
    found = settle(loss, rows, theta, reached, most)
    quadratic = found.quadratic
    if view.quadratic is not None:
        value, gradient = view.quadratic.at(theta)
        quadratic = Quadratic(
            theta,
            quadratic.value + value,
            quadratic.gradient + gradient,
            quadratic.hessian + view.quadratic.hessian,
        )

    def kept(columns: Array) -> Array:
        taken = columns.at[..., found.places].get(mode="promise_in_bounds")
        return jnp.where(found.is_kept, taken, 0)

    length = jnp.where(found.is_kept, rows.length[found.places], 1)
    few = Rows(kept(rows.A), kept(rows.y), kept(rows.share), length)
    return View.of(few, quadratic)
