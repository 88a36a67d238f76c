"""The bootstrap and the jackknife: what coefficients are worth, from the examples alone."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from linreg_jax._inference.bootstrap import (
    corrected_probabilities,
    draws_by_newton,
    draws_by_solve,
    draws_of_squares,
    percentiles,
)
from linreg_jax._inference.deletion import Deletion
from linreg_jax._inference.distributions import t_quantile
from linreg_jax._influence import checked_influence, deletion_of
from linreg_jax._kernels import matmul, on_device, placed
from linreg_jax._loss import Loss
from linreg_jax._minimum.requirements import is_solvable
from linreg_jax._typing import Array, Float, Int
from linreg_jax._validation import (
    checked_key,
    is_between_0_and_1,
    positive_integer,
    single_setting,
)
from linreg_jax.dataset import Dataset
from linreg_jax.losses import mse
from linreg_jax.model import Params


class Bootstrap(NamedTuple):
    """What `bootstrap` drew; the bias comes first in p coefficients.

    Attributes:
      params: `Params` of the fit to all examples.
      standard_errors, bias: `Params`, of the draws; bias is their mean less params.
      lower, upper: `Params`, percentiles of the draws.
      bca_lower, bca_upper: `Params`, percentiles corrected for bias and skewness (BCa).
      draws: [num_samples, p] or [num_samples, p, k] coefficients; NaN where those drawn do not
        determine them, which nothing above counts.
      num_failed: [] or [k] how many draws are NaN.
    """

    params: Params
    standard_errors: Params
    bias: Params
    lower: Params
    upper: Params
    bca_lower: Params
    bca_upper: Params
    draws: Float[Array, "m p *k"]
    num_failed: Int[Array, " *k"]


class Jackknife(NamedTuple):
    """What `jackknife` found.

    Attributes:
      params: `Params` of the fit to all examples.
      standard_errors, bias: `Params`, of the jackknife; params less bias are corrected for it.
      lower, upper: `Params`, params ± t standard errors, with n - 1 degrees of freedom.
      covariance: [p, p] or [k, p, p], the bias first.
    """

    params: Params
    standard_errors: Params
    bias: Params
    lower: Params
    upper: Params
    covariance: Float[Array, " *k p p"]


def bootstrap(
    data: Dataset,
    loss: Loss,
    key: Array,
    num_samples: int = 1000,
    *,
    intercept: bool = True,
    level: float | Array = 0.95,
) -> Bootstrap:
    """Fits to examples drawn with replacement, as many as there are, and what they say.

    An example is a row, drawn with all that it weighs; rows without a weight are never drawn. For
    squared losses the normal equations of all draws are one product of matrices; for other smooth
    losses each draw takes Newton's steps, and where psi jumps (`mae`, `quantile`) those of `solve`.
    Draws are made in batches, in bounded memory.

    BCa takes its skewness from the fits without each example, as `influence` has them; where psi
    jumps from `sensitivities`.

    Args:
      data: a `Dataset`; X [n, d], y [n] or [n, k]; not a compressed one.
      loss: smooth, or one that `solve` takes; with ridge penalties or none, as strong beside the
        sum.
      key: a JAX random key; the same key gives the same draws.
      num_samples: how many draws, 2 or more.
      intercept: whether the model has a bias.
      level: of the intervals, between 0 and 1.

    Returns:
      A `Bootstrap`.

    Raises:
      TypeError: not a `Dataset`, not a loss of this package, not one JAX random key.
      ValueError: a loss whose derivative jumps and that `solve` does not take, a lasso penalty,
        compressed rows, fewer than 2 draws, or a level out of range.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap.

    Example:
      >>> data = as_dataset([[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 4.0, 7.0])
      >>> found = bootstrap(data, mse, jax.random.key(0), 100)
      >>> found.draws.shape
      (100, 2)
    """
    known, intercept = checked_influence(
        data, loss, None, intercept, "bootstrap", may_jump=is_solvable(loss)
    )
    key = checked_key(key)
    if positive_integer("num_samples", num_samples) < 2:
        raise ValueError(
            f"num_samples must be 2 or more, got {num_samples}: one draw has no spread"
        )
    level = single_setting("level", level, "a number between 0 and 1", is_between_0_and_1)
    fit, at, theta = deletion_of(known, data, None, intercept)
    known = placed(known)
    if known.is_quadratic:
        moved = draws_of_squares(key, num_samples, known, data, fit, at, theta)
    elif not known.is_smooth:
        moved = draws_by_solve(key, num_samples, known, data, fit, at, theta, intercept)
    else:
        moved = draws_by_newton(key, num_samples, known, data, fit, at, theta, intercept)
    level = on_device(level, theta.dtype)
    return _summary(theta, moved, at, level, intercept, data.y.ndim == 1)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _summary(
    theta: Array, moved: Array, at: Deletion, level: Array, intercept: bool, single: bool
) -> Bootstrap:
    draws = theta[None] + moved
    changes = jnp.where(at.s[:, None, None] > 0, at.coefficients(-at.per_left_out()), 0)
    ends = [jnp.full_like(theta, 0.5) - level / 2, jnp.full_like(theta, 0.5) + level / 2]
    corrected = [corrected_probabilities(draws, theta, changes, end) for end in ends]

    def named(table: Array) -> Params:
        table = table[:, 0] if single else table
        return Params(table[1:], table[0]) if intercept else Params(table, None)

    usable = ~jnp.isnan(draws)
    count = jnp.sum(usable, axis=0)
    mean = jnp.nansum(moved, axis=0) / count
    squares = jnp.nansum((moved - mean[None]) ** 2, axis=0)
    failed = jnp.sum(jnp.all(~usable, axis=1), axis=0)
    return Bootstrap(
        params=named(theta),
        standard_errors=named(jnp.sqrt(squares / (count - 1))),
        bias=named(mean),
        lower=named(percentiles(draws, ends[0])),
        upper=named(percentiles(draws, ends[1])),
        bca_lower=named(percentiles(draws, corrected[0])),
        bca_upper=named(percentiles(draws, corrected[1])),
        draws=draws[..., 0] if single else draws,
        num_failed=failed[0] if single else failed,
    )


def jackknife(
    data: Dataset, loss: Loss = mse, *, intercept: bool = True, level: float | Array = 0.95
) -> Jackknife:
    """Standard errors from the fits that leave out one example each.

    With changes_i the coefficients less those without example i (see `influence`, which repeats no
    fit), over n examples that have a weight::

        covariance = (n - 1)/n Σ (changes_i - mean) (changes_i - mean)ᵀ
        bias       = -(n - 1) mean of changes

    Losses whose psi jumps are refused: without an example their minimum moves from one set of
    examples on the line to another or not at all, and the jackknife's variance of a median is wrong
    however many examples there are (Efron 1979); `bootstrap` takes them.

    Args, Raises: as `influence`; level as `bootstrap`.

    Returns:
      A `Jackknife`.

    Source: Tukey 1958; Miller 1974, Biometrika 61; Efron 1979, Annals of Statistics 7.

    Example:
      >>> data = as_dataset([[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 4.0, 7.0])
      >>> found = jackknife(data)
      >>> f"{found.params.weights[0]:.3f} ± {found.standard_errors.weights[0]:.3f}"
      '1.900 ± 0.361'
    """
    known, intercept = checked_influence(data, loss, None, intercept, "jackknife")
    level = single_setting("level", level, "a number between 0 and 1", is_between_0_and_1)
    _, at, theta = deletion_of(known, data, None, intercept)
    quantile = t_quantile(level, at.spare)
    return _jackknife(theta, at, quantile, intercept, data.y.ndim == 1)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _jackknife(
    theta: Array, at: Deletion, quantile: Array, intercept: bool, single: bool
) -> Jackknife:
    n = at.spare + 1
    counted = at.s[:, None, None] > 0
    changes = jnp.where(counted, at.coefficients(-at.per_left_out()), 0)
    mean = jnp.sum(changes, axis=0) / n
    apart = jnp.moveaxis(jnp.where(counted, changes - mean[None], 0), 2, 0)
    covariance = (n - 1) / n * matmul(jnp.swapaxes(apart, 1, 2), apart)
    errors = jnp.sqrt(jnp.diagonal(covariance, axis1=1, axis2=2)).T

    def named(table: Array) -> Params:
        table = table[:, 0] if single else table
        return Params(table[1:], table[0]) if intercept else Params(table, None)

    return Jackknife(
        params=named(theta),
        standard_errors=named(errors),
        bias=named(-(n - 1) * mean),
        lower=named(theta - quantile * errors),
        upper=named(theta + quantile * errors),
        covariance=covariance[0] if single else covariance,
    )
