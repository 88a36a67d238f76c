"""Which rows are held out together, and the losses of fits without them."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Bool, Float, Int
from linreg_jax.compression import compress
from linreg_jax.dataset import Dataset
from linreg_jax.exact import solve
from linreg_jax.model import Params


def held_out_loss(loss: Loss, params: Params, data: Dataset) -> Float[Array, ""]:
    """[] the mean of rho over data, without penalties."""
    return dataclasses.replace(loss, penalties=(), reduction="mean")(params, data)


def scores_of_compressed(
    losses: Loss,
    data: Dataset,
    rows: Int[Array, "f m"],
    is_row: Bool[Array, "f m"],
    intercept: bool,
) -> Float[Array, "strengths f"]:
    """The scores of squared losses, from few rows in place of each fold.

    Args:
      losses: one for each strength, its settings stacked.
      data: a `Dataset` of n rows.
      rows: [f, m] the rows of each fold.
      is_row: [f, m] False where a fold has fewer.
      intercept: whether the model has a bias.
    """

    def compressed(fold: tuple[Array, Array]) -> Dataset:
        index, counts = fold
        chosen = jax.tree.map(lambda column: column[index], data)
        weight = counts.astype(data.X.dtype)
        if data.sample_weight is not None:
            weight = weight * chosen.sample_weight
        return compress(chosen._replace(sample_weight=weight))

    few = lax.map(compressed, (rows, is_row))
    num_folds, q = few.X.shape[:2]
    together = Dataset(*(part.reshape(-1, *part.shape[2:]) for part in (few.X, few.y)))
    bias_column = few.bias_column.reshape(-1)

    def of_fold(fold: Int[Array, ""], held_out: Dataset) -> Array:
        others = jnp.arange(num_folds) != fold
        train = together._replace(
            sample_weight=jnp.repeat(others.astype(data.X.dtype), q),
            bias_column=bias_column,
            total_weight=jnp.sum(jnp.where(others, few.total_weight, 0)),
        )
        train = compress(train, method="qr")
        return _scores(losses, train, held_out, intercept)

    return jax.vmap(of_fold, out_axes=1)(jnp.arange(num_folds), few)


def scores_of_rows(
    losses: Loss, data: Dataset, folds: Int[Array, " n"], num_folds: int, intercept: bool
) -> Float[Array, "strengths f"]:
    """The scores of any losses, the rows of one fold after the other having no weight.

    Args:
      losses: one for each strength, its settings stacked.
      data: a `Dataset` of n rows.
      folds: [n] the fold of each row.
      num_folds: how many there are.
      intercept: whether the model has a bias.
    """
    weight = jnp.ones_like(data.X[:, 0]) if data.sample_weight is None else data.sample_weight

    def of_fold(fold: Int[Array, ""]) -> Array:
        train, held_out = (
            data._replace(sample_weight=jnp.where(chosen, weight, 0))
            for chosen in (folds != fold, folds == fold)
        )
        return _scores(losses, train, held_out, intercept)

    return lax.map(of_fold, jnp.arange(num_folds)).T


def _scores(losses: Loss, train: Dataset, held_out: Dataset, intercept: bool) -> Array:
    """[strengths]"""

    def score(loss: Loss) -> Array:
        return held_out_loss(loss, solve(train, loss, intercept=intercept).params, held_out)

    # One after the other where there are steps: at once, all take as many as the longest.
    scores: Array = (jax.vmap(score) if losses.is_quadratic else partial(lax.map, score))(losses)
    return scores


def fold_weights(data: Dataset, folds: Int[Array, " n"], num_folds: int) -> Float[Array, " f"]:
    """[f] the sum of the sample weights in each fold."""
    weight = jnp.ones_like(data.X[:, 0]) if data.sample_weight is None else data.sample_weight
    return jnp.zeros(num_folds, data.X.dtype).at[folds].add(weight)


def summary(
    scores: Float[Array, "strengths f"], weight: Float[Array, " f"]
) -> tuple[Float[Array, " strengths"], Float[Array, " strengths"]]:
    """The mean of the scores over the folds, each weighted, and its standard error."""
    share = weight / jnp.sum(weight)
    counted = share > 0
    scores = jnp.where(counted[None, :], scores, 0)
    mean = matmul(scores, share)
    off = jnp.where(counted[None, :], scores - mean[:, None], 0)
    variance = matmul(off * off, share)
    return mean, jnp.sqrt(variance / jnp.maximum(jnp.sum(counted) - 1, 1))
