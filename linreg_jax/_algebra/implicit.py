"""The derivative of a minimum, from the equation that it solves.

Where theta is least, the gradient of the loss is 0 and stays 0 as the data change. With A = [D b],
r = D_y - A theta and S the sample weights::

    0 = AᵀS r - Λ theta        H d theta = dAᵀS r + AᵀdS r + AᵀS (dD_y - dA theta) - dΛ theta

and H = AᵀSA + Λ is solved with the factors that gave theta. Nothing of how the minimum was found is
differentiated.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from linreg_jax._algebra.least_squares import Factors
from linreg_jax._kernels import matmul
from linreg_jax.dataset import Dataset, bias_multipliers


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def differentiable_minimum(
    theta: Array, factored: Factors, data: Dataset, strength: Array, intercept: bool
) -> Array:
    """`theta` as it is, and its derivatives with respect to data and strength.

    They are NaN with respect to X (and to `bias_column`) where X is rank-deficient: any change of
    the rank makes the shortest minimum jump.

    Args:
      theta: [d + 1, k], as `corrected` gives it.
      factored: `Factors` of data; taken as fixed, as theta is.
      data: a `Dataset` with y [n, k].
      strength: [] of the ridge, in units of Σ sample_weight r² + strength Σ weights².
      intercept: whether there is a bias.
    """
    return theta


def _derivative(intercept: bool, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    theta, factored, data, strength = primals
    _, _, data_dot, strength_dot = tangents
    full_rank = jnp.where(factored.rank == data.X.shape[1], 1, jnp.nan).astype(theta.dtype)

    def instantiated(name: str, tangent: Array | SymbolicZero | None) -> Array | None:
        if tangent is None:
            return None
        if isinstance(tangent, SymbolicZero):
            return jnp.zeros(tangent.shape, tangent.dtype)
        return tangent * full_rank if name in ("X", "bias_column") else tangent

    dots = {name: instantiated(name, dot) for name, dot in data_dot._asdict().items()}
    strength_dot = instantiated("strength", strength_dot)
    theta = differentiable_minimum(theta, factored, data, strength, intercept)
    _, moved = jax.jvp(
        lambda data, strength: force(theta, factored, data, strength, intercept),
        (data, strength),
        (data._replace(**dots), strength_dot),
    )

    def curvature(direction: Array) -> Array:
        at_rest = data._replace(y=jnp.zeros_like(data.y))
        zero_origin = factored._replace(
            rows=factored.rows._replace(
                y=factored.rows.y._replace(origin=jnp.zeros_like(factored.rows.y.origin))
            )
        )
        return -force(direction, zero_origin, at_rest, strength, intercept)

    def solve(_: object, force: Array) -> Array:
        return factored.back(factored.forward(force))

    return theta, lax.custom_linear_solve(curvature, moved, solve, symmetric=True)


differentiable_minimum.defjvp(_derivative, symbolic_zeros=True)


def force(
    theta: Array, factored: Factors, data: Dataset, strength: Array, intercept: bool
) -> Array:
    """[d + 1, k] AᵀS r - Λ theta, half the gradient downhill; in the units of theta."""
    rows, b = factored.rows, bias_multipliers(data)
    D = rows.X.differences(data.X, data.bias_column)
    r = (
        rows.y.differences(data.y, data.bias_column)
        - matmul(D, theta[:-1])
        - b[:, None] * theta[-1:]
    )
    if data.sample_weight is not None:
        r = data.sample_weight[:, None] * r
    pull = (strength / (rows.X.unit * rows.X.unit))[:, None] * theta[:-1]
    on_bias = matmul(b[None, :], r)
    return jnp.concatenate(
        [matmul(D.T, r) - pull, on_bias if intercept else jnp.zeros_like(on_bias)]
    )
