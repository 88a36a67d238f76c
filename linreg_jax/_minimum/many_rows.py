"""Many rows of a loss of lines: those near a kink one by one, all others as one.

At a point near the minimum most residuals lie so far from a kink that they stay on their line. All
of these together are one line, which costs nothing, and few rows are left to look for the minimum
with. What is found is the minimum of all rows where the others are still on the lines that they
were counted for: rho lies above these, so that no minimum can be lower. Where they are not, the
rows next to a kink are chosen anew. Rows that pull hardest are kept wherever they lie: nothing
could hold them in balance. Samples of the rows come first, each several times as large as the one
before, until the rows next to a kink are known well enough.

Source: Portnoy and Koenker 1997, Statistical Science 12, whose "globs" the others are.
"""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._algebra.least_squares import Factors, factors
from linreg_jax._algebra.linalg import map_blocks
from linreg_jax._arithmetic.double_word import sum_pairs
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss
from linreg_jax._minimum.minimum import Minimum, minimum
from linreg_jax._minimum.problem import Scaled
from linreg_jax._minimum.reduction import (
    centred_columns,
    coordinates,
    for_centred,
    ridge_in_coordinates,
)
from linreg_jax._minimum.solving import Found, typical_curvature
from linreg_jax._typing import Array, Bool, Float, Int
from linreg_jax.dataset import Dataset

# Of 100,000 × 20 and 1,000,000 × 32 (float64, two CPU cores, jax 0.12.0.1) a quantile takes 0.14 s
# and 1.2 s so, and 0.29 s and 4.7 s with all rows one by one; but its programs take a second longer
# to compile.
_FEWEST_NUMBERS = 2**21  # of X, with a bias
_FEWEST_TIMES = 4  # as many rows as are kept
_KEPT_OF_NUMBERS, _KEPT_OF_COLUMNS = 8, 400  # times the root of all numbers, the columns
_STEEP = 8  # one in so many of the kept is kept for its pull
_GROWTH = 8  # of a sample
_MOST_ROUNDS = 8  # with all rows
_BLOCK_ROWS = 2**13
_PULL = 1e-3  # of a typical curvature: a sample may have no minimum of its own


class Parts(NamedTuple):
    """Data of one target that was factored.

    Attributes:
      loss: made of lines.
      data: a `Dataset` with y [n, 1].
      strength: [] of the ridge.
      factored: of all rows.
      pull: [] a small curvature.
      steepness: [n] how hard each row can pull, nearly: s times the length of its part of Q.
    """

    loss: Loss
    data: Dataset
    strength: Float[Array, ""]
    factored: Factors
    pull: Float[Array, ""]
    steepness: Float[Array, " n"]

    @property
    def scaled(self) -> Scaled:
        """The loss in units of the targets."""
        return Scaled(self.loss, self.factored.rows.y.unit[0])


class Sums(NamedTuple):
    """What rows are together at a point, in units of the targets.

    Attributes:
      value: [] Σ s rho(r).
      gradient: [p] Q S psi(r).
      squares: [] Σ s r².
    """

    value: Float[Array, ""]
    gradient: Float[Array, " p"]
    squares: Float[Array, ""]


def has_many_rows(loss: Loss, data: Dataset) -> bool:
    """Whether some of the rows on one device are enough to look at one by one."""
    n, d = data.X.shape
    is_made_of_lines = loss.is_piecewise_linear and len(loss.kinks) > 0
    is_one_target = data.y.ndim == 1 or data.y.shape[1] == 1
    is_large = n * (d + 1) >= _FEWEST_NUMBERS and n >= _FEWEST_TIMES * num_kept(n, d)
    on_one_device = not isinstance(data.X, jax.Array) or len(data.X.devices()) == 1
    return is_made_of_lines and is_one_target and is_large and on_one_device


def num_kept(n: int, d: int) -> int:
    """How many of n rows are looked at one by one, a power of 2."""
    kept = max(_KEPT_OF_NUMBERS * math.sqrt(n * (d + 1)), _KEPT_OF_COLUMNS * (d + 1))
    return 2 ** round(math.log2(kept))


