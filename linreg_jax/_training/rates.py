"""Learning rates from the curvature: "auto", and the largest stable one of a run that diverged."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from linreg_jax._sharding.shards import gradient_on_shards
from linreg_jax._training.updates import euclidean_norm
from linreg_jax.dataset import multiplies_bias, total_weight
from linreg_jax.diagnosis import diagnose
from linreg_jax.gradients import vectorized
from linreg_jax.losses import Loss
from linreg_jax.penalties import Lasso, Ridge

_POWER_STEPS = 40


def automatic_rate(loss, data, *, intercept, batch_size=None):
    """[] the learning rate that `fit(..., learning_rate="auto")` takes.

    Full batches: the best constant rate, `diagnose(data, loss).best_rate`. Mini-batches of b out of
    n examples, with L the largest curvature over all examples and L_max over single ones::

        1 / (2 E),    E = n (b - 1) / (b (n - 1)) L + (n - b) / (b (n - 1)) L_max

    E is the expected smoothness of a batch drawn without replacement (Gower et al. 2019, "SGD:
    general analysis and improved rates", proposition 3.8).

    Args:
      loss: a squared loss, `huber` or `log_cosh`, with penalties or none.
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
    return _safe_rate(
        loss, data, diagnosis.largest_curvature, intercept=intercept, batch_size=batch_size
    )


@functools.partial(jax.jit, static_argnames=("intercept", "batch_size"))
def _safe_rate(loss, data, largest_curvature, *, intercept, batch_size):
    n, b = data.X.shape[0], batch_size
    squares = jnp.sum(data.X * data.X, axis=1)
    if intercept:
        squares = squares + multiplies_bias(data) ** 2
    if data.sample_weight is not None:
        squares = squares * data.sample_weight
    curvature = 1.0 if loss.curvature is None else loss.curvature  # huber's and log_cosh's bound
    share = n / total_weight(data) if loss.reduction == "mean" else n
    ridge = 2 * sum(p.strength for p in loss.penalties if isinstance(p, Ridge))
    single = curvature * share * jnp.max(squares)
    whole = largest_curvature - ridge
    others = max(n - 1, 1)
    smoothness = n * (b - 1) / (b * others) * whole + (n - b) / (b * others) * single
    if loss.reduction == "sum":
        smoothness = smoothness * b / n  # a batch sums b examples, not n
    return 1 / (2 * (smoothness + ridge))


def largest_stable_rate(loss, data, params, wanted, mesh=None):
    """[] 2 / L, beyond which gradient descent on a squared loss diverges; NaN for other losses.

    Power iteration on the Hessian, from parameters that grew along its largest eigenvector.

    Args:
      loss: any loss; lassos do not matter to stability.
      data: a `Dataset`.
      params: `Params`, the last finite ones.
      wanted: [] bool; where False, NaN at no cost.
      mesh: where the rows lie in equal parts, or None.
    """
    nan = jnp.full((), jnp.nan, data.X.dtype)
    if not isinstance(loss, Loss) or loss.curvature is None:
        return nan
    smooth = tuple(p for p in loss.penalties if not isinstance(p, Lasso))
    loss, data, params = lax.stop_gradient(
        (dataclasses.replace(loss, penalties=smooth), data, params)
    )
    # With targets of 0 the gradient at v is the Hessian times v.
    hessian_times = gradient_on_shards(vectorized, loss, mesh)
    still = data._replace(y=jnp.zeros_like(data.y))
    size = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(params)]))
    start = jax.tree.map(lambda leaf: leaf / size, params)  # whose squares do not overflow

    def multiply(carry):
        i, v, _ = carry
        product = hessian_times(v, still)[1]
        length = euclidean_norm(product)
        return i + 1, jax.tree.map(lambda leaf: leaf / length, product), length

    steps = jnp.where(wanted, _POWER_STEPS, 0)
    _, _, curvature = lax.while_loop(lambda carry: carry[0] < steps, multiply, (0, start, nan))
    return 2 / curvature
