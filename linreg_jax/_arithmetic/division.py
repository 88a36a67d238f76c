"""Division where the divisor may be 0."""

from linreg_jax._host import namespace_of
from linreg_jax._typing import AnyArray, Float


def nonzero(x: Float[AnyArray, " *shape"]) -> Float[AnyArray, " *shape"]:
    """x, with 1 in place of each 0, to divide by."""
    return namespace_of(x).where(x == 0, 1, x)


def divide(
    a: Float[AnyArray, " *shape"] | float, b: Float[AnyArray, " *shape"], *, at_zero: float = 0.0
) -> Float[AnyArray, " *shape"]:
    """a / b elementwise, and `at_zero` where b is 0; derivatives are finite there too."""
    return namespace_of(b).where(b == 0, at_zero, a / nonzero(b))
