"""Learning rates from the curvature: "auto", and the largest stable one of a run that diverged."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AbstractMesh, Mesh
from jax.typing import ArrayLike, DTypeLike

from linreg_jax._algebra.quadratic import penalty_curvature, require_curvature
from linreg_jax._arithmetic.division import nonzero
from linreg_jax._loss import Loss
from linreg_jax._pytrees import Pytree, as_function, as_pytree
from linreg_jax._sharding.shards import summed_over_devices
from linreg_jax._typing import Array, Bool, Float
from linreg_jax.dataset import Dataset, bias_multipliers
from linreg_jax.diagnosis import diagnose
from linreg_jax.gradients import LossFunction, vectorized
from linreg_jax.model import Params

_POWER_STEPS = 40

LearningRate = ArrayLike | Callable[[ArrayLike], ArrayLike]


@dataclasses.dataclass(frozen=True)
class CheckedSchedule(Pytree):
    """A schedule whose negative rates, at which descent would ascend, are NaN.

    What rounding leaves below 0 of a rate that falls to 0 is 0.

    Attributes:
      schedule: step -> rate, as `as_pytree` gives it.
    """

    schedule: Callable[[ArrayLike], ArrayLike]

    def __call__(self, step: ArrayLike) -> Float[Array, ""]:
        schedule = as_function(self.schedule)
        rate, rounding = schedule(step), 1e-6 * jnp.abs(schedule(0))
        return jnp.where(rate < -rounding, jnp.nan, jnp.maximum(rate, 0))


def automatic_rate(
    loss: Loss, data: Dataset, *, intercept: bool, batch_size: int | None = None
) -> Float[Array, ""]:
    """[] the learning rate that `fit(..., learning_rate="auto")` takes.

    Full batches: the best constant rate, `diagnose(data, loss).best_rate`. Mini-batches of b out of
    n examples, with L the largest curvature over all examples and L_max over single ones::

        1 / (2 E),    E = n (b - 1) / (b (n - 1)) L + (n - b) / (b (n - 1)) L_max

    E is the expected smoothness of a batch drawn without replacement (Gower et al. 2019, "SGD:
    general analysis and improved rates", proposition 3.8).

    Args:
      loss: one with a `curvature_bound`, with penalties or none.
      data: a `Dataset` of n rows.
      intercept: whether the model has a bias.
      batch_size: None for full batches.

    Raises:
      TypeError, ValueError: as `diagnose` says.
    """
    try:
        diagnosis = diagnose(data, loss, intercept=intercept)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f'learning_rate="auto" is the best constant rate, which is not known here: {error}. '
            "Pass a number, or a schedule such as optax.exponential_decay(0.1, num_steps, 1e-4)"
        ) from error
    if batch_size is None:
        return diagnosis.best_rate
    L = diagnosis.largest_curvature
    return _safe_rate(as_pytree(loss), data, L, intercept=intercept, batch_size=batch_size)


@functools.partial(jax.jit, static_argnames=("intercept", "batch_size"))
def _safe_rate(
    argument: Loss,
    data: Dataset,
    largest_curvature: Float[Array, ""],
    *,
    intercept: bool,
    batch_size: int,
) -> Float[Array, ""]:
    loss: Loss = as_function(argument)
    n, b = data.X.shape[0], batch_size
    squares = jnp.sum(data.X * data.X, axis=1)
    if intercept:
        squares = squares + bias_multipliers(data) ** 2
    if data.sample_weight is not None:
        squares = squares * data.sample_weight
    added = penalty_curvature(loss)
    of_penalties = 0.0 if added is None else added
    single = require_curvature(loss) * n / loss.divisor(data) * jnp.max(squares)
    whole = largest_curvature - of_penalties
    others = max(n - 1, 1)
    smoothness = n * (b - 1) / (b * others) * whole + (n - b) / (b * others) * single
    if loss.reduction == "sum":
        smoothness = smoothness * b / n  # a batch sums b examples, not n
    return 1 / (2 * (smoothness + of_penalties))


def largest_stable_rate(
    loss: LossFunction,
    data: Dataset,
    params: Params,
    wanted: Bool[Array, ""],
    mesh: Mesh | AbstractMesh | None = None,
) -> Float[Array, ""]:
    """[] 2 / L, beyond which gradient descent on a squared loss diverges; NaN for other losses.

    Power iteration on the Hessian, from parameters that grew along its largest eigenvector.

    Args:
      loss: any loss; penalties that are not smooth do not matter to stability.
      data: a `Dataset`.
      params: `Params`, the last finite ones.
      wanted: [] bool; where False, NaN at no cost.
      mesh: where the rows lie in equal parts, or None.
    """
    nan = jnp.full((), jnp.nan, data.X.dtype)
    if not isinstance(loss, Loss) or not loss.smooth_part.is_quadratic_in_params:
        return nan
    loss, data, params = lax.stop_gradient((loss.smooth_part, data, params))
    # With targets of 0 the gradient at v is the Hessian times v.
    hessian_times = summed_over_devices(vectorized(loss), mesh)
    at_zero = data._replace(y=jnp.zeros_like(data.y))
    size = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(params)]))
    start = jax.tree.map(lambda leaf: leaf / size, params)  # whose squares do not overflow

    def multiply(carry: tuple[Array, Params, Array]) -> tuple[Array, Params, Array]:
        i, v, _ = carry
        product = hessian_times(v, at_zero)[1]
        length = euclidean_norm(product)
        return i + 1, jax.tree.map(lambda leaf: leaf / length, product), length

    num_steps = jnp.where(wanted, _POWER_STEPS, 0)
    _, _, curvature = lax.while_loop(
        lambda carry: carry[0] < num_steps, multiply, (jnp.zeros((), jnp.int32), start, nan)
    )
    return 2 / curvature


def euclidean_norm(tree: Params) -> Float[Array, ""]:
    """[] the root of the sum of all squares in a pytree."""
    squares = functools.reduce(jnp.add, [jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(tree)])
    # The root has no derivative at 0: the branch that is not taken sees a 1.
    return jnp.where(squares == 0, 0, jnp.sqrt(nonzero(squares)))


def current_rate(
    learning_rate: LearningRate, step: ArrayLike, dtype: DTypeLike
) -> Float[Array, ""]:
    """[] the learning rate of a step: the number itself, or what the schedule says."""
    rate = learning_rate(step) if callable(learning_rate) else learning_rate
    return jnp.asarray(rate, dtype)
