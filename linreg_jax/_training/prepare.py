"""From the arguments of `fit` to what its program is called with: validated and laid out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from linreg_jax import _own_functions as own_functions
from linreg_jax._kernels import placed
from linreg_jax._pytrees import as_pytree
from linreg_jax._sharding.shards import checked_num_shards, mesh_of
from linreg_jax._training import arguments
from linreg_jax._training.batches import batches_per_epoch
from linreg_jax._training.foldable import rows_to_fold
from linreg_jax._training.layout import (
    Problem,
    Settings,
    data_for_steps,
    grouped_for_steps,
    period_length,
)
from linreg_jax._training.optimizers import check_optimizer, check_state
from linreg_jax._training.result import TrainState
from linreg_jax._typing import Array
from linreg_jax._validation import flag, positive_integer
from linreg_jax.dataset import Dataset
from linreg_jax.gradients import LossGradient, ValueAndGradient
from linreg_jax.losses import check_loss
from linreg_jax.model import Params


class Arguments(NamedTuple):
    """What `fit` was called with, see there, but for `progress`."""

    loss: Callable[[Params, Dataset], Array]
    params: Params | TrainState
    data: Dataset
    learning_rate: Any
    num_steps: int | None = None
    num_epochs: int | None = None
    batch_size: int | None = None
    key: Array | None = None
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.sgd
    gradient: ValueAndGradient | None = None
    tolerance: float | Array | None = None
    patience: int | None = None
    record_every: int = 1
    record_params: bool = False
    validation: Dataset | None = None
    unroll: int = 1
    compress: bool | None = None
    average_from: int | Array | None = None
    fold: bool | None = None
    num_shards: int | None = None


class Prepared(NamedTuple):
    """What `loop.train` is called with."""

    problem: Problem
    start: Params | TrainState
    key: Array | None
    settings: Settings


def prepare(given: Arguments) -> Prepared:
    """What a program is called with.

    Raises:
      TypeError, ValueError: as `fit` says.
    """
    start = arguments.checked_start(given.params, given.data)
    params = start.params if isinstance(start, TrainState) else start
    num_shards = _checked_shards(given, start)
    check_loss(given.loss)
    gradient = own_functions.checked_gradient(given.gradient, given.loss)
    check_optimizer(given.loss, given.optimizer)
    arguments.check_compress(given.compress, given.loss, gradient, given.batch_size)
    own_functions.check_own_functions(
        given.loss, gradient, params, given.data, given.validation, given.batch_size, num_shards
    )
    problem = _problem(given, params, gradient, num_shards)
    check_state(start, given.optimizer, problem.learning_rate)
    folds = problem.rows is not None
    settings = _settings(given, gradient, problem.data, num_shards, folds)
    return Prepared(problem, start, arguments.as_key_data(given.key), settings)


def _checked_shards(given: Arguments, start: Params | TrainState) -> int:
    """In how many parts the rows are shuffled; the mini-batches are found possible."""
    if given.num_shards is not None:
        positive_integer("num_shards", given.num_shards)
    if given.batch_size is None:
        return 1
    arguments.check_mini_batches(given.data, given.batch_size, given.key, start)
    return checked_num_shards(given.num_shards, given.data, given.batch_size)


def _problem(
    given: Arguments, params: Params, gradient: ValueAndGradient, num_shards: int
) -> Problem:
    """The values of the program."""
    loss, data, validation = given.loss, given.data, given.validation
    if validation is not None:
        arguments.check_validation(validation, data)
    tolerance, stopping = arguments.as_stopping(
        given.tolerance,
        given.patience,
        validation,
        data.X.dtype,
        is_full_batch=given.batch_size is None,
    )
    average_from = arguments.checked_step("average_from", given.average_from)
    rate = arguments.as_rate(
        given.learning_rate, loss, params, data, given.optimizer, given.batch_size
    )
    rows = rows_to_fold(
        given.fold,
        loss,
        params,
        data,
        gradient=gradient,
        optimizer=given.optimizer,
        learning_rate=rate,
        batch_size=given.batch_size,
        validation=validation,
    )
    return Problem(
        loss=placed(as_pytree(loss)),
        own_gradient=None if isinstance(gradient, LossGradient) else placed(as_pytree(gradient)),
        data=data if rows is not None else _data_for_steps(given, gradient),
        rows=rows,
        grouped=grouped_for_steps(data, batch_size=given.batch_size, num_shards=num_shards),
        learning_rate=placed(rate),
        validation=validation,
        tolerance=placed(tolerance),
        stopping=placed(stopping),
        average_from=placed(average_from),
    )


def _data_for_steps(given: Arguments, gradient: ValueAndGradient) -> Dataset:
    return data_for_steps(
        given.data,
        given.loss,
        batch_size=given.batch_size,
        compress=given.compress,
        way=gradient.way if isinstance(gradient, LossGradient) else None,
        has_own_function=own_functions.is_own_gradient(gradient),
    )


def _settings(
    given: Arguments, gradient: ValueAndGradient, data: Dataset, num_shards: int, folds: bool
) -> Settings:
    """The settings of the program, whose steps are taken on `data`."""
    num_steps = arguments.number_of_steps(
        given.data, given.num_steps, given.num_epochs, given.batch_size
    )
    record_every = positive_integer("record_every", given.record_every)
    is_full_batch = given.batch_size is None
    return Settings(
        num_steps=num_steps,
        batch_size=given.batch_size,
        optimizer=given.optimizer,
        way=gradient.way if isinstance(gradient, LossGradient) else None,
        way_settings=gradient.settings if isinstance(gradient, LossGradient) else (),
        record_every=record_every,
        record_params=flag("record_params", given.record_params),
        unroll=positive_integer("unroll", given.unroll),
        period=period_length(
            data,
            num_steps=num_steps,
            batch_size=given.batch_size,
            record_every=record_every,
            has_validation=given.validation is not None,
            folds=folds,
        ),
        mesh=mesh_of(data),
        num_shards=num_shards,
        measures_losses=is_full_batch
        or num_steps >= batches_per_epoch(given.data.X.shape[0], given.batch_size or 1),
    )
