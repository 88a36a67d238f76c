"""Functions as arguments of compiled programs: frozen dataclasses as pytrees, others wrapped."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import GetAttrKey


class Pytree:
    """A base class whose subclasses, frozen dataclasses, are pytrees of their fields.

    Fields whose metadata say `{"static": True}` are constants of a compiled program, the others may
    be traced. `jax.tree_util.register_dataclass` does the same, but in jax 0.10 to 0.12 the
    structures of two such classes with equal static fields are equal, whatever the classes are: now
    and then, as hashes fall, a program compiled for one is run for the other. Here the class is
    part of the structure.
    """

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        jax.tree_util.register_pytree_with_keys(
            cls, _children_with_keys, functools.partial(_rebuilt, cls), _children
        )


def _fields(cls: type[Any], *, static: bool) -> tuple[str, ...]:
    return tuple(
        field.name
        for field in dataclasses.fields(cls)
        if bool(field.metadata.get("static")) == static
    )


def _structure(value: Pytree) -> tuple[type, tuple[Any, ...]]:
    static = tuple(getattr(value, name) for name in _fields(type(value), static=True))
    return type(value), static


def _children(value: Pytree) -> tuple[tuple[Any, ...], tuple[type, tuple[Any, ...]]]:
    children = tuple(getattr(value, name) for name in _fields(type(value), static=False))
    return children, _structure(value)


def _children_with_keys(
    value: Pytree,
) -> tuple[tuple[tuple[GetAttrKey, Any], ...], tuple[type, tuple[Any, ...]]]:
    names = _fields(type(value), static=False)
    return tuple((GetAttrKey(name), getattr(value, name)) for name in names), _structure(value)


def _rebuilt(
    cls: type[Pytree], structure: tuple[type, tuple[Any, ...]], children: tuple[Any, ...]
) -> Pytree:
    value = object.__new__(cls)
    names = _fields(cls, static=True) + _fields(cls, static=False)
    for name, part in zip(names, (*structure[1], *children), strict=True):
        object.__setattr__(value, name, part)  # as the dataclass is frozen
    return value


def as_pytree(function: Callable) -> Any:
    """A function as a pytree: as it is where it is one, else wrapped, a constant of the program."""
    if any(leaf is function for leaf in jax.tree.leaves(function)):
        return jax.tree_util.Partial(function)
    return function


def as_function(pytree: Any) -> Any:
    """The function back from `as_pytree`."""
    is_wrapped = type(pytree) is jax.tree_util.Partial and not pytree.args and not pytree.keywords
    return pytree.func if is_wrapped else pytree
