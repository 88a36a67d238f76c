"""Functions as arguments of compiled programs."""

from collections.abc import Callable
from typing import Any

import jax


def as_pytree(function: Callable) -> Any:
    """A function as a pytree whose leaves are numbers.

    What is no pytree, the function itself or a part of it such as a penalty of a caller's class, is
    wrapped and becomes a constant of the program.
    """
    if not any(callable(leaf) for leaf in jax.tree.leaves(function)):
        return function
    return jax.tree.map(
        lambda leaf: jax.tree_util.Partial(leaf) if callable(leaf) else leaf, function
    )


def as_function(pytree: Any) -> Any:
    """The function back from `as_pytree`."""
    return jax.tree.map(
        lambda part: part.func if _is_wrapped(part) else part, pytree, is_leaf=_is_wrapped
    )


def _is_wrapped(part: object) -> bool:
    return type(part) is jax.tree_util.Partial and not part.args and not part.keywords
