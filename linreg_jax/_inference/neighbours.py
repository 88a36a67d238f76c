"""How dense residuals lie at each example: from the quantiles on either side of it.

With b the bandwidth of Hall and Sheather, and theta(level) where the loss of a quantile is least::

    f(x) = 2 b / (xᵀtheta(level + b) - xᵀtheta(level - b)),  0 where they meet or have crossed

Source: Hendricks and Koenker 1992, JASA 87; "nid" in R's quantreg.
"""

import jax.numpy as jnp

from linreg_jax._algebra.linalg import target_columns
from linreg_jax._inference.sparsity import level_of, width
from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Float
from linreg_jax.dataset import Dataset, mean_divisor
from linreg_jax.exact import solve
from linreg_jax.losses import quantile
from linreg_jax.model import predict


def density_by_neighbours(
    loss: Loss, data: Dataset, *, intercept: bool, precision: bool
) -> Float[Array, "n k"]:
    """[n, k] the density of the residuals at the kink of a loss of two lines.

    Args:
      loss: as `is_pinball` says.
      data: a `Dataset`.
      intercept: whether there is a bias.
      precision: whether rows that have a weight are counted, not the weights.
    """
    n = mean_divisor(data)
    if precision and data.sample_weight is not None:
        n = jnp.sum(data.sample_weight > 0).astype(n.dtype)
    level = level_of(loss, n)
    b = width(level, n)
    above, below = (
        target_columns(predict(solve(data, quantile(at), intercept=intercept).params, data.X))
        for at in (level + b, level - b)
    )
    apart = above - below
    # Both may go through one example. quantreg takes eps^(2/3) off, in whatever units y has.
    rounding = jnp.finfo(apart.dtype).eps ** (2 / 3) * (jnp.abs(above) + jnp.abs(below))
    is_apart = apart > rounding
    return jnp.where(is_apart, 2 * b / jnp.where(is_apart, apart, 1), 0)
