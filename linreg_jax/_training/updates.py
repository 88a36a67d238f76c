"""One update of the parameters: the optimizer's, or the proximal step of a lasso."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from linreg_jax._sharding.shards import gradient_on_shards
from linreg_jax._validation import shape_text, shown
from linreg_jax.losses import Loss
from linreg_jax.model import Params
from linreg_jax.penalties import Lasso


class Updater(NamedTuple):
    """How a run moves.

    Attributes:
      init: params -> the optimizer's state, a flat tuple of arrays.
      update: `(params, optimizer_state, batch, step)` -> `(value, norm, params, optimizer_state)`:
        the loss and the gradient's norm before the step, and what the step leads to.
    """

    init: Callable[[Params], tuple[Array, ...]]
    update: Callable[..., tuple[Array, Array, Params, tuple[Array, ...]]]


def has_lasso(loss) -> bool:
    """Whether a loss has a lasso penalty, which is trained by a proximal step."""
    return isinstance(loss, Loss) and any(isinstance(p, Lasso) for p in loss.penalties)


def current_rate(learning_rate, step, dtype):
    """[] the learning rate of a step: the number itself, or what the schedule says."""
    rate = learning_rate(step) if callable(learning_rate) else learning_rate
    return jnp.asarray(rate, dtype)


def make_updater(loss, optimizer, gradient, learning_rate, mesh=None) -> Updater:
    """How `fit` moves the parameters of a loss.

    Args:
      loss: `(params, data) -> scalar`.
      optimizer: learning rate or schedule -> `optax.GradientTransformation`.
      gradient: loss -> `(params, data) -> (value, gradient)`.
      learning_rate: [] or a schedule, step -> rate.
      mesh: where the rows lie in equal parts, or None.
    """
    smooth, lassos = _split_lasso(loss)
    value_and_gradient = gradient_on_shards(gradient, smooth, mesh)
    transformation = transformation_of(optimizer, learning_rate)
    takes = _taker(transformation.update)

    def init(params):
        return flat_state(transformation.init(params))

    def update(params, optimizer_state, batch, step):
        value, grads = value_and_gradient(params, batch)
        structure = jax.tree.structure(jax.eval_shape(transformation.init, params))
        state = jax.tree.unflatten(structure, optimizer_state)
        extra = takes(
            value=value,
            grad=grads,
            # A line search passes on to it what others need, where it names that.
            value_fn=lambda params, obj_fn=None, grad_fn=None: smooth(params, batch),
            obj_fn=lambda params: smooth(params, batch),
            grad_fn=lambda params, _: value_and_gradient(params, batch)[1],
        )
        try:
            updates, new_state = transformation.update(grads, state, params, **extra)
        except Exception as error:  # of optax or of the caller's own, while tracing
            shapes = {name: shape_text(leaf.shape) for name, leaf in _named(params)}
            raise ValueError(
                f"optimizer {name_of(optimizer)} failed on parameters {shapes}, "
                f"{type(error).__name__}: {error}; it may need arguments of its own, "
                "lambda rate: ..., or not take a bias that is one number, "
                "init_params(data, intercept=False)"
            ) from error
        new_params = optax.apply_updates(params, updates)
        if lassos:
            rate = current_rate(learning_rate, step, params.weights.dtype)
            value = value + sum(p(params.weights) for p in lassos)
            strength = sum(p.strength for p in lassos)
            weights = soft_threshold(new_params.weights, rate * strength)
            new_params = new_params._replace(weights=weights)
            grads = _gradient_mapping(params, new_params, rate)
        return value, euclidean_norm(grads), new_params, flat_state(new_state)

    return Updater(init, update)


def transformation_of(
    optimizer: Callable[[Any], Any], learning_rate: Any
) -> optax.GradientTransformationExtraArgs:
    """What an optimizer makes of a rate, as a transformation that takes the loss too.

    Raises:
      TypeError: what it makes is none.
    """
    made = optimizer(learning_rate)
    if isinstance(made, optax.MultiSteps):
        made = made.gradient_transformation()
    if not isinstance(made, optax.GradientTransformation):
        raise TypeError(
            "optimizer must be a factory, learning rate -> optax.GradientTransformation, but "
            f"{name_of(optimizer)} made {shown(made)}: pass optax.sgd, for instance"
        )
    return optax.with_extra_args_support(made)


def name_of(function: object) -> str:
    """A function's name, as an error writes it."""
    return getattr(function, "__name__", shown(function))


def _taker(update: Callable) -> Callable[..., dict[str, Any]]:
    """Those of some keywords that a function takes; some updates of optax take only their own."""
    parameters = inspect.signature(update).parameters.values()
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        return dict
    names = {parameter.name for parameter in parameters}
    return lambda **extra: {name: value for name, value in extra.items() if name in names}


def _named(params: Params) -> list[tuple[str, Array]]:
    """The parameters that there are, by name."""
    return [(name, leaf) for name, leaf in params._asdict().items() if leaf is not None]


def flat_state(optimizer_state) -> tuple[Array, ...]:
    """The arrays of an optax state, each of a definite dtype so that a loop can carry them."""

    def definite(leaf):
        leaf = jnp.asarray(leaf)
        return lax.convert_element_type(leaf, leaf.dtype)  # a weak type would change in the loop

    return tuple(definite(leaf) for leaf in jax.tree.leaves(optimizer_state))


def soft_threshold(w, threshold):
    """The proximal step of threshold Σ abs(w): each weight moved towards 0, and stopped there."""
    return jnp.sign(w) * jnp.maximum(jnp.abs(w) - threshold, 0)


def euclidean_norm(tree):
    """[] the root of the sum of all squares in a pytree."""
    squares: Any = sum(jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(tree))
    # The root has no derivative at 0: the branch that is not taken sees a 1.
    return jnp.where(squares == 0, 0, jnp.sqrt(jnp.where(squares == 0, 1, squares)))


def _split_lasso(loss):
    """The loss without its lassos, and the lassos."""
    if not has_lasso(loss):
        return loss, ()
    lassos = tuple(p for p in loss.penalties if isinstance(p, Lasso))
    others = tuple(p for p in loss.penalties if not isinstance(p, Lasso))
    return dataclasses.replace(loss, penalties=others), lassos


def _gradient_mapping(params, new_params, rate):
    """(params - new_params) / rate: what a gradient is to a proximal step, 0 at the minimum."""
    inverse = 1 / jnp.where(rate > 0, rate, 1)
    return jax.tree.map(lambda old, new: (old - new) * inverse, params, new_params)
