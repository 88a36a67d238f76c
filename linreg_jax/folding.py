"""One quadratic in place of most rows, for as long as the parameters stay near an anchor.

A loss made of parabolas and lines changes its formula for a row only where the residual crosses a
kink. `compress` is folding with an infinite radius: squared losses have no kinks.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from linreg_jax._algebra.settled import (
    Quadratic,
    as_params,
    as_theta,
    by_columns,
    distance,
    reached,
    settle,
)
from linreg_jax._kernels import placed
from linreg_jax._loss import Loss, example_weights
from linreg_jax._pytrees import as_function, as_pytree
from linreg_jax._typing import Array, Float, Int
from linreg_jax._validation import positive_integer, shown
from linreg_jax.dataset import Dataset, check_dataset
from linreg_jax.gradients import require_loss, vectorized
from linreg_jax.model import Params, check_params

_SHARE_KEPT = 8  # one row in so many is kept where the caller does not say


class Folded(NamedTuple):
    """A loss on its data near an anchor: one quadratic, and the rows that can still cross a kink.

    Attributes:
      loss: the `Loss`, with its penalties.
      anchor: `Params` that it was folded at.
      radius: [] how far the parameters may be from the anchor; infinite where no other
        row can ever cross a kink.
      kept: `Dataset` of m rows that are read in every step; behind the last, rows of weight 0. Its
        weights are shares of the loss, a mean's divided by its total weight.
      num_kept: [] int32 how many of the m rows are examples.
      quadratic: what all the other rows cost, as a function of the parameters' move.
    """

    loss: Loss
    anchor: Params
    radius: Float[Array, "*runs"]
    kept: Dataset
    num_kept: Int[Array, "*runs"]
    quadratic: Quadratic

    def distance(self, params: Params) -> Float[Array, ""]:
        """[] how far parameters are from the anchor, to hold beside `radius`.

        The Euclidean length of the move of weights and bias together; with several targets, that of
        the target that moved most.
        """
        return distance(as_theta(params), self.quadratic.anchor)

    def value_and_gradient(self, params: Params) -> tuple[Float[Array, ""], Params]:
        """The loss on all the data and its gradient, exact within the radius, NaN beyond it.

        Args:
          params: `Params` shaped as the anchor.

        Returns:
          `(value, gradient)`, [] and a `Params`, penalties and all.

        Raises:
          TypeError, ValueError: parameters that are not shaped as the anchor.
        """
        check_params(params, self.kept.X, self.kept.y)
        if (params.bias is None) != (self.anchor.bias is None):
            has, lacks = ("params", "anchor") if self.anchor.bias is None else ("anchor", "params")
            raise ValueError(
                f"the {has} has a bias and the {lacks} has none: pass parameters such as those "
                "that were folded at"
            )
        theta = as_theta(params)
        value, slopes = self.quadratic.at(theta)
        shares = dataclasses.replace(self.loss, reduction="sum")
        found, gradient = vectorized(shares)(params, self.kept)
        is_inside = self.distance(params) <= self.radius
        total = jax.tree.map(jnp.add, gradient, as_params(slopes, params))
        return jax.tree.map(
            lambda exact: jnp.where(is_inside, exact, jnp.nan), (value + found, total)
        )


def fold(loss: Loss, params: Params, data: Dataset, *, num_rows: int | None = None) -> Folded:
    """The loss on its data about an anchor: most rows as one quadratic, the others as they are.

    For losses whose rho is made of parabolas and lines: `mae`, `huber`, `quantile`,
    `epsilon_insensitive`, the squared ones, and any `Loss` that states `is_piecewise_quadratic` and
    its `kinks`, with any penalties. With r_i the residual of example i at the anchor, [x_i, b_i]
    its features and what multiplies the bias, and delta the move of the parameters, the residual
    changes by [x_i, b_i] · delta, whose size is by Cauchy and Schwarz at most

        length([x_i, b_i]) length(delta)

    So the row cannot cross a kink while length(delta) < gap_i / length([x_i, b_i]), where gap_i is
    the distance of r_i from the nearest kink, less what rounding may add to the residuals here and
    there. Until then its rho is one parabola or line, and all such rows together are a quadratic::

        value + gradient · delta + delta · hessian delta / 2

    The radius is nearly the largest (to 1/128 of itself) that no more than `num_rows` rows can
    cross a kink within. Folding reads all rows a few times and multiplies [X b] by itself;
    afterwards a gradient reads `num_rows` rows. As delta is small, no digits are lost.

    With several targets the row is kept where the residual of any may cross a kink, the move is
    that of the target that moved most, and each target has its own hessian. Rows of weight 0 are
    never kept. Pure: it works under `jax.jit`, and under `jax.vmap` over anchors, settings or data.

    `fit(..., fold=True)` does this on its way, as often as it pays. That rows whose side is known
    need not be read again is the idea of the globs of Portnoy and Koenker 1997, "The Gaussian hare
    and the Laplacian tortoise", Statistical Science 12, and of safe screening of samples, Shibagaki
    et al. 2016, arXiv:1602.02485; the name is ours.
    `compress` is folding with an infinite radius, and squared losses keep no rows here either.

    Args:
      loss: a `Loss` made of parabolas and lines. Its psi must be one that JAX can differentiate
        between the kinks.
      params: `Params` to fold at, the anchor.
      data: a `Dataset`; X [n, d], y [n] or [n, k].
      num_rows: at most how many rows are kept, from 1 to n; None: n / 8, rounded up. More rows
        give a larger radius.

    Returns:
      A `Folded`. Where more rows than `num_rows` stand on a kink, to rounding, its radius is 0.

    Raises:
      TypeError: `loss` is no `Loss`, `num_rows` no integer, or params and data that are none.
      ValueError: the loss is curved between its kinks or has a `__call__` of its own, `num_rows` is
        out of range, or shapes that do not fit together.

    Example:
      >>> data = as_dataset([[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 5.0, 47.0])
      >>> anchor = Params(jnp.array([2.0]), jnp.array(1.25))
      >>> folded = fold(mae, anchor, data, num_rows=2)
      >>> int(folded.num_kept), f"{folded.radius:.2f}"
      (2, '0.25')
      >>> near = Params(jnp.array([2.0]), jnp.array(1.125))
      >>> value, gradient = folded.value_and_gradient(near)
      >>> float(value), float(mae(near, data))
      (10.0625, 10.0625)
    """
    _check_loss(loss)
    check_dataset(data)
    check_params(params, data.X, data.y)
    n = data.X.shape[0]
    if num_rows is None:
        num_rows = -(-n // _SHARE_KEPT)
    most = positive_integer("num_rows", num_rows, n, ", the rows of the data")
    return _fold(placed(as_pytree(loss)), params, data, most)


def _check_loss(loss: Loss) -> None:
    """Raises unless a loss is known to be made of parabolas and lines."""
    known = require_loss(loss, "fold")
    if type(known).__call__ is not Loss.__call__:
        raise ValueError(
            f"fold needs the sum of rho over the examples, and {shown(loss)} has a __call__ of its "
            "own: give its class rho, psi and kinks alone"
        )
    if not known.is_piecewise_quadratic:
        raise ValueError(
            f"fold needs a loss made of parabolas and lines, got {loss}: pass mae, huber, quantile "
            "or epsilon_insensitive, or a Loss of your own that states is_piecewise_quadratic and "
            "its kinks"
        )


@functools.partial(jax.jit, static_argnums=3)
def _fold(argument: Any, params: Params, data: Dataset, most: int) -> Folded:
    loss: Loss = as_function(argument)
    n = data.X.shape[0]
    share = jnp.broadcast_to(example_weights(loss, data), (n,))
    rows = by_columns(data, share, intercept=params.bias is not None)
    theta = as_theta(params)
    found = settle(loss, rows, theta, reached(loss, rows, theta, most), most)

    def chosen(column: Array) -> Array:
        taken = column.at[found.places].get(mode="promise_in_bounds")
        return jnp.where(found.is_kept.reshape(-1, *(1,) * (column.ndim - 1)), taken, 0)

    kept = Dataset(
        chosen(data.X),
        chosen(data.y),
        sample_weight=chosen(share),
        bias_column=None if data.bias_column is None else chosen(data.bias_column),
    )
    num_kept = jnp.sum(found.is_kept, dtype=jnp.int32)
    return Folded(loss, params, found.radius, kept, num_kept, found.quadratic)
