"""The sum of squares at a minimum."""

from linreg_jax._algebra.linalg import Centring
from linreg_jax._arithmetic.blocks import sum_over_blocks
from linreg_jax._arithmetic.centring import finite_or_weighted
from linreg_jax._host import namespace_of
from linreg_jax._kernels import matmul
from linreg_jax._typing import AnyArray
from linreg_jax.dataset import Dataset, bias_multipliers


def squares_at(data: Dataset, rows: Centring, theta: AnyArray) -> AnyArray:
    """[] Σ sample_weight r² at theta, from residuals about the origin."""

    xp = namespace_of(theta)

    def squares(block: Dataset) -> AnyArray:
        b = block.bias_column
        r = matmul(rows.X.differences(block.X, b), theta[:-1]) - rows.y.differences(block.y, b)
        r = r + bias_multipliers(block)[:, None] * theta[-1:]
        if block.sample_weight is not None:
            r = finite_or_weighted(r, block.sample_weight)
            return xp.sum(block.sample_weight[:, None] * r * r, axis=0)
        return xp.sum(r * r, axis=0)

    total = sum_over_blocks(squares, data._replace(total_weight=None))
    return xp.sum(total * rows.y.unit * rows.y.unit)
