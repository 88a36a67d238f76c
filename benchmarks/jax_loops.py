"""JAX as it is written before one thinks of a compiled loop: a jitted step, called from Python."""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp

from linreg_jax import Dataset, Params, mse
from linreg_jax._typing import Array, Float, Int, Key

Path = tuple[Params, Float[Array, " steps"]]


@jax.jit
def _step(params: Params, data: Dataset, rate: float) -> tuple[Params, Float[Array, ""]]:
    value, gradient = jax.value_and_grad(mse)(params, data)
    return jax.tree.map(lambda p, g: p - rate * g, params, gradient), value


@jax.jit
def _step_on_rows(
    params: Params, data: Dataset, rows: Int[Array, " b"], rate: float
) -> tuple[Params, Float[Array, ""]]:
    return _step(params, Dataset(data.X[rows], data.y[rows]), rate)


def full_batch(params: Params, data: Dataset, num_steps: int, rate: float) -> Path:
    """The mean squared error, every row in every step: the last `Params` and the losses."""
    losses = []
    for _ in range(num_steps):
        params, value = _step(params, data, rate)
        losses.append(value)
    return jax.block_until_ready((params, jnp.stack(losses)))


def mini_batches(
    params: Params, data: Dataset, orders: Iterable[jax.Array], batch_size: int, rate: float
) -> Path:
    """The mean squared error on shuffled mini-batches: the last `Params` and the losses.

    Args:
      params, data: where to start, and what to fit.
      orders: for each epoch, the order [n] in which it sees the rows.
      batch_size: rows in a batch; the last one of an epoch may be smaller.
      rate: the learning rate.
    """
    losses = []
    for order in orders:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            params, value = _step_on_rows(params, data, rows, rate)
            losses.append(value)
    return jax.block_until_ready((params, jnp.stack(losses)))


def permutations(n: int, num_epochs: int, seed: int) -> Iterable[jax.Array]:
    """For each epoch, an order of n rows by `jax.random.permutation`, drawn when it begins."""
    keys = jax.random.split(jax.random.key(seed), num_epochs)
    return (_permutation(key, n) for key in keys)


@functools.partial(jax.jit, static_argnums=1)
def _permutation(key: Key[Array, ""], n: int) -> Int[Array, " n"]:
    return jax.random.permutation(key, n)
