"""Division where the divisor may be 0."""

import jax.numpy as jnp

from linreg_jax._typing import Array, Float


def nonzero(x: Float[Array, " *shape"]) -> Float[Array, " *shape"]:
    """x, with 1 in place of each 0, to divide by."""
    return jnp.where(x == 0, 1, x)


def divide(
    a: Float[Array, " *shape"] | float, b: Float[Array, " *shape"], *, at_zero: float = 0.0
) -> Float[Array, " *shape"]:
    """a / b elementwise, and `at_zero` where b is 0; derivatives are finite there too."""
    return jnp.where(b == 0, at_zero, a / nonzero(b))
