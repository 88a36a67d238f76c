"""Functions as arguments of compiled programs: frozen dataclasses as pytrees, others wrapped."""

import dataclasses
import functools
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


_names: dict[type, tuple[tuple[str, ...], tuple[str, ...]]] = {}  # static and traced fields


def _field_names(cls: type) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the static and of the traced fields, found once for a class."""
    if cls not in _names:
        fields = dataclasses.fields(cls)
        static = tuple(field.name for field in fields if field.metadata.get("static"))
        _names[cls] = static, tuple(field.name for field in fields if field.name not in static)
    return _names[cls]


def _children(value: Pytree) -> tuple[list[Any], tuple[type, tuple[Any, ...]]]:
    cls = type(value)
    static, traced = _field_names(cls)
    structure = tuple([getattr(value, name) for name in static])
    return [getattr(value, name) for name in traced], (cls, structure)


def _children_with_keys(
    value: Pytree,
) -> tuple[list[tuple[GetAttrKey, Any]], tuple[type, tuple[Any, ...]]]:
    children, structure = _children(value)
    names = _field_names(type(value))[1]
    return [(GetAttrKey(n), child) for n, child in zip(names, children, strict=True)], structure


def _rebuilt(
    cls: type[Pytree], structure: tuple[type, tuple[Any, ...]], children: tuple[Any, ...]
) -> Pytree:
    value = object.__new__(cls)
    static, traced = _field_names(cls)
    for name, part in zip((*static, *traced), (*structure[1], *children), strict=True):
        object.__setattr__(value, name, part)  # as the dataclass is frozen
    return value


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class _OfItsClass:
    """A dataclass that the caller registered, with its class as a part of the structure."""

    value: Any

    def __call__(self, *arguments: Any) -> Any:
        return self.value(*arguments)

    def tree_flatten(self) -> tuple[tuple[Any], type]:
        return (self.value,), type(self.value)

    @classmethod
    def tree_unflatten(cls, _: type, children: tuple[Any]) -> "_OfItsClass":
        return cls(*children)


def as_pytree(function: Any) -> Any:
    """A function as a pytree whose leaves are numbers.

    What is no pytree, the function itself or a part of it, is wrapped and becomes a constant of the
    program.
    """
    if isinstance(function, Pytree):
        return function
    passed = jax.tree.map(
        lambda leaf: jax.tree_util.Partial(leaf) if callable(leaf) else leaf, function
    )
    is_leaf = jax.tree_util.treedef_is_leaf(jax.tree.structure(function))
    return _OfItsClass(passed) if dataclasses.is_dataclass(function) and not is_leaf else passed


def as_function(pytree: Any) -> Any:
    """The function back from `as_pytree`."""
    if isinstance(pytree, Pytree):
        return pytree
    return jax.tree.map(
        lambda part: part.func if _is_wrapped(part) else part,
        pytree.value if isinstance(pytree, _OfItsClass) else pytree,
        is_leaf=_is_wrapped,
    )


def _is_wrapped(part: object) -> bool:
    return type(part) is jax.tree_util.Partial and not part.args and not part.keywords
