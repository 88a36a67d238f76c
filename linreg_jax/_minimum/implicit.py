"""The derivative of a smooth loss's minimum, from the equation that it solves.

Where theta is least, the gradient is 0 and stays 0 as the data and the loss change a little::

    0 = AᵀS psi(r) + 2 Λ theta        H d theta = -d (AᵀS psi(r) + 2 Λ theta) at theta as it is

with A = [D b], r = A theta - D_y, S the sample weights, Λ the ridge and H = AᵀS psi'(r) A + 2 Λ, in
units. It is `_algebra/implicit.py` with psi'(r) in the place of a constant, and H is solved in
coordinates where it is nearly the identity.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from linreg_jax._algebra.least_squares import Factors
from linreg_jax._arithmetic.centring import finite_or_weighted
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss
from linreg_jax._minimum.problem import solve_positive
from linreg_jax._typing import Array, Bool, Float
from linreg_jax.dataset import Dataset, bias_multipliers

_CLEAR = 1e3  # roundings


@functools.partial(jax.custom_jvp, nondiff_argnums=(7,))
def differentiable_smooth(
    theta: Float[Array, "d_and_1 k"],
    H: Float[Array, "k p p"],
    is_unique: Bool[Array, " k"],
    factored: Factors,
    loss: Loss,
    data: Dataset,
    strength: Float[Array, ""],
    intercept: bool,
) -> Float[Array, "d_and_1 k"]:
    """`theta` as it is, and its derivatives with respect to loss, data and strength.

    Args:
      theta: [d + 1, k] the minima, in units of `Centring`.
      H: [k, p, p] the Hessians in coordinates where they are nearly the identity.
      is_unique: [k] whether there is no other minimum; where there is, or nearly, derivatives are
        NaN.
      factored: `Factors` of data; taken as fixed, as what stands before it is.
      loss: with a curvature_bound.
      data: a `Dataset` with y [n, k].
      strength: [] of the ridge, in units of Σ sample_weight rho(r) + strength Σ weights².
      intercept: whether there is a bias.
    """
    return theta


@differentiable_smooth.defjvp
def _derivative(intercept: bool, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    theta, H, is_unique, factored, *inputs = primals
    theta = differentiable_smooth(theta, H, is_unique, factored, *inputs, intercept)
    force = functools.partial(_force, factored, intercept)
    _, forces = jax.jvp(lambda *inputs: force(theta, *inputs), tuple(inputs), tuple(tangents[4:]))

    def curvature(direction: Array) -> Array:
        moved = jax.jvp(lambda theta: force(theta, *inputs), (theta,), (direction,))[1]
        return -moved if intercept else jnp.concatenate([-moved[:-1], direction[-1:]])

    def solve(_: object, forces: Array) -> Array:
        h = jax.vmap(solve_positive)(H, factored.forward(forces).T)
        return factored.back(h.T)

    is_known = jnp.where(is_unique & jax.vmap(_is_held)(H), 1, jnp.nan).astype(theta.dtype)[None, :]
    moved = lax.custom_linear_solve(curvature, forces * is_known, solve, symmetric=True)
    # Once more: where every feature is constant, `back` divides nothing and drops what it is given.
    return theta, moved * is_known


def _is_held(H: Float[Array, "p p"]) -> Bool[Array, ""]:
    """[] whether `solve_positive` adds next to nothing to the least eigenvalue."""
    root = jnp.sqrt(jnp.diagonal(H))
    least = jnp.linalg.eigvalsh(H / (root[:, None] * root[None, :]))[0]
    return least > _CLEAR * H.shape[0] * jnp.finfo(H.dtype).eps


def _force(
    factored: Factors,
    intercept: bool,
    theta: Float[Array, "d_and_1 k"],
    loss: Loss,
    data: Dataset,
    strength: Float[Array, ""],
) -> Float[Array, "d_and_1 k"]:
    """-(AᵀS psi(r) + 2 Λ theta): the gradient downhill, in the units of theta."""
    rows, b, unit = factored.rows, bias_multipliers(data), factored.rows.y.unit
    X, y = data.X, data.y
    if data.sample_weight is not None:
        X, y = (finite_or_weighted(columns, data.sample_weight) for columns in (X, y))
    D = rows.X.differences(X, data.bias_column)
    r = matmul(D, theta[:-1]) + b[:, None] * theta[-1:]
    s = loss.psi((r - rows.y.differences(y, data.bias_column)) * unit[None, :])
    if data.sample_weight is not None:
        s = data.sample_weight[:, None] * s
    pull = 2 * (strength / (rows.X.unit * rows.X.unit))[:, None] * unit[None, :] * theta[:-1]
    on_bias = matmul(b[None, :], s)
    return -jnp.concatenate(
        [matmul(D.T, s) + pull, on_bias if intercept else jnp.zeros_like(on_bias)]
    )
