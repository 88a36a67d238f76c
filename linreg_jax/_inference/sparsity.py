"""How dense residuals lie where psi jumps: what the errors of quantile regression rest on.

At a kink where psi jumps by j, the curvature that the examples add is j f x xᵀ, f the density of
the residuals there, which a kernel estimates; 1/f is the sparsity. The bandwidth is Hall and
Sheather's in terms of probabilities, brought to residuals as Stata and statsmodels do::

    b = n^(-1/3) z^(2/3) (1.5 φ(t)² / (2 t² + 1))^(1/3)     t = Φ⁻¹(level), z = Φ⁻¹(0.975)
    h = min(deviation of y, interquartile range of r / 1.34) (Φ⁻¹(level + b) - Φ⁻¹(level - b))
    f = Σ s K((r - kink) / h) / (n h)                       K(u) = 3/4 (1 - u²) for abs(u) ≤ 1

b is halved until level ± b are probabilities, as in R's quantreg.

Source: Koenker 2005, Quantile Regression, 3.4; Hall and Sheather 1988, JRSS B 50; Powell 1991.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jax.scipy.stats import norm

from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Float


class Jump(NamedTuple):
    """A kink where psi jumps.

    Attributes:
      at: [] the residual.
      size: [] psi just above it less psi just below it.
      level: [k] the share of residuals below 0 of the two sides' errors: of targets under the line.
      bandwidth: [k] of the kernel.
    """

    at: Array
    size: Array
    level: Array
    bandwidth: Array


def sides(loss: Loss, at: Array) -> tuple[Array, Array]:
    """psi just below and just above a residual."""
    info = jnp.finfo(at.dtype)
    # Not the next float: below the smallest normal one processors see a 0.
    apart = jnp.maximum(2 * info.eps * jnp.abs(at), 2 * info.tiny)
    return loss.psi(at - apart), loss.psi(at + apart)


def is_pinball(loss: Loss) -> bool:
    """Whether psi has one jump between two numbers, as the losses of quantiles."""
    return loss.is_piecewise_quadratic and len(loss.kinks) == 1 and not loss.is_smooth


def level_of(loss: Loss, like: Array) -> Float[Array, ""]:
    """[] which quantile a loss of two lines has for its minimum."""
    below, above = sides(loss, jnp.asarray(loss.kinks[0], like.dtype))
    return -below / (above - below)


def score_variance(loss: Loss, like: Array) -> Array:
    """[] E psi² at the minimum of a loss of two lines, -a b for slopes a < 0 < b."""
    below, above = sides(loss, jnp.asarray(loss.kinks[0], like.dtype))
    return -below * above


def jumps(loss: Loss, r: Float[Array, "n k"], y: Float[Array, "n k"], s: Array) -> list[Jump]:
    """The `Jump`s of a loss on residuals r, with weights s [n] that count examples."""
    n = jnp.sum(s)
    mean = jnp.sum(s[:, None] * y, axis=0) / n
    deviation = jnp.sqrt(jnp.sum(s[:, None] * (y - mean[None]) ** 2, axis=0) / n)
    spread = jax.vmap(lambda one: _quartiles_apart(one, s), in_axes=1)(r) / 1.34
    found = []
    for kink in loss.kinks:
        at = jnp.asarray(kink, r.dtype)
        below, above = sides(loss, at)
        if is_pinball(loss):
            level = jnp.broadcast_to(level_of(loss, at), deviation.shape)
        else:
            level = jnp.sum(s[:, None] * (r > at), axis=0) / n
        b = width(level, n)
        h = jnp.minimum(deviation, spread) * (ndtri(level + b) - ndtri(level - b))
        found.append(Jump(at, above - below, level, jnp.where(h > 0, h, jnp.nan)))
    return found


def width(level: Array, n: Array) -> Array:
    """b of a level, in terms of probabilities."""
    t = ndtri(level)
    z = ndtri(jnp.asarray(0.975, level.dtype))
    b = n ** (-1 / 3) * z ** (2 / 3) * (1.5 * norm.pdf(t) ** 2 / (2 * t * t + 1)) ** (1 / 3)
    ratio = b / jnp.minimum(level, 1 - level)
    return jnp.where(ratio < 1, b, b / 2 ** (jnp.floor(jnp.log2(ratio)) + 1))


def _quartiles_apart(values: Array, s: Array) -> Array:
    """The interquartile range of values [n] of which each stands s times.

    Between neighbours in order by straight lines, as `numpy.percentile` has it.
    """
    order = jnp.argsort(values)
    values, upto = values[order], jnp.cumsum(s[order])
    total = upto[-1]

    def percentile(p: float) -> Array:
        place = p * (total - 1)
        whole = jnp.floor(place)

        def nth(m: Array) -> Array:
            # The first whose copies reach beyond place m, counted from 0.
            return values[jnp.minimum(jnp.sum(upto <= m), len(values) - 1)]

        low = nth(whole)
        return low + (place - whole) * (nth(jnp.minimum(whole + 1, total - 0.5)) - low)

    return percentile(0.75) - percentile(0.25)


def kernel_density(r: Array, jump: Jump) -> Array:
    """[n, k] K((r - kink) / h) / h, whose mean is the density at the kink."""
    u = (r - jump.at) / jump.bandwidth[None, :]
    return jnp.where(jnp.abs(u) <= 1, 0.75 * (1 - u * u), 0) / jump.bandwidth[None, :]
