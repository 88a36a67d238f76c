"""Learning rates of scikit-learn's SGDRegressor that optax lacks: `invscaling` and `adaptive`.

`fit(..., learning_rate=invscaling(0.1))` takes the first as any optax schedule;
`fit(..., learning_rate=0.1, optimizer=adaptive())` the second, which needs to see the loss.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, SupportsIndex, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from linreg_jax._pytrees import Pytree
from linreg_jax._typing import Array, Float, Int
from linreg_jax._validation import is_not_negative, positive_integer, scalar_setting, shown

Tree = TypeVar("Tree")

_MOST = 2**31 - 1
_WHY = ", as steps are counted in int32"


@dataclasses.dataclass(frozen=True)
class Invscaling(Pytree):
    """A schedule, `invscaling(initial_rate)`: rate(step) = initial_rate / (step + 1)^power.

    Attributes:
      initial_rate: the rate of the first step.
      power: 0 is a constant rate.
    """

    initial_rate: float | Array
    power: float | Array

    def __call__(self, step: int | Array) -> float | Array:
        """[] the rate of a step, counted from 0."""
        return self.initial_rate / (step + 1.0) ** self.power


def invscaling(initial_rate: ArrayLike, *, power: ArrayLike = 0.25) -> Invscaling:
    """The schedule of scikit-learn's `learning_rate="invscaling"`::

        rate(step) = initial_rate / (step + 1)^power

    scikit-learn counts examples where this counts steps. For batches of one they are the same, with
    `initial_rate=eta0, power=power_t`. A batch of b takes the rate that scikit-learn has at its
    last example where `initial_rate=eta0 / b**power_t`.

    Args:
      initial_rate: the rate of the first step, at least 0. May be traced.
      power: at least 0; 0 is a constant rate. May be traced.

    Returns:
      A schedule, step -> rate, to pass as a learning rate to `fit` or to optax. It is a pytree:
      rates and powers are swept with `jax.vmap`, and others do not compile again.

    Raises:
      TypeError, ValueError: not a number, negative or not finite.

    Example:
      >>> schedule = invscaling(0.8, power=0.5)
      >>> [schedule(step) for step in (0, 3, 15)]
      [0.8, 0.4, 0.2]
    """
    rule = "a finite number, at least 0"
    return Invscaling(
        scalar_setting("initial_rate", initial_rate, rule, is_not_negative),
        scalar_setting("power", power, rule, is_not_negative),
    )


class PlateauState(NamedTuple):
    """What `adaptive` remembers, each [].

    Attributes:
      scale: what the steps are multiplied by.
      best: the smallest mean loss.
      num_waited: int32 means without improvement, in a row.
      total: the sum of the losses since the last mean.
      num_steps: int32 how many losses that is.
    """

    scale: Float[Array, ""]
    best: Float[Array, ""]
    num_waited: Int[Array, ""]
    total: Float[Array, ""]
    num_steps: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class Adaptive:
    """An optimizer whose steps shrink where the loss stands still, as `adaptive(...)` makes it.

    Attributes:
      optimizer: the factory whose steps shrink, learning rate -> `optax.GradientTransformation`.
      factor: what the steps are multiplied by.
      patience: means of the loss without improvement before that.
      tolerance: what counts as an improvement, in the units of the loss.
      every: steps in a mean.
    """

    optimizer: Callable[[Any], optax.GradientTransformation]
    factor: float
    patience: int
    tolerance: float
    every: int

    def __call__(
        self, learning_rate: optax.ScalarOrSchedule
    ) -> optax.GradientTransformationExtraArgs:
        """Learning rate or schedule -> `optax.GradientTransformationExtraArgs`."""
        shrinking = optax.GradientTransformationExtraArgs(self._init, self._update)
        return optax.chain(self.optimizer(learning_rate), shrinking)

    def _init(self, params: Tree) -> PlateauState:
        dtype = jnp.result_type(*jax.tree.leaves(params))
        return PlateauState(
            scale=jnp.ones((), dtype),
            best=jnp.full((), jnp.inf, dtype),
            num_waited=jnp.zeros((), jnp.int32),
            total=jnp.zeros((), dtype),
            num_steps=jnp.zeros((), jnp.int32),
        )

    def _update(
        self,
        updates: Tree,
        state: PlateauState,
        params: Tree | None = None,
        *,
        value: Array,
        **others: object,
    ) -> tuple[Tree, PlateauState]:
        scaled = jax.tree.map(lambda update: state.scale * update, updates)
        total, num_steps = state.total + value, state.num_steps + 1
        mean = total / self.every
        num_waited = jnp.where(mean > state.best - self.tolerance, state.num_waited + 1, 0)
        shrinks = num_waited >= self.patience
        measured = PlateauState(
            scale=jnp.where(shrinks, self.factor * state.scale, state.scale),
            best=jnp.minimum(mean, state.best),
            num_waited=jnp.where(shrinks, 0, num_waited),
            total=jnp.zeros_like(total),
            num_steps=jnp.zeros_like(num_steps),
        )
        between = state._replace(total=total, num_steps=num_steps)
        is_mean = num_steps == self.every

        def choose(new: Array, old: Array, kept: Array) -> Array:
            return jnp.where(is_mean, new, old).astype(kept.dtype)

        return scaled, jax.tree.map(choose, measured, between, state)


def adaptive(
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.sgd,
    *,
    factor: float = 0.2,
    patience: SupportsIndex = 5,
    tolerance: float = 1e-3,
    every: SupportsIndex = 1,
) -> Adaptive:
    """The rate of scikit-learn's `learning_rate="adaptive"`, for any optimizer.

    The training loss is averaged over `every` steps. After `patience` such means in a row that are
    not at least `tolerance` below the best one before them, all further steps are multiplied by
    `factor`. (scikit-learn stops as well when its rate is down to 1e-6.)

    Args:
      optimizer: a factory, learning rate -> `optax.GradientTransformation`.
      factor: what the steps are multiplied by, between 0 and 1.
      patience: means without improvement before that.
      tolerance: what counts as an improvement, in the units of the loss; at least 0.
      every: steps in a mean; the number of batches in an epoch, for mini-batches.

    Returns:
      A factory to pass to `fit` as `optimizer`. Two of equal settings are equal, so that `fit`
      compiles once. Outside `fit`, its `update` needs the loss: `update(..., value=loss)`.

    Raises:
      TypeError, ValueError: a setting that is not as above.

    Example:
      >>> transformation = adaptive(factor=0.5, patience=2)(1.0)
      >>> one, state = jnp.array(1.0), transformation.init(jnp.array(1.0))
      >>> for _ in range(5):
      ...     update, state = transformation.update(one, state, value=one)
      ...     print(update)
      -1.0
      -1.0
      -1.0
      -0.5
      -0.5
    """
    if not callable(optimizer) or isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            "optimizer must be a factory, learning rate -> optax.GradientTransformation, got "
            f"{shown(optimizer)}: pass optax.sgd, for instance"
        )
    return Adaptive(
        optimizer=optimizer,
        factor=_static("factor", factor, "a number between 0 and 1", lambda f: 0 < f < 1),
        patience=positive_integer("patience", patience, _MOST, _WHY),
        tolerance=_static("tolerance", tolerance, "a finite number, at least 0", is_not_negative),
        every=positive_integer("every", every, _MOST, _WHY),
    )


def _static(
    name: str, value: object, rule: str, accept: Callable[[float | Array], bool | Array]
) -> float:
    """A setting that is part of the compiled program, as a Python float."""
    setting = scalar_setting(name, value, rule, accept)
    if not isinstance(setting, float):
        raise TypeError(
            f"{name} must be {rule}, known before anything compiles, got {shown(value)}"
        )
    return setting
