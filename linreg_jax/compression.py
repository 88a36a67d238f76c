"""Few rows in place of many, with the same squared losses."""

import jax.numpy as jnp

from linreg_jax._blocks import sum_over_blocks
from linreg_jax._numerics import matmul
from linreg_jax.dataset import Dataset, check_dataset, multiplies_bias, total_weight

_BLOCK_ROWS = 4096


def compress(data: Dataset, *, method: str = "auto") -> Dataset:
    """d + 1 + k rows with the same squared loss, gradient and training path as all n.

    Args:
      data: a `Dataset`; X is [n, d], y [n] or [n, k].
      method: "auto" or "gram".

    Returns:
      A `Dataset` of d + 1 + k rows; `sample_weight` None, `bias_column` and `count` filled.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> small = compress(data)
      >>> small.X.shape, float(small.count)
      ((3, 1), 3.0)
    """
    if method not in ("auto", "gram"):
        raise ValueError(f'method must be "auto" or "gram", got {method!r}')
    check_dataset(data)
    bias_column = multiplies_bias(data)
    y = data.y[:, None] if data.y.ndim == 1 else data.y
    d = data.X.shape[1]
    factor = _gram_factor(data.X, y, bias_column, data.sample_weight)
    X, b, y = factor[:, 1 : d + 1], factor[:, 0], factor[:, d + 1 :]
    return Dataset(X, y[:, 0] if data.y.ndim == 1 else y, None, b, total_weight(data))


def _gram_factor(X, y, bias_column, sample_weight):
    """[1 + d + k, 1 + d + k] rows F with FᵀF = Zᵀ S Z, Z = [bias_column X y].

    With Z's first column b and the others A, m = Aᵀ S b / bᵀ S b and C = A - b mᵀ::

        Zᵀ S Z = (bᵀ S b) [1 mᵀ]ᵀ [1 mᵀ] + [0 (Cᵀ S C)]

    so large means never meet the squares.
    """
    root = jnp.ones_like(bias_column) if sample_weight is None else jnp.sqrt(sample_weight)
    b = root * bias_column

    def column_means(A):
        return jnp.sum((root * b)[:, None] * A, axis=0) / jnp.where(total > 0, total, 1)

    def column_units(A):
        largest = jnp.max(jnp.abs(root[:, None] * A), axis=0)
        return jnp.where(largest > 0, largest, 1)

    total = matmul(b, b)
    mean = jnp.concatenate([column_means(X), column_means(y)])
    unit = jnp.concatenate([column_units(X), column_units(y)])
    d = X.shape[1]

    def products(block):
        X, y, root, b = block
        A = jnp.concatenate([root[:, None] * X, root[:, None] * y], axis=1)
        centred = (A - b[:, None] * mean[None, :]) / unit[None, :]
        return matmul(centred.T, centred), matmul(b, centred)

    squares, offset = sum_over_blocks(products, (X, y, root, b), block_rows=4096)
    offset = offset / jnp.where(total > 0, total, 1)  # what rounding left in the means
    squares = squares - total * offset[:, None] * offset[None, :]
    mean = mean + unit * offset
    diagonal = jnp.diagonal(squares)
    scale = jnp.where(diagonal > 0, jnp.sqrt(diagonal), 1)
    values, vectors = jnp.linalg.eigh(squares / scale[:, None] / scale[None, :])
    rest = jnp.sqrt(jnp.maximum(values, 0))[:, None] * vectors.T * (scale * unit)[None, :]
    first = jnp.sqrt(total) * jnp.concatenate([jnp.ones(1, X.dtype), mean])
    rest = jnp.concatenate([jnp.zeros((rest.shape[0], 1), X.dtype), rest], axis=1)
    return jnp.concatenate([first[None, :], rest])
