"""The training loop: `fit`, one compiled scan."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax
from jax import Array

from linreg_jax import _own_functions as own_functions
from linreg_jax._kernels import placed
from linreg_jax._pytrees import as_pytree
from linreg_jax._sharding.shards import checked_num_shards, mesh_of
from linreg_jax._training import arguments
from linreg_jax._training.batches import batches_per_epoch
from linreg_jax._training.debugging import run_watching_nans
from linreg_jax._training.layout import Problem, Settings, data_for_steps, period_length
from linreg_jax._training.loop import train
from linreg_jax._training.optimizers import check_optimizer, check_state
from linreg_jax._training.progress import Progress, watched
from linreg_jax._training.result import Average, Best, DivergedError, Fit, Status, TrainState
from linreg_jax._validation import flag, positive_integer
from linreg_jax.dataset import Dataset
from linreg_jax.gradients import ValueAndGradient
from linreg_jax.losses import check_loss
from linreg_jax.model import Params

__all__ = ["Average", "Best", "DivergedError", "Fit", "Progress", "Status", "TrainState", "fit"]


def fit(
    loss: Callable[[Params, Dataset], Array],
    params: Params | TrainState,
    data: Dataset,
    *,
    learning_rate: Any,
    num_steps: int | None = None,
    num_epochs: int | None = None,
    batch_size: int | None = None,
    key: Array | None = None,
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.sgd,
    gradient: ValueAndGradient | None = None,
    tolerance: float | Array | None = None,
    patience: int | None = None,
    record_every: int = 1,
    record_params: bool = False,
    validation: Dataset | None = None,
    unroll: int = 1,
    compress: bool | None = None,
    average_from: int | Array | None = None,
    progress: bool | Callable[[Progress], object] | None = None,
    num_shards: int | None = None,
) -> Fit:
    """Trains a linear model by gradient descent, in one compiled program.

    With the defaults, each step is::

        params <- params - learning_rate * gradient of the loss over all the data

    Values are traced: a new learning rate, key, hyper-parameter of the loss or data set of the same
    shape does not compile again. It works under `jax.jit`, under `jax.vmap` (over rates, keys,
    parameters, hyper-parameters or data sets) and, where no tolerance is given, under `jax.grad`
    (of a validation loss with respect to the rate, say).

    Args:
      loss: what to minimise, a loss of this package or any function `(params, data) -> scalar`.
        A lasso is trained by a proximal step: weights reach exact zeros.
      params: where to start, `Params`; or the `TrainState` of an earlier fit, to continue it.
      data: `Dataset`; X [n, d].
      learning_rate: a number []; or a schedule, step -> rate, whose steps are counted from the
        first fit on; or "auto", for plain gradient descent on squared losses, `huber` and
        `log_cosh`: the best constant rate for full batches, a safe one for mini-batches.
      num_steps: how many steps to take; or
      num_epochs: how many times to see every example.
      batch_size: examples in a mini-batch; None: all of them in every step. See `mini_batches`.
      key: a JAX random key, for mini-batches; with a `TrainState`, None continues with its key.
      optimizer: a factory, learning rate -> `optax.GradientTransformation`: `optax.adam`,
        `lambda rate: optax.sgd(rate, momentum=0.9)`. A function made anew at each call compiles
        anew at each call: give it a name once.
      gradient: a drop-in for `jax.value_and_grad(loss)`: one of `gradients`, such as
        `gradients.vectorized(loss)`, or your own function `(params, data) -> (value, gradient)`;
        None: `jax.value_and_grad(loss)` itself. A loss or gradient of your own is only ever given
        plain examples, never compressed rows. Where they carry weights (weighted data, padding by
        `shard`, a `batch_size` that leaves a partial last batch) it must honour
        `data.sample_weight`, and is refused where it does not.
      tolerance: full batches without `patience`: the run has converged where the gradient's norm
        comes down to it. Otherwise how much the best validation loss has to improve by; 0 if None.
      patience: how many validation losses in a row may bring no improvement before the run stops
        early, keeping the best parameters; a run that continues waits anew. None: full batches do
        not stop on validation data, and mini-batches only with a `tolerance`, after 5.
      record_every: steps from one record in the histories to the next.
      record_params: whether to record the parameters as well, in `Fit.path`.
      validation: `Dataset` to measure the loss on, after each `record_every` full-batch steps, or
        after each epoch of mini-batches.
      unroll: steps in one turn of the compiled loop (`jax.lax.scan`); more may help on GPUs.
      compress: whether to train on `compress(data)`, which gives squared losses the same path in
        a fraction of the time. None: where the loss is squared, batches are full and the examples
        are many. Pass False to measure losses near 0 to their last digit, to take a step or two, or
        to differentiate with respect to the data.
      average_from: the first step whose iterate counts in the mean `Fit.average`, from 0; before
        it, the average is the last iterate.
      progress: True shows a bar with loss, rate and time left; a function is called with a
        `Progress` a few times a second. The numbers are those of the silent run. Ctrl-C returns
        what there is, with status INTERRUPTED.
      num_shards: in how many equal parts the rows are shuffled into mini-batches, each within
        itself; None: as many as devices hold them. With one number of shards the batches are the
        same on any number of devices. See `shard`.

    Returns:
      A `Fit`. `fit(loss, result.state, data, ...)` continues where it stopped: 1000 steps are, bit
      for bit, 400 and then 600. A run that ends with a larger loss than it began with says so in
      `Fit.status`; `Fit.raise_if_diverged()` makes it an error.

    Raises:
      TypeError, ValueError: an argument that does not fit, before anything compiles. What happens
        while running comes back in `Fit.status`.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> fit(half_mse, init_params(data), data, learning_rate=0.26, num_steps=300)
      Fit(out of steps after 300 steps, loss 833.333 -> ...)
    """
    show = arguments.checked_progress(progress)
    problem, start, key, settings = prepare(
        loss,
        params,
        data,
        learning_rate=learning_rate,
        num_steps=num_steps,
        num_epochs=num_epochs,
        batch_size=batch_size,
        key=key,
        optimizer=optimizer,
        gradient=gradient,
        tolerance=tolerance,
        patience=patience,
        record_every=record_every,
        record_params=record_params,
        validation=validation,
        unroll=unroll,
        compress=compress,
        average_from=average_from,
        num_shards=num_shards,
    )

    def run() -> Fit:
        if show is not None:
            return watched(problem, start, key, settings, show)
        return train(problem, start, key, settings=settings)

    return run_watching_nans(run, problem, settings)


class Prepared(NamedTuple):
    """What a program is called with; see `loop.train`."""

    problem: Problem
    start: Params | TrainState
    key: Array | None
    settings: Settings


def prepare(
    loss: Callable[[Params, Dataset], Array],
    params: Params | TrainState,
    data: Dataset,
    *,
    learning_rate: Any,
    num_steps: int | None = None,
    num_epochs: int | None = None,
    batch_size: int | None = None,
    key: Array | None = None,
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.sgd,
    gradient: ValueAndGradient | None = None,
    tolerance: float | Array | None = None,
    patience: int | None = None,
    record_every: int = 1,
    record_params: bool = False,
    validation: Dataset | None = None,
    unroll: int = 1,
    compress: bool | None = None,
    average_from: int | Array | None = None,
    num_shards: int | None = None,
) -> Prepared:
    """The arguments of `fit`, validated and laid out."""
    start = arguments.checked_start(params, data)
    params = start.params if isinstance(start, TrainState) else start
    if num_shards is not None:
        num_shards = positive_integer("num_shards", num_shards)
    num_shards_shuffled = 1
    if batch_size is not None:
        arguments.check_mini_batches(data, batch_size, key, start)
        num_shards_shuffled = checked_num_shards(num_shards, data, batch_size)
    check_loss(loss)
    gradient = own_functions.checked_gradient(gradient, loss)
    check_optimizer(loss, optimizer)
    if validation is not None:
        arguments.check_validation(validation, data)
    norm_tolerance, stopping = arguments.as_stopping(
        tolerance, patience, validation, data.X.dtype, is_full_batch=batch_size is None
    )
    num_steps = arguments.number_of_steps(data, num_steps, num_epochs, batch_size)
    record_every = positive_integer("record_every", record_every)
    unroll = positive_integer("unroll", unroll)
    first_averaged = arguments.checked_step("average_from", average_from)
    arguments.check_compress(compress, loss, gradient, batch_size)
    own_functions.check_own_functions(
        loss, gradient, params, data, validation, batch_size, num_shards_shuffled
    )
    rate = arguments.as_rate(learning_rate, loss, params, data, optimizer, batch_size)
    check_state(start, optimizer, rate)
    data_of_steps = data_for_steps(
        data,
        loss,
        batch_size=batch_size,
        compress=compress,
        has_own_function=own_functions.is_own_gradient(gradient),
    )
    problem = Problem(
        loss=placed(as_pytree(loss)),
        gradient=placed(own_functions.gradient_as_pytree(gradient)),
        data=data_of_steps,
        learning_rate=placed(rate),
        validation=validation,
        tolerance=placed(norm_tolerance),
        stopping=placed(stopping),
        average_from=placed(first_averaged),
    )
    settings = Settings(
        num_steps=num_steps,
        batch_size=batch_size,
        optimizer=optimizer,
        record_every=record_every,
        record_params=flag("record_params", record_params),
        unroll=unroll,
        period=period_length(
            data_of_steps,
            num_steps=num_steps,
            batch_size=batch_size,
            record_every=record_every,
            has_validation=validation is not None,
        ),
        mesh=mesh_of(data_of_steps),
        num_shards=num_shards_shuffled,
        measures_losses=batch_size is None
        or num_steps >= batches_per_epoch(data.X.shape[0], batch_size),
    )
    return Prepared(problem, start, arguments.as_key_data(key), settings)