def find_among_many(
    loss: Loss, data: Dataset, strength: Float[Array, ""], *, intercept: bool
) -> Found | None:
    """The `Found` of a convex loss made of lines, outside of any program; None: not found so.

    Args:
      loss: made of lines.
      data: a `Dataset` with y [n, 1] and weights that neither over- nor underflow.
      strength: [] of the ridge, in units of Σ sample_weight rho(r) + strength Σ weights².
      intercept: whether there is a bias.
    """
    n, m = data.X.shape[0], num_kept(*data.X.shape)
    parts, z = _factored(loss, data, strength, intercept)
    strides = [*_strides(n, m), *[1] * _MOST_ROUNDS]
    kept, lines, count = np.arange(m) * strides[0], None, 0
    sums, r = _sums(parts, z, strides[0], intercept)
    for stride, following in itertools.pairwise([*strides, 1]):
        is_alone = lines is None
        found = _minimum_of_kept(parts, kept, z, r, sums, stride, is_alone, intercept)
        if not np.isfinite(found.point.gap):
            return None
        z, count = found.point.z, count + int(found.num_iterations)
        sums, r = _sums(parts, z, following, intercept)
        before, lines = lines, _lines(parts, r)
        if stride == 1 and before is not None and _are_settled(kept, before, lines):
            return _found(parts, found, count)
        kept = _nearest(parts, r, m, following)
    return None


