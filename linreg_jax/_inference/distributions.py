"""Probabilities of Student's t and Fisher's F, and the quantiles that intervals need."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import betainc, erfc
from jax.typing import ArrayLike

from linreg_jax._typing import Array, Float
from linreg_jax._validation import is_traced


def t_p_values(t: Array, degrees: Array) -> Array:
    """The probability of a larger abs(t), elementwise; `degrees` broadcasts, inf: normal."""
    degrees = jnp.broadcast_to(degrees, t.shape)
    finite = jnp.isfinite(degrees)
    usable = jnp.where(finite & (degrees > 0), degrees, 1)
    size = jnp.abs(t)
    share = 1 / (1 + size * (size / usable))
    by_t = betainc(usable / 2, jnp.full_like(usable, 0.5), jnp.where(jnp.isnan(share), 1, share))
    p = jnp.where(finite, by_t, erfc(size / 2**0.5))
    return jnp.where((degrees > 0) & ~jnp.isnan(t), p, jnp.nan)


def f_p_values(f: Array, above: Array, below: Array) -> Array:
    """The probability of a larger F with `above` and `below` degrees of freedom, elementwise."""
    above, below = (jnp.broadcast_to(a, f.shape).astype(f.dtype) for a in (above, below))
    usable = (above > 0) & (below > 0) & ~jnp.isnan(f)
    a, b, ratio = (jnp.where(usable, x, 1) for x in (above, below, f))
    return jnp.where(usable, betainc(b / 2, a / 2, 1 / (1 + a / b * ratio)), jnp.nan)


def t_quantile(level: float | Array, degrees: Float[Array, "..."]) -> Float[Array, "..."]:
    """t with P(abs(T) ≤ t) = level, by scipy on the host: jax.scipy has no inverse of it.

    Where values are traced the host is called from the compiled program.
    """
    if not (is_traced(level) or is_traced(degrees)):
        return jnp.asarray(_quantile(level, degrees, degrees.dtype))
    given = jnp.stack([jnp.broadcast_to(jnp.asarray(level, degrees.dtype), degrees.shape), degrees])
    # As bits: the thread that calls back does not know of `jax.enable_x64(True)`, and would round.
    bits = lax.bitcast_convert_type(given, jnp.uint32)
    shape = jax.ShapeDtypeStruct(bits.shape[1:], bits.dtype)
    call = functools.partial(_quantile_of_bits, np.dtype(degrees.dtype))
    found = jax.pure_callback(call, shape, bits, vmap_method="sequential")
    return lax.bitcast_convert_type(found, degrees.dtype)


def _quantile_of_bits(dtype: np.dtype, bits: Array) -> np.ndarray:
    words = np.ascontiguousarray(np.asarray(bits))
    level, degrees = words.view(dtype).reshape(2, -1)
    return _quantile(level, degrees, dtype).view(np.uint32).reshape(words.shape[1:])


def _quantile(level: ArrayLike, degrees: ArrayLike, dtype: np.dtype) -> np.ndarray:
    # A tenth of a second, which a plain fit need not wait for.
    special = importlib.import_module("scipy.special")

    df = np.asarray(degrees, np.float64)
    probability = 0.5 + np.asarray(level, np.float64) / 2
    usable = np.isfinite(df) & (df > 0)
    of_t = special.stdtrit(np.where(usable, df, 1), probability)
    found = np.where(np.isposinf(df), special.ndtri(probability), np.where(usable, of_t, np.nan))
    return np.asarray(found, dtype)
