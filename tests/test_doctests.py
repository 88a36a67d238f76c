"""Every example in a docstring runs, with the public names in scope."""

import dataclasses
import doctest
import importlib
import inspect
import pkgutil

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


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    public = {name: getattr(linreg_jax, name) for name in linreg_jax.__all__}
    names = {"dataclasses": dataclasses, "jax": jax, "jnp": jnp, "np": np, "optax": optax}
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs={**names, **public}, optionflags=options).failed == 0


def test_public_functions_have_an_example():
    public = {name: getattr(linreg_jax, name) for name in linreg_jax.__all__}
    functions = {name: thing for name, thing in public.items() if inspect.isfunction(thing)}
    assert [name for name, thing in functions.items() if ">>>" not in thing.__doc__] == []
