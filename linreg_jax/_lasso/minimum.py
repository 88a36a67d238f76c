"""The minimum of a squared loss with a lasso, and how far from it the parameters can be.

For each target, in the units and from the origin of `Centring`, with A = [D b] and S the sample
weights, as `_algebra/least_squares.py` has them::

    least of  Σ s (D_y - A theta)² / 2 + Σ root² weights² / 2 + Σ lambda abs(weights)

The factor of the rows gives the minimum. Then the gradient is taken of the rows themselves in
double-word arithmetic, and what it says is left is minimised in the same way, until nothing is.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from linreg_jax._algebra.least_squares import Factors, minus_gradient
from linreg_jax._arithmetic.double_word import Pair, add_pairs
from linreg_jax._kernels import matmul
from linreg_jax._lasso.active_set import Active, Found, minimise, newton_step
from linreg_jax._lasso.certificate import Certificate, gap_of, is_unique
from linreg_jax._typing import Array, Bool, Float
from linreg_jax.dataset import Dataset

_MOST_CORRECTIONS = 30
_CLOSE = 100  # times eps: a gap of so much of the loss is the minimum, to rounding
# Corrections in a row that close the gap no further: where it is as good as closed, and where it is
# not, and columns still come and go.
_PATIENCE = 2, 10


class Problem(NamedTuple):
    """What is minimised.

    Attributes:
      data: a `Dataset` with y [n, k].
      factors: `Factors` of its rows, with what ridge adds.
      strengths: [d, k] of the lasso on weights of columns of length 1.
      intercept: whether there is a bias.
    """

    data: Dataset
    factors: Factors
    strengths: Float[Array, "d k"]
    intercept: bool

    def unit_columns(self) -> Float[Array, "p d"]:
        """[p, d] the centred columns scaled to length 1, turned so that few rows hold them."""
        s, rank = self.factors.s, self.factors.rank
        return jnp.where(jnp.arange(s.shape[0]) < rank, s, 0)[:, None] * self.factors.Vt

    def correlations(self, gradient: Float[Array, "d_and_1 k"]) -> Float[Array, "d k"]:
        """[d, k] of the columns of length 1 with the residuals, from `minus_gradient`."""
        factors, on_bias = self.factors, gradient[-1]
        along = factors.rows.X.mean + factors.R0 / factors.R00
        return (gradient[:-1] - jnp.outer(along, on_bias)) / factors.length[:, None]

    def moved(self, theta: Pair, h: Float[Array, "p_and_1 k"], found: Found) -> Pair:
        """theta after a change of the weights; those that are not active are 0."""
        factors = self.factors
        weights = found.change.T / factors.length[:, None]
        bias = (h[0] - matmul(factors.R0, weights)) / factors.R00
        change = jnp.concatenate([weights, (bias - matmul(factors.rows.X.mean, weights))[None]])
        high, low = add_pairs(theta, (change, jnp.zeros_like(change)))
        signs = jnp.concatenate([found.active.signs.T, jnp.ones_like(bias[None])])
        return jnp.where(signs != 0, high, 0), jnp.where(signs != 0, low, 0)


class Point(NamedTuple):
    """Parameters, for each target, and how good they are.

    Attributes:
      theta: pair of [d + 1, k], in units of `Centring`.
      active: `Active` weights, [k, d] and [k, d, p].
      correlations: [d, k] of columns of length 1 with the residuals.
      rounding: [k] of the correlations, beside that of each of them.
      gap: [k] how far the loss is above a lower bound.
    """

    theta: Pair
    active: Active
    correlations: Float[Array, "d k"]
    rounding: Float[Array, " k"]
    gap: Float[Array, " k"]

    def where(self, chosen: Bool[Array, " k"], other: "Point") -> "Point":
        """This point for the chosen targets, the other one for the rest."""
        active = jax.tree.map(
            lambda a, b: jnp.where(jnp.expand_dims(chosen, range(1, a.ndim)), a, b),
            self.active,
            other.active,
        )
        theta, c = jax.tree.map(
            lambda a, b: jnp.where(chosen[None, :], a, b),
            (self.theta, self.correlations),
            (other.theta, other.correlations),
        )
        rounding = jnp.where(chosen, self.rounding, other.rounding)
        return Point(theta, active, c, rounding, jnp.where(chosen, self.gap, other.gap))


class Minimum(NamedTuple):
    """What was found.

    Attributes:
      theta: pair of [d + 1, k], in units of `Centring`.
      active: `Active` weights, [k, d] and [k, d, p].
      certificate: what proves it.
    """

    theta: Pair
    active: Active
    certificate: Certificate


class _State(NamedTuple):
    point: Point
    best: Point
    h: Array  # what the residuals at `point` have in common with the rows
    num_steps: Array
    is_done: Array
    is_close: Array  # whether the gap of `best` is little more than rounding
    left: Array  # [k] the least that weights were ever from where their correlations say
    num_corrections: Array
    waited: Array
    more: Array


def lasso_strengths(factors: Factors, strength: Float[Array, ""]) -> Float[Array, "d k"]:
    """[d, k] what multiplies abs(weight) in the units of theta.

    For Σ s r² + strength Σ abs(weights), of which half is minimised.
    """
    return strength / 2 / factors.rows.X.unit[:, None] / factors.rows.y.unit[None, :]


def lasso_minimum(
    data: Dataset, factors: Factors, h: Array, strength: Array, *, intercept: bool
) -> Minimum:
    """The `Minimum` of Σ s r² + Σ root² weights² + strength Σ abs(weights).

    Args:
      data: a `Dataset` with y [n, k].
      factors: `Factors` of its rows, with what ridge adds.
      h: what came with them.
      strength: [] of the lasso.
      intercept: whether there is a bias.
    """
    strengths = lasso_strengths(factors, strength) / factors.length[:, None]
    problem = Problem(data, factors, strengths, intercept)
    state = lax.while_loop(
        lambda state: state.more & (state.num_corrections < _MOST_CORRECTIONS),
        lambda state: _correct(problem, state),
        _first(problem, h),
    )
    best = state.best
    unique = is_unique(problem.unit_columns(), strengths, best.correlations)
    is_done = state.is_done & jnp.all(state.is_close)
    certificate = Certificate(best.gap, unique, state.num_steps, is_done)
    return Minimum(best.theta, best.active, certificate)


def _first(problem: Problem, h: Array) -> _State:
    """All weights 0, where the factor says what is left."""
    p, k = h.shape[0] - 1, h.shape[1]
    d = problem.strengths.shape[0]
    zero = jnp.zeros((d + 1, k), h.dtype)
    point = Point(
        (zero.at[-1].set(problem.factors.rows.y.mean), zero),
        Active(zero[:-1].T, jnp.zeros((k, d, p), h.dtype)),
        matmul(problem.unit_columns().T, h[1:]),
        4 * jnp.finfo(h.dtype).eps * p**0.5 * jnp.linalg.norm(h[1:], axis=0),
        jnp.full(k, jnp.inf, h.dtype),
    )
    nothing = jnp.zeros((), jnp.int32)
    yes = nothing == 0
    left = jnp.full(k, jnp.inf, h.dtype)
    return _State(point, point, h, nothing, yes, yes, left, nothing, nothing, yes)


def _correct(problem: Problem, state: _State) -> _State:
    """Moves the parameters to where nothing is left, and weighs them by the rows themselves."""
    data, factors, strengths, intercept = problem
    F, length = problem.unit_columns(), factors.length[:, None]
    by_target = jax.vmap(minimise, in_axes=(None, 1, 1, 0, 1, 0))
    point, w = state.point, state.point.theta[0][:-1] * length
    found = by_target(F, strengths, point.correlations, point.rounding, w, point.active)
    theta = problem.moved(point.theta, state.h, found)
    gradient = minus_gradient(data, factors, theta, intercept=intercept)
    h, c, w = factors.forward(gradient), problem.correlations(gradient), theta[0][:-1] * length
    gap, level = gap_of(w, c, h, factors.rest, strengths)
    point = Point(theta, found.active, c, jnp.zeros_like(gap), gap)
    eps, size = jnp.finfo(w.dtype).eps, jnp.max(jnp.abs(w), axis=0)
    steps = jax.vmap(newton_step, in_axes=(1, 1, 0), out_axes=1)(c, strengths, found.active)
    left = jnp.max(jnp.abs(steps), axis=0)
    is_closed = gap <= 2 * eps * level
    # Among gaps that are rounding the last is best, as weights were corrected in between.
    best = point.where((gap < state.best.gap) | is_closed, state.best)
    gains = (gap < state.best.gap) | (left < state.left / 2)
    waited = jnp.where(jnp.any(gains), 0, state.waited + 1)
    is_close = jnp.all(best.gap <= _CLOSE * eps * level)
    return _State(
        point,
        best,
        h,
        state.num_steps + jnp.max(found.num_steps),
        state.is_done & jnp.all(found.is_done),
        is_close,
        jnp.minimum(left, state.left),
        state.num_corrections + 1,
        waited,
        (waited < jnp.where(is_close, *_PATIENCE)) & ~jnp.all(is_closed & (left <= eps * size)),
    )
