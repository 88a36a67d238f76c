"""Every example in a docstring runs, with the public names in scope, and none is missed."""

import dataclasses
import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import linreg_jax

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(linreg_jax.__path__, "linreg_jax.")
    if not name.endswith("__main__")
]
PUBLIC = {name: getattr(linreg_jax, name) for name in linreg_jax.__all__}


def has_examples(name: str) -> bool:
    """Whether a prompt stands anywhere in the source of a module."""
    spec = importlib.util.find_spec(name)
    return spec is not None and ">>> " in Path(str(spec.origin)).read_text("utf-8")


def run_examples(module: types.ModuleType, names: dict[str, object]) -> doctest.TestResults:
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    return doctest.testmod(module, extraglobs=names, optionflags=options)


@pytest.mark.parametrize("name", [name for name in MODULES if has_examples(name)])
def test_examples_run(name: str) -> None:
    names = {"dataclasses": dataclasses, "jax": jax, "jnp": jnp, "np": np, "optax": optax}
    failed, attempted = run_examples(importlib.import_module(name), names | PUBLIC)
    assert failed == 0
    assert attempted > 0


def test_public_modules_have_an_example() -> None:
    public = [name for name in MODULES if "._" not in name]
    assert len(public) > 15
    assert [name for name in public if not has_examples(name)] == []


def test_public_functions_have_an_example() -> None:
    functions = {name: thing for name, thing in PUBLIC.items() if inspect.isfunction(thing)}
    assert len(functions) > 20
    assert [name for name, thing in functions.items() if ">>>" not in str(thing.__doc__)] == []


def test_a_wrong_example_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_examples(types.ModuleType("wrong", ">>> 1 + 1\n3\n"), {}) == (1, 1)
    assert "Expected:\n    3" in capsys.readouterr().out
