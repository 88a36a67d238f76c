"""What the commands share: a file's columns made ready, and a run over them."""

import functools
import math
import sys
import time
from argparse import Namespace
from typing import NamedTuple

import jax
import numpy as np
import optax

from linreg_jax._cli.choosing import Choice, penalized
from linreg_jax._standardization import Standardization, standardize
from linreg_jax._training.batches import batches_per_epoch
from linreg_jax._training.progress import Progress
from linreg_jax._training.rates import LearningRate, automatic_rate
from linreg_jax._training.result import Fit
from linreg_jax._typing import Bool, Float
from linreg_jax.dataset import (
    Dataset,
    as_dataset,
    split,
)
from linreg_jax.gradients import vectorized
from linreg_jax.losses import Loss
from linreg_jax.model import init_params
from linreg_jax.tables import Table, first_too_large, read_table
from linreg_jax.training import fit

OPTIMIZERS = {
    "sgd": optax.sgd,
    "momentum": functools.partial(optax.sgd, momentum=0.9),
    "nesterov": functools.partial(optax.sgd, momentum=0.9, nesterov=True),
    "adam": optax.adam,
    "rmsprop": optax.rmsprop,
    "adagrad": optax.adagrad,
}
MOST_STEPS = 10_000


class Job(NamedTuple):
    """A data set as it is trained on, and the way back to the file.

    Attributes:
      data: `Dataset` to train on, standardized if asked for.
      test: `Dataset` held out, on the same scale; None: nothing was.
      restore: the `Standardization`; None: the features are as in the file.
      loss: what to minimise, with its penalty.
      features, target: names.
      num_dropped: rows left out because they miss a value.
      seconds: reading and laying out took.
      choice: of the strength in the loss; None: it was given.
    """

    data: Dataset
    test: Dataset | None
    restore: Standardization | None
    loss: Loss
    features: tuple[str, ...]
    target: str
    num_dropped: int
    seconds: float = 0.0
    choice: Choice | None = None

    @property
    def trained_on(self) -> list[str]:
        """Names of the features as they are trained on, for pictures."""
        return [name if self.restore is None else f"{name}, standardized" for name in self.features]


def warn(text: str) -> None:
    """One line on standard error."""
    print(f"linreg-jax: warning: {text}", file=sys.stderr)


def prepare(arguments: Namespace) -> Job:
    """Reads the file and makes of it what the arguments say.

    Raises:
      OSError, ValueError: as `read_columns` and `make_job` say.
    """
    began = time.perf_counter()
    table = read_columns(arguments, rounds_features=not arguments.standardize)
    job = make_job(table, arguments, standardized=arguments.standardize)
    return job._replace(seconds=time.perf_counter() - began)


def read_columns(arguments: Namespace, *, rounds_features: bool) -> Table:
    """The columns of the file in float64, with warnings of what is odd in them.

    Args:
      arguments: of the command line.
      rounds_features: whether the features are rounded to the dtype of the run as they are.

    Raises:
      OSError, ValueError: as `read_table` says; numbers too large for the dtype of the run.
    """
    table = read_table(
        arguments.file,
        target=arguments.target,
        features=arguments.features,
        dtype="float64",
        drop_missing=arguments.drop_missing,
    )
    num_dropped = int((~table.kept).sum())
    if num_dropped:
        warn(f"dropped {num_dropped:,} of {table.kept.size:,} rows, which miss a value")
    constant = [name for name, same in zip(table.features, _constant(table), strict=True) if same]
    if constant:
        warn(f"constant, so the intercept does the same: {', '.join(constant)}")
    dtype, y = _dtype(arguments), np.asarray(table.y)
    _require_size(table, arguments.target, y, dtype)
    features = zip(table.features, table.X.T, strict=True) if rounds_features else []
    for name, column in [*features, (arguments.target, y)]:
        _warn_of_lost_digits(name, column, dtype)
    return table


def make_job(table: Table, arguments: Namespace, *, standardized: bool) -> Job:
    """What is trained on, from the columns of a file.

    Those that are to be standardized are centred before they are rounded to the dtype of the run,
    so that features far from 0 keep the digits of their spread.

    Raises:
      ValueError: a test fraction that leaves nothing to train on; as `penalized` says.
    """
    dtype, test = _dtype(arguments), None
    shift = table.X.mean(axis=0) if standardized else np.zeros(len(table.features))
    shift = np.where(_constant(table), table.X[0], shift)
    X = np.empty(table.X.shape, dtype)
    np.subtract(table.X, shift, out=X, casting="same_kind")  # in float64, then rounded
    data = as_dataset(X, np.asarray(table.y).astype(dtype))
    if getattr(arguments, "test_fraction", None) is not None:
        data, test = split(data, jax.random.key(arguments.seed), arguments.test_fraction)
    restore: Standardization | None = None
    if standardized:
        data, restore = standardize(data)
        mean = np.asarray(restore.mean)
        if test is not None:
            test = test._replace(X=(test.X - mean[None, :]) / restore.scale[None, :])
        with jax.enable_x64(True):
            restore = restore._replace(mean=jax.device_put(shift + mean))
    loss, choice = penalized(arguments, data)
    if choice is not None and choice.is_at_an_end:
        best = float(choice.found.best_strength)
        warn(
            f"{choice.penalty} {best:.5g} is at an end of the strengths tried: others may be better"
        )
    num_dropped = int((~table.kept).sum())
    job = Job(data, test, restore, loss, table.features, arguments.target, num_dropped)
    return job._replace(choice=choice)


def _dtype(arguments: Namespace) -> np.dtype:
    return np.dtype("float64" if arguments.float64 else "float32")


