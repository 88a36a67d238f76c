"""The arguments of `infer`, validated."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._inference.sparsity import is_pinball
from linreg_jax._loss import Loss
from linreg_jax._typing import Array
from linreg_jax._validation import is_traced, require_shape, shown
from linreg_jax.dataset import Dataset, is_compressed
from linreg_jax.gradients import LossFunction, require_loss
from linreg_jax.model import Params, check_params

COVARIANCES = ("classical", "hc0", "hc1", "hc2", "hc3", "cluster")
OF_QUANTILES = "nid"


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises ValueError where a setting is none of its names."""
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{name} must be one of {listed}, got {shown(value)}")


def checked_loss(loss: LossFunction, caller: str) -> Loss:
    """A loss whose penalties are quadratic.

    Raises:
      TypeError: not a loss of this package.
      ValueError: another penalty than ridge.
    """
    known = require_loss(loss, caller)
    for penalty in known.penalties:
        if not penalty.is_quadratic:
            raise ValueError(
                f"{caller} takes ridge penalties only, got {loss}: with {penalty} coefficients are "
                "0 with a probability of their own, and no covariance says what they are worth; "
                "bootstrap draws them"
            )
    return known


def check_minimum(
    loss: Loss, params: Params | None, data: Dataset, *, intercept: bool, caller: str = "infer"
) -> None:
    """Raises unless params are there for losses that need them, and only for those that take them.

    Raises:
      TypeError: not a `Params`.
      ValueError: params of a squared loss, none where psi jumps, or none that fit the data.
    """
    if params is None:
        if not loss.is_smooth:
            raise ValueError(
                f"params is None, and {caller} does not minimise {loss}, whose derivative jumps: "
                f"pass the parameters of a fit, {caller}(data, loss, params=result.params)"
            )
        return
    if loss.is_quadratic:
        raise ValueError(
            f"params belongs to losses that are not squared, and {loss} is minimised exactly: "
            "leave it out"
        )
    check_params(params, data.X, data.y)
    if (params.bias is not None) != intercept:
        has = "no bias" if params.bias is None else "a bias"
        raise ValueError(
            f"params has {has} and intercept is {intercept}: pass intercept={not intercept}"
        )


def refuse_compressed(data: Dataset, covariance: str, weights: str) -> None:
    """Raises ValueError where rows are compressed and every example is needed."""
    if not is_compressed(data):
        return
    if covariance != "classical":
        raise ValueError(
            f'data is compressed, and covariance "{covariance}" needs every example: compressed '
            'rows keep what "classical" needs alone; pass the original data'
        )
    if weights == "precision":
        raise ValueError(
            'data is compressed, and weights "precision" need the number of examples: compressed '
            "rows keep the sum of the weights alone; pass the original data"
        )


def refuse_covariance(loss: Loss, covariance: str) -> None:
    """Raises ValueError for HC2 and HC3 where psi jumps, and for "nid" of all but quantiles."""
    if covariance in ("hc2", "hc3") and not loss.is_smooth:
        raise ValueError(
            f'covariance "{covariance}" needs leverages, which {loss} has none of, as its '
            'derivative jumps: "hc0" and "hc1" take its scores as they are'
        )
    if covariance == OF_QUANTILES and (not is_pinball(loss) or loss.penalties):
        raise ValueError(
            f'covariance "nid" takes two more quantiles beside that of quantile or mae, without '
            f'penalties, got {loss}: pass "hc0", right for errors that differ as well'
        )


def cluster_codes(clusters: Any, covariance: str, n: int) -> Array | None:
    """[n] integers that name the cluster of each example, or None.

    Raises:
      ValueError: clusters without their covariance or the other way round, not [n], or one only.
    """
    if (clusters is not None) != (covariance == "cluster"):
        raise ValueError(
            'clusters and covariance "cluster" go together, got clusters '
            f'{shown(clusters)} and covariance "{covariance}": pass both or neither'
        )
    if clusters is None:
        return None
    if not isinstance(clusters, jax.Array):
        clusters = np.asarray(clusters)
    require_shape("clusters", clusters, (n,), f"one cluster for each example is [{n}]")
    if is_traced(clusters):
        return clusters
    codes = np.unique(np.asarray(clusters), return_inverse=True)[1]
    if codes.max() == 0:
        raise ValueError("clusters holds one cluster: their covariance needs 2 or more")
    return jnp.asarray(codes.astype(np.int32))
