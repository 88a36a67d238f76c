"""Will it explode? What the curvature of a loss says of gradient descent, before a run."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from linreg_jax._algebra import descent
from linreg_jax._algebra.curvatures import curvature_anywhere, curvatures_of, of_equal_columns
from linreg_jax._algebra.linalg import centred_factor, target_columns
from linreg_jax._algebra.quadratic import determined, require_curvature
from linreg_jax._arithmetic.division import divide, nonzero
from linreg_jax._diagnosis_text import in_sentences
from linreg_jax._host import computed, namespace_of
from linreg_jax._kernels import on_device, placed
from linreg_jax._loss import Loss, example_weights
from linreg_jax._pytrees import as_function, as_pytree
from linreg_jax._typing import AnyArray, Array, Bool, Float, Int
from linreg_jax._validation import (
    flag,
    is_between_0_and_1,
    is_not_negative,
    is_traced,
    scalar_setting,
)
from linreg_jax.dataset import Dataset, check_dataset, is_compressed, mean_divisor
from linreg_jax.gradients import require_loss
from linreg_jax.losses import mse


class Diagnosis(NamedTuple):
    """What `diagnose` found; `print` says it in sentences.

    Curvatures are eigenvalues of the loss's Hessian, and a step along one multiplies what is left
    of the way to the minimum by 1 - learning_rate curvature. Where the curvature changes from place
    to place, as that of `huber` and `log_cosh`, they bound it everywhere (`is_bound`).

    Attributes:
      loss: the loss that was diagnosed.
      num_examples: [] rows whose weight is not 0, or the weight that compressed rows stand for.
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
    num_examples: Float[Array, ""] | Int[Array, ""]
    curvatures: Float[Array, " p"]
    rank: Int[Array, ""]
    largest_curvature: Float[Array, ""]
    smallest_curvature: Float[Array, ""]
    condition_number: Float[Array, ""]
    largest_stable_rate: Float[Array, ""]
    best_rate: Float[Array, ""]
    contraction: Float[Array, ""]
    standardized_condition_number: Float[Array, ""]
    feature_scale: Float[Array, " d"]
    feature_deviation: Float[Array, " d"]
    constant: Bool[Array, " d"]
    collinear: Bool[Array, " d"]
    overflow_size: Float[Array, " p"]

    @property
    def is_bound(self) -> bool:
        """Whether the loss curves at most this much, rather than exactly this much."""
        return not self.loss.smooth_part.is_quadratic_in_params

    def steps_to(
        self, accuracy: ArrayLike, learning_rate: ArrayLike | None = None
    ) -> Float[Array, "*r"]:
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
        accuracy = placed(scalar_setting("accuracy", accuracy, rule, is_between_0_and_1))
        L, mu = self.largest_curvature, self.smallest_curvature
        if learning_rate is None:
            return _told(descent.steps_at_best, accuracy, L, mu)
        rates = _as_rates(learning_rate, L.dtype)
        return _told(descent.steps_at, accuracy, L, mu, rates)

    def overflow_step(self, learning_rate: ArrayLike) -> Float[Array, "*r"]:
        """The step after which the loss is too large for its dtype, from a start at zero.

        Plain gradient descent; every number in the loss grows as
        overflow_size_j (1 - learning_rate curvature_j)^(2t), and the first to pass the largest
        number of the dtype decides. Within a step or so where several are nearly as fast.

        Args:
          learning_rate: [] or [r], at least 0.

        Returns:
          [] or [r], whole numbers; infinity for a rate that does not explode.

        Raises:
          ValueError: a rate that is negative or not finite; a loss that is not squared, as most of
            those overflow at no rate.
        """
        if self.is_bound:
            raise ValueError(
                f"{self.loss} is not squared, and how it grows is not known (one whose gradient is "
                "bounded, such as huber, does not overflow): overflow_step is for squared losses"
            )
        rates = _as_rates(learning_rate, self.curvatures.dtype)
        return _told(descent.overflow_step, self.curvatures, self.overflow_size, rates)

    def __str__(self) -> str:
        known = not any(is_traced(leaf) for leaf in jax.tree.leaves(self))
        if not known or self.curvatures.ndim != 1:
            return repr(self)  # traced, or many diagnoses in one
        return in_sentences(self)


