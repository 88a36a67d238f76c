"""Features of mean 0 and standard deviation 1, and the way back."""

from typing import NamedTuple

from linreg_jax._arithmetic.centring import centre_of, power_of_two, without_zero_weight
from linreg_jax._arithmetic.division import nonzero
from linreg_jax._host import computed, namespace_of
from linreg_jax._kernels import matmul, per_example
from linreg_jax._typing import AnyArray, Array, Float
from linreg_jax._validation import flag
from linreg_jax.dataset import Dataset, bias_multipliers, check_dataset, mean_divisor
from linreg_jax.model import Params


class Standardization(NamedTuple):
    """How features were centred and scaled; called on parameters, it gives them in the old units.

    Attributes:
      mean: [d] what was taken off each feature; None: nothing was.
      scale: [d] what each feature was divided by then; 1 where the feature is constant.

    Example:
      >>> restore = Standardization(mean=jnp.array([2.0]), scale=jnp.array([4.0]))
      >>> restore(Params(weights=jnp.array([20.0]), bias=jnp.array(40.0)))
      Params(weights=Array([5.], dtype=float32), bias=Array(30., dtype=float32))
    """

    mean: Float[Array, " d"] | None
    scale: Float[Array, " d"]

    def __call__(self, params: Params) -> Params:
        """`Params` for standardized features -> `Params` for the original ones.

        Raises:
          ValueError: there is no bias to take up the means (`standardize(data, center=False)`).
        """
        weights = params.weights / per_example(self.scale, params.weights)
        if self.mean is None:
            return params._replace(weights=weights)
        if params.bias is None:
            raise ValueError(
                "params has no bias, and features centred on their means need one: "
                "standardize(data, center=False) scales without centring"
            )
        return params._replace(weights=weights, bias=params.bias - matmul(self.mean, weights))


def standardize(data: Dataset, *, center: bool = True) -> tuple[Dataset, Standardization]:
    """Features of mean 0 and standard deviation 1, and the way back.

    Features are centred exactly before anything is rounded, so that one far from 0 keeps the digits
    of its spread; what is taken off is the mean as it is rounded to the dtype, so that new rows can
    be treated alike, and a mean of up to half the distance between two floats is left.
    Means and deviations are weighted, the deviation divides by the total weight (as scikit-learn's
    StandardScaler does), and y is left as it is, so that losses keep their units. A constant
    feature (all its values equal, zero-weight rows aside) becomes 0 and its scale stays 1.
    Compressed data stays compressed.

    Args:
      data: a `Dataset`; X is [n, d].
      center: whether to take the means off. False leaves them, for models without an intercept, and
        divides by the root mean square about 0.

    Returns:
      `(data, restore)`: the standardized `Dataset`, and a `Standardization`; `restore(params)` are
      the parameters that predict the same from the original features.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> scaled, restore = standardize(data)
      >>> print(scaled.X[:, 0], restore.mean, restore.scale)
      [-1.224744...  0.         1.224744...] [2.] [1.6329932]
    """
    check_dataset(data)
    center = flag("center", center)
    X, restore = computed(_standardized, data, center, size=data.X.size, static_argnums=(1,))
    return data._replace(X=X), restore


def _standardized(data: Dataset, center: bool) -> tuple[Float[AnyArray, "n d"], Standardization]:
    xp = namespace_of(data.X)
    # Inner products over the rows, never counts of them: compressed rows have the same ones.
    b, s = data.bias_column, data.sample_weight
    centre = centre_of(data.X, b, s, intercept=center)
    mean = centre.origin + centre.mean
    # What is taken off is the mean as it is rounded, so that it can be taken off new rows too.
    X = centre._replace(origin=mean).differences(data.X, b)
    along = bias_multipliers(data)
    weight, counted = along, X
    if s is not None:
        s = s / power_of_two(s[:, None])
        weight, counted = s * along, without_zero_weight(X, s)
    total = xp.where(xp.isnan(mean_divisor(data)), xp.nan, matmul(weight, along))
    if center:
        counted = counted - along[:, None] * (matmul(weight, counted) / total)[None, :]
    squares = counted * counted if s is None else s[:, None] * counted * counted
    deviation = xp.sqrt(xp.sum(squares, axis=0) / total)
    X = xp.where(centre.constant[None, :], 0, X / nonzero(deviation)[None, :])
    scale = xp.where(centre.constant & ~xp.isnan(total), 1, deviation * centre.unit)
    return X, Standardization(mean * centre.unit if center else None, scale)
