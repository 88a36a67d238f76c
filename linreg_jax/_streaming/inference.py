"""What coefficients are worth, from chunks: the fit in one pass, robust covariances in another."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._algebra.inverse import exact_residuals
from linreg_jax._algebra.linalg import target_columns
from linreg_jax._algebra.quadratic import penalty_curvature, require_quadratic
from linreg_jax._inference.arguments import COVARIANCES, check_choice
from linreg_jax._inference.fitted import Fitted, least_squares_fit, weights_and_q
from linreg_jax._inference.least_squares import estimate_of_fit, inverse_of_fit, sums_of_rows
from linreg_jax._inference.result import Inference
from linreg_jax._kernels import placed
from linreg_jax._loss import Loss
from linreg_jax._streaming.chunks import ChunkError, as_chunk, naming_chunk
from linreg_jax._typing import Array
from linreg_jax._validation import (
    flag,
    is_between_0_and_1,
    single_setting,
)
from linreg_jax.dataset import Dataset
from linreg_jax.inference import inference_of

_BLOCK_NUMBERS = 2**20  # of X that are on the device at a time
Compress = Callable[[Iterable[Any]], Dataset]


class _Counted:
    """Chunks as they are read, and how many of their rows have a weight."""

    def __init__(self, chunks: Iterable[Any]) -> None:
        self._chunks, self.rows, self.log_weight = chunks, 0, 0.0

    def __iter__(self) -> Iterator[Any]:
        for value in self._chunks:
            yield value
            chunk = as_chunk(value)
            weight = np.ones(len(chunk.X)) if chunk.sample_weight is None else chunk.sample_weight
            positive = weight[weight > 0].astype(float)
            self.rows += len(positive)
            self.log_weight += float(np.log(positive).sum())


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
    require_quadratic(loss, "infer_chunks")
    intercept = flag("intercept", intercept)
    check_choice("covariance", covariance, COVARIANCES)
    check_choice("weights", weights, ("frequency", "precision"))
    rule = "a number between 0 and 1"
    level = single_setting("level", level, rule, is_between_0_and_1)
    if (clusters is not None) != (covariance == "cluster"):
        raise ValueError('clusters and covariance "cluster" go together: pass both or neither')
    if covariance != "classical" and iter(chunks) is chunks:
        raise ValueError(
            f'chunks can be read once, and covariance "{covariance}" reads them twice: pass a '
            "list, open_chunks(...), or an object whose __iter__ starts anew"
        )
    counted, known = _Counted(chunks), placed(loss)
    small = compress(counted)
    fit = least_squares_fit(known, small, intercept=intercept)
    precision, dtype = weights == "precision", small.X.dtype
    given: dict[str, Any] = {"rows": counted.rows, "log_weight": counted.log_weight}
    if covariance == "cluster":
        given |= _of_clusters(fit, chunks, clusters or (), intercept)
    elif covariance != "classical":
        given |= {"meat": _of_rows(fit, chunks, intercept, covariance, precision)}
    given = {name: jnp.asarray(value, dtype) for name, value in given.items()}
    plain = covariance == "classical" and penalty_curvature(known) is None
    inverse = inverse_of_fit(fit, intercept=intercept) if plain else None
    found = estimate_of_fit(
        known, small, fit, inverse, None, given,
        intercept=intercept, kind=covariance, precision=precision,
    )  # fmt: skip
    return inference_of(found, level, intercept=intercept, single=small.y.ndim == 1)


def _blocks(chunks: Iterable[Any], fit: Fitted) -> Iterator[tuple[int, slice, Dataset]]:
    """The number of a chunk, which of its rows, and those, zero-weight rows making up a block."""
    d, k = fit.data.X.shape[1], fit.data.y.shape[1]
    dtype, size = fit.data.X.dtype, max(_BLOCK_NUMBERS // (d + k), 256)
    for index, value in enumerate(chunks):
        with naming_chunk(index, lambda: None):
            chunk = as_chunk(value)
        if chunk.bias_column is not None:
            raise ChunkError(f"chunk {index} is compressed: pass the original", index, None)
        n = len(chunk.X)
        for start in range(0, n, size):
            rows = slice(start, min(start + size, n))
            length = rows.stop - start
            X, y, s = np.zeros((size, d), dtype), np.zeros((size, k), dtype), np.zeros(size, dtype)
            X[:length], y[:length] = chunk.X[rows], target_columns(chunk.y)[rows]
            s[:length] = 1 if chunk.sample_weight is None else chunk.sample_weight[rows]
            s = s / np.asarray(fit.weight_unit)
            yield index, rows, Dataset(jnp.asarray(X), jnp.asarray(y), jnp.asarray(s))


def _of_rows(
    fit: Fitted, chunks: Iterable[Any], intercept: bool, kind: str, precision: bool
) -> np.ndarray:
    """[k, p, p] Σ r² c q qᵀ, the blocks added in float64."""
    k, p = fit.data.y.shape[1], fit.h.shape[0]
    total = np.zeros((k, p, p))
    waiting: Array | None = None  # the device works while the host reads
    for _, _, block in _blocks(chunks, fit):
        found = _meat(fit, block, intercept, kind, precision)
        if waiting is not None:
            total += np.asarray(waiting, np.float64)
        waiting = found
    return total if waiting is None else total + np.asarray(waiting, np.float64)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _meat(fit: Fitted, block: Dataset, intercept: bool, kind: str, precision: bool) -> Array:
    r = exact_residuals(fit.factored, fit.theta, block, intercept=intercept)
    return sums_of_rows(fit, (block, r), intercept, kind, precision)["meat"]


def _of_clusters(
    fit: Fitted, chunks: Iterable[Any], clusters: Iterable[Any], intercept: bool
) -> dict[str, Any]:
    """Σ u uᵀ over clusters and how many there are; one row of p k numbers for each is kept."""
    k, p = fit.data.y.shape[1], fit.h.shape[0]
    totals: dict[Any, np.ndarray] = {}
    labels = iter(clusters)
    last, of_chunk = -1, np.zeros(0)
    for index, rows, block in _blocks(chunks, fit):
        if index != last:
            last, of_chunk = index, np.asarray(next(labels, np.zeros(0)))
        if rows.stop > len(of_chunk):
            raise ValueError(
                f"clusters of chunk {index} has shape {list(of_chunk.shape)}: one cluster for each "
                "example of each chunk, in their order"
            )
        scores = np.asarray(_scores(fit, block, intercept), np.float64)
        counted = np.asarray(block.sample_weight)[: rows.stop - rows.start] > 0
        names, codes = np.unique(of_chunk[rows][counted], return_inverse=True)
        sums = np.zeros((len(names), p * k))
        np.add.at(sums, codes, scores[: rows.stop - rows.start][counted])
        for name, row in zip(names.tolist(), sums, strict=True):
            totals[name] = totals[name] + row if name in totals else row
    if len(totals) < 2:
        raise ValueError(f"clusters holds {len(totals)} clusters: their covariance needs 2 or more")
    u = np.stack(list(totals.values())).reshape(-1, k, p)
    return {"meat": np.einsum("gkp,gkq->kpq", u, u), "clusters": len(totals)}


@functools.partial(jax.jit, static_argnums=2)
def _scores(fit: Fitted, block: Dataset, intercept: bool) -> Array:
    """[B, k p] s r q of some rows."""
    r = exact_residuals(fit.factored, fit.theta, block, intercept=intercept)
    s, q = weights_and_q(fit, block, intercept=intercept)
    scores = (s[:, None] * r)[:, :, None] * q[:, None, :]
    return scores.reshape(len(s), -1)
