"""Optimizers: what `fit` takes, the arrays of their states, and the update of the parameters."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike

from linreg_jax._training.rates import LearningRate
from linreg_jax._training.result import TrainState
from linreg_jax._validation import is_traced, shape_text, shown
from linreg_jax.dataset import Dataset
from linreg_jax.losses import Loss
from linreg_jax.model import Params
from linreg_jax.schedules import adaptive, invscaling


def flat_state(optimizer_state: optax.OptState) -> tuple[Array, ...]:
    """The arrays of an optax state, each of a definite dtype so that a loop can carry them."""

    def definite(leaf: ArrayLike) -> Array:
        array = jnp.asarray(leaf)
        return lax.convert_element_type(array, array.dtype)  # a weak type would change in the loop

    return tuple(definite(leaf) for leaf in jax.tree.leaves(optimizer_state))


def check_called(function: object) -> None:
    """Raises TypeError where `invscaling` or `adaptive` is passed and not what it makes."""
    if function is invscaling:
        raise TypeError("invscaling makes a schedule: call it, learning_rate=invscaling(0.1)")
    if function is adaptive:
        raise TypeError(
            "adaptive makes an optimizer: call it, optimizer=adaptive() with learning_rate=0.1"
        )


def check_optimizer(loss: Callable[[Params, Dataset], Array], optimizer: Callable) -> None:
    """Raises where the optimizer is no factory, or cannot train the penalties of the loss."""
    check_called(optimizer)
    if isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            "optimizer must be a factory, learning rate -> optax.GradientTransformation, got what "
            "one makes: pass optax.sgd, not optax.sgd(0.1), or lambda rate: optax.sgd(rate, 0.9)"
        )
    if not callable(optimizer):
        raise TypeError(
            "optimizer must be a factory, learning rate -> optax.GradientTransformation, got "
            f"{shown(optimizer)}: pass optax.sgd, for instance"
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
    if isinstance(learning_rate, jax.Array) and not is_traced(learning_rate):
        # A number of the host: optimizers compute with the rate, and here it is only tried.
        learning_rate = np.ones((), learning_rate.dtype)
    transformation = transformation_of(optimizer, learning_rate)
    if not isinstance(start, TrainState):
        return
    _check_counts(start)
    expected = jax.eval_shape(lambda params: flat_state(transformation.init(params)), start.params)
    had = [(leaf.shape, leaf.dtype) for leaf in start.optimizer_state]
    wanted = [(leaf.shape, leaf.dtype) for leaf in expected]
    if had != wanted:
        raise ValueError(
            f"the state does not fit the optimizer: it holds arrays {_shapes(had)}, and "
            f"{function_name(optimizer)} needs {_shapes(wanted)}; pass the optimizer that made it, "
            "or state.params to start it afresh"
        )


def _check_counts(state: TrainState) -> None:
    """Raises where a state made by hand does not count its steps, or averages other parameters."""
    step = state.step
    if np.ndim(step) != 0 or not jnp.issubdtype(jnp.result_type(step), jnp.integer):
        raise ValueError(f"the state's step must be one integer, [], got {shown(step)}")
    if not is_traced(step) and int(step) < 0:
        raise ValueError(
            f"the state's step must be at least 0, got {int(step)}: steps taken so far"
        )
    shapes = jax.tree.map(jnp.shape, state.params)
    anchors = [("anchors", anchor) for anchor in state.anchors or ()]
    for name, part in [("average", state.average), ("best", state.best), *anchors]:
        if part is not None and jax.tree.map(jnp.shape, part.params) != shapes:
            raise ValueError(
                f"the state's {name} holds parameters of other shapes than its params: pass the "
                "state that `fit` returned, or state.params to start afresh"
            )


def transformation_of(
    optimizer: Callable[[Any], Any], learning_rate: LearningRate
) -> optax.GradientTransformationExtraArgs:
    """What an optimizer makes of a rate, as a transformation that takes the loss too.

    Raises:
      TypeError: the factory fails, or what it makes is no transformation.
    """
    try:
        made = optimizer(learning_rate)
    except TypeError as error:
        raise TypeError(
            f"optimizer(learning_rate) failed, {error}: pass a factory of one argument, "
            "lambda rate: ..."
        ) from error
    if isinstance(made, optax.MultiSteps):
        made = made.gradient_transformation()
    if not isinstance(made, optax.GradientTransformation):
        raise TypeError(
            "optimizer must be a factory, learning rate -> optax.GradientTransformation, but "
            f"{function_name(optimizer)} made {shown(made)}: pass optax.sgd, for instance"
        )
    return optax.with_extra_args_support(made)


def update_params(
    optimizer: Callable[[Any], Any],
    learning_rate: LearningRate,
    value_and_gradient: Callable[[Params, Any], tuple[Array, Params]],
    loss: Callable[[Params, Any], Array],
    params: Params,
    optimizer_state: tuple[Array, ...],
    batch: Any,
) -> tuple[Array, Params, Params, tuple[Array, ...]]:
    """One update by the optimizer: `(value, gradient, new params, new state)`.

    With `optax.sgd(learning_rate)` it is plain gradient descent::

        params <- params - learning_rate * gradient

    Momentum, the moments of Adam and line searches are inside `transformation.update`, of optax.

    Args:
      optimizer, learning_rate: the factory, and what it is called with.
      value_and_gradient: a drop-in for `jax.value_and_grad(loss)`.
      loss: what line searches evaluate.
      params, optimizer_state, batch: before the update.

    Raises:
      ValueError: the optimizer fails on such parameters.
    """
    value, gradient = value_and_gradient(params, batch)
    transformation = transformation_of(optimizer, learning_rate)
    structure = jax.tree.structure(jax.eval_shape(transformation.init, params))
    extra = _taken_by(
        transformation.update,
        value=value,
        grad=gradient,
        # A line search passes on to it what others need, where it names that.
        value_fn=lambda params, obj_fn=None, grad_fn=None: loss(params, batch),
        obj_fn=lambda params: loss(params, batch),
        grad_fn=lambda params, _: value_and_gradient(params, batch)[1],
    )
    try:
        updates, new_state = transformation.update(
            gradient, jax.tree.unflatten(structure, optimizer_state), params, **extra
        )
    except Exception as error:  # of optax or of the caller's own, while tracing
        leaves = {name: leaf for name, leaf in params._asdict().items() if leaf is not None}
        shapes = {name: shape_text(leaf.shape) for name, leaf in leaves.items()}
        raise ValueError(
            f"optimizer {function_name(optimizer)} failed on parameters {shapes}, "
            f"{type(error).__name__}: {error}; it may need arguments of its own, "
            "lambda rate: ..., or not take a bias that is one number, "
            "init_params(data, intercept=False)"
        ) from error
    # Plain gradient descent makes updates of -learning_rate * gradient.
    return value, gradient, optax.apply_updates(params, updates), flat_state(new_state)


def _taken_by(update: Callable[..., Any], **extra: Any) -> dict[str, Any]:
    """Those of some keywords that a function takes; some updates of optax take only their own."""
    parameters = inspect.signature(update).parameters.values()
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        return extra
    names = {parameter.name for parameter in parameters}
    return {name: value for name, value in extra.items() if name in names}


def function_name(function: object) -> str:
    """What a function is called in messages."""
    return getattr(function, "__name__", shown(function))


def _shapes(arrays: Sequence[tuple[tuple[int, ...], DTypeLike]]) -> str:
    return "[" + ", ".join(f"{dtype}{shape_text(shape)}" for shape, dtype in arrays) + "]"
