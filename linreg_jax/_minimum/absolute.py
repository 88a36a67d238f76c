"""A lasso as rows: a weight costs its size as a residual does that costs its size.

With w_j = W_j z, of which strength abs(w_j) is a part of the loss::

    residual = W_j z - 0        sample weight = strength        slope from -1 to 1

so that interior points, the vertex that they end on, and what slopes prove are as without.
"""

from typing import NamedTuple

import jax.numpy as jnp

from linreg_jax._kernels import matmul
from linreg_jax._minimum.cells import Cells
from linreg_jax._minimum.problem import Problem
from linreg_jax._minimum.reduction import Reduction
from linreg_jax._typing import Array, Bool, Float


class WeightRows(NamedTuple):
    """d weights as rows, each in units of what its column moves the predictions by.

    Attributes:
      W: [p, d] from z to them.
      strength: [d] what their sizes are multiplied by.
      by_weight: [d, p] a gradient by z as one by the weights, over their strengths.
    """

    W: Float[Array, "p d"]
    strength: Float[Array, " d"]
    by_weight: Float[Array, "d p"]

    @classmethod
    def of(cls, reduction: Reduction, strength: Float[Array, ""]) -> "WeightRows":
        """Those of data whose `reduction` holds all weights, in units of Σ s rho(r)."""
        factored, plain, total = reduction.factored, reduction.plain, jnp.sum(reduction.problem.s)
        p = factored.s.shape[0]
        to_weights = factored.shortest * factored.divided(jnp.ones((p, 1), total.dtype)).T
        scale = plain.length / jnp.sqrt(jnp.where(total > 0, total, 1))
        W = jnp.concatenate([jnp.zeros_like(scale)[None, :], (scale[:, None] * to_weights).T])
        strengths = strength / (scale * factored.rows.X.unit)
        inverse = (factored.length / (scale * strengths))[:, None] * factored.Vt.T
        by_weight = inverse * factored.s[None, :]
        return cls(W, strengths, jnp.pad(by_weight, ((0, 0), (1, 0))))

    def added_to(self, problem: Problem) -> Problem:
        """The problem with them as its last rows."""
        zeros = jnp.zeros((*problem.y.shape[:-1], self.strength.shape[0]), problem.y.dtype)
        return problem._replace(
            Q=jnp.concatenate([problem.Q, self.W], axis=1),
            y=jnp.concatenate([problem.y, zeros], axis=-1),
            s=jnp.concatenate([problem.s, self.strength]),
            is_free=problem.is_free & jnp.all(self.W == 0, axis=1),
            by_weight=self.by_weight,
        )

    def costs(self, z: Float[Array, "k p"]) -> Float[Array, " k"]:
        """[k] what they cost, in the units of each target."""
        return matmul(jnp.abs(matmul(z, self.W)), self.strength)

    def are_zero(self, z: Float[Array, "k p"], v: Float[Array, "k d"]) -> Bool[Array, "k d"]:
        """[k, d] which are 0 but for rounding, their slopes v - 1 being none of -1 and 1."""
        few = jnp.finfo(z.dtype).eps ** 0.5
        return (jnp.abs(matmul(z, self.W)) <= few) & (v > few) & (v < 2 - few)


def with_weights(cells: Cells, n: int, d: int) -> Cells:
    """The cells of n rows that are alike, and behind them of d weights: one jump from -1 to 1."""

    def widened(of_rows: Array, of_weights: float) -> Array:
        """[m, n + d]; weights have one cell, the first."""
        m = of_rows.shape[0]
        first = jnp.zeros((m, d), of_rows.dtype).at[0].set(of_weights)
        return jnp.concatenate([jnp.broadcast_to(of_rows, (m, n)), first], axis=1)

    floor = jnp.concatenate([jnp.broadcast_to(cells.floor, (n,)), -jnp.ones(d, cells.floor.dtype)])
    return Cells(
        floor, widened(cells.start, 0.0), widened(cells.height, 2.0), widened(cells.softness, 0.0)
    )
