"""Will it explode? What the curvature of a loss says of gradient descent, before a run."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from linreg_jax._algebra import descent
from linreg_jax._algebra.blocks import by_parts
from linreg_jax._algebra.descent import or_one
from linreg_jax._algebra.linalg import (
    centred_factor,
    graded_svd,
    map_blocks,
    target_columns,
)
from linreg_jax._algebra.quadratic import determined, quadratic, ridge_strength
from linreg_jax._diagnosis_text import in_sentences
from linreg_jax._kernels import matmul, on_device, placed
from linreg_jax._validation import flag, is_not_negative, is_traced, scalar_setting
from linreg_jax.dataset import Dataset, bias_multipliers, check_dataset, is_compressed, mean_divisor
from linreg_jax.gradients import require_loss
from linreg_jax.losses import Huber, LogCosh, Loss, example_weights, mse
from linreg_jax.penalties import Lasso, Ridge

_BLOCK_ROWS = 1024
# A feature with at least this share of its unit length in directions without curvature is named.
_INVOLVED = 0.01


class Diagnosis(NamedTuple):
    """What `diagnose` found; `print` says it in sentences.

    Curvatures are eigenvalues of the loss's Hessian, and a step along one multiplies what is left
    of the way to the minimum by 1 - learning_rate curvature. For `huber` and `log_cosh`, whose
    curvature changes from place to place, they bound it everywhere (`is_bound`).

    Attributes:
      loss: the loss that was diagnosed.
      num_examples: [] rows that weigh something, or the weight that compressed rows stand for.
      curvatures: [p] of the p parameters of one target, largest first; 0 beyond the rank.
      rank: [] how many directions have any curvature.
      largest_curvature: [] L.
      smallest_curvature: [] mu, the smallest that is not 0; for a bound, 0 where there is none.
      condition_number: [] L / mu.
      largest_stable_rate: [] 2 / L; beyond it a squared loss explodes.
      best_rate: [] 2 / (L + mu), the constant rate that contracts most; 1 / L where mu is 0.
      contraction: [] what a step at the best rate leaves of the distance to the minimum, at worst.
      standardized_condition_number: [] what `standardize` would make of the condition number, by
        itself (without penalties).
      feature_scale: [d] root mean square of each feature, in its units.
      feature_deviation: [d] the same about its mean; about 0 without an intercept.
      constant: [d] whether the feature is constant (zero, without an intercept).
      collinear: [d] whether other features make it up, or it helps to make up others.
      overflow_size: [p] the largest number that the loss computes along each direction of
        curvature, starting at zero.
    """

    loss: Loss
    num_examples: Array
    curvatures: Array
    rank: Array
    largest_curvature: Array
    smallest_curvature: Array
    condition_number: Array
    largest_stable_rate: Array
    best_rate: Array
    contraction: Array
    standardized_condition_number: Array
    feature_scale: Array
    feature_deviation: Array
    constant: Array
    collinear: Array
    overflow_size: Array

    @property
    def is_bound(self) -> bool:
        """Whether the loss curves at most this much, rather than exactly this much."""
        return self.loss.curvature is None

    def steps_to(self, accuracy, learning_rate=None):
        """Steps after which at most `accuracy` is left of the distance to the minimum.

        With c = max_j abs(1 - learning_rate curvature_j), over the curvatures that are not 0, the
        least t with c^t ≤ accuracy. A start that is not the worst one needs fewer.

        Args:
          accuracy: the share that may be left, more than 0 and less than 1.
          learning_rate: [] or [r]; None: the best one.

        Returns:
          [] or [r], whole numbers; infinity for a rate that never gets there.

        Raises:
          ValueError: accuracy not between 0 and 1, a rate that is negative or not finite.
        """
        rule = "a number strictly between 0 and 1"
        accuracy = placed(scalar_setting("accuracy", accuracy, rule, lambda a: 0 < a < 1))
        L, mu = self.largest_curvature, self.smallest_curvature
        if learning_rate is None:
            return descent.steps_at_best(accuracy, L, mu)
        return descent.steps_at(accuracy, L, mu, _as_rates(learning_rate, L.dtype))

    def overflow_step(self, learning_rate):
        """The step after which the loss is too large for its dtype, from a start at zero.

        Plain gradient descent; every number in the loss grows as
        overflow_size_j (1 - learning_rate curvature_j)^(2t), and the first to pass the largest
        number of the dtype decides. Within a step or so where several are nearly as fast.

        Args:
          learning_rate: [] or [r], at least 0.

        Returns:
          [] or [r], whole numbers; infinity for a rate that does not explode.

        Raises:
          ValueError: a rate that is negative or not finite; a loss that is not squared, whose
            gradient is bounded and which overflows at no rate.
        """
        if self.is_bound:
            raise ValueError(
                f"{self.loss} does not overflow: its gradient is bounded, and beyond "
                "largest_stable_rate it may swing without settling; overflow_step is for squared "
                "losses"
            )
        rates = _as_rates(learning_rate, self.curvatures.dtype)
        return descent.overflow_step(self.curvatures, self.overflow_size, rates)

    def __str__(self):
        known = not any(is_traced(leaf) for leaf in jax.tree.leaves(self))
        if not known or self.curvatures.ndim != 1:
            return repr(self)  # traced, or many diagnoses in one
        return in_sentences(self)


def _as_rates(learning_rate, dtype):
    rule = "a finite number, at least 0"
    rates = scalar_setting("learning_rate", learning_rate, rule, is_not_negative)
    return on_device(rates, dtype)


def diagnose(data: Dataset, loss: Loss = mse, *, intercept: bool = True) -> Diagnosis:
    """Will it explode? What gradient descent on this loss and data will do, before a run.

    The Hessian of a squared loss is one matrix. With L its largest and mu its smallest eigenvalue
    that is not 0::

        explodes beyond    2 / L
        fastest at         2 / (L + mu)
        each step leaves   (L - mu) / (L + mu)   of the distance to the minimum, at worst

    `huber` and `log_cosh` curve at most as much as `half_mse`: for them the same numbers are a safe
    bound, and the best rate is 1 / L. A lasso penalty adds no curvature; with it, these are the
    rates for a proximal step. The eigenvalues come from the triangular factor of the data, not from
    the Hessian, so that small ones keep their digits.

    Args:
      data: a `Dataset`; X [n, d], y [n] or [n, k].
      loss: a squared loss, `huber` or `log_cosh`, with penalties or none.
      intercept: whether the model has a bias.

    Returns:
      A `Diagnosis`, whose `steps_to(accuracy)` and `overflow_step(learning_rate)` go on.

    Raises:
      TypeError: not a loss of this package.
      ValueError: a loss whose gradient does not vanish towards the minimum (`mae`, `quantile`,
        `epsilon_insensitive`), or whose curvature is not known; compressed data with a loss that is
        not squared.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> print(diagnose(data))
      The curvature of mse on these 3 examples lies between 0.7304 and 14.6:
      condition number 19.99.
      Gradient descent explodes at learning rates above 0.137 (for instance at
      0.1507, where float32 overflows after 222 steps from 0).
      The best constant rate is 0.1304: a step takes at least 9.528 % off the
      distance to the minimum, which leaves 1 % after 46 steps and a millionth after
      138.
    """
    check_dataset(data)
    require_loss(loss, "diagnose")
    if loss.curvature is None and not isinstance(loss, (Huber, LogCosh)):
        raise ValueError(
            f"{loss} has no largest stable rate: its gradient does not shrink towards the minimum "
            "(or its curvature is not known), so a constant rate ends in a swing about as wide as "
            "itself; decrease the rate with a schedule, or use huber, which is smooth"
        )
    for penalty in loss.penalties:
        if not isinstance(penalty, (Ridge, Lasso)):
            raise ValueError(
                f"the curvature of {penalty} is not known: diagnose knows ridge and lasso; "
                "leave it out"
            )
    if is_compressed(data):
        example_weights(loss, data)  # raises where the loss is not squared
    # The caller's own loss: jit would give its strengths back as arrays.
    return _diagnose(placed(loss), data, flag("intercept", intercept))._replace(loss=loss)


def _num_examples(data):
    if is_compressed(data):
        return mean_divisor(data)
    if data.sample_weight is None:
        return jnp.asarray(data.X.shape[0])
    return jnp.sum(data.sample_weight > 0)


@functools.partial(jax.jit, static_argnums=2)
def _diagnose(loss: Loss, data: Dataset, intercept: bool) -> Diagnosis:
    d = data.X.shape[1]
    p = d + int(intercept)
    targets = data._replace(y=target_columns(data.y))
    rows, R = centred_factor(targets, intercept=intercept, least_rows=p)
    centred, strength = R[p - d : p, p - d : p], ridge_strength(loss)
    columns, rank = determined(loss, R, d, intercept=intercept)
    R = rows.undo(R, intercept=intercept)
    root_mean = jnp.sqrt(or_one(mean_divisor(data)))

    # How much of feature j lies in the directions without any curvature: 1 - Σ_i Vt[i, j]².
    in_rank = jnp.arange(columns.singular_values.shape[0]) < columns.rank
    lost = 1 - jnp.sum(jnp.where(in_rank[:, None], columns.Vt, 0) ** 2, axis=0)
    scaled = jnp.where(in_rank, columns.singular_values, jnp.inf)
    largest, smallest = columns.singular_values[0], jnp.min(scaled)
    if intercept:
        largest, smallest = jnp.maximum(largest, 1), jnp.minimum(smallest, 1)

    curvature = 1.0 if loss.curvature is None else loss.curvature
    F, z, _ = quadratic(loss, data, R, curvature=curvature)
    U, s, Vt = graded_svd(F)
    s = jnp.where(jnp.arange(s.shape[0]) < rank, s, 0)
    curvatures = jnp.pad(s * s, (0, p - s.shape[0]))
    L, mu = curvatures[0], curvatures[jnp.maximum(rank, 1) - 1]
    if loss.curvature is None:
        # Far from the targets nothing is left of these but the ridge, which spares the bias.
        mu = jnp.zeros_like(L)
        if strength is not None and not intercept:
            mu = mu + 2 * jnp.asarray(strength, L.dtype)
        overflow_size = jnp.zeros_like(curvatures)
    else:
        overflow_size = _overflow_size(data, curvature, U, s, Vt, z, intercept)
        overflow_size = jnp.pad(overflow_size, (0, p - s.shape[0]))
    best = jnp.where(mu > 0, 2 / or_one(L + mu), jnp.where(L > 0, 1 / or_one(L), jnp.inf))
    return Diagnosis(
        loss=loss,
        num_examples=_num_examples(data),
        curvatures=curvatures,
        rank=rank,
        largest_curvature=L,
        smallest_curvature=mu,
        condition_number=jnp.where(mu > 0, L / or_one(mu), jnp.inf),
        largest_stable_rate=jnp.where(L > 0, 2 / or_one(L), jnp.inf),
        best_rate=best,
        contraction=jnp.where(L > 0, (L - mu) / or_one(L + mu), 0),
        standardized_condition_number=(largest / smallest) ** 2,
        feature_scale=jnp.linalg.norm(R[:, p - d : p], axis=0) / root_mean,
        feature_deviation=jnp.linalg.norm(centred, axis=0) * rows.X.unit / root_mean,
        constant=rows.X.constant,
        collinear=(lost > _INVOLVED**2) & ~rows.X.constant,
        overflow_size=overflow_size,
    )


def _overflow_size(data, curvature, U, s, Vt, z, intercept):
    """[q] the largest number in the loss along each eigenvector, at parameters 0.

    It is rho of the largest residual, or the whole loss where that is a sum.
    """
    start = matmul(U.T, z)  # [q, k]
    vectors = Vt.T

    def largest_residual(block):
        moved = matmul(block.X, vectors[int(intercept) :])
        if intercept:
            moved = moved + bias_multipliers(block)[:, None] * vectors[:1]
        return jnp.max(jnp.abs(moved), axis=0)

    def of_part(part):
        return jnp.max(map_blocks(largest_residual, part, _BLOCK_ROWS), axis=0)

    per_unit = jnp.max(by_parts(of_part, data._replace(total_weight=None)), axis=0)
    distance = jnp.max(jnp.abs(start), axis=1) / or_one(s)
    rho = curvature / 2 * (per_unit * distance) ** 2
    return jnp.where(s > 0, jnp.maximum(rho, jnp.sum(start * start, axis=1) / 2), 0)