def _constant(table: Table) -> Bool[np.ndarray, " d"]:
    """Which features do not vary."""
    return table.X.min(axis=0) == table.X.max(axis=0)


def _require_size(table: Table, target: str, y: Float[np.ndarray, " n"], dtype: np.dtype) -> None:
    """Raises where a feature does not fit the dtype, or the squares of the target do not.

    Raises:
      ValueError: naming the line and the column.
    """
    for name, column in zip(table.features, table.X.T, strict=True):
        if (found := first_too_large(column[:, None], dtype)) is not None:
            raise ValueError(f"{table.where(found[0], name)}: {found[2]}")
    largest = math.sqrt(float(np.finfo(dtype).max) / y.size)
    row = int(np.abs(y).argmax())
    if np.abs(y[row]) > largest:
        raise ValueError(
            f"{table.where(row, target)}: {y[row]:g} is too large to square in {dtype} "
            f"(at most {largest:.2g}): rescale the column"
        )


def _warn_of_lost_digits(name: str, column: Float[np.ndarray, " n"], dtype: np.dtype) -> None:
    """A warning where rounding to the dtype takes digits of how a column varies."""
    size, spread = np.abs(column).max(), column.std()
    few = 0 < spread < 1e3 * np.finfo(dtype).eps * size
    if few and (column.astype(dtype) != column).any():
        digits = max(0, int(math.log10(spread / np.spacing(dtype.type(size)))))
        warn(
            f"{name!r} varies by {spread:.3g} about {column.mean():.6g}, of which {dtype} keeps "
            f"{digits} digit{'s' * (digits != 1)}: pass --float64"
        )


def train(
    job: Job,
    arguments: Namespace,
    *,
    rate: LearningRate | str | None = None,
    num_steps: int = MOST_STEPS,
    record: bool = False,
) -> Fit:
    """A run from zero.

    Args:
      job: a `Job`.
      arguments: of the command line: optimizer, learning_rate, steps, epochs, batch_size, seed.
      rate: in place of the arguments' learning rate.
      num_steps: where the arguments give neither steps nor epochs.
      record: whether to record the parameters, and to take all the steps.

    Raises:
      ValueError: epochs without a batch size, or a batch larger than the data.
    """
    batch_size, start = arguments.batch_size, init_params(job.data)
    num_steps = steps_to_take(job, arguments, num_steps)
    rate = rate or arguments.learning_rate or rate_for(job, arguments, num_steps)
    tolerance = None
    if batch_size is None and not record and is_smooth(job.loss):
        _, at_start = jax.device_get(vectorized(job.loss)(start, job.data))
        norm = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(at_start)))
        # of the norm at the start; what rounding leaves is about half of it, in float32
        tolerance = norm * (1e-12 if arguments.float64 else 1e-5)
    return fit(
        job.loss,
        start,
        job.data,
        learning_rate=rate,
        batch_size=batch_size,
        key=None if batch_size is None else jax.random.key(arguments.seed),
        optimizer=OPTIMIZERS[arguments.optimizer],
        tolerance=tolerance,
        record_every=recorded_every(num_steps),
        record_params=record,
        num_steps=num_steps,
        # In parts where nobody watches too: Ctrl-C is heard between two of them.
        progress=True if sys.stderr.isatty() else _show_nothing,
    )


def _show_nothing(progress: Progress) -> None:
    """What is called with each `Progress` where the output is no terminal."""


def steps_to_take(job: Job, arguments: Namespace, num_steps: int = MOST_STEPS) -> int:
    """What the arguments ask for, or `num_steps`.

    Raises:
      ValueError: epochs without a batch size, or a batch larger than the data.
    """
    n, batch_size = job.data.X.shape[0], arguments.batch_size
    if batch_size is not None and batch_size > n:
        raise ValueError(f"--batch-size must be at most the {n} rows to train on, got {batch_size}")
    if arguments.epochs is None:
        return arguments.steps or num_steps
    if batch_size is None:
        raise ValueError("--epochs needs --batch-size: without one, every step sees every row")
    return arguments.epochs * batches_per_epoch(n, batch_size)


def recorded_every(num_steps: int) -> int:
    """Steps from one record to the next: long histories take memory, and nobody sees more."""
    return -(-num_steps // MOST_STEPS)


def rate_for(job: Job, arguments: Namespace, num_steps: int) -> str | float | optax.Schedule:
    """What `--learning-rate auto` stands for: "auto", a rate or a schedule.

    Where the gradient vanishes towards the minimum, plain gradient descent takes what `fit` calls
    "auto", and momentum a part of it. The other losses, and the optimizers whose steps do not
    follow the gradient's size, take a rate that falls to 1/10,000 of a first one in the units of
    the parameters.
    """
    batch_size = arguments.batch_size
    has_momentum = arguments.optimizer in ("momentum", "nesterov")
    follows_gradient = has_momentum or arguments.optimizer == "sgd"
    if is_smooth(job.loss) and follows_gradient:
        if not has_momentum:
            return "auto"
        rate = automatic_rate(job.loss, job.data, intercept=True, batch_size=batch_size)
        # Nesterov's is stable up to 0.68 of the plain one; ten gradients add up in a noisy step.
        return float(rate) * (0.5 if batch_size is None else 0.1)
    X, y = jax.device_get((job.data.X, job.data.y))
    spread = float(np.sqrt(np.mean(y**2))) or 1.0
    square = float(np.mean(X**2)) or 1.0
    first = spread / square if follows_gradient else 0.1 * spread / math.sqrt(square)
    return optax.exponential_decay(0.1 * first if has_momentum else first, num_steps, 1e-4)


def is_smooth(loss: Loss) -> bool:
    """Whether the gradient vanishes towards the minimum."""
    return loss.curvature_bound is not None
