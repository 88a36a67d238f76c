"""The pseudoinverse of some columns of a matrix, as columns come and go.

F [p, d] has columns of length 1, or of length 0; P [d, p] is the pseudoinverse of those that are
active, its other rows 0. Its rows lie in the span of the active columns, and P F is the identity
there. Nothing squares the condition number of the columns.

Source: Greville 1960, SIAM Review 2, for a column more.
"""

from typing import NamedTuple

import jax.numpy as jnp

from linreg_jax._kernels import matmul
from linreg_jax._typing import Array, Bool, Float, Int

_ROUNDINGS = 8  # times eps and the terms' length: below it, what is left of a column is rounding


class Column(NamedTuple):
    """A column as the active ones see it, F[:, j] = F coefficients + rest.

    Attributes:
      coefficients: [d], 0 but for active columns.
      rest: [p] orthogonal to all active columns.
      squares: [] of its length.
      is_independent: [] whether it is more than rounding.
    """

    coefficients: Float[Array, " d"]
    rest: Float[Array, " p"]
    squares: Float[Array, ""]
    is_independent: Bool[Array, ""]


def seen(P: Float[Array, "d p"], F: Float[Array, "p d"], j: Int[Array, ""]) -> Column:
    """Column j of F, projected twice, so that `rest` keeps its digits."""
    x = F[:, j]
    first = matmul(P, x)
    second = matmul(P, x - matmul(F, first))
    coefficients = first + second
    # Sums are small where they cancel: of a coefficient only what is above its rounding counts.
    noise = _ROUNDINGS * jnp.finfo(F.dtype).eps
    size = jnp.abs(coefficients)
    coefficients = jnp.where(size > noise * jnp.max(size), coefficients, 0)
    rest = x - matmul(F, coefficients)
    squares = jnp.sum(rest * rest)
    is_independent = jnp.sqrt(squares) > noise * (1 + jnp.linalg.norm(size))
    return Column(coefficients, rest, squares, is_independent)


def with_column(P: Float[Array, "d p"], j: Int[Array, ""], column: Column) -> Float[Array, "d p"]:
    """P with column j as an active one, which `seen` returned."""
    row = column.rest / jnp.where(column.squares > 0, column.squares, 1)
    is_new = jnp.arange(P.shape[0]) == j
    left = P - column.coefficients[:, None] * row[None, :]
    return jnp.where(is_new[:, None], row[None, :], left)


def without_column(P: Float[Array, "d p"], i: Int[Array, ""]) -> Float[Array, "d p"]:
    """P after column i has gone: the other rows, made orthogonal to row i."""
    row = P[i]
    squares = jnp.sum(row * row)
    share = matmul(P, row) / jnp.where(squares > 0, squares, 1)
    is_gone = jnp.arange(P.shape[0]) == i
    return jnp.where(is_gone[:, None], 0, P - share[:, None] * row[None, :])


def polished(P: Float[Array, "d p"], F: Float[Array, "p d"]) -> Float[Array, "d p"]:
    """P without what many changes have left in it: one step of Newton's method (Schulz 1933)."""
    return 2 * P - matmul(matmul(P, F), P)
