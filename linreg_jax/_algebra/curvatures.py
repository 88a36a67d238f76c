"""The curvatures of a loss on its data, and how large its numbers grow along each."""

from linreg_jax._algebra.linalg import ScaledColumns, graded_svd, map_blocks
from linreg_jax._algebra.quadratic import penalty_curvature, quadratic, require_curvature
from linreg_jax._arithmetic.blocks import by_parts
from linreg_jax._arithmetic.division import nonzero
from linreg_jax._host import namespace_of
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss
from linreg_jax._typing import AnyArray, Bool, Float, Int
from linreg_jax.dataset import Dataset, bias_multipliers

_BLOCK_ROWS = 1024
# A feature with at least this share of its unit length in directions without curvature is named.
_INVOLVED = 0.01


def of_equal_columns(
    columns: ScaledColumns, intercept: bool
) -> tuple[Float[AnyArray, ""], Bool[AnyArray, " d"]]:
    """The condition number of centred features of equal length, and which make up others."""
    xp = namespace_of(columns.Vt)
    in_rank = xp.arange(columns.singular_values.shape[0]) < columns.rank
    # How much of feature j lies in the directions without any curvature: 1 - Σ_i Vt[i, j]².
    lost = 1 - xp.sum(xp.where(in_rank[:, None], columns.Vt, 0) ** 2, axis=0)
    largest = columns.singular_values[0]
    smallest = xp.min(xp.where(in_rank, columns.singular_values, xp.inf))
    if intercept:
        largest, smallest = xp.maximum(largest, 1), xp.minimum(smallest, 1)
    return (largest / smallest) ** 2, lost > _INVOLVED**2


def curvatures_of(
    loss: Loss,
    data: Dataset,
    R: Float[AnyArray, "q p_and_k"],
    rank: Int[AnyArray, ""],
    intercept: bool,
) -> tuple[Float[AnyArray, " p"], Float[AnyArray, " p"]]:
    """Curvatures, largest first, and the largest number in the loss along each; 0 for a bound."""
    xp, p = namespace_of(R), data.X.shape[1] + int(intercept)
    F, z, _ = quadratic(loss, data, R)
    U, s, Vt = graded_svd(F)
    s = xp.where(xp.arange(s.shape[0]) < rank, s, 0)
    padding = (0, p - s.shape[0])
    curvatures = xp.pad(s * s, padding)
    if not loss.smooth_part.is_quadratic_in_params:
        return curvatures, xp.zeros_like(curvatures)
    size = _overflow_size(data, require_curvature(loss), U, s, Vt, z, intercept)
    return curvatures, xp.pad(size, padding)


def curvature_anywhere(loss: Loss, intercept: bool) -> Float[AnyArray, ""] | float:
    """[] what the curvature nowhere falls below.

    Far from the targets nothing is left of it but that of the penalties, which spare the bias.
    """
    smooth = loss.smooth_part.penalties
    if intercept or not loss.is_convex or not all(p.is_quadratic for p in smooth):
        return 0.0
    added = penalty_curvature(loss)
    return 0.0 if added is None else added


def _overflow_size(
    data: Dataset,
    curvature: Float[AnyArray, ""] | float,
    U: Float[AnyArray, "q m"],
    s: Float[AnyArray, " m"],
    Vt: Float[AnyArray, "m p"],
    z: Float[AnyArray, "q k"],
    intercept: bool,
) -> Float[AnyArray, " m"]:
    """[m] the largest number in the loss along each eigenvector, at parameters 0.

    It is rho of the largest residual, or the whole loss where that is a sum.
    """
    xp, start = namespace_of(U), matmul(U.T, z)  # [m, k]
    vectors = Vt.T

    def largest_residual(block: Dataset) -> Float[AnyArray, " m"]:
        moved = matmul(block.X, vectors[int(intercept) :])
        if intercept:
            moved = moved + bias_multipliers(block)[:, None] * vectors[:1]
        return xp.max(xp.abs(moved), axis=0)

    def of_part(part: Dataset) -> Float[AnyArray, " m"]:
        return xp.max(map_blocks(largest_residual, part, _BLOCK_ROWS), axis=0)

    per_unit = xp.max(by_parts(of_part, data._replace(total_weight=None)), axis=0)
    distance = xp.max(xp.abs(start), axis=1) / nonzero(s)
    rho = curvature / 2 * (per_unit * distance) ** 2
    return xp.where(s > 0, xp.maximum(rho, xp.sum(start * start, axis=1) / 2), 0)
