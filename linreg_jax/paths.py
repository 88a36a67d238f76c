"""How the weights change with the strength of a lasso, exactly."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linreg_jax._algebra.least_squares import Factors, factors, in_units_of_data
from linreg_jax._algebra.quadratic import absolute_strength, as_squares, require_quadratic
from linreg_jax._kernels import matmul, placed
from linreg_jax._lasso import homotopy
from linreg_jax._lasso.minimum import Problem, lasso_strengths
from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Bool, Float, Int
from linreg_jax._validation import (
    flag,
    is_not_negative,
    positive_integer,
    shape_text,
    single_setting,
)
from linreg_jax.dataset import Dataset, check_dataset, mean_divisor
from linreg_jax.losses import mse
from linreg_jax.model import Params

_KNOTS_A_FEATURE, _FEWEST_KNOTS = 6, 16


class LassoPath(NamedTuple):
    """Where the weights turn as a lasso grows weaker; between two knots they are lines.

    Attributes:
      strengths: [m] of `lasso` at the knots, falling from the least one that leaves no weight;
        those behind the last knot repeat it.
      params: `Params` at the knots, weights [m, d] and bias [m].
      num_knots: [] int32 how many there are.
      is_complete: [] whether they reach down to the least strength; False: there was no room.
    """

    strengths: Float[Array, " m"]
    params: Params
    num_knots: Int[Array, ""]
    is_complete: Bool[Array, ""]

    def at(self, strength: ArrayLike) -> Params:
        """The parameters at strengths of any shape [...], weights [..., d] and bias [...].

        Exact, as weights are lines between knots. NaN below the last knot of a path that is not
        complete or ends there, unless at it.

        Example:
          >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
          >>> path = lasso_path(data)
          >>> halfway = path.at(path.strengths[0] / 2)
          >>> f"{halfway.weights[0]:.3f}", f"{halfway.bias:.3f}"
          ('2.500', '35.000')
        """
        return _interpolated(self, jnp.asarray(strength, self.strengths.dtype))


def lasso_path(
    data: Dataset,
    loss: Loss = mse,
    *,
    intercept: bool = True,
    least_strength: float | Array = 0.0,
    max_knots: int | None = None,
) -> LassoPath:
    """The minimum of `loss + lasso(strength)` at every strength at once, from knot to knot.

    As the strength falls, one column after the other comes in, and now and then one leaves; in
    between, the weights are lines. So a few dozen linear systems give the whole path, and those of
    d + 1 + k rows: `lasso_path(compress(data))` reads a large data set once. `half_mse` has the
    strengths of scikit-learn's Lasso and `lars_path`.

    Args:
      data: a `Dataset`; X is [n, d], y [n].
      loss: `mse`, `half_mse`, `sse` or `half_sse`, with ridge penalties (an elastic net whose ridge
        stays) or none.
      intercept: whether the model has a bias.
      least_strength: where the path ends, at least 0. May be traced.
      max_knots: how many knots there is room for; None: 6 d, and at least 16.

    Returns:
      A `LassoPath`.

    Raises:
      TypeError: not a `Dataset`, not a loss of this package, or an intercept that is no bool.
      ValueError: a loss that is not squared, a lasso penalty in it, several targets, or a strength
        that is negative.

    Source: Efron, Hastie, Johnstone and Tibshirani 2004, Annals of Statistics 32.

    Example:
      Of two features the second comes in later:

      >>> X = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]
      >>> path = lasso_path(as_dataset(X, [5.0, 3.0, -3.0, -5.0]))
      >>> int(path.num_knots), [f"{strength:.3f}" for strength in path.strengths[:3]]
      (3, ['8.000', '2.000', '0.000'])
      >>> [[round(float(w), 3) for w in knot] for knot in path.params.weights[:3]]
      [[0.0, 0.0], [3.0, 0.0], [4.0, 1.0]]
    """
    check_dataset(data)
    require_quadratic(loss, "lasso_path", or_absolute=True)
    if absolute_strength(loss) is not None:
        raise ValueError(
            f"lasso_path varies the lasso itself, got {loss}: pass the loss without it, mse"
        )
    if data.y.ndim > 1:
        raise ValueError(
            f"y has shape {shape_text(data.y.shape)}: a path has knots of its own for each target; "
            "pass one of them, data._replace(y=data.y[:, 0])"
        )
    rule = "a finite number, at least 0"
    least = single_setting("least_strength", least_strength, rule, is_not_negative)
    if max_knots is None:
        max_knots = max(_KNOTS_A_FEATURE * data.X.shape[1], _FEWEST_KNOTS)
    max_knots = positive_integer("max_knots", max_knots)
    return _lasso_path(placed(loss), data, placed(least), flag("intercept", intercept), max_knots)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _lasso_path(
    loss: Loss, data: Dataset, least: Array, intercept: bool, max_knots: int
) -> LassoPath:
    squares = as_squares(loss, data)
    factored, h = factors(squares.data, squares.ridge, intercept=intercept)
    one = jnp.ones((), h.dtype) / squares.share
    kappa = lasso_strengths(factored, one) / factored.length[:, None]
    F = Problem(squares.data, factored, kappa, intercept).unit_columns()
    of_path = homotopy.Problem(F, h[1:, 0], kappa[:, 0])
    path = homotopy.follow(of_path, jnp.asarray(least, h.dtype), max_knots)
    weights = path.weights.T / factored.length[:, None]
    theta = jnp.concatenate([weights, _bias(factored, h, weights)[None]])
    theta = jnp.where(jnp.isnan(mean_divisor(data)), jnp.nan, theta)
    params = in_units_of_data(factored.rows, (theta, jnp.zeros_like(theta)), intercept=intercept)
    bias = params.bias
    return LassoPath(
        path.strengths, Params(params.weights.T, bias), path.num_knots, path.is_complete
    )


def _bias(factored: Factors, h: Array, weights: Array) -> Array:
    """[m] the prediction at the origin that suits weights [d, m], for one target."""
    of_rows = (h[0] - matmul(factored.R0, weights)) / factored.R00
    return of_rows - matmul(factored.rows.X.mean, weights) + factored.rows.y.mean


@jax.jit
def _interpolated(path: LassoPath, strength: Array) -> Params:
    knots = path.strengths
    # How many knots are above it: those behind the last repeat it.
    is_above = jnp.expand_dims(knots, range(strength.ndim)) > strength[..., None]
    below = jnp.minimum(jnp.sum(is_above, axis=-1), knots.shape[0] - 1)
    above = jnp.maximum(below - 1, 0)
    high, low = knots[above], knots[below]
    share = (high - strength) / jnp.where(high > low, high - low, 1)
    share = jnp.clip(share, 0, 1)
    share = jnp.where(strength < knots[-1], jnp.nan, share)

    def between(values: Array) -> Array:
        along = share.reshape(share.shape + (1,) * (values.ndim - 1))
        return values[above] * (1 - along) + values[below] * along

    return jax.tree.map(between, path.params)
