"""Parts that a run has or has not: the mean of its iterates, and stopping on validation data."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linreg_jax._pytrees import as_function
from linreg_jax._training.layout import Problem
from linreg_jax._training.result import Average, Best, Status, TrainState
from linreg_jax._typing import Array, Bool, Float
from linreg_jax.dataset import Dataset
from linreg_jax.model import Params

Tree = TypeVar("Tree")


def init_average(problem: Problem, state: TrainState) -> Average | None:
    """The average that a run starts with: none where it is not asked for."""
    if problem.average_from is None:
        return None
    if state.average is not None:
        return state.average
    return Average(state.params, num_steps=jnp.zeros((), jnp.int32))


def add_to_average(average: Average, state: TrainState, average_from: ArrayLike) -> Average:
    """The mean of the iterates with that of `state` in it; before the first one, the iterate."""
    counts = state.step > jnp.asarray(average_from)
    num_steps = average.num_steps + counts.astype(jnp.int32)

    def take_in(mean: Array, new: Array) -> Array:
        share = 1 / jnp.maximum(num_steps, 1).astype(mean.dtype)
        return jnp.where(num_steps > 1, mean + share * (new - mean), new)

    return Average(jax.tree.map(take_in, average.params, state.params), num_steps)


def init_best(problem: Problem, state: TrainState) -> Best | None:
    """The best parameters that a run starts with: none where it does not stop on validation."""
    if problem.stopping is None or problem.validation is None:
        return None
    if state.best is None:
        loss = measured_on(problem.validation, problem.loss, state.params)
        return Best(state.params, loss, num_waited=jnp.zeros((), jnp.int32))
    # A run that continues after an early stop waits again.
    stopped = state.status == Status.STOPPED_EARLY
    return state.best._replace(num_waited=jnp.where(stopped, 0, state.best.num_waited))


def measured_on(
    validation: Dataset, loss: Callable[[Params, Dataset], Array], params: Params
) -> Float[Array, ""]:
    """[] the loss on validation data; NaN where all of them have zero weight."""
    value = as_function(loss)(params, validation)
    if validation.sample_weight is None:
        return value
    return jnp.where(jnp.any(validation.sample_weight > 0), value, jnp.nan)


def look_at_validation(
    problem: Problem,
    state: TrainState,
    validation_loss: Float[Array, ""],
    was_running: Bool[Array, ""],
) -> TrainState:
    """The best parameters so far, and whether to stop: no better ones, or a loss not finite."""
    if problem.stopping is None or state.best is None:
        return state
    best, (improvement, patience) = state.best, problem.stopping
    better = was_running & (validation_loss < best.loss)
    enough = validation_loss < best.loss - jnp.asarray(improvement)
    num_waited = jnp.where(enough, 0, best.num_waited + 1)
    running = was_running & (state.status == Status.RUNNING)
    status = jnp.where(
        running & (num_waited >= jnp.asarray(patience)), Status.STOPPED_EARLY, state.status
    )
    not_finite = running & ~jnp.isfinite(validation_loss)
    status = jnp.where(not_finite, Status.VALIDATION_NOT_FINITE, status)
    return state._replace(
        status=status.astype(jnp.int32),
        best=Best(
            params=select(better, state.params, best.params),
            loss=jnp.where(better, validation_loss, best.loss),
            num_waited=jnp.where(was_running, num_waited, best.num_waited),
        ),
    )


def select(condition: Bool[Array, ""], new: Tree, old: Tree) -> Tree:
    """`new` where the condition holds, leaf by leaf, in the dtypes of `old`."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b).astype(b.dtype), new, old)
