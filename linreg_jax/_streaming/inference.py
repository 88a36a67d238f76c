"""What coefficients are worth, from chunks: the fit in one pass, robust covariances in another."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from linreg_jax._algebra.inverse import exact_residuals
from linreg_jax._algebra.quadratic import penalty_curvature
from linreg_jax._inference.arguments import COVARIANCES, check_choice, checked_loss
from linreg_jax._inference.covariances import HC_POWERS
from linreg_jax._inference.fitted import Fitted, least_squares_fit, weights_and_q
from linreg_jax._inference.least_squares import (
    Estimate,
    estimate_of_fit,
    inverse_of_fit,
    sums_of_rows,
)
from linreg_jax._inference.result import Inference
from linreg_jax._inference.scores import Sums, estimate_of_scores
from linreg_jax._kernels import placed
from linreg_jax._loss import Loss
from linreg_jax._streaming.blocks import Counted, sum_over_chunks, sums_of_clusters
from linreg_jax._streaming.minimum import (
    Settings,
    at_minimum_of_chunks,
    meat_of_chunks,
    sums_with_clusters,
)
from linreg_jax._typing import Array
from linreg_jax._validation import flag, is_between_0_and_1, single_setting
from linreg_jax.dataset import Dataset, mean_divisor
from linreg_jax.inference import inference_of
from linreg_jax.losses import mse

Compress = Callable[[Iterable[Any]], Dataset]


def infer_chunks(
    compress: Compress,
    chunks: Iterable[Any],
    loss: Loss,
    *,
    intercept: bool,
    covariance: str,
    level: float | Array,
    clusters: Iterable[Any] | None,
    weights: str,
) -> Inference:
    """`linreg_jax.streaming.infer_chunks`; `compress` makes few rows of all."""
    known = _checked(chunks, loss, covariance, clusters, weights)
    intercept = flag("intercept", intercept)
    rule = "a number between 0 and 1"
    level = single_setting("level", level, rule, is_between_0_and_1)
    settings = Settings(intercept, covariance, weights == "precision")
    counted, known = Counted(chunks), placed(known)
    small = compress(counted)
    if known.is_quadratic:
        found = _of_squares(known, small, counted, chunks, clusters, settings)
    else:
        found = _of_scores(known, small, counted, chunks, clusters, settings)
    return inference_of(found, level, intercept=intercept, single=small.y.ndim == 1)


def _checked(
    chunks: Iterable[Any],
    loss: Loss,
    covariance: str,
    clusters: Iterable[Any] | None,
    weights: str,
) -> Loss:
    """The loss, the other arguments looked at."""
    known = checked_loss(loss, "infer_chunks")
    if not known.is_smooth:
        raise ValueError(
            f"infer_chunks needs a smooth loss, got {loss}, whose derivative jumps: its minimum "
            "needs every residual at once; infer takes data that fit in memory"
        )
    check_choice("covariance", covariance, COVARIANCES)
    check_choice("weights", weights, ("frequency", "precision"))
    if (clusters is not None) != (covariance == "cluster"):
        raise ValueError('clusters and covariance "cluster" go together: pass both or neither')
    passes_once = covariance == "classical" and known.is_quadratic
    if not passes_once and isinstance(chunks, Iterator):
        reader = f'covariance "{covariance}"' if known.is_quadratic else str(loss)
        raise ValueError(
            f"chunks can be read once, and {reader} needs them more often: pass a list, "
            "open_chunks(...), or an object whose __iter__ starts anew"
        )
    return known


def _of_scores(
    loss: Loss,
    small: Dataset,
    counted: Counted,
    chunks: Iterable[Any],
    clusters: Iterable[Any] | None,
    settings: Settings,
) -> Estimate:
    """The `Estimate` of a smooth loss, where Newton's steps over the chunks lead."""
    intercept, kind, precision = settings
    fit = least_squares_fit(mse, small, intercept=intercept)
    point, phi, sums = at_minimum_of_chunks(loss, small, fit, chunks, settings)
    if kind in HC_POWERS:
        sums = meat_of_chunks(loss, fit, point, phi, sums, chunks, settings)
    if clusters is not None:
        sums = sums_with_clusters(loss, fit, phi, sums, chunks, clusters, intercept)
    total = mean_divisor(small)
    n = jnp.asarray(counted.rows, total.dtype) if precision else total
    return estimate_of_scores(loss, fit, point, Sums(sums, n, total, []), intercept, kind)


def _of_squares(
    loss: Loss,
    small: Dataset,
    counted: Counted,
    chunks: Iterable[Any],
    clusters: Iterable[Any] | None,
    settings: Settings,
) -> Estimate:
    """The `Estimate` of a squared loss: of the compressed rows, or of one more pass beside them."""
    intercept, kind, precision = settings
    fit = least_squares_fit(loss, small, intercept=intercept)
    given: dict[str, Any] = {"rows": counted.rows, "log_weight": counted.log_weight}
    if clusters is not None:
        given |= sums_of_clusters(
            lambda block: _scores(fit, block, intercept), chunks, fit, clusters
        )
    elif kind != "classical":
        given |= sum_over_chunks(
            lambda block: _meat(fit, block, intercept, kind, precision), chunks, fit
        )
    given = {name: jnp.asarray(value, small.X.dtype) for name, value in given.items()}
    plain = kind == "classical" and penalty_curvature(loss) is None
    inverse = inverse_of_fit(fit, intercept=intercept) if plain else None
    return estimate_of_fit(loss, small, fit, inverse, None, given, intercept, kind, precision)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _meat(
    fit: Fitted, block: Dataset, intercept: bool, kind: str, precision: bool
) -> dict[str, Array]:
    r = exact_residuals(fit.factored, fit.theta, block, intercept=intercept)
    return {"meat": sums_of_rows(fit, (block, r), intercept, kind, precision)["meat"]}


@functools.partial(jax.jit, static_argnums=2)
def _scores(fit: Fitted, block: Dataset, intercept: bool) -> Array:
    """[B, k p] s r q of some rows."""
    r = exact_residuals(fit.factored, fit.theta, block, intercept=intercept)
    s, q = weights_and_q(fit, block, intercept=intercept)
    scores = (s[:, None] * r)[:, :, None] * q[:, None, :]
    return scores.reshape(len(s), -1)
