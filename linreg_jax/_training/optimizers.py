"""Optimizers: what `fit` takes, and the arrays of their states."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike

from linreg_jax._training.rates import LearningRate
from linreg_jax._training.result import TrainState
from linreg_jax._validation import shape_text
from linreg_jax.dataset import Dataset
from linreg_jax.losses import Loss
from linreg_jax.model import Params


def flat_state(optimizer_state: optax.OptState) -> tuple[Array, ...]:
    """The arrays of an optax state, each of a definite dtype so that a loop can carry them."""

    def definite(leaf: ArrayLike) -> Array:
        array = jnp.asarray(leaf)
        return lax.convert_element_type(array, array.dtype)  # a weak type would change in the loop

    return tuple(definite(leaf) for leaf in jax.tree.leaves(optimizer_state))


def check_optimizer(loss: Callable[[Params, Dataset], Array], optimizer: Callable) -> None:
    """Raises where the optimizer is no factory, or cannot train the penalties of the loss."""
    if isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            "optimizer must be a factory, learning rate -> optax.GradientTransformation, got what "
            "one makes: pass optax.sgd, not optax.sgd(0.1), or lambda rate: optax.sgd(rate, 0.9)"
        )
    if not callable(optimizer):
        raise TypeError(
            "optimizer must be a factory, learning rate -> optax.GradientTransformation, got "
            f"{optimizer!r}: pass optax.sgd, for instance"
        )
    if isinstance(loss, Loss) and loss.proximal_penalties and optimizer is not optax.sgd:
        names = " and ".join(penalty.name for penalty in loss.proximal_penalties)
        raise ValueError(
            f"{loss} has a {names}, which is trained by plain proximal steps: leave "
            f"optimizer=optax.sgd as it is, or put a ridge in place of the {names}"
        )


def check_state(
    start: Params | TrainState, optimizer: Callable, learning_rate: LearningRate
) -> None:
    """Raises where the optimizer makes no transformation, or not one for the start's state."""
    try:
        transformation = optimizer(learning_rate)
    except TypeError as error:
        raise TypeError(
            f"optimizer(learning_rate) failed, {error}: pass a factory of one argument, "
            "lambda rate: ..."
        ) from error
    if not isinstance(transformation, optax.GradientTransformation):
        raise TypeError(
            "optimizer must be a factory, learning rate -> optax.GradientTransformation, but "
            f"{function_name(optimizer)} made {transformation!r}: pass optax.sgd, for instance"
        )
    if not isinstance(start, TrainState):
        return
    expected = jax.eval_shape(lambda params: flat_state(transformation.init(params)), start.params)
    had = [(leaf.shape, leaf.dtype) for leaf in start.optimizer_state]
    wanted = [(leaf.shape, leaf.dtype) for leaf in expected]
    if had != wanted:
        raise ValueError(
            f"the state does not fit the optimizer: it holds arrays {_shapes(had)}, and "
            f"{function_name(optimizer)} needs {_shapes(wanted)}; pass the optimizer that made it, "
            "or state.params to start it afresh"
        )


def function_name(function: Callable) -> str:
    """What a function is called in messages."""
    return getattr(function, "__name__", repr(function))


def _shapes(arrays: Sequence[tuple[tuple[int, ...], DTypeLike]]) -> str:
    return "[" + ", ".join(f"{dtype}{shape_text(shape)}" for shape, dtype in arrays) + "]"
