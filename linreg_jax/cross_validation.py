"""Choosing a strength by the loss on examples that a fit has not seen."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._conversion import as_numeric
from linreg_jax._cross_validation.folds import (
    fold_weights,
    scores_of_compressed,
    scores_of_rows,
    summary,
)
from linreg_jax._cross_validation.leave_one_out import leave_one_out_scores
from linreg_jax._kernels import placed
from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Bool, Float, Int
from linreg_jax._validation import (
    checked_key,
    flag,
    is_traced,
    positive_integer,
    require_shape,
    shape_text,
    shown,
)
from linreg_jax.dataset import Dataset, check_dataset, is_compressed
from linreg_jax.exact import Solution, solve


class CrossValidation(NamedTuple):
    """What each strength costs on examples held out.

    Attributes:
      strengths: [m] as they were given.
      scores: [m, f] the loss of the fit without a fold, on that fold: the mean over its examples,
        without the penalties.
      mean: [m] of the scores, each fold as heavy as its examples.
      standard_error: [m] of the mean.
      best: [] index of the strength with the least mean.
      one_standard_error: [] index of the largest strength whose mean is within one standard error
        of the least.
      solution: `Solution` on all examples, at the best strength.
    """

    strengths: Float[Array, " m"]
    scores: Float[Array, "m f"]
    mean: Float[Array, " m"]
    standard_error: Float[Array, " m"]
    best: Int[Array, ""]
    one_standard_error: Int[Array, ""]
    solution: Solution

    @property
    def best_strength(self) -> Float[Array, ""]:
        """[] the strength with the least mean."""
        return self.strengths[self.best]

    @property
    def one_standard_error_strength(self) -> Float[Array, ""]:
        """[] the largest strength that is as good, to one standard error."""
        return self.strengths[self.one_standard_error]


def cross_validate(
    data: Dataset,
    loss: Callable[[Array], Loss],
    strengths: Any,
    num_folds: int | Literal["leave_one_out"] = 5,
    *,
    key: Array | None = None,
    folds: Any = None,
    intercept: bool = True,
) -> CrossValidation:
    """The loss on held-out examples for each strength, by fits of the others to their minimum.

    Squared losses read the data once: each fold is compressed to d + 1 + k rows, and those of all
    other folds are what a fit sees, whatever the number of strengths. Leaving one out with ridge
    takes one factor and the leverages. A mean is taken over the examples that a fit sees, so that
    `half_mse + lasso(strength)` has the strengths of scikit-learn's LassoCV.

    Args:
      data: a `Dataset` of examples; X [n, d], y [n] or [n, k].
      loss: from a strength to a loss that `solve` takes, `lambda strength: mse + ridge(strength)`.
      strengths: [m] to choose from, at least 0.
      num_folds: how many parts the examples are dealt into at random, of sizes that differ by 1 at
        most; or "leave_one_out": each example by itself.
      key: a JAX random key, to deal by.
      folds: [n] the fold of each example, in place of `num_folds` and `key`: integers, or anything
        that `numpy.unique` sorts.
      intercept: whether the model has a bias.

    Returns:
      A `CrossValidation`.

    Raises:
      TypeError: not a `Dataset`, a loss instead of a function that makes one, no key and no folds.
      ValueError: compressed data, whose rows are no examples; strengths that are not [m], or
        negative; fewer than 2 folds, or more than examples; what `solve` refuses.

    Source: for the rule of one standard error, Hastie, Tibshirani and Friedman 2009, The Elements
    of Statistical Learning, section 7.10.

    Example:
      >>> X = jnp.arange(12.0)[:, None]
      >>> data = as_dataset(X, 2 * X[:, 0] + jnp.sin(9 * X[:, 0]))
      >>> found = cross_validate(data, lambda strength: mse + ridge(strength), [0.1, 1.0, 10.0],
      ...                        num_folds=4, key=jax.random.key(0))
      >>> f"{found.best_strength:.1f}", found.scores.shape
      ('0.1', (3, 4))
    """
    check_dataset(data)
    if is_compressed(data):
        raise ValueError("data is compressed, its rows are no examples: pass the original data")
    strengths = _checked_strengths(strengths, data)
    losses = _losses(loss, strengths)
    intercept = flag("intercept", intercept)
    n = data.X.shape[0]
    if isinstance(num_folds, str) and folds is None:
        if num_folds != "leave_one_out":
            raise ValueError(f'num_folds must be a number or "leave_one_out", got {num_folds!r}')
        if losses.is_quadratic_in_params:
            return _left_out(placed(losses), data, strengths, intercept)
        folds = np.arange(n)
    if folds is not None:
        dealt = _given_folds(folds, n)
    else:
        dealt = _random_folds(_checked_number(num_folds, n), key, n)
    return _cross_validated(placed(losses), data, strengths, dealt, intercept)


class _Folds(NamedTuple):
    """Rows by fold.

    Attributes:
      of_row: [n] the fold of each row.
      rows: [f, m] the rows of each fold.
      is_row: [f, m] False where a fold has fewer.
    """

    of_row: Int[Array, " n"]
    rows: Int[Array, "f m"]
    is_row: Bool[Array, "f m"]


def _checked_strengths(strengths: Any, data: Dataset) -> Array:
    known = jnp.asarray(as_numeric("strengths", strengths), data.X.dtype)
    if known.ndim != 1 or known.size == 0:
        shape = shape_text(known.shape)
        raise ValueError(f"strengths has shape {shape}: pass the [m] strengths to choose from")
    if not is_traced(known) and not bool(jnp.all((known >= 0) & (known < jnp.inf))):
        raise ValueError(f"strengths must be finite numbers, at least 0, got {shown(known)}")
    return known


def _losses(loss: Any, strengths: Array) -> Loss:
    """The losses of all strengths as one, its settings stacked."""
    fix = "pass a function that makes one, lambda strength: mse + ridge(strength)"
    if isinstance(loss, Loss) or not callable(loss):
        got = str(loss) if isinstance(loss, Loss) else shown(loss)
        raise TypeError(f"loss must be a function of a strength, got {got}: {fix}")
    made = loss(strengths[0])
    if not isinstance(made, Loss):
        raise TypeError(f"loss must return a loss of this package, got {shown(made)}: {fix}")
    losses: Loss = jax.vmap(loss)(strengths)
    return losses


def _checked_number(num_folds: Any, n: int) -> int:
    number = positive_integer("num_folds", num_folds, n, ", the number of examples")
    if number < 2:
        raise ValueError(f"num_folds must be 2 or more, got {number}: a fit needs another fold")
    return number


def _random_folds(num_folds: int, key: Array | None, n: int) -> _Folds:
    if key is None:
        raise TypeError(
            "key must be one JAX random key, got None: pass jax.random.key(0) to deal the examples "
            "at random, or folds"
        )
    order = jax.random.permutation(checked_key(key), n)
    m = -(-n // num_folds)
    place = jnp.arange(m * num_folds)
    rows = jnp.where(place < n, order[jnp.minimum(place, n - 1)], 0)
    of_row = jnp.zeros(n, jnp.int32).at[order].set((jnp.arange(n) % num_folds).astype(jnp.int32))
    return _Folds(of_row, rows.reshape(m, num_folds).T, (place < n).reshape(m, num_folds).T)


def _given_folds(folds: Any, n: int) -> _Folds:
    if is_traced(folds):
        raise TypeError("folds must be known numbers: they decide the shapes of the program")
    folds = np.asarray(folds)
    require_shape("folds", folds, (n,), f"one fold for each example is [{n}]")
    of_row = np.unique(folds, return_inverse=True)[1]
    sizes = np.bincount(of_row)
    if len(sizes) < 2:
        raise ValueError("folds holds one fold: a fit needs another")
    rows = np.zeros((len(sizes), sizes.max()), np.int32)
    is_row = np.arange(sizes.max())[None, :] < sizes[:, None]
    rows[is_row] = np.argsort(of_row, kind="stable")
    return _Folds(jnp.asarray(of_row, jnp.int32), jnp.asarray(rows), jnp.asarray(is_row))


@functools.partial(jax.jit, static_argnums=4)
def _cross_validated(
    losses: Loss, data: Dataset, strengths: Array, folds: _Folds, intercept: bool
) -> CrossValidation:
    n, columns = data.X.shape[0], 1 + data.X.shape[1] + data.y.size // data.y.shape[0]
    num_folds = folds.rows.shape[0]
    if losses.is_quadratic and num_folds * columns <= n:
        scores = scores_of_compressed(losses, data, folds.rows, folds.is_row, intercept)
    else:
        scores = scores_of_rows(losses, data, folds.of_row, num_folds, intercept)
    weight = fold_weights(data, folds.of_row, num_folds)
    return _chosen(losses, data, strengths, scores, weight, intercept)


@functools.partial(jax.jit, static_argnums=3)
def _left_out(losses: Loss, data: Dataset, strengths: Array, intercept: bool) -> CrossValidation:
    scores = leave_one_out_scores(losses, data, intercept)
    weight = jnp.ones_like(data.X[:, 0]) if data.sample_weight is None else data.sample_weight
    return _chosen(losses, data, strengths, scores, weight, intercept)


def _chosen(
    losses: Loss, data: Dataset, strengths: Array, scores: Array, weight: Array, intercept: bool
) -> CrossValidation:
    mean, error = summary(scores, weight)
    best = jnp.argmin(jnp.where(jnp.isnan(mean), jnp.inf, mean))
    as_good = mean <= mean[best] + error[best]
    largest = jnp.argmax(jnp.where(as_good, strengths, -jnp.inf))
    of_best = jax.tree.map(lambda setting: setting[best], losses)
    solution = solve(data, of_best, intercept=intercept)
    return CrossValidation(strengths, scores, mean, error, best, largest, solution)
