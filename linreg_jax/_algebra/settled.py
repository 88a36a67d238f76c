"""Rows that cannot cross a kink within a radius, and the one quadratic that they are together.

Rows lie by columns here: A [p, n] is [X b]ᵀ, or Xᵀ without a bias, and theta [p] the weights with
the bias behind them; [k, p] for k targets. Between two kinks rho is a parabola or a line. Let gap_i
be the distance of residual i from the nearest kink at the anchor. By Cauchy and Schwarz a move
delta changes the residual by no more than abs(a_i · delta) ≤ length(a_i) length(delta), so within

    ratio_i = gap_i / length(a_i)

of the anchor row i stays on its piece: it has settled. All settled rows together cost, exactly,

    value + gradient · delta + delta · hessian delta / 2
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Bool, Float, Int
from linreg_jax.dataset import Dataset, bias_multipliers
from linreg_jax.model import Params

_BLOCK = 4096  # columns of A in a block of the Gram matrix: its operands stay in cache
_PIECE = 1024  # columns of A that are added up at a time
_KEPT_BITS = 8  # of the mantissa of a radius: it is found to 1/256 of itself
_COUNTED = 64  # roundings that are added up; of more, the root is taken


class Rows(NamedTuple):
    """Examples by columns.

    Attributes:
      A: [p, n] the features, and what multiplies the bias below them.
      y: [n] or [k, n] targets.
      share: [n] what multiplies rho in the loss; 0 for padding.
      length: [n] no less than the Euclidean length of a column of A.
    """

    A: Float[Array, "p n"]
    y: Float[Array, "*k n"]
    share: Float[Array, " n"]
    length: Float[Array, " n"]


class Quadratic(NamedTuple):
    """value + gradient · delta + delta · hessian delta / 2, delta = theta - anchor.

    Attributes:
      anchor: [p] or [k, p].
      value: [].
      gradient: shaped as the anchor.
      hessian: [p, p] or [k, p, p].
    """

    anchor: Float[Array, "*k p"]
    value: Float[Array, ""]
    gradient: Float[Array, "*k p"]
    hessian: Float[Array, "*k p p"]

    def at(self, theta: Float[Array, "*k p"]) -> tuple[Float[Array, ""], Float[Array, "*k p"]]:
        """The value and the gradient at theta."""
        delta = theta - self.anchor
        curved = matmul(self.hessian, delta[..., None])[..., 0]
        value = self.value + jnp.sum((self.gradient + curved / 2) * delta)
        return value, self.gradient + curved


class Reached(NamedTuple):
    """How far theta may move.

    Attributes:
      radius: [] until more rows than are kept can cross a kink.
      r: [n] or [k, n] residuals.
      ratio: [n] how far each row lets it.
    """

    radius: Float[Array, ""]
    r: Float[Array, "*k n"]
    ratio: Float[Array, " n"]


class Settled(NamedTuple):
    """Rows divided about an anchor in those that have settled and those that are kept.

    Attributes:
      radius: [] how far theta may move.
      quadratic: what the settled rows cost.
      places: [m] where the kept ones stand; 0 behind the last of them.
      is_kept: [m] bool, whether there are so many.
    """

    radius: Float[Array, ""]
    quadratic: Quadratic
    places: Int[Array, " m"]
    is_kept: Bool[Array, " m"]


def by_columns(data: Dataset, share: Float[Array, " n"], *, intercept: bool) -> Rows:
    """The rows of a data set, whose examples count by `share`."""
    A = data.X.T
    if intercept:
        A = jnp.concatenate([A, bias_multipliers(data)[None, :]])
    # What the squares of small numbers lose when they underflow is added.
    lost = jnp.sqrt(A.shape[0] * jnp.finfo(A.dtype).tiny).astype(A.dtype)
    return Rows(A, data.y.T, share, jnp.sqrt(jnp.sum(A * A, axis=0)) + lost)


def as_theta(params: Params) -> Float[Array, "*k p"]:
    """[p] or [k, p]: the weights, with the bias behind them where there is one."""
    if params.bias is None:
        return params.weights.T
    return jnp.concatenate([params.weights, params.bias[None]]).T


def as_params(theta: Float[Array, "*k p"], like: Params) -> Params:
    """The `Params` of theta, with a bias where `like` has one."""
    weights = theta[..., : like.weights.shape[0]].T
    return Params(weights, None if like.bias is None else theta[..., -1])


def distance(theta: Float[Array, "*k p"], anchor: Float[Array, "*k p"]) -> Float[Array, ""]:
    """[] the Euclidean distance; of several targets, that of the one which moved most."""
    delta = theta - anchor
    return jnp.max(jnp.sqrt(jnp.sum(delta * delta, axis=-1)))


def reach_of_rows(
    loss: Loss, rows: Rows, theta: Float[Array, "*k p"], r: Float[Array, "*k n"]
) -> Float[Array, " n"]:
    """[n] the ratio of each row, `gap / length`, less what the rounding of residuals may cost.

    Of q = p + 3 roundings in a residual each adds half an eps of the sum of the terms' sizes, at
    the anchor and again at the parameters in question: by counting them, or beyond 64 by 8 times
    the root of their number, which chance does not reach (Higham and Mary 2019, SIAM Journal on
    Scientific Computing 41). Rows of weight 0 are settled wherever they are.
    """
    roundings = min(rows.A.shape[0] + 3, math.sqrt(_COUNTED * (rows.A.shape[0] + 3)))
    rounding = roundings * float(jnp.finfo(r.dtype).eps)
    size = _times(rows.length, jnp.linalg.norm(theta, axis=-1, keepdims=True)) + jnp.abs(rows.y)
    gap = jnp.full(r.shape, jnp.inf, r.dtype)
    for kink in loss.kinks:
        gap = jnp.minimum(gap, jnp.abs(r - kink) - rounding * (size + jnp.abs(kink)))
    if gap.ndim > 1:
        gap = jnp.min(gap, axis=0)
    ratio = jnp.maximum(gap, 0) / (rows.length * (1 + 4 * rounding))
    return jnp.where(rows.share == 0, jnp.inf, ratio)


def largest_radius(ratio: Float[Array, " n"], most: int) -> Float[Array, ""]:
    """[] a radius that no more than `most` ratios are below, nearly the largest.

    By bisection: floats that are not negative stand in the order of their bits, of which the last
    are left alone.
    """
    info = jnp.finfo(ratio.dtype)
    integer = jnp.dtype(f"int{info.bits}")
    shift = info.nmant - _KEPT_BITS
    infinity = (2**info.nexp - 1) << _KEPT_BITS

    def radius(place: Int[Array, ""]) -> Float[Array, ""]:
        return lax.bitcast_convert_type(place << shift, ratio.dtype)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) // 2
        few = jnp.sum(ratio < radius(middle)) <= most
        return jnp.where(few, middle, low), jnp.where(few, high, middle)

    ends = jnp.zeros((), integer), jnp.full((), infinity + 1, integer)
    found = radius(lax.fori_loop(0, infinity.bit_length(), halve, ends)[0])
    return jnp.where(found < info.tiny, 0, found)  # processors take smaller numbers for 0


def reached(loss: Loss, rows: Rows, theta: Float[Array, "*k p"], most: int) -> Reached:
    """How far theta may move, where no more than `most` rows are kept."""
    r = matmul(theta, rows.A) - rows.y
    ratio = reach_of_rows(loss, rows, theta, r)
    return Reached(largest_radius(ratio, most), r, ratio)


def settle(
    loss: Loss, rows: Rows, theta: Float[Array, "*k p"], found: Reached, most: int
) -> Settled:
    """The rows divided about theta, no more than `most` of them kept; `found` by `reached`."""
    radius, r, ratio = found
    keep = ratio < radius
    place = jnp.where(keep, jnp.cumsum(keep) - 1, most)
    positions = jnp.arange(keep.size, dtype=jnp.int32)
    places = jnp.zeros(most, jnp.int32).at[place].set(positions, mode="drop")
    quadratic = _quadratic(loss, rows._replace(share=jnp.where(keep, 0, rows.share)), theta, r)
    return Settled(radius, quadratic, places, jnp.arange(most) < jnp.sum(keep))


def _quadratic(
    loss: Loss, rows: Rows, theta: Float[Array, "*k p"], r: Float[Array, "*k n"]
) -> Quadratic:
    """What rows cost about theta, while each stays on its piece."""
    psi, curvature = jax.jvp(loss.psi, (r,), (jnp.ones_like(r),))
    # On a kink, where a row cannot have settled, a slope of psi may be anything.
    curvature = jnp.where(rows.share == 0, 0, _times(rows.share, curvature))
    p = theta.shape[-1]
    hessian = lax.cond(
        jnp.any(curvature != 0),
        lambda: weighted_gram(rows.A, curvature),
        lambda: jnp.zeros((*theta.shape[:-1], p, p), theta.dtype),
    )
    value = jnp.sum(_times(rows.share, loss.rho(r)))
    slopes = weighted_sum(rows.A, _times(rows.share, psi), sum_of_columns(rows.A))
    return Quadratic(theta, value, slopes, hessian)


def sum_of_columns(A: Float[Array, "p n"]) -> Float[Array, " p"]:
    """A 1, piece by piece."""
    p, n = A.shape
    whole = n // _PIECE * _PIECE
    pieces = jnp.sum(A[:, :whole].reshape(p, -1, _PIECE), axis=2)
    return jnp.sum(pieces, axis=1) + jnp.sum(A[:, whole:], axis=1)


def weighted_sum(
    A: Float[Array, "p n"], s: Float[Array, "*k n"], sums: Float[Array, " p"]
) -> Float[Array, "*k p"]:
    """A s, as A (s - mean s) + mean s (A 1).

    Slopes that lean to one side (those of a quantile, or of any loss far from its minimum) would be
    added up to a sum so large that each is rounded the same way: 1e-4 of the gradient in float32 at
    200,000 examples.

    Args:
      A: [p, n].
      s: [n] or [k, n].
      sums: [p] `sum_of_columns(A)`.
    """
    mean = jnp.mean(s, axis=-1, keepdims=True)
    shape = (-1,) if s.ndim == 1 else (1, -1)
    return matmul(A, (s - mean).T).T + mean * sums.reshape(shape)


def weighted_gram(A: Float[Array, "p n"], h: Float[Array, "*k n"]) -> Float[Array, "*k p p"]:
    """A diag(h) Aᵀ, block by block."""
    if h.ndim > 1:
        return lax.map(lambda of_target: weighted_gram(A, of_target), h)
    n = A.shape[1]
    blocks = n // _BLOCK

    def add(i: Int[Array, ""], total: Float[Array, "p p"]) -> Float[Array, "p p"]:
        block, weight = (lax.dynamic_slice_in_dim(a, i * _BLOCK, _BLOCK, -1) for a in (A, h))
        return total + matmul(block * weight[None, :], block.T)

    rest = A[:, blocks * _BLOCK :]
    total = matmul(rest * h[None, blocks * _BLOCK :], rest.T)
    return lax.fori_loop(0, blocks, add, total) if blocks else total


def _times(share: Float[Array, " n"], values: Float[Array, "*k n"]) -> Float[Array, "*k n"]:
    """share * values, example by example."""
    return share * values if values.ndim == 1 else share[None, :] * values
