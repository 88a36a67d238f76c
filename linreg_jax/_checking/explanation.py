"""A wrong gradient in a sentence."""

import numpy as np

from linreg_jax._checking.comparison import flat
from linreg_jax._typing import Float
from linreg_jax.model import Params


def explain(yours: Params, right: Params, allowed: Float[np.ndarray, " D"], n: int) -> str:
    """What a wrong gradient looks like: a constant times the right one, or wrong in the bias alone.

    Args:
      yours, right: `Params`.
      allowed: [D] how far rounding can put two right gradients apart.
      n: examples.

    Returns:
      A sentence; empty where it looks like neither.
    """
    found, expected = flat(yours), flat(right)
    factors = {
        "2": 2.0,
        "1/2": 0.5,
        "-1": -1.0,
        f"n = {n}": float(n),
        f"1/n = 1/{n}": 1 / n,
        f"2/n = 2/{n}": 2 / n,
        f"n/2 = {n}/2": n / 2,
    }
    if not (np.abs(expected) > allowed).any():
        return ""  # nothing to be a multiple of
    for name, factor in factors.items():
        bound = (abs(factor) + 1) * allowed
        if factor != 1 and (np.abs(found - factor * expected) <= bound).all():
            return f"yours is everywhere {name} times the right one"
    if right.bias is not None:
        at_bias = right.bias.size  # the last entries
        wrong = np.abs(found - expected) > allowed
        if wrong[-at_bias:].any() and not wrong[:-at_bias].any():
            return "only the bias is wrong: its gradient is the weighted sum (or mean) of psi(r)"
    return ""
