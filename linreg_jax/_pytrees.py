"""Functions as arguments of compiled programs."""

from collections.abc import Callable
from typing import Any

import jax


def as_pytree(function: Callable) -> Any:
    """A function as a pytree: as it is where it is one, else wrapped, a constant of the program."""
    if any(leaf is function for leaf in jax.tree.leaves(function)):
        return jax.tree_util.Partial(function)
    return function


def as_function(pytree: Any) -> Any:
    """The function back from `as_pytree`."""
    is_wrapped = type(pytree) is jax.tree_util.Partial and not pytree.args and not pytree.keywords
    return pytree.func if is_wrapped else pytree
