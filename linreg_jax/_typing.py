"""Arrays with their shapes in the signature: `Float[Array, "n d"]`.

jaxtyping's annotations where it is imported already, as the tests do, and where types are checked;
else only arrays, so that nobody waits for its import.
"""

import sys
from typing import TYPE_CHECKING

from jax import Array

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Int, Key, Num, UInt32
else:

    class _AnyShape:
        """`Float[Array, "n d"]` is `Array`."""

        def __class_getitem__(cls, item: tuple[type, str]) -> type:
            return item[0]

    Bool = Float = Int = Key = Num = UInt32 = _AnyShape

__all__ = ["Array", "Bool", "Float", "Int", "Key", "Num", "UInt32"]