def _strides(n: int, m: int) -> list[int]:
    """Every how many-th row is in each sample, the first of m rows."""
    sizes = itertools.takewhile(lambda size: size < n, (m * _GROWTH**i for i in itertools.count()))
    return [n // size for size in sizes if n // size > 1]


@functools.partial(jax.jit, static_argnames="intercept")
def _factored(
    loss: Loss, data: Dataset, strength: Float[Array, ""], intercept: bool
) -> tuple[Parts, Float[Array, " p"]]:
    """What does not change from round to round, and the z of least squares."""
    curvature = typical_curvature(loss, data)
    factored, h = factors(data, 2 * strength / curvature, intercept=intercept)
    pull = _PULL * curvature * factored.rows.y.unit[0]
    blocks = map_blocks(
        functools.partial(_steepness, factored, intercept),
        data._replace(total_weight=None),
        _BLOCK_ROWS,
    )
    steepness = _joined(blocks, data.X.shape[0])
    return Parts(loss, data, strength, factored, pull, steepness), h[:, 0]


def _steepness(factored: Factors, intercept: bool, block: Dataset) -> Float[Array, " B"]:
    """[B] with features taken for uncorrelated, of a block of rows."""
    A, _ = centred_columns(factored, block, intercept)
    A = A / jnp.append(factored.length, factored.R00)[:, None]
    lengths = jnp.sqrt(jnp.sum(A * A, axis=0))
    return lengths if block.sample_weight is None else block.sample_weight * lengths


def _joined(blocks: Float[Array, "t B"], n: int) -> Float[Array, " n"]:
    """[n] of `map_blocks`, whose last block reaches back into the one before it."""
    left = n - (blocks.shape[0] - 1) * blocks.shape[1]
    return jnp.concatenate([blocks[:-1].reshape(-1), blocks[-1, blocks.shape[1] - left :]])


@functools.partial(jax.jit, static_argnames="intercept")
def _sums(
    parts: Parts, z: Float[Array, " p"], stride: Int[Array, ""] | int, intercept: bool
) -> tuple[Sums, Float[Array, " n"]]:
    """The `Sums` of every so many-th row at z, and [n] residuals, which are right of these rows."""
    factored, scaled, data = for_centred(parts.factored), parts.scaled, parts.data
    theta = factored.back(z[:, None])[:, 0]
    n = data.X.shape[0]
    weight = (jnp.arange(n) % stride == 0).astype(z.dtype)
    if data.sample_weight is not None:
        weight = weight * data.sample_weight

    def of_block(block: Dataset) -> tuple[Sums, Array]:
        A, y = centred_columns(parts.factored, block, intercept)
        r, s = matmul(theta, A) - y[0], jnp.asarray(block.sample_weight)
        value, squares = jnp.sum(s * scaled.rho(r)), jnp.sum(s * r * r)
        return Sums(value, matmul(A, s * scaled.psi(r)), squares), r

    rows = data._replace(sample_weight=weight, total_weight=None)
    sums, r = map_blocks(of_block, rows, _BLOCK_ROWS)
    sums = jax.tree.map(lambda a: sum_pairs((a, jnp.zeros_like(a)), 0)[0], sums)
    gradient = factored.forward(sums.gradient[:, None])[:, 0]
    return sums._replace(gradient=gradient), _joined(r, n)


@functools.partial(jax.jit, static_argnames="intercept")
def _minimum_of_kept(
    parts: Parts,
    kept: Int[Array | np.ndarray, " m"],
    z: Float[Array, " p"],
    r: Float[Array, " n"],
    sums: Sums,
    stride: Int[Array, ""] | int,
    is_alone: Bool[Array, ""] | bool,
    intercept: bool,
) -> Minimum:
    """The `Minimum` of the kept rows with all others as they were at z.

    Of a sample the weights are those of all rows, and a small pull towards z keeps it from having
    no minimum; the first one is alone.
    """
    scaled, rows = parts.scaled, _rows_at(parts.data, kept)
    problem = coordinates(parts.factored, rows, parts.strength, intercept)
    problem = problem._replace(y=problem.y[0], P=scaled.unit * problem.P)
    # With the very residuals of the sums: on a kink rounding decides about the slope.
    r, s = r[kept], problem.s
    value, squares = jnp.sum(s * scaled.rho(r)), jnp.sum(s * r * r)
    here = Sums(value, matmul(problem.Q, s * scaled.psi(r)), squares)
    others = jax.tree.map(lambda a, b: jnp.where(is_alone, 0, stride * (a - b)), sums, here)
    pull = jnp.where(stride > 1, parts.pull, 0)
    problem = problem._replace(
        s=stride * s,
        P=problem.P + pull * jnp.eye(z.shape[0], dtype=z.dtype),
        c=others.gradient - pull * z,
        constant=others.value - jnp.sum(others.gradient * z) + pull * jnp.sum(z * z) / 2,
        squares=jnp.maximum(others.squares, 0),
    )
    return minimum(problem, scaled, z)


@jax.jit
def _rows_at(data: Dataset, index: Int[Array | np.ndarray, " m"]) -> Dataset:
    return jax.tree.map(lambda a: a[index], data._replace(total_weight=None))


def _kinks(parts: Parts) -> Float[np.ndarray, " q"]:
    """[q] from the lowest to the highest, in units of the targets."""
    return np.sort([float(kink) for kink in parts.loss.kinks]) / float(parts.scaled.unit)


def _lines(parts: Parts, r: Float[Array, " n"]) -> Int[np.ndarray, " n"]:
    """[n] on which line each residual lies."""
    return np.searchsorted(_kinks(parts), np.asarray(r))


def _nearest(parts: Parts, r: Float[Array, " n"], m: int, stride: int) -> Int[np.ndarray, " m"]:
    """[m] the rows nearest to a kink, of every so many-th one, and the steepest ones, in order."""
    values, steepness = (np.asarray(a)[::stride] for a in (r, parts.steepness))
    off = np.min([np.abs(values - kink) for kink in _kinks(parts)], axis=0)
    off[np.argpartition(-steepness, m // _STEEP)[: m // _STEEP]] = 0
    off[steepness == 0] = np.inf
    return stride * np.sort(np.argpartition(off, m - 1)[:m])


def _are_settled(
    kept: Int[np.ndarray, " m"], before: Int[np.ndarray, " n"], after: Int[np.ndarray, " n"]
) -> bool:
    """Whether all rows but the kept ones are on the line that they were counted for."""
    has_moved = before != after
    has_moved[kept] = False
    return not has_moved.any()


def _found(parts: Parts, found: Minimum, count: int) -> Found:
    factored, unit, z = parts.factored, parts.scaled.unit, found.point.z
    theta = factored.back(z[:, None]).at[-1].add(factored.rows.y.mean)
    ridge = ridge_in_coordinates(factored, parts.strength)
    pull = unit * unit * jnp.sum(z * matmul(ridge, z)) / 2
    return Found(
        factored=factored,
        theta=theta,
        u=jnp.zeros_like(parts.data.y),
        costs=found.point.value * unit - pull,
        gap=found.point.gap * unit,
        scale=found.at_zero * unit,
        is_unique=found.is_unique & (factored.rank == parts.data.X.shape[1]),
        num_iterations=jnp.asarray(count, jnp.int32),
    )
