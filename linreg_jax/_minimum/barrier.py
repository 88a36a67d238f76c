"""Where an interior point may be, where it starts, and how far it can go."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from linreg_jax._minimum.cells import Cells
from linreg_jax._minimum.problem import Problem
from linreg_jax._typing import Array, Bool, Float

_BALANCING_STEPS = 8


class Iterate(NamedTuple):
    """An interior point, or a direction from one; `interior` has the equations.

    Attributes:
      z: [p].
      v: [m, n] the share of each cell in the slope of each row.
      g: [m, n] height - v, with digits of its own.
      t: [m, n] how far a residual lies above.
      t_below: [m, n] how far below.
    """

    z: Float[Array, " p"]
    v: Float[Array, "m n"]
    g: Float[Array, "m n"]
    t: Float[Array, "m n"]
    t_below: Float[Array, "m n"]

    def moved(self, d: "Iterate", primal: Array, dual: Array) -> "Iterate":
        """The iterate that lies so much of a direction further."""
        return Iterate(
            self.z + primal * d.z,
            self.v + dual * d.v,
            self.g + dual * d.g,
            self.t + primal * d.t,
            self.t_below + primal * d.t_below,
        )


class Rows(NamedTuple):
    """The cells of rows that weigh something.

    Attributes:
      cells: `Cells`.
      is_live: [m, n] whether row and cell count.
      weight: [m, n] the sample weight where they do, 0 elsewhere.
      total: [] of the weights, at least 1.
    """

    cells: Cells
    is_live: Bool[Array, "m n"]
    weight: Float[Array, "m n"]
    total: Float[Array, ""]

    @classmethod
    def of(cls, problem: Problem, cells: Cells) -> "Rows":
        """Those of a problem."""
        is_live = (cells.height > 0) & (problem.s > 0)[None, :]
        weight = jnp.where(is_live, problem.s[None, :], 0)
        total = jnp.sum(weight)
        return cls(cells, is_live, weight, jnp.where(total > 0, total, 1))

    def only_live(self, a: Float[Array, "m n"]) -> Float[Array, "m n"]:
        """[m, n] 0 in what does not count."""
        return jnp.where(self.is_live, a, 0)

    def slopes(self, v: Float[Array, "m n"]) -> Float[Array, " n"]:
        """[n] the slope of each row."""
        return self.cells.floor + jnp.sum(self.only_live(v), axis=0)

    def mean_product(self, at: Iterate) -> Float[Array, ""]:
        """[] mu, the mean of t g and t' v."""
        return jnp.sum(self.weight * (at.t * at.g + at.t_below * at.v)) / (2 * self.total)

    def lengths(
        self, problem: Problem, at: Iterate, d: Iterate
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """How much of a direction z and t can go, and v; the same where equations hold both."""

        def until_0(a: Array, da: Array) -> Array:
            falls = self.is_live & (da < 0)
            return jnp.min(jnp.where(falls, a / jnp.where(falls, -da, 1), jnp.inf))

        primal = jnp.minimum(until_0(at.t, d.t), until_0(at.t_below, d.t_below))
        dual = jnp.minimum(until_0(at.v, d.v), until_0(at.g, d.g))
        is_coupled = jnp.any(self.cells.softness > 0) | jnp.any(problem.P != 0)
        both = jnp.minimum(primal, dual)
        return jnp.where(is_coupled, both, primal), jnp.where(is_coupled, both, dual)


def start(problem: Problem, rows: Rows, z: Float[Array, " p"]) -> Iterate:
    """Near the path as far as single rows go, and balanced as far as the bias can do it."""
    cells = rows.cells
    c = jnp.where(cells.height > 0, cells.height, 1)
    x = cells.positions(problem.residuals(z))
    size = jnp.sum(rows.weight * jnp.abs(x)) / rows.total
    size = jnp.where(size > 0, size, 1)
    total = jnp.sum(cells.height, axis=0)
    share = jnp.clip(-cells.floor / jnp.where(total > 0, total, 1), 0.001, 0.999)
    per_height = (size * share * (1 - share))[None, :]  # mu over the height

    def on_path(x: Array) -> Iterate:
        # t - t' = x with t = mu / g, t' = mu / v and g + v = height
        root = jnp.sqrt(x * x / 4 + per_height * per_height)
        far = root + jnp.abs(x) / 2
        near = per_height * per_height / far
        t = per_height + jnp.where(x > 0, far, near)
        t_below = per_height + jnp.where(x > 0, near, far)
        return Iterate(z, c * (per_height / t_below), c * (per_height / t), t, t_below)

    def balance(_: Array, shift: Array) -> Array:
        at = on_path(x + shift * problem.Q[:1])
        slope = jnp.sum(rows.weight / (at.t / at.g + at.t_below / at.v), axis=0)
        curvature = jnp.sum(slope * problem.Q[0] ** 2) + problem.P[0, 0]
        shifted = z.at[0].add(shift)
        force = problem.gradient(shifted, rows.slopes(at.v))[0]
        step = force / jnp.where(curvature > 0, curvature, 1)
        return shift - jnp.clip(step, -longest, longest)

    reach = jnp.max(jnp.abs(problem.Q[0]))
    longest = 2 * size / jnp.where(reach > 0, reach, 1)
    shift = lax.fori_loop(0, _BALANCING_STEPS, balance, jnp.zeros_like(z[0]))
    at = on_path(x + shift * problem.Q[:1])
    at = at._replace(z=z.at[0].add(shift))
    # What does not count holds numbers that do no harm.
    return Iterate(at.z, *(jnp.where(rows.is_live, a, 1) for a in at[1:]))
