"""Data as `Problem`s, one a target, and the way back to parameters."""

from typing import NamedTuple

import jax.numpy as jnp

from linreg_jax._algebra.least_squares import Factors, factors
from linreg_jax._kernels import matmul
from linreg_jax._minimum.problem import Problem
from linreg_jax._typing import Array, Bool, Float
from linreg_jax.dataset import Dataset, bias_multipliers

_HELD = 1e-3  # of the squares of a column


class Reduction(NamedTuple):
    """Data of k targets in coordinates where least squares would be trivial.

    Attributes:
      factored: of the data, with ridge as it would be beside a squared loss.
      plain: the same, unless `held`: then `factored` holds what nothing determines.
      problem: with y [k, n] and P [p, p] for targets in units of 1.
      start: [k, p] the z of least squares.
    """

    factored: Factors
    plain: Factors
    problem: Problem
    start: Float[Array, "k p"]

    def theta(self, z: Float[Array, "k p"]) -> Float[Array, "d_and_1 k"]:
        """[d + 1, k] the parameters about the origin, the bias last."""
        return self.factored.back(z.T).at[-1].add(self.factored.rows.y.mean)


def reduced(
    data: Dataset,
    strength: Float[Array, ""],
    curvature: Float[Array, ""],
    *,
    intercept: bool,
    held: Bool[Array, ""] | None = None,
) -> Reduction:
    """The `Reduction` of data.

    Args:
      data: a `Dataset` with y [n, k].
      strength: [] what ridge adds: Σ s rho(r) + strength Σ weights².
      curvature: [] about that of rho, over 2: beside a squared loss of it ridge is a part of what
        makes Q, and no part of P is out of proportion to the others.
      intercept: whether there is a bias.
      held: [] whether each weight has a coordinate, those that the data do not determine too, as if
        there were a small ridge, which nobody counts; None: they have not.
    """
    ridge = strength / curvature
    plain, h = factored, h = factors(data, ridge, intercept=intercept)
    if held is not None:
        lengths = plain.length * plain.rows.X.unit
        ridge = ridge + jnp.where(held, _HELD, 0) * lengths * lengths
        factored, h = factors(data, ridge, intercept=intercept)
    rows, s, b = factored.rows, data.sample_weight, bias_multipliers(data)
    centred = rows.centred(data)
    along = b if intercept else jnp.zeros_like(b)
    if s is not None:
        along = jnp.where(s > 0, along, 0)
    # Rows are centred already: what `forward` would take off is nothing.
    A = jnp.concatenate([centred.X.T, along[None, :]])
    mean_0 = rows._replace(X=rows.X._replace(mean=jnp.zeros_like(rows.X.mean)))
    Q = factored._replace(rows=mean_0).forward(A)
    is_free = jnp.all(Q == 0, axis=1)
    p = factored.s.shape[0]
    to_weights = factored.shortest * factored.divided(jnp.ones((p, 1), Q.dtype))[:, 0][None, :]
    to_weights = to_weights / rows.X.unit[:, None]
    P = jnp.zeros((p + 1, p + 1), Q.dtype)
    P = P.at[1:, 1:].set(2 * strength * matmul(to_weights.T, to_weights))
    weight = jnp.ones_like(b) if s is None else s
    return Reduction(factored, plain, Problem(Q, centred.y.T, weight, P, is_free), h.T)
