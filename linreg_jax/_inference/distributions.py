"""Probabilities of Student's t and Fisher's F, and the quantiles that intervals need."""

import functools
import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from linreg_jax._host import is_on_host, namespace_of
from linreg_jax._typing import AnyArray, Array, Float
from linreg_jax._validation import is_traced


def t_p_values(t: AnyArray, degrees: AnyArray) -> AnyArray:
    """The probability of a larger abs(t), elementwise; `degrees` broadcasts, inf: normal."""
    xp, special = namespace_of(t), _special(t)
    degrees = xp.broadcast_to(degrees, t.shape)
    finite = xp.isfinite(degrees)
    usable = xp.where(finite & (degrees > 0), degrees, 1)
    size = xp.abs(t)
    share = 1 / (1 + size * (size / usable))
    half = xp.full_like(usable, 0.5)
    by_t = special.betainc(usable / 2, half, xp.where(xp.isnan(share), 1, share))
    p = xp.where(finite, by_t, special.erfc(size / 2**0.5))
    return xp.where((degrees > 0) & ~xp.isnan(t), p, xp.nan)


def f_p_values(f: AnyArray, above: AnyArray, below: AnyArray) -> AnyArray:
    """The probability of a larger F with `above` and `below` degrees of freedom, elementwise."""
    xp, special = namespace_of(f), _special(f)
    above, below = (xp.broadcast_to(a, f.shape).astype(f.dtype) for a in (above, below))
    usable = (above > 0) & (below > 0) & ~xp.isnan(f)
    a, b, ratio = (xp.where(usable, x, 1) for x in (above, below, f))
    return xp.where(usable, special.betainc(b / 2, a / 2, 1 / (1 + a / b * ratio)), xp.nan)


def _special(like: AnyArray) -> Any:
    """scipy's special functions of arrays of NumPy's, jax.scipy's of others."""
    return _of_scipy() if is_on_host(like) else jax.scipy.special


def _of_scipy() -> Any:
    # A tenth of a second, which a plain fit need not wait for.
    return importlib.import_module("scipy.special")


def t_quantile(level: float | Array, degrees: Float[Array, "..."]) -> Float[Array, "..."]:
    """t with P(abs(T) ≤ t) = level, by scipy on the host: jax.scipy has no inverse of it.

    Where values are traced the host is called from the compiled program.
    """
    if not (is_traced(level) or is_traced(degrees)):
        return jax.device_put(_quantile(level, degrees, degrees.dtype))
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
    special = _of_scipy()
    df = np.asarray(degrees, np.float64)
    probability = 0.5 + np.asarray(level, np.float64) / 2
    usable = np.isfinite(df) & (df > 0)
    of_t = special.stdtrit(np.where(usable, df, 1), probability)
    found = np.where(np.isposinf(df), special.ndtri(probability), np.where(usable, of_t, np.nan))
    return np.asarray(found, dtype)
