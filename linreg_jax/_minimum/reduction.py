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
    return Reduction(factored, plain, coordinates(factored, data, strength, intercept), h.T)


def coordinates(
    factored: Factors, data: Dataset, strength: Float[Array, ""], intercept: bool
) -> Problem:
    """The `Problem` of rows, those that were factored or some of them: y is [k, n].

    Args:
      factored: of all rows.
      data: a `Dataset` with y [n, k].
      strength: [] of the ridge.
      intercept: whether there is a bias.
    """
    s = data.sample_weight
    A, y = centred_columns(factored, data, intercept)
    Q = for_centred(factored).forward(A)
    weight = jnp.ones(Q.shape[1], Q.dtype) if s is None else s
    P = ridge_in_coordinates(factored, strength)
    return Problem(Q, y, weight, P, jnp.all(Q == 0, axis=1))


def ridge_in_coordinates(factored: Factors, strength: Float[Array, ""]) -> Float[Array, "p p"]:
    """What a ridge adds to the Hessian, in units of the targets squared."""
    p, dtype = factored.s.shape[0], factored.s.dtype
    to_weights = factored.shortest * factored.divided(jnp.ones((p, 1), dtype))[:, 0][None, :]
    to_weights = to_weights / factored.rows.X.unit[:, None]
    P = jnp.zeros((p + 1, p + 1), dtype)
    return P.at[1:, 1:].set(2 * strength * matmul(to_weights.T, to_weights))


def centred_columns(
    factored: Factors, data: Dataset, intercept: bool
) -> tuple[Float[Array, "d_and_1 n"], Float[Array, "k n"]]:
    """[Xᵀ; b] and yᵀ in the units of what was factored, centred as it was; 0 for weights of 0."""
    s, b = data.sample_weight, bias_multipliers(data)
    centred = factored.rows.centred(data)
    along = b if intercept else jnp.zeros_like(b)
    if s is not None:
        along = jnp.where(s > 0, along, 0)
    return jnp.concatenate([centred.X.T, along[None, :]]), centred.y.T


def for_centred(factored: Factors) -> Factors:
    """The factors for `centred_columns`, from which `forward` has no means to take."""
    rows = factored.rows
    return factored._replace(
        rows=rows._replace(X=rows.X._replace(mean=jnp.zeros_like(rows.X.mean)))
    )
