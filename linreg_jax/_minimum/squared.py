"""The minimum of a squared loss, in the units of the data."""

import jax.numpy as jnp

from linreg_jax._algebra.linalg import Centring
from linreg_jax._arithmetic.blocks import sum_over_blocks
from linreg_jax._arithmetic.centring import without_zero_weight
from linreg_jax._arithmetic.double_word import Pair, add_pairs, add_product, sum_pairs, two_sum
from linreg_jax._kernels import matmul
from linreg_jax._typing import Array
from linreg_jax.dataset import Dataset, bias_multipliers
from linreg_jax.model import Params


def in_units_of_data(rows: Centring, theta: Pair, intercept: bool) -> Params:
    """`Params` of theta; the bias where the features are 0, far from their origin maybe."""
    ratio = rows.y.unit[None, :] / rows.X.unit[:, None]
    weights = theta[0][:-1] * ratio
    if not intercept:
        return Params(weights, None)
    high, low = (part[:-1] for part in theta)
    products = add_product(
        (jnp.zeros_like(high), jnp.zeros_like(high)), -rows.X.origin[:, None], high, low
    )
    at_zero = add_pairs(sum_pairs(products, axis=0), two_sum(theta[0][-1], rows.y.origin))
    return Params(weights, (at_zero[0] + theta[1][-1]) * rows.y.unit)


def squares_at(data: Dataset, rows: Centring, theta: Array) -> Array:
    """[] Σ sample_weight r² at theta, from residuals about the origin."""

    def squares(block: Dataset) -> Array:
        b = block.bias_column
        r = matmul(rows.X.differences(block.X, b), theta[:-1]) - rows.y.differences(block.y, b)
        r = r + bias_multipliers(block)[:, None] * theta[-1:]
        if block.sample_weight is not None:
            r = without_zero_weight(r, block.sample_weight)
            return jnp.sum(block.sample_weight[:, None] * r * r, axis=0)
        return jnp.sum(r * r, axis=0)

    total = sum_over_blocks(squares, data._replace(total_weight=None))
    return jnp.sum(total * rows.y.unit * rows.y.unit)
