"""A point, what slopes prove about it, and the better one of two."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from linreg_jax._minimum.problem import Problem, Scaled
from linreg_jax._typing import Array, Bool, Float


class Point(NamedTuple):
    """Parameters, and a slope for each row that proves how good they are.

    Lines of the slopes u that touch rho from below have the gradient e = Q S u + P z + c together,
    and no z* is better than z by more than::

        Σ s (rho(r) + rho*(u) - u r)  +  length(e) length(z* - z)

    Here z* is looked for within twice the length of the residuals, and sums are what rounding makes
    of them.

    Attributes:
      z: [p].
      u: [n] slopes.
      value: [] the loss at z.
      gap: [] how much larger than the least one that can be.
      v: [m, n] what u is made of, where the loss is made of m cells; else m is 0.
    """

    z: Float[Array, " p"]
    u: Float[Array, " n"]
    value: Float[Array, ""]
    gap: Float[Array, ""]
    v: Float[Array, "m n"]

    def is_within(self, goal: "Goal") -> Bool[Array, ""]:
        """[] whether the gap is as small as it has to be."""
        return self.gap <= jnp.maximum(goal.relative * self.value, goal.absolute)


class Goal(NamedTuple):
    """The gap to stop at: relative to the value, or absolute where that is larger."""

    relative: Float[Array, ""]
    absolute: Float[Array, ""]


def certified(
    problem: Problem,
    scaled: Scaled,
    z: Float[Array, " p"],
    u: Float[Array, " n"],
    r: Float[Array, " n"],
    excess: Float[Array, " n"] | float = 0.0,
    v: Float[Array, "m n"] | None = None,
) -> Point:
    """The `Point` of z and u; with a gap of infinity where anything is NaN.

    Args:
      problem: a `Problem`.
      scaled: its loss.
      z: [p].
      u: [n].
      r: [n] `problem.residuals(z)`.
      excess: [n] rho(r) + rho*(u) - u r; 0 where u is psi(r).
      v: [m, n] what u is made of, or None.
    """
    e = problem.gradient(z, u)
    value = jnp.sum(problem.s * scaled.rho(r)) + problem.penalty(z) + problem.line(z)
    gap = jnp.sum(problem.s * excess) + problem.missing(e, r, value)
    gap = jnp.where(jnp.isnan(gap + value), jnp.inf, gap)
    return Point(z, u, value, gap, jnp.zeros((0, *u.shape), u.dtype) if v is None else v)


def better(one: Point, other: Point) -> Point:
    """The point of which more is proven."""
    return jax.tree.map(lambda a, b: jnp.where(other.gap < one.gap, b, a), one, other)
