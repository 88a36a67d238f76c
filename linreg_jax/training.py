"""The training loop: `fit`, one compiled scan."""

from collections.abc import Callable
from typing import Any

import optax

from linreg_jax._training.arguments import checked_progress
from linreg_jax._training.debugging import run_watching_nans
from linreg_jax._training.loop import train
from linreg_jax._training.outcome import with_stable_rate
from linreg_jax._training.prepare import Arguments, prepare
from linreg_jax._training.progress import Progress, watched
from linreg_jax._training.result import (
    Anchor,
    Average,
    Best,
    DivergedError,
    Fit,
    Status,
    TrainState,
)
from linreg_jax._typing import Array
from linreg_jax.dataset import Dataset
from linreg_jax.gradients import ValueAndGradient
from linreg_jax.model import Params

__all__ = [
    "Anchor",
    "Average",
    "Best",
    "DivergedError",
    "Fit",
    "Progress",
    "Status",
    "TrainState",
    "fit",
]


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
    fold: bool | None = None,
    progress: bool | Callable[[Progress], object] | None = None,
    num_shards: int | None = None,
) -> Fit:
    """Trains a linear model by gradient descent, in one compiled program.

    With the defaults, each step is::

        params <- params - learning_rate * gradient of the loss over all the data

    Values are traced: a new learning rate, key, hyper-parameter of the loss or data set of the same
    shape does not compile again. It works under `jax.jit`, under `jax.vmap` (over rates, keys,
    parameters, hyper-parameters or data sets) and, where neither tolerance nor patience is given,
    under `jax.grad` (of a validation loss with respect to the rate, say).

    Args:
      loss: what to minimise, a loss of this package or any function `(params, data) -> scalar`.
        A lasso is trained by a proximal step: weights reach exact zeros.
      params: where to start, `Params`; or the `TrainState` of an earlier fit, to continue it with
        the other arguments as they were.
      data: `Dataset`; X [n, d].
      learning_rate: a number []; or a schedule, step -> rate, whose steps are counted from the
        first fit on; or "auto", for plain gradient descent on losses with a `curvature_bound`
        (squared, `huber`, `log_cosh`, your own): the best constant rate for full batches, a safe
        one for mini-batches.
      num_steps: how many steps to take; or
      num_epochs: how many times to see every example.
      batch_size: examples in a mini-batch; None: all of them in every step. Each epoch sees every
        example once, in a new order; its last batch may be smaller.
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
        a fraction of the time. None: where the loss is squared, batches are full, and there are
        at least 8 (d + 1 + k) examples and 8,192 numbers in X. Pass False to measure losses near 0
        to their last digit, to take a step or two, or to differentiate with respect to the data.
      average_from: the first step whose iterate counts in the mean `Fit.average`, from 0; before
        it, the average is the last iterate.
      fold: whether to read only the rows that can still cross a kink, the others standing as one
        quadratic (see `fold`), for as long as that holds: for losses made of parabolas and lines
        (`mae`, `huber`, `quantile`, `epsilon_insensitive`) and full batches on one device. The
        losses, norms and steps are those of all rows, to rounding, and mostly in a fraction of the
        time; the program takes a few seconds longer to compile, and X is copied once. None: outside
        of `jit`, `vmap` and `grad`, for X of 2 to 134 million numbers on a CPU. True works under
        `jit`, `vmap` and forward differentiation too.
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
    show = checked_progress(progress)
    given = Arguments(
        loss=loss,
        params=params,
        data=data,
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
        fold=fold,
        num_shards=num_shards,
    )
    problem, start, key, settings = prepare(given)

    def run() -> Fit:
        if show is not None:
            fitted = watched(problem, start, key, settings, show)
        else:
            fitted = train(problem, start, key, settings=settings)
        return with_stable_rate(fitted, problem, settings.mesh)

    return run_watching_nans(run, problem, settings)
