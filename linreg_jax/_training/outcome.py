"""What a run has recorded, and the `Fit` that is made of it."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh

from linreg_jax._kernels import per_example, platform_of
from linreg_jax._loss import Loss, example_weights
from linreg_jax._pytrees import as_function
from linreg_jax._training.layout import Problem, Settings, value_and_gradient
from linreg_jax._training.rates import current_rate, largest_stable_rate
from linreg_jax._training.result import Fit, Status, TrainState
from linreg_jax._typing import Array, Bool, Float, Int
from linreg_jax._validation import is_traced
from linreg_jax.dataset import Dataset
from linreg_jax.model import Params

_UNSTABLE = (Status.DIVERGED, Status.INCREASED)


class Record(NamedTuple):
    """What a step writes down.

    Attributes:
      numbers: [2] the loss and the gradient's norm before the step, in one array because XLA on
        the CPU writes to each array of a history in a kernel of its own.
      params: the `Params` before the step, or None.
    """

    numbers: Float[Array, "*steps 2"]
    params: Params | None


class Histories(NamedTuple):
    """The records of a run, NaN where it has not come yet.

    Attributes:
      steps: `Record` [m, ...] of the steps kept.
      validation_losses: [num_periods], or None.
    """

    steps: Record
    validation_losses: Float[Array, " v"] | None


class Carry(NamedTuple):
    """What the loop over periods carries.

    Attributes:
      state: `TrainState`, where the run is.
      first_step: [] int32 the step it began at.
      period: [] int32 periods taken.
      histories: `Histories`.
      initial_loss: [] the loss of all examples at the start; NaN where it is not measured.
    """

    state: TrainState
    first_step: Int[Array, ""]
    period: Int[Array, ""]
    histories: Histories
    initial_loss: Float[Array, ""]


def finish(problem: Problem, carry: Carry, settings: Settings) -> Fit:
    """The `Fit` that a carry makes; its largest stable rate is for `with_stable_rate` to find."""
    state, (steps, validation_losses) = carry.state, carry.histories
    stride, num_kept = settings.kept_every, -(-settings.num_steps // settings.kept_every)
    steps = jax.tree.map(lambda part: part[:num_kept][:: settings.record_every // stride], steps)
    losses = steps.numbers[:, 0]
    if validation_losses is not None:
        validation_losses = validation_losses[: -(-settings.num_steps // settings.period)]
    params = state.params if state.best is None else state.best.params
    initial_loss = losses[0] if settings.batch_size is None else carry.initial_loss
    final_loss = _final_loss(problem, settings, params)
    increased = (state.status == Status.RUNNING) & _has_increased(
        problem, settings, initial_loss, final_loss
    )
    status = jnp.where(state.status == Status.RUNNING, Status.OUT_OF_STEPS, state.status)
    status = jnp.where(increased, Status.INCREASED, status).astype(jnp.int32)
    last_step = jnp.where(status == Status.DIVERGED, state.step, jnp.maximum(state.step - 1, 0))
    return Fit(
        params=params,
        losses=losses,
        gradient_norms=steps.numbers[:, 1],
        validation_losses=validation_losses,
        path=steps.params,
        initial_loss=initial_loss,
        final_loss=final_loss,
        num_steps=state.step - carry.first_step,
        status=status,
        learning_rate=current_rate(problem.learning_rate, last_step, params.weights.dtype),
        largest_stable_rate=jnp.full((), jnp.nan, params.weights.dtype),
        state=state._replace(status=status),
    )


def with_stable_rate(fitted: Fit, problem: Problem, mesh: Mesh | AbstractMesh | None) -> Fit:
    """The `Fit` with its largest stable rate, where it diverged or its loss increased.

    A program of its own, which most runs on a CPU never need: without it the loop compiles in three
    quarters of the time. Elsewhere it is called without looking, so that nothing waits for the run.
    """
    status = fitted.status
    if platform_of(status) == "cpu" and not is_traced(status) and int(status) not in _UNSTABLE:
        return fitted
    rate = _stable_rate(problem.loss, problem.data, fitted.state.params, status, mesh)
    return fitted._replace(largest_stable_rate=rate)


@functools.partial(jax.jit, static_argnums=4)
def _stable_rate(
    loss: Any, data: Dataset, params: Params, status: Array, mesh: Mesh | AbstractMesh | None
) -> Float[Array, ""]:
    wanted = functools.reduce(jnp.logical_or, [status == which for which in _UNSTABLE])
    return largest_stable_rate(as_function(loss), data, params, wanted, mesh)


def _final_loss(problem: Problem, settings: Settings, params: Params) -> Float[Array, ""]:
    """[] the loss of all examples at the parameters; NaN where it is not measured."""
    if not settings.measures_losses:
        return jnp.full((), jnp.nan, params.weights.dtype)
    if settings.batch_size is None and settings.way is None:  # the value that the history holds
        return value_and_gradient(problem, settings)(params, problem.data)[0]
    return as_function(problem.loss)(params, problem.data)


def _has_increased(
    problem: Problem, settings: Settings, initial: Float[Array, ""], final: Float[Array, ""]
) -> Bool[Array, ""]:
    """[] bool, whether the loss ended larger than it began.

    By more than rounding may do, for full batches; by more than itself for mini-batches, whose
    losses wander about the minimum.
    """
    loss, eps = as_function(problem.loss), jnp.finfo(final.dtype).eps
    share = eps**0.5 if settings.batch_size is None else 1.0
    allowed = share * jnp.abs(initial)
    if isinstance(loss, Loss):  # where the loss is nearly 0, the targets' size sets the rounding
        y = problem.data.y
        size = jnp.sum(per_example(example_weights(loss, problem.data), y) * loss.rho(-y))
        allowed = allowed + eps * size
    return final > initial + allowed
