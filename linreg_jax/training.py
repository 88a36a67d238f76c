"""The training loop: `fit`, one compiled scan."""

from collections.abc import Callable
from typing import Any

import numpy as np
import optax
from jax import Array

from linreg_jax._numerics import placed
from linreg_jax._sharding.shards import checked_num_shards, mesh_of
from linreg_jax._training import door
from linreg_jax._training.debugging import run_watching_nans
from linreg_jax._training.loop import train
from linreg_jax._training.steps import Problem, Settings
from linreg_jax._validation import flag, positive_integer
from linreg_jax.dataset import Dataset
from linreg_jax.gradients import autodiff
from linreg_jax.model import Params
from linreg_jax.progress import Progress, watched
from linreg_jax.records import DivergedError, Fit, Status, TrainState

__all__ = ["DivergedError", "Fit", "Status", "TrainState", "fit"]


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
    gradient: Callable = autodiff,
    tolerance: float | Array | None = None,
    patience: int = 5,
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
      params: where to start, `Params`; or the `TrainState` of an earlier fit, to go on from it.
      data: `Dataset`; X [n, d].
      learning_rate: a number []; or a schedule, step -> rate, whose steps are counted from the
        first fit on; or "auto", for plain gradient descent on squared losses, `huber` and
        `log_cosh`: the best constant rate for full batches, a safe one for mini-batches.
      num_steps: how many steps to take; or
      num_epochs: how many times to see every example.
      batch_size: examples in a mini-batch; None: all of them in every step. See `mini_batches`.
      key: a JAX random key, for mini-batches; with a `TrainState`, None goes on with its key.
      optimizer: a factory, learning rate -> `optax.GradientTransformation`: `optax.adam`,
        `lambda rate: optax.sgd(rate, momentum=0.9)`. A function made anew at each call compiles
        anew at each call: give it a name once.
      gradient: a way to the gradient, from `gradients`; compiled once for each, as `optimizer`.
      tolerance: full batches: the run has converged where the gradient's norm comes down to it.
        Mini-batches: how much the best validation loss has to improve by.
      patience: validation losses without improvement, one an epoch, before a run stops early; who
        goes on from where it did waits anew.
      record_every: steps from one record in the histories to the next.
      record_params: whether to record the parameters as well, in `Fit.path`.
      validation: `Dataset` to measure the loss on, after each `record_every` full-batch steps, or
        after each epoch of mini-batches.
      unroll: steps in one turn of the compiled loop (`jax.lax.scan`); more may help on GPUs.
      compress: whether to train on `compress(data)`, which gives squared losses the same path in
        a fraction of the time. None: where the loss is squared, batches are full and the examples
        are many. Pass False to measure losses near 0 to their last digit, to take a step or two, or
        to differentiate with respect to the data.
      average_from: the first step whose iterate counts in the mean `Fit.average`, from 0.
      progress: True shows a bar with loss, rate and time left; a function is called with a
        `Progress` a few times a second. The numbers are those of the silent run. Ctrl-C returns
        what there is, with status INTERRUPTED.
      num_shards: in how many equal parts the rows are shuffled into mini-batches, each within
        itself; None: as many as devices hold them. With one number of shards the batches are the
        same on any number of devices. See `shard`.

    Returns:
      A `Fit`. `fit(loss, result.state, data, ...)` goes on where it stopped: 1000 steps are, bit
      for bit, 400 and then 600.

    Raises:
      TypeError, ValueError: an argument that does not fit, before anything compiles. What happens
        while running comes back in `Fit.status`.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> fit(half_mse, init_params(data), data, learning_rate=0.26, num_steps=300)
      Fit(out of steps after 300 steps, loss 833.333 -> ...)
    """
    start = door.checked_start(params, data)
    params = start.params if isinstance(start, TrainState) else start
    if num_shards is not None:
        num_shards = positive_integer("num_shards", num_shards)
    shards_shuffled = 1
    if batch_size is not None:
        door.check_mini_batches(data, batch_size, key, start)
        shards_shuffled = checked_num_shards(num_shards, data, batch_size)
    door.check_factories(loss, optimizer, gradient)
    progress = door.checked_progress(progress)
    stop_at = door.as_tolerance(tolerance, validation, data, batch_size)
    patience = positive_integer("patience", patience)
    num_steps = door.number_of_steps(data, num_steps, num_epochs, batch_size)
    record_every = positive_integer("record_every", record_every)
    unroll = positive_integer("unroll", unroll)
    key = door.as_key_data(key)
    average_from = door.checked_step("average_from", average_from)
    rate = door.as_rate(learning_rate, loss, params, data, optimizer, batch_size)
    door.check_state(start, optimizer, rate)
    data_of_steps = door.data_for_steps(data, loss, batch_size, compress)
    settings = Settings(
        num_steps=num_steps,
        batch_size=batch_size,
        optimizer=optimizer,
        gradient=gradient,
        record_every=record_every,
        record_params=flag("record_params", record_params),
        unroll=unroll,
        num_turns=door.number_of_turns(num_steps, tolerance, progress),
        mesh=mesh_of(data_of_steps),
        num_shards=shards_shuffled,
    )
    stops_on_validation = stop_at is not None and batch_size is not None
    problem = Problem(
        loss=placed(door.as_pytree(loss)),
        data=data_of_steps,
        learning_rate=placed(rate),
        validation=validation,
        tolerance=placed(stop_at),
        patience=placed(np.asarray(patience, np.int32)) if stops_on_validation else None,
        average_from=placed(average_from),
    )

    def run() -> Fit:
        if progress is not None:
            return watched(problem, start, key, settings, progress)
        fitted: Fit = train(problem, start, key, settings=settings)
        return fitted

    return run_watching_nans(run, problem, settings)
