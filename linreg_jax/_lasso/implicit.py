"""The derivative of a lasso's minimum, from the equation that its active weights solve.

Where theta is least, the gradient of the squares is what the penalty pulls by, for active weights
and the bias, and stays so as the data and the strength change a little; the other weights stay 0::

    0 = AᵀS r - Λ theta - lambda sign(theta)

It is differentiated as `_algebra/implicit.py` does without a lasso. Where a correlation of a weight
0 is at its bound, or an active weight about to leave, that is the derivative to one side.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from linreg_jax._algebra.implicit import force
from linreg_jax._algebra.least_squares import Factors
from linreg_jax._algebra.quadratic import Sums
from linreg_jax._kernels import matmul
from linreg_jax._lasso.active_set import Active
from linreg_jax._lasso.minimum import Problem, lasso_strengths


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def differentiable_lasso(
    theta: Array, active: Active, factored: Factors, squares: Sums, intercept: bool
) -> Array:
    """`theta` as it is, and its derivatives with respect to `squares`.

    Args:
      theta: [d + 1, k] the minimum, in units of `Centring`.
      active: which weights are not 0, [k, d] and [k, d, p]; taken as fixed, as theta is.
      factored: `Factors` of the data; taken as fixed.
      squares: the loss.
      intercept: whether there is a bias.
    """
    return theta


def _derivative(intercept: bool, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    theta, active, factored, squares = primals
    tangents = jax.tree.map(
        lambda dot: jnp.zeros(dot.shape, dot.dtype) if isinstance(dot, SymbolicZero) else dot,
        tangents[3],
        is_leaf=lambda dot: isinstance(dot, SymbolicZero),
    )
    theta = differentiable_lasso(theta, active, factored, squares, intercept)
    signs = active.signs.T
    moves = jnp.concatenate([signs != 0, jnp.full_like(signs[:1], intercept, dtype=bool)])
    # How wide a unit of the targets is does not matter to a derivative: origins are constants.
    at_rest = factored._replace(rows=_from_zero(factored))

    def balance(squares: Sums) -> Array:
        """[d + 1, k] the equation, 0 for weights that stay."""
        pull = lasso_strengths(factored, squares.absolute) * signs
        of_squares = force(theta, factored, squares.data, _ridge(squares), intercept)
        return jnp.where(moves, of_squares.at[:-1].add(-pull), 0)

    def curvature(direction: Array) -> Array:
        data = squares.data._replace(y=jnp.zeros_like(squares.data.y))
        moved = force(jnp.where(moves, direction, 0), at_rest, data, _ridge(squares), intercept)
        return jnp.where(moves, -moved, direction)

    def solve(_: Any, forces: Array) -> Array:
        problem = Problem(squares.data, factored, signs, intercept)
        c = jnp.where(signs != 0, problem.correlations(jnp.where(moves, forces, 0)), 0)
        P = active.inverse
        scaled = jax.vmap(lambda P, c: matmul(P, matmul(c, P)), in_axes=(0, 1), out_axes=1)(P, c)
        weights = scaled / factored.length[:, None]
        bias = forces[-1] / factored.R00 - matmul(factored.R0, weights)
        bias = bias / factored.R00 - matmul(factored.rows.X.mean, weights)
        return jnp.where(moves, jnp.concatenate([weights, bias[None]]), forces)

    _, forces = jax.jvp(balance, (squares,), (tangents,))
    return theta, lax.custom_linear_solve(curvature, forces, solve, symmetric=True)


differentiable_lasso.defjvp(_derivative, symbolic_zeros=True)


def _ridge(squares: Sums) -> Array:
    return jnp.zeros_like(squares.share) if squares.ridge is None else squares.ridge


def _from_zero(factored: Factors) -> Any:
    rows = factored.rows
    return rows._replace(y=rows.y._replace(origin=jnp.zeros_like(rows.y.origin)))
