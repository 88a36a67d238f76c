"""A loss of parabolas and lines as a sum of cells, each a slope that rises from 0 to a height.

psi(r) = floor + Σ_j clip((r - start_j) / width_j, 0, 1) height_j, and a jump has the width 0. The
dual variable v_j of a cell is its share of psi, between 0 and height_j::

    cell(x) + cell*(v) - v x = (mid - w v)²/2w + (height - v) high + v low,    w = width / height

with x = r - start cut in what is below 0, within the width and above. All three are at least 0, and
together what the loss at r is above the line of slope v that touches it from below.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from linreg_jax._arithmetic.division import divide
from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Float

_FAR = 64.0  # in units of the targets: beyond the residuals of any minimum worth the name


class Cells(NamedTuple):
    """A loss of residuals in units; m cells, each with a column of its own for each row, or one.

    Attributes:
      floor: [q] the slope below all cells; q is 1 or n.
      start: [m, q] where each begins.
      height: [m, q] how much the slope rises; 0 for a cell that is none.
      softness: [m, q] width over height; 0 for a jump.
    """

    floor: Float[Array, " q"]
    start: Float[Array, "m q"]
    height: Float[Array, "m q"]
    softness: Float[Array, "m q"]

    def positions(self, r: Float[Array, " n"]) -> Float[Array, "m n"]:
        """[m, n] where each residual lies, from the start of each cell."""
        return r[None, :] - self.start

    def excess(self, x: Float[Array, "m n"], v: Float[Array, "m n"]) -> Float[Array, " n"]:
        """[n] cell(x) + cell*(v) - v x, summed over the cells."""
        w, height = self.softness, self.height
        low, high = jnp.maximum(-x, 0), jnp.maximum(x - w * height, 0)
        off = jnp.clip(x, 0, w * height) - w * v
        return jnp.sum(divide(off * off, 2 * w + 0 * x) + (height - v) * high + v * low, axis=0)

    def nearest(self, x: Float[Array, "m n"]) -> Float[Array, "m n"]:
        """[m, n] the v that belongs to x; half the height on a jump."""
        w, height = self.softness, self.height
        within = jnp.where(w > 0, divide(x, w + 0 * x), height * (1 + jnp.sign(x)) / 2)
        return jnp.clip(within, 0, height)


def cells_of(loss: Loss, unit: Float[Array, ""]) -> Cells:
    """The cells of a loss whose rho is made of parabolas and lines.

    Beyond the last kinks a parabola is followed far out, and then left for a line.

    Args:
      loss: its psi must not fall.
      unit: [] of the residuals.
    """
    dtype = unit.dtype
    kinks = jnp.sort(jnp.stack([jnp.asarray(kink, dtype) for kink in loss.kinks]))
    info = jnp.finfo(dtype)
    step = jnp.maximum(8 * info.eps * jnp.abs(kinks), 2.0**20 * info.tiny)
    below, above = loss.psi(kinks - step), loss.psi(kinks + step)
    again = jnp.concatenate([jnp.zeros(1, bool), kinks[1:] == kinks[:-1]])
    jumps = jnp.where(again, 0, above - below)
    start = kinks / unit
    if loss.is_piecewise_linear:
        return _alike(below[0], start, jumps, jnp.zeros_like(start))
    far = _FAR * unit + jnp.abs(kinks[:1])
    ends = loss.psi(jnp.concatenate([kinks[:1] - far, kinks[-1:] + far]))
    from_ = jnp.concatenate([kinks[:1] - far, kinks])
    to = jnp.concatenate([kinks, kinks[-1:] + far])
    rise = jnp.concatenate([below[:1] - ends[:1], below[1:] - above[:-1], ends[1:] - above[-1:]])
    few = 64 * info.eps * jnp.max(jnp.abs(jnp.concatenate([ends, below, above])))
    heights = jnp.concatenate([jumps, rise])
    heights = jnp.where(heights > few, heights, 0)
    width = jnp.concatenate([jnp.zeros_like(kinks), to - from_])
    starts = jnp.concatenate([kinks, from_])
    softness = divide(width / unit, heights)
    return _alike(ends[0], starts / unit, heights, softness)


def _alike(floor: Array, start: Array, height: Array, softness: Array) -> Cells:
    """Cells that are the same for every row."""
    return Cells(floor[None], start[:, None], height[:, None], softness[:, None])


def ramp_like(loss: Loss, unit: Float[Array, ""]) -> Cells:
    """One cell that is much like a smooth loss: steepest at 0, and level far out."""
    far = jnp.asarray(np.array([-_FAR, _FAR]), unit.dtype)
    low, high = loss.psi(far * unit)
    steepest = jnp.asarray(loss.curvature_bound, unit.dtype) * unit
    steepest = jnp.where(steepest > 0, steepest, 1)
    return _alike(low, (low / steepest)[None], (high - low)[None], (1 / steepest)[None])
