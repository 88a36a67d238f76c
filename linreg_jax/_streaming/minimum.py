"""The minimum of a smooth loss over chunks: each of Newton's steps reads them once.

A pass evaluates the sums of the next step where Newton's step leads, and beside it what the other
steps in between that and reweighted least squares would change. Where one of those is better by
far, it is taken, and costs a pass of its own.
"""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from linreg_jax._algebra.inverse import exact_residuals
from linreg_jax._arithmetic.blocks import sum_over_blocks
from linreg_jax._inference.at_minimum import Point, least_squares_point, moved_by
from linreg_jax._inference.fitted import Fitted, weights_and_q
from linreg_jax._inference.minimum import NUM_PROPOSED, Proposed, changes, proposed, slopes
from linreg_jax._inference.scores import inverse_hessian, sums_of_scores
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss
from linreg_jax._streaming.blocks import sum_over_chunks, sums_of_clusters
from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset

_MOST_STEPS = 100
_ROUNDED = 1024  # a step of so many roundings of the scores' size that no longer halves is the last
Sums = dict[str, Array]


class Settings(NamedTuple):
    """What does not change from pass to pass; hashable.

    Attributes:
      intercept, precision: as for `infer_chunks`.
      kind: the covariance.
    """

    intercept: bool
    kind: str
    precision: bool


def at_minimum_of_chunks(
    loss: Loss, small: Dataset, fit: Fitted, chunks: Iterable[Any], settings: Settings
) -> tuple[Point, Float[Array, "p k"], Sums]:
    """Where a smooth loss is least, phi there, and `sums_of_scores` of all rows.

    Args:
      loss: a smooth one.
      small: the chunks, compressed.
      fit: least squares of it, without penalties.
      chunks: read once for each of Newton's steps, and once more.
      settings: `Settings`.
    """
    start = least_squares_point(loss, small, fit, intercept=settings.intercept)
    phi = jnp.zeros_like(start.h)
    nowhere = jnp.zeros((NUM_PROPOSED, *phi.shape), phi.dtype)

    def read(phi: Array, steps: Array) -> Sums:
        return _sums_at(loss, fit, chunks, phi, steps, settings)

    sums, last = read(phi, nowhere), jnp.full_like(phi[0], jnp.inf)
    for _ in range(_MOST_STEPS):
        ahead, is_over = _ahead(sums, start, phi, last)
        if is_over:
            break
        found = read(phi, ahead.steps)
        step, is_newton = _chosen(ahead, found["change"], start, phi)
        if not step.any():
            break
        phi, last = phi + step, ahead.size
        sums = found if is_newton else read(phi, nowhere)
    return moved_by(fit, start, phi, intercept=settings.intercept), phi, sums


@jax.jit
def _ahead(sums: Sums, start: Point, phi: Array, last: Array) -> tuple[Proposed, Array]:
    """The steps from phi, and whether what Newton's would change is only rounding."""
    ahead = proposed(sums, start.ridge, phi, start.on)
    least = _ROUNDED * jnp.finfo(phi.dtype).eps
    stays = (ahead.size < least) & (ahead.size > last / 2)
    return ahead, jnp.all(ahead.is_last | stays)


@jax.jit
def _chosen(ahead: Proposed, change: Array, start: Point, phi: Array) -> tuple[Array, Array]:
    """The step to take, and whether it is Newton's for all targets."""
    best, _ = ahead.best(change, start.ridge, phi)
    is_good = ahead.newton_is_good(change, start.ridge, phi)
    return jnp.where(is_good[None], ahead.steps[0], best), jnp.all(is_good)


def _sums_at(
    loss: Loss, fit: Fitted, chunks: Iterable[Any], phi: Array, steps: Array, settings: Settings
) -> Sums:
    """In one pass, `slopes` and `sums_of_scores` at phi + steps[0], and what all steps change."""
    found = sum_over_chunks(
        lambda block: _sums_of_block(loss, fit, block, phi, steps, settings), chunks, fit
    )
    return {name: jnp.asarray(value, phi.dtype) for name, value in found.items()}


@functools.partial(jax.jit, static_argnums=5)
def _sums_of_block(
    loss: Loss, fit: Fitted, block: Dataset, phi: Array, steps: Array, settings: Settings
) -> Sums:
    intercept, kind, precision = settings
    at = phi + steps[0]

    def of_rows(rows: tuple[Dataset, Array]) -> Sums:
        part, r0 = rows
        r = r0 + matmul(weights_and_q(fit, part, intercept=intercept)[1], at)
        sums = sums_of_scores(loss, fit, (part, r, None), [], None, intercept, kind, precision)
        change = changes(loss, fit, rows, phi, steps, intercept)
        return sums | slopes(loss, fit, rows, at, intercept) | {"change": change}

    return sum_over_blocks(of_rows, (block, _residuals(fit, block, intercept)))


def _residuals(fit: Fitted, block: Dataset, intercept: bool) -> Float[Array, "B k"]:
    """Predictions of least squares less targets."""
    r = exact_residuals(fit.factored, fit.theta, block, intercept=intercept)
    return -r * fit.factored.rows.y.unit[None, :]


def meat_of_chunks(
    loss: Loss,
    fit: Fitted,
    point: Point,
    phi: Float[Array, "p k"],
    sums: Sums,
    chunks: Iterable[Any],
    settings: Settings,
) -> Sums:
    """The sums with "meat" as leverages at the minimum have it, in one more pass."""
    inverse = inverse_hessian(sums, point)
    found = sum_over_chunks(
        lambda block: _meat_of_block(loss, fit, block, phi, inverse, settings), chunks, fit
    )
    return sums | {"meat": jnp.asarray(found["meat"], phi.dtype)}


@functools.partial(jax.jit, static_argnums=5)
def _meat_of_block(
    loss: Loss, fit: Fitted, block: Dataset, phi: Array, inverse: Array, settings: Settings
) -> Sums:
    intercept, kind, precision = settings

    def of_rows(rows: tuple[Dataset, Array]) -> Sums:
        part, r0 = rows
        r = r0 + matmul(weights_and_q(fit, part, intercept=intercept)[1], phi)
        return sums_of_scores(loss, fit, (part, r, None), [], inverse, intercept, kind, precision)

    return sum_over_blocks(of_rows, (block, _residuals(fit, block, intercept)))


def sums_with_clusters(
    loss: Loss,
    fit: Fitted,
    phi: Float[Array, "p k"],
    sums: Sums,
    chunks: Iterable[Any],
    clusters: Iterable[Any],
    intercept: bool,
) -> Sums:
    """The sums with "meat" of clusters, and how many there are, in one more pass."""
    found = sums_of_clusters(
        lambda block: _scores(loss, fit, block, phi, intercept), chunks, fit, clusters
    )
    return sums | {name: jnp.asarray(value, phi.dtype) for name, value in found.items()}


@functools.partial(jax.jit, static_argnums=4)
def _scores(
    loss: Loss, fit: Fitted, block: Dataset, phi: Array, intercept: bool
) -> Float[Array, "B kp"]:
    """s psi(r) q of some rows."""
    s, q = weights_and_q(fit, block, intercept=intercept)
    r = jnp.where(s[:, None] > 0, _residuals(fit, block, intercept) + matmul(q, phi), 0)
    scores = (s[:, None] * loss.psi(r))[:, :, None] * q[:, None, :]
    return scores.reshape(len(s), -1)
