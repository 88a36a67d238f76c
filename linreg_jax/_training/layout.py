"""What a run is compiled for and computes with: its values, its settings, its data, its periods.

There are two units of time: a step, and a period of several, after which the outer loop writes
down what the steps recorded, measures the validation loss and sees whether the run is over.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import numpy as np
import optax
from jax import Array
from jax.sharding import AbstractMesh, Mesh
from jax.typing import ArrayLike

from linreg_jax._algebra.settled import Rows
from linreg_jax._kernels import Columns, Narrow, beside, platform_of, rows_to_add
from linreg_jax._own_functions import call_gradient
from linreg_jax._padding import pad
from linreg_jax._pytrees import as_function
from linreg_jax._sharding.shards import mesh_of, summed_over_devices
from linreg_jax._training import views
from linreg_jax._training.batches import batches_per_epoch, steps_in_period
from linreg_jax._training.gathering import group_size, in_groups
from linreg_jax._training.rates import LearningRate
from linreg_jax._training.views import View
from linreg_jax._validation import is_traced
from linreg_jax.compression import compress as compressed
from linreg_jax.dataset import Dataset, is_compressed
from linreg_jax.gradients import LossGradient, ValueAndGradient, autodiff, vectorized
from linreg_jax.losses import Loss, mse
from linreg_jax.model import Params

# XLA on the CPU runs the parts of a loop's body one after the other, without the cost of handing
# them out to threads, where none of the arrays they touch is larger than this: at 100 × 1 a step
# takes a third of the time. So the records of a period, two numbers a step, are kept this small.
_SMALL_BYTES = 512

# A step of descent by columns of X, w Xᵀ and Xᵀ r, takes on two CPU cores that others use as well
# (float32, jax 0.10.1 and 0.12.0.1) these shares of the time by rows: 0.3 and 0.6 at 1,000 × 10,
# 0.4 at 10,000 × 100, 0.4 and 0.8 at 100,000 × 10, 0.7 and 0.8 at 100,000 × 100; but 0.9 and 1.2 at
# 1,000,000 × 32, 1.4 and 2.2 at 131,072 × 512. On idle cores a whole step takes as long either way
# (0.9 to 1.05 at 1,000 × 10 and 10,000 × 100). Larger data than this many numbers stay as they are.
_MOST_BY_COLUMNS = 2**24
_FEWEST_BY_COLUMNS = 2**14  # of compressed rows: with less the steps take as long either way
# An epoch of 1,000,000 rows in batches of 1,024 takes, number by number in place of products, 0.4
# (0.12.0.1) to 1 times (0.10.1) as long at 30 features, 0.95 and 0.75 at 32; of small batches as
# long, and twice as long where `jax.vmap` over runs makes one product of many.
_NARROW = 64  # features at most
_FEWEST_BY_NUMBERS = 2**14  # of a batch
_FOLDED_STEPS = 1024  # in a period, at whose start rows are folded anew where the run left off
_COPIED_BY_NUMPY = 2**16  # numbers of X at most, in some 50 microseconds
_COMPRESSED_EIGHTFOLD = 8
_FEWEST_COMPRESSED = 2**13  # numbers of X
_BY_PRODUCTS = (autodiff(mse).way, vectorized(mse).way)  # the ways that read X in products only


class EarlyStopping(NamedTuple):
    """When validation losses end a run.

    Attributes:
      improvement: [] how much the best one has to improve by.
      patience: [] int32 how many in a row may not.
    """

    improvement: ArrayLike
    patience: ArrayLike


class Problem(NamedTuple):
    """What a program takes as values: others of the same shapes do not compile again.

    Attributes:
      loss: `(params, data) -> scalar`, a pytree.
      own_gradient: the caller's drop-in for `jax.value_and_grad(loss)`, a pytree; None where it is
        one of `gradients`, which `Settings` names.
      data: `Dataset` that the steps are taken on.
      rows: all rows by columns, where the run folds them; None: it does not.
      grouped: `in_groups(data.X)`, which mini-batches are gathered from; None: from the data.
      learning_rate: [] or a schedule, a pytree.
      validation: `Dataset` or None.
      tolerance: [] of the gradient's norm, or None.
      stopping: `EarlyStopping` on the validation loss, or None.
      average_from: [] int32 the first step whose iterate is averaged, or None.
    """

    loss: Callable[[Params, Dataset], Array]
    own_gradient: ValueAndGradient | None
    data: Dataset
    rows: Rows | None
    grouped: Array | None
    learning_rate: LearningRate
    validation: Dataset | None
    tolerance: ArrayLike | None
    stopping: EarlyStopping | None
    average_from: ArrayLike | None

    @property
    def can_end_early(self) -> bool:
        """Whether something other than a divergence may end the run before its last step."""
        return self.tolerance is not None or self.stopping is not None


class Settings(NamedTuple):
    """What a program is compiled for; hashable.

    Attributes:
      num_steps: steps to take, at most.
      batch_size: None for full batches.
      optimizer: the factory given to `fit`.
      way, way_settings: of the `LossGradient` that the steps take; None for the caller's own.
      record_every: steps from one record to the next.
      record_params: whether the parameters are recorded too.
      unroll: of the loop over a period's steps.
      period: steps in a period.
      mesh: where the rows lie in equal parts, or None.
      num_shards: in how many parts the rows are shuffled, each within itself.
      measures_losses: whether to measure the loss of all examples before and after.
    """

    num_steps: int
    batch_size: int | None
    optimizer: Callable[[LearningRate], optax.GradientTransformation]
    way: Callable[..., tuple[Array, Params]] | None
    way_settings: tuple[int | None, ...]
    record_every: int
    record_params: bool
    unroll: int
    period: int
    mesh: Mesh | AbstractMesh | None
    num_shards: int
    measures_losses: bool

    @property
    def num_periods(self) -> int:
        """Periods in a run; of one step at least two, as XLA compiles no loop for a single turn."""
        return max(-(-self.num_steps // self.period), 2 if self.period == 1 else 1)

    @property
    def kept_every(self) -> int:
        """Steps from one record that a period keeps to the next."""
        if self.period % self.record_every == 0:
            return self.record_every
        return self.period if self.record_every % self.period == 0 else 1


def smooth_part(problem: Problem) -> Callable[[Params, Dataset], Array]:
    """The loss without the penalties that are trained by their `prox`."""
    loss = as_function(problem.loss)
    return loss.smooth_part if isinstance(loss, Loss) else loss


def value_and_gradient(
    problem: Problem, settings: Settings
) -> Callable[[Params, Any], tuple[Array, Params]]:
    """The gradient of the smooth part of the loss: of a view of folded rows, or over a mesh."""
    if problem.rows is not None:
        return functools.partial(views.value_and_gradient, cast(Loss, smooth_part(problem)))
    if settings.way is None:
        own: ValueAndGradient = as_function(problem.own_gradient)
        return functools.partial(call_gradient, own)
    gradient = LossGradient(settings.way, smooth_part(problem), settings.way_settings)
    return summed_over_devices(gradient, settings.mesh)


def full_batch(problem: Problem) -> Dataset | View:
    """What a step on all examples is given."""
    return problem.data if problem.rows is None else View.of(problem.rows)


def period_length(
    data: Dataset,
    *,
    num_steps: int,
    batch_size: int | None,
    record_every: int,
    has_validation: bool,
    folds: bool = False,
) -> int:
    """Steps in a period.

    With validation data it is an epoch of mini-batches, or the steps from one record to the next.
    Otherwise as many as are shuffled together, or whose records are small. The steps that the last
    period has too many change nothing, and the length is chosen so that they are few.

    A run in two parts gives the numbers of the run in one, since the body of the loop over a
    period's steps is the same whatever their number; but XLA compiles no loop for a single turn,
    and rounds otherwise there: only records or epochs of one step make a period of one.
    """
    at_least_two = max(num_steps, 2)
    n, itemsize = data.X.shape[0], data.X.dtype.itemsize
    if has_validation:
        every = record_every if batch_size is None else batches_per_epoch(n, batch_size)
        return min(every, at_least_two)
    if folds:  # once in a period rows are folded again
        most = _FOLDED_STEPS
    elif batch_size is None:
        most = _SMALL_BYTES // (2 * itemsize)
    else:
        most = steps_in_period(batch_size, data.X.shape[1])
    if record_every > 1 and num_steps > record_every:
        if record_every <= most:  # several records in a period
            return record_every * min(most // record_every, -(-num_steps // record_every))
        divisors = _divisors(record_every, most)
        return divisors[-1] if divisors else record_every
    # The longest divisor if it is not short, or periods as equal as can be.
    divisors = _divisors(num_steps, most)
    if divisors:
        return divisors[-1]
    return max(-(-num_steps // -(-num_steps // most)), 2)


@functools.cache
def _divisors(number: int, most: int) -> list[int]:
    """The divisors of a number from a quarter of `most` up to it, at least 2."""
    return [divisor for divisor in range(max(most // 4, 2), most + 1) if number % divisor == 0]


def data_for_steps(
    data: Dataset,
    loss: Callable[[Params, Dataset], Array],
    *,
    batch_size: int | None,
    compress: bool | None,
    way: Callable[..., tuple[Array, Params]] | None,
    has_own_function: bool,
) -> Dataset:
    """The data that the steps are taken on: compressed, by columns or padded for the same steps.

    Everything but the number of steps decides, and this is a program of its own, so that a run in
    two parts has the very rows of the run in one. Compressing pays on many examples: factoring them
    costs some steps on all of them, and its program takes longer to compile than the loop does. A
    caller's own function sees the examples as they are.
    """
    if batch_size is not None or has_own_function or not isinstance(loss, Loss):
        return data
    n, d = data.X.shape
    is_squared = loss.is_quadratic
    rows = d + 1 + math.prod(data.y.shape[1:])
    is_large = n >= _COMPRESSED_EIGHTFOLD * rows and n * d >= _FEWEST_COMPRESSED
    pays = is_squared and data.total_weight is None and is_large
    on_cpu = platform_of(data.X) == "cpu"
    if compress or (compress is None and pays):
        data = compressed(data)
    if mesh_of(data) is not None or not on_cpu:
        return data
    fewest = _FEWEST_BY_COLUMNS if is_compressed(data) else 0
    if way in _BY_PRODUCTS and fewest <= data.X.size <= _MOST_BY_COLUMNS:
        return _by_columns(data)
    num_rows = 0 if is_compressed(data) else rows_to_add(*data.X.shape)
    return data if num_rows == 0 else pad(data, num_rows)


def _by_columns(data: Dataset) -> Dataset:
    """The data with X laid out by columns; a small one by NumPy, which compiles nothing."""
    X = jax.device_put(data.X) if isinstance(data.X, np.ndarray) else data.X
    is_here = not is_traced(X) and len(X.devices()) == 1
    if is_here and X.size <= _COPIED_BY_NUMPY:
        columns = beside(np.ascontiguousarray(jax.device_get(X).T), X)
    else:
        columns = _transposed(X)
    return data._replace(X=cast(Array, Columns(columns)))


@jax.jit
def _transposed(X: Array) -> Array:
    return X.T


def grouped_for_steps(data: Dataset, *, batch_size: int | None, num_shards: int) -> Array | None:
    """X in groups of a row's numbers, which mini-batches are gathered from; None: from X itself."""
    if batch_size is None or num_shards > 1 or mesh_of(data) is not None:
        return None
    is_split = group_size(data.X.shape[1]) < data.X.shape[1]
    return in_groups(data.X) if is_split and platform_of(data.X) == "cpu" else None


def batch_for_step(problem: Problem, settings: Settings, batch: Dataset) -> Dataset:
    """A mini-batch as a step reads it: one of few features on a CPU number by number."""
    X = batch.X
    is_narrow = X.shape[1] <= _NARROW and X.size >= _FEWEST_BY_NUMBERS and batch.y.ndim == 1
    by_products = settings.way in _BY_PRODUCTS and isinstance(as_function(problem.loss), Loss)
    if not (is_narrow and by_products) or settings.mesh is not None or platform_of(X) != "cpu":
        return batch
    return batch._replace(X=cast(Array, Narrow(X)))
