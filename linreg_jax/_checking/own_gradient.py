"""The caller's own gradient function, whose result must be shaped as `jax.value_and_grad`'s."""

import jax
import jax.numpy as jnp

from linreg_jax._checking.comparison import Result
from linreg_jax._validation import shape_text, shown
from linreg_jax.dataset import Dataset
from linreg_jax.gradients import ValueAndGradient
from linreg_jax.model import Params


def call_gradient(gradient: ValueAndGradient, params: Params, data: Dataset) -> Result:
    """`gradient(params, data)`, refused where it is not shaped as `jax.value_and_grad`'s.

    Raises:
      TypeError: not a pair of a value and a gradient that is a pytree as params.
      ValueError: a value that is not [], or a gradient of other shapes than params.
    """
    given = gradient(params, data)
    fix = "return (value, gradient) as jax.value_and_grad(loss) does, gradient shaped as params"
    if type(given) is not tuple or len(given) != 2:
        got = f"{len(given)} items" if type(given) is tuple else f"{type(given).__name__} alone"
        raise TypeError(f"gradient(params, data) gave {got}: {fix}")
    value, derivative = given
    expected: object = jax.tree.structure(params)
    if jax.tree.structure(derivative) != expected:
        raise TypeError(
            f"the gradient that gradient(params, data) gave is {shown(derivative)}, which is not "
            f"{type(params).__name__} with the fields that params has: {fix}"
        )
    if jnp.shape(value) != ():
        raise ValueError(f"the value has shape {shape_text(jnp.shape(value))}, not []: {fix}")
    for (path, ours), theirs in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(derivative), strict=True
    ):
        if jnp.shape(ours) != jnp.shape(theirs):
            name = jax.tree_util.keystr(path).lstrip(".")
            raise ValueError(
                f"the gradient of {name} has shape {shape_text(jnp.shape(theirs))}, but {name} is "
                f"{shape_text(jnp.shape(ours))}: {fix}"
            )
    return given
