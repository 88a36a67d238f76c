"""Arrays with their shapes in the signature: `Float[Array, "n d"]`.

jaxtyping's annotations where it is imported already, as the tests do, and where types are checked;
else only arrays, so that nobody waits for its import.
"""

import sys
from typing import TYPE_CHECKING

import numpy as np
from jax import Array

# Of functions that NumPy runs too (`_host.py`): all of a call are of one kind, JAX's mostly.
if TYPE_CHECKING:
    AnyArray = Array
else:
    AnyArray = Array | np.ndarray | np.generic

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Int, Key, Num, UInt32
else:

    class _AnyShape:
        """`Float[Array, "n d"]` is `Array`."""

        def __class_getitem__(cls, item: tuple[type, str]) -> type:
            return item[0]

    Bool = Float = Int = Key = Num = UInt32 = _AnyShape

__all__ = ["AnyArray", "Array", "Bool", "Float", "Int", "Key", "Num", "UInt32"]
