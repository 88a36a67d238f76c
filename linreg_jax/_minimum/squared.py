"""The sum of squares at a minimum."""

import jax.numpy as jnp

from linreg_jax._algebra.linalg import Centring
from linreg_jax._arithmetic.blocks import sum_over_blocks
from linreg_jax._arithmetic.centring import finite_or_weighted
from linreg_jax._kernels import matmul
from linreg_jax._typing import Array
from linreg_jax.dataset import Dataset, bias_multipliers


def squares_at(data: Dataset, rows: Centring, theta: Array) -> Array:
    """[] Σ sample_weight r² at theta, from residuals about the origin."""

    def squares(block: Dataset) -> Array:
        b = block.bias_column
        r = matmul(rows.X.differences(block.X, b), theta[:-1]) - rows.y.differences(block.y, b)
        r = r + bias_multipliers(block)[:, None] * theta[-1:]
        if block.sample_weight is not None:
            r = finite_or_weighted(r, block.sample_weight)
            return jnp.sum(block.sample_weight[:, None] * r * r, axis=0)
        return jnp.sum(r * r, axis=0)

    total = sum_over_blocks(squares, data._replace(total_weight=None))
    return jnp.sum(total * rows.y.unit * rows.y.unit)