def _told(function: Callable[..., Array], *arguments: Any) -> Array:
    """What a function says of a few numbers, all at once."""
    return computed(function, *arguments, size=sum(map(np.size, arguments)))


def _as_rates(learning_rate: ArrayLike, dtype: np.dtype) -> Float[Array, "*r"]:
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

    `huber` and `log_cosh` curve at most as much as `half_mse`, and any other loss at most as its
    `curvature_bound` says: for them the same numbers are a safe bound, and the best rate is 1 / L.
    A lasso penalty adds no curvature; with it, these are the rates for a proximal step. The
    eigenvalues come from the triangular factor of the data, not from the Hessian, so that small
    ones keep their digits.

    Args:
      data: a `Dataset`; X [n, d], y [n] or [n, k].
      loss: one with a `curvature_bound`: a squared loss, `huber`, `log_cosh` or your own; with
        penalties or none.
      intercept: whether the model has a bias.

    Returns:
      A `Diagnosis`, with methods `steps_to(accuracy)` and `overflow_step(learning_rate)`.

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
    require_curvature(loss)
    for penalty in loss.penalties:
        if penalty.is_smooth and penalty.curvature_bound is None:
            raise ValueError(
                f"the curvature of {penalty} is not known: state its curvature_bound, or "
                "is_smooth = False and its prox; or leave it out"
            )
    if is_compressed(data):
        example_weights(loss, data)  # raises where the loss is not squared
    # The caller's own loss: jit would give its strengths back as arrays.
    arguments = placed(as_pytree(loss)), data, flag("intercept", intercept)
    size = data.X.size + data.y.size
    found = computed(_diagnosis, *arguments, size=size, static_argnums=(2,))
    return found._replace(loss=loss)


def _num_examples(data: Dataset) -> Float[AnyArray, ""] | Int[AnyArray, ""]:
    if is_compressed(data):
        return mean_divisor(data)
    xp = namespace_of(data.X)
    if data.sample_weight is None:
        return xp.asarray(data.X.shape[0], int)
    return xp.sum(data.sample_weight > 0)


def _diagnosis(argument: Loss, data: Dataset, intercept: bool) -> Diagnosis:
    xp, loss, d = namespace_of(data.X), as_function(argument), data.X.shape[1]
    p = d + int(intercept)
    targets = data._replace(y=target_columns(data.y))
    rows, R = centred_factor(targets, intercept=intercept, least_rows=p)
    centred = R[p - d : p, p - d : p]
    columns, rank = determined(loss, R, d, intercept=intercept)
    R = rows.undo(R, intercept=intercept)
    root_mean = xp.sqrt(nonzero(mean_divisor(data)))
    condition_number, collinear = of_equal_columns(columns, intercept)
    curvatures, overflow_size = curvatures_of(loss, data, R, rank, intercept)
    L, mu = curvatures[0], curvatures[xp.maximum(rank, 1) - 1]
    if not loss.smooth_part.is_quadratic_in_params:
        mu = xp.full_like(L, curvature_anywhere(loss, intercept))
    return Diagnosis(
        loss=argument,
        num_examples=_num_examples(data),
        curvatures=curvatures,
        rank=rank,
        largest_curvature=L,
        smallest_curvature=mu,
        condition_number=divide(L, mu, at_zero=xp.inf),
        largest_stable_rate=divide(2.0, L, at_zero=xp.inf),
        best_rate=xp.where(mu == 0, divide(1.0, L, at_zero=xp.inf), 2 / nonzero(L + mu)),
        contraction=divide(L - mu, L + mu),
        standardized_condition_number=condition_number,
        feature_scale=xp.linalg.norm(R[:, p - d : p], axis=0) / root_mean,
        feature_deviation=xp.linalg.norm(centred, axis=0) * rows.X.unit / root_mean,
        constant=rows.X.constant,
        collinear=collinear & ~rows.X.constant,
        overflow_size=overflow_size,
    )
