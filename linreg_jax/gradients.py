"""Five ways to the same gradient, one signature.

Each takes a loss and returns a drop-in for `jax.value_and_grad(loss)`: a function
`(params, data) -> (value, gradient)`, where `gradient` is a `Params` shaped as `params`. It is what
`fit`, `fit_chunks` and `check_gradients` take as `gradient=`. The ways by hand are ordinary
functions, never a `custom_vjp`, so that `jax.grad` is another derivation beside them.

With r = residuals(params, data), a = example_weights(loss, data) and b = 1, or `bias_column`::

    d loss / d weights = Xᵀ (a psi(r)) + penalty's derivative       [d] or [d, k]
    d loss / d bias    = bᵀ (a psi(r))                              [] or [k]
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from linreg_jax._arithmetic.blocks import sum_over_blocks
from linreg_jax._differences import penalty_difference, reach_of, slopes
from linreg_jax._kernels import matmul, per_example, sum_of_examples, transposed_product
from linreg_jax._loss import Loss, example_weights
from linreg_jax._loss_gradient import (
    Found,
    LossFunction,
    LossGradient,
    ValueAndGradient,
    require_loss,
)
from linreg_jax._typing import Array, Float, Int
from linreg_jax._validation import positive_integer
from linreg_jax.dataset import Dataset, bias_multipliers
from linreg_jax.model import Params, residuals

__all__ = [
    "WAYS",
    "LossGradient",
    "ValueAndGradient",
    "autodiff",
    "by_loops",
    "finite_difference",
    "one_pass",
    "require_loss",
    "vectorized",
]


def autodiff(loss: LossFunction) -> LossGradient:
    """The gradient by automatic differentiation: `jax.value_and_grad(loss)`.

    Args:
      loss: any function `(params, data) -> scalar`.

    Returns:
      `(params, data) -> (value, gradient)`.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> value, gradient = autodiff(half_sse)(Params(jnp.array([1.0]), jnp.array(0.0)), data)
      >>> float(value), gradient.weights.tolist(), float(gradient.bias)
      (2230.0, [-260.0], -114.0)
    """
    return LossGradient(_autodiff, loss)


def _autodiff(loss: LossFunction, params: Params, data: Dataset) -> Found:
    return jax.value_and_grad(loss)(params, data)


def vectorized(loss: Loss) -> LossGradient:
    """The gradient by hand, as matrix products.

    With r = residuals(params, data), s = example_weights(loss, data) * loss.psi(r), and without
    penalties::

        d loss / d weights = Xᵀ s          [d]
        d loss / d bias    = sum(s)        []

    Args:
      loss: a loss of this package.

    Returns:
      `(params, data) -> (value, gradient)`, a drop-in for `jax.value_and_grad(loss)`:
      `value` [] and `gradient`, a `Params` shaped as `params`.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> value, gradient = vectorized(half_sse)(Params(jnp.array([1.0]), jnp.array(0.0)), data)
      >>> float(value), gradient.weights.tolist(), float(gradient.bias)
      (2230.0, [-260.0], -114.0)
    """
    require_loss(loss, "vectorized")
    return LossGradient(_vectorized, loss)


def _vectorized(loss: Loss, params: Params, data: Dataset) -> Found:
    r = residuals(params, data)
    a = per_example(example_weights(loss, data), r)
    s = a * loss.psi(r)
    value = jnp.sum(sum_of_examples(a * loss.rho(r))) + loss.penalty(params)
    weights = transposed_product(data.X, s) + loss.penalty_gradient(params)
    if params.bias is None:
        return value, Params(weights, None)
    bias = sum_of_examples(s) if data.bias_column is None else matmul(data.bias_column, s)
    return value, Params(weights, bias)


def one_pass(loss: Loss, *, block_rows: int | None = None) -> LossGradient:
    """The gradient by hand, reading X once: block by block, residuals first and then products.

    `vectorized` reads X from memory twice, for the residuals and for the gradient. Here blocks of
    rows stay in cache between the two, and with s as in `vectorized`::

        d loss / d weights = Σ_blocks X_blockᵀ s_block
        d loss / d bias    = Σ_blocks sum(s_block)

    The blocks are added in double-word arithmetic, so that float32 keeps its digits over millions
    of rows (at 4,000,000 a gradient to 4e-7, where one product over all rows gives 4e-4). A CPU
    device runs its blocks one after the other. To use all cores, make each a device before anything
    is computed, `jax.config.update("jax_num_cpu_devices", 2)`, and `shard` the rows over them.

    Args:
      loss: a loss of this package.
      block_rows: most rows in a block, at least 1; None: as many as suit the device. To train with
        a number of your own, pass `gradient=one_pass(loss, block_rows=256)` to `fit`.

    Returns:
      `(params, data) -> (value, gradient)`, a drop-in for `jax.value_and_grad(loss)`.

    Raises:
      TypeError, ValueError: `block_rows` is not a whole number of at least 1.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> way = one_pass(half_sse, block_rows=2)
      >>> value, gradient = way(Params(jnp.array([1.0]), jnp.array(0.0)), data)
      >>> float(value), gradient.weights.tolist(), float(gradient.bias)
      (2230.0, [-260.0], -114.0)
    """
    require_loss(loss, "one_pass")
    if block_rows is not None:
        block_rows = positive_integer("block_rows", block_rows)
    return LossGradient(_one_pass, loss, (block_rows,))


def _one_pass(loss: Loss, params: Params, data: Dataset, block_rows: int | None) -> Found:
    block_gradient = vectorized(dataclasses.replace(loss, reduction="sum", penalties=()))
    jax.eval_shape(residuals, params, data)  # checks shapes, computes nothing
    a = example_weights(loss, data)
    rows = data._replace(sample_weight=a if a.ndim else None, total_weight=None)

    def share(block: Dataset) -> Found:
        if block.sample_weight is None:
            block = block._replace(sample_weight=jnp.full(block.X.shape[0], a))
        return block_gradient(params, block)

    value, gradient = sum_over_blocks(share, rows, block_rows=block_rows)
    weights = gradient.weights + loss.penalty_gradient(params)
    return value + loss.penalty(params), gradient._replace(weights=weights)


def by_loops(loss: Loss) -> LossGradient:
    """The gradient by hand as the textbook's double sum: one partial derivative, one example.

    For each coordinate j, the sum over the examples i::

        d loss / d weights[j] = Σ_i a_i psi(r_i) X[i, j]
        r_i = Σ_j X[i, j] weights[j] + bias - y_i

    Written for reading and for checking the others; `vectorized` is the one to train with.

    Args:
      loss: a loss of this package.

    Returns:
      `(params, data) -> (value, gradient)`, a drop-in for `jax.value_and_grad(loss)`.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> value, gradient = by_loops(half_sse)(Params(jnp.array([1.0]), jnp.array(0.0)), data)
      >>> float(value), gradient.weights.tolist(), float(gradient.bias)
      (2230.0, [-260.0], -114.0)
    """
    require_loss(loss, "by_loops")
    return LossGradient(_by_loops, loss)


def _by_loops(loss: Loss, params: Params, data: Dataset) -> Found:
    checked = jax.eval_shape(residuals, params, data)  # checks shapes, computes nothing
    n, d = data.X.shape
    b = bias_multipliers(data)
    a = jnp.broadcast_to(example_weights(loss, data), (n,))
    zero = jnp.zeros(checked.shape[1:], checked.dtype)  # [] or [k]: one number a target

    def residual(i: Int[Array, ""]) -> Float[Array, " *k"]:
        def add_feature(j: Int[Array, ""], total: Float[Array, " *k"]) -> Float[Array, " *k"]:
            return total + data.X[i, j] * params.weights[j]

        prediction = lax.fori_loop(0, d, add_feature, zero)
        if params.bias is not None:
            prediction = prediction + b[i] * params.bias
        return prediction - data.y[i]

    r = jax.vmap(residual)(jnp.arange(n))

    def sum_over_examples(term: Callable[[Array], Array]) -> Float[Array, " *k"]:
        return lax.fori_loop(0, n, lambda i, total: total + term(i), zero)

    def partial_derivative(j: Int[Array, ""]) -> Float[Array, " *k"]:
        return sum_over_examples(lambda i: a[i] * loss.psi(r[i]) * data.X[i, j])

    value = jnp.sum(sum_over_examples(lambda i: a[i] * loss.rho(r[i]))) + loss.penalty(params)
    weights = jax.vmap(partial_derivative)(jnp.arange(d)) + loss.penalty_gradient(params)
    if params.bias is None:
        return value, Params(weights, None)
    return value, Params(weights, sum_over_examples(lambda i: a[i] * loss.psi(r[i]) * b[i]))


def finite_difference(loss: Loss) -> LossGradient:
    """The gradient by central differences, one coordinate at a time; it never uses `psi`.

    Moving coordinate j by h moves residual i by h X[i, j], so nothing is predicted again::

        d loss / d weights[j] ≈ Σ_i a_i (rho(r_i + h X[i, j]) - rho(r_i - h X[i, j])) / 2h

    The derivative of a sum is the sum of the derivatives, so each term takes the step that suits it
    (`reach_of`). Where rho is a parabola or a line around r_i a central difference has no
    truncation error, and the step is large: up to the residual's own size and halfway to the
    nearest kink. Elsewhere differences of eighth order serve, exact to h⁸ with h = eps^(1/9). On a
    kink the subgradient of least norm between the one-sided slopes is taken: 0 wherever it can be.

    Args:
      loss: a loss of this package.

    Returns:
      `(params, data) -> (value, gradient)`, a drop-in for `jax.value_and_grad(loss)`.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> way = finite_difference(half_sse)
      >>> value, gradient = way(Params(jnp.array([1.0]), jnp.array(0.0)), data)
      >>> float(value), gradient.weights.tolist(), float(gradient.bias)
      (2230.0, [-260.0], -114.0)
    """
    require_loss(loss, "finite_difference")
    return LossGradient(_finite_difference, loss)


def _finite_difference(loss: Loss, params: Params, data: Dataset) -> Found:
    r = residuals(params, data)
    a = per_example(example_weights(loss, data), r)
    reach, on_kink = reach_of(loss, r)

    def partial_derivative(column: Float[Array, " n"]) -> Float[Array, " *k"]:
        x = per_example(column, r)
        return jnp.sum(a * slopes(loss, r, x, reach, on_kink), axis=0)

    weights = lax.map(
        lambda j: partial_derivative(data.X[:, j]), jnp.arange(data.X.shape[1]), batch_size=16
    )
    weights = weights + penalty_difference(loss, params.weights)
    value = jnp.sum(a * loss.rho(r)) + loss.penalty(params)
    if params.bias is None:
        return value, Params(weights, None)
    return value, Params(weights, partial_derivative(bias_multipliers(data)))


WAYS: dict[str, Callable[[Loss], LossGradient]] = {
    way.__name__: way for way in (autodiff, vectorized, one_pass, by_loops, finite_difference)
}
"""The ways by their names."""
