"""Fits of weights drawn at random, side by side, and intervals from them.

In the coordinates of q and with residuals r of the fit to all examples, a squared loss with weights
w is least where phi has moved by (Σ w q qᵀ + ridge)⁻¹ (Σ w q r - ridge's gradient). The products
q_a q_b and q_a r are the same for every draw, so that all draws are one product of matrices.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import ndtr, ndtri

from linreg_jax._arithmetic.blocks import sum_over_blocks
from linreg_jax._inference.deletion import Deletion
from linreg_jax._inference.fitted import Fitted
from linreg_jax._inference.minimum import Ridge, newton, ridge_of
from linreg_jax._kernels import matmul
from linreg_jax._loss import Loss, example_share
from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset
from linreg_jax.exact import solve

_DRAWN_AT_ONCE = 2**22  # weights of one batch of draws
_PRODUCTS_AT_ONCE = 2**23
_SOLVED_AT_ONCE = 2**24  # numbers of draws minimised side by side
_ROW_NUMBERS = 32  # that an interior point keeps of a row, beside q


def drawn_weights(key: Array, s: Float[Array, " n"]) -> Float[Array, " n"]:
    """Weights of as many rows as have one, drawn with replacement."""
    n = s.shape[0]
    order = jnp.argsort(s <= 0)  # rows with a weight first; a stable sort
    count = jnp.sum((s > 0).astype(jnp.int32))
    chosen = order[jax.random.randint(key, (n,), 0, jnp.maximum(count, 1), dtype=jnp.int32)]
    counted = (jnp.arange(n) < count).astype(s.dtype)
    return jnp.zeros_like(s).at[chosen].add(counted, mode="promise_in_bounds") * s


@functools.partial(jax.jit, static_argnums=1)
def draws_of_squares(
    key: Array, num_samples: int, loss: Loss, data: Dataset, fit: Fitted, at: Deletion, theta: Array
) -> Float[Array, "m p k"]:
    """[num_samples, p, k] what is added to the coefficients in each draw; NaN where none fit."""
    ridge = ridge_of(loss, data, fit, theta[theta.shape[0] - data.X.shape[1] :])
    bound = jnp.asarray(loss.curvature_bound, theta.dtype)
    ridge = ridge._replace(curvature=ridge.curvature / bound)  # beside Σ s r² / 2
    k, p = at.r.shape[1], at.q.shape[1]
    a, b = jnp.triu_indices(p)
    on = jnp.diagonal(at.gram) > 0
    gradient, hessian = ridge.gradient(jnp.zeros((p, k), at.q.dtype)), ridge.hessian()
    rows = max(_PRODUCTS_AT_ONCE // (len(a) + p * k), 256)

    def of_key(key: Array) -> Array:
        def products(part: tuple[Array, ...]) -> Array:
            w, q, r = part
            beside = (q[:, :, None] * r[:, None, :]).reshape(q.shape[0], -1)
            return matmul(w, jnp.concatenate([q[:, a] * q[:, b], beside], axis=1))

        w = drawn_weights(key, at.s)
        sums = sum_over_blocks(products, (w, at.q, at.r), block_rows=rows)
        H = jnp.zeros((p, p), w.dtype).at[a, b].set(sums[: len(a)])
        H = H + jnp.triu(H, 1).T + hessian
        return -_solved(H, sums[len(a) :].reshape(p, k) + gradient, on)

    keys = jax.random.split(key, num_samples)
    return matmul(at.J[None], _of_each(of_key, keys, _DRAWN_AT_ONCE // at.q.shape[0]))


def _of_each(of_key: Callable[[Array], Array], keys: Array, most: int) -> Array:
    """The function of each key, at most so many at once, in batches of one size."""
    num = keys.shape[0]
    num_batches = -(-num // max(most, 1))
    size = -(-num // num_batches)
    if num_batches == num:  # by itself it compiles sooner
        return lax.map(of_key, keys)
    padded = keys[jnp.minimum(jnp.arange(num_batches * size), num - 1)]
    found = lax.map(jax.vmap(of_key), padded.reshape(num_batches, size))
    return found.reshape(-1, *found.shape[2:])[:num]


def _solved(H: Array, g: Array, on: Array) -> Array:
    """H⁻¹ g; NaN where the draw determines less than all examples do."""
    both = on[:, None] & on[None, :]
    H = jnp.where(both, H, jnp.eye(len(on), dtype=H.dtype))
    L = jnp.linalg.cholesky(H)
    pivots = jnp.square(jnp.diagonal(L)) / jnp.diagonal(H)
    found = jax.scipy.linalg.cho_solve((L, True), jnp.where(on[:, None], g, 0))
    enough = jnp.min(pivots) > 64 * jnp.finfo(H.dtype).eps
    return jnp.where(enough, found, jnp.nan)


def _nan_unless_determined(w: Array, at: Deletion, ridge: Ridge) -> Float[Array, "p 1"]:
    """[p, 1] of 0, NaN where weights w determine less than all examples do."""
    gram = matmul((w[:, None] * at.q).T, at.q) + ridge.hessian()
    return 0 * _solved(gram, jnp.ones((gram.shape[0], 1), w.dtype), jnp.diagonal(at.gram) > 0)


@functools.partial(jax.jit, static_argnums=(1, 7))
def draws_by_newton(
    key: Array,
    num_samples: int,
    loss: Loss,
    data: Dataset,
    fit: Fitted,
    at: Deletion,
    theta: Array,
    intercept: bool,
) -> Float[Array, "m p k"]:
    """The same for another smooth loss, by Newton's steps from its least on all examples."""
    ridge = ridge_of(loss, data, fit, theta[theta.shape[0] - data.X.shape[1] :])
    on = jnp.diagonal(at.gram) > 0

    def of_key(key: Array) -> Array:
        w = drawn_weights(key, at.s)
        drawn = fit.data._replace(sample_weight=w / fit.weight_unit)
        phi = newton(loss, fit._replace(data=drawn), at.r, ridge, on, intercept=intercept)
        return phi + _nan_unless_determined(w, at, ridge)

    keys = jax.random.split(key, num_samples)
    return matmul(at.J[None], _of_each(of_key, keys, _DRAWN_AT_ONCE // (16 * at.q.size)))


@functools.partial(jax.jit, static_argnums=(1, 7))
def draws_by_solve(
    key: Array,
    num_samples: int,
    loss: Loss,
    data: Dataset,
    fit: Fitted,
    at: Deletion,
    theta: Array,
    intercept: bool,
) -> Float[Array, "m p k"]:
    """The same for a loss whose psi jumps, each draw minimised by interior points."""
    n, p = at.q.shape
    ridge = ridge_of(loss, data, fit, theta[theta.shape[0] - data.X.shape[1] :])
    loss = _beside_the_sum(loss, data)

    def of_key(key: Array) -> Array:
        w = drawn_weights(key, at.s)
        found = solve(data._replace(sample_weight=w), loss, intercept=intercept).params
        weights = found.weights.reshape(-1, theta.shape[1])
        bias = [] if found.bias is None else [jnp.reshape(found.bias, (1, -1))]
        return jnp.concatenate([*bias, weights]) - theta + _nan_unless_determined(w, at, ridge)

    keys = jax.random.split(key, num_samples)
    return _of_each(of_key, keys, _SOLVED_AT_ONCE // (n * (p + _ROW_NUMBERS)))


def _beside_the_sum(loss: Loss, data: Dataset) -> Loss:
    """The loss as a sum, its ridge as strong beside it as on these data, whatever their weights."""
    share = example_share(loss, data)
    penalties = tuple(
        dataclasses.replace(one, strength=one.strength / jnp.where(share > 0, share, 1))
        for one in loss.penalties
    )
    return dataclasses.replace(loss, reduction="sum", penalties=penalties)


def percentiles(draws: Float[Array, "m p k"], probability: Float[Array, "p k"]) -> Array:
    """[p, k] each coefficient's percentile, of draws that are not NaN."""
    ordered = jnp.sort(draws, axis=0)  # NaN last
    count = jnp.sum(~jnp.isnan(draws), axis=0)
    place = probability * (count - 1)
    low = jnp.clip(jnp.floor(jnp.nan_to_num(place)), 0, draws.shape[0] - 1).astype(jnp.int32)
    high = jnp.minimum(low + 1, jnp.maximum(count - 1, 0))
    below, above = (jnp.take_along_axis(ordered, i[None], axis=0)[0] for i in (low, high))
    return below + (place - low) * (above - below)


def corrected_probabilities(
    draws: Float[Array, "m p k"], theta: Array, changes: Float[Array, "n p k"], probability: Array
) -> Float[Array, "p k"]:
    """Which percentile stands for a probability: bias-corrected and accelerated, BCa.

    Source: Efron 1987, JASA 82.
    """
    count = jnp.sum(~jnp.isnan(draws), axis=0)
    less = jnp.sum(draws < theta[None], axis=0) + jnp.sum(draws == theta[None], axis=0) / 2
    z0 = ndtri(less / count)
    d = changes - jnp.mean(changes, axis=0, keepdims=True)
    cubes, squares = jnp.sum(d**3, axis=0), jnp.sum(d * d, axis=0)
    acceleration = cubes / (6 * squares**1.5)
    z = z0 + ndtri(probability)
    return ndtr(z0 + z / (1 - acceleration * z))
