"""What the coefficients of a least-squares fit are worth."""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._algebra.quadratic import require_quadratic
from linreg_jax._conversion import as_numeric
from linreg_jax._inference.distributions import t_p_values, t_quantile
from linreg_jax._inference.least_squares import Estimate, estimate
from linreg_jax._inference.text import as_table
from linreg_jax._kernels import matmul, placed
from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Float, Int
from linreg_jax._validation import (
    flag,
    is_between_0_and_1,
    is_traced,
    require_shape,
    shape_text,
    shown,
    single_setting,
)
from linreg_jax.dataset import Dataset, check_dataset, is_compressed
from linreg_jax.losses import mse
from linreg_jax.model import Params

_COVARIANCES = ("classical", "hc0", "hc1", "hc2", "hc3", "cluster")


class Inference(NamedTuple):
    """What `infer` found; `print` shows it as a table.

    With several targets every number of a fit is [k]. What the data do not identify (a feature
    that others make up, a constant one beside the bias) is NaN.

    Attributes:
      params: `Params`, the coefficients.
      standard_errors, statistics, p_values, lower, upper: `Params` of each coefficient's standard
        error, coefficient / standard error, two-sided p by t, and interval.
      covariance: [p, p] of the coefficients, the bias first; [k, p, p] for k targets.
      residual_deviation: residual standard error, sqrt(Σ s r² / degrees_of_freedom).
      r2, adjusted_r2: about the mean; about 0 without an intercept, as statsmodels has it.
      f_statistic, f_p_value: that all weights are 0. By the residuals for the classical covariance,
        a Wald test with the others; NaN with ridge, and where clusters are no more than weights.
      log_likelihood, aic, bic: for normal errors; the variance does not count as a parameter.
      rank: [] of the features, as in `Solution`.
      degrees_of_freedom: [] n - rank (- 1 with an intercept); n - trace of the hat matrix with
        ridge.
      condition_number: [] as in `Solution`.
      num_examples: [] n.
      reference_degrees: [] degrees of freedom of t: those above, or clusters - 1.
      level: [] of the intervals.
    """

    params: Params
    standard_errors: Params
    statistics: Params
    p_values: Params
    lower: Params
    upper: Params
    covariance: Float[Array, " *k p p"]
    residual_deviation: Float[Array, " *k"]
    r2: Float[Array, " *k"]
    adjusted_r2: Float[Array, " *k"]
    f_statistic: Float[Array, " *k"]
    f_p_value: Float[Array, " *k"]
    log_likelihood: Float[Array, " *k"]
    aic: Float[Array, " *k"]
    bic: Float[Array, " *k"]
    rank: Int[Array, ""]
    degrees_of_freedom: Float[Array, ""]
    condition_number: Float[Array, ""]
    num_examples: Float[Array, ""]
    reference_degrees: Float[Array, ""]
    level: Float[Array, ""]

    def __str__(self) -> str:
        known = not any(is_traced(leaf) for leaf in jax.tree.leaves(self))
        return as_table(self) if known and jnp.ndim(self.rank) == 0 else repr(self)


def infer(
    data: Dataset,
    loss: Loss = mse,
    *,
    intercept: bool = True,
    covariance: Literal["classical", "hc0", "hc1", "hc2", "hc3", "cluster"] = "classical",
    level: float | Array = 0.95,
    clusters: Any = None,
    weights: Literal["frequency", "precision"] = "frequency",
) -> Inference:
    """Standard errors, tests and intervals of the exact minimiser of a squared loss.

    With H = XᵀSX + Λ (the bias's column in X, Λ of ridge), residuals r and leverages h::

        classical   σ² H⁻¹ XᵀSX H⁻¹, σ² = Σ s r² / degrees of freedom
        hc0 to hc3  H⁻¹ Σ s r² c x xᵀ H⁻¹ with c = 1, n / degrees of freedom, 1/(1-h), 1/(1-h)²
        cluster     H⁻¹ Σ_g u_g u_gᵀ H⁻¹ G/(G-1) (n-1)/degrees of freedom, u_g = Σ_{i in g} s r x

    With ridge it is the covariance of the estimator as it is, biased; the bias is not in it.
    Coefficients and the classical covariance come from the factor of `solve`, refined in
    double-word arithmetic; the others are right to the condition number times eps.

    t and F probabilities are computed on the device. t's quantile, which the intervals need, is
    scipy's, on the host; inside `jit` the program calls it there.

    Args:
      data: a `Dataset`; X [n, d], y [n] or [n, k]. A compressed one gives the classical covariance.
      loss: `mse`, `half_mse`, `sse` or `half_sse`, with ridge penalties or none.
      intercept: whether the model has a bias.
      covariance: which one, as above.
      level: of the intervals, between 0 and 1.
      clusters: [n] which cluster each example is of, for "cluster": integers, or anything that
        `numpy.unique` sorts.
      weights: what sample weights are. "frequency": how often an example was seen, n their sum.
        "precision": 1 over the variance of its error up to a factor, n the number of rows that have
        a weight, as statsmodels' WLS has it.

    Returns:
      An `Inference`.

    Raises:
      TypeError: not a `Dataset`, not a loss of this package, or an intercept that is no bool.
      ValueError: a loss that is not squared, a lasso penalty, an unknown covariance, clusters
        without "cluster" or the other way round, or compressed rows where more than them is needed.

    Source: White 1980, Econometrica 48; MacKinnon and White 1985, Journal of Econometrics 29; Liang
    and Zeger 1986, Biometrika 73.

    Example:
      >>> data = as_dataset([[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 4.0, 7.0])
      >>> found = infer(data)
      >>> f"{found.params.weights[0]:.3f} ± {found.standard_errors.weights[0]:.3f}"
      '1.900 ± 0.265'
      >>> f"{found.lower.weights[0]:.2f} to {found.upper.weights[0]:.2f}"
      '0.76 to 3.04'
    """
    check_dataset(data)
    require_quadratic(loss, "infer")
    _check_choice("covariance", covariance, _COVARIANCES)
    _check_choice("weights", weights, ("frequency", "precision"))
    if is_compressed(data):
        _refuse_compressed(covariance, weights)
    rule = "a number between 0 and 1"
    level = single_setting("level", level, rule, is_between_0_and_1)
    codes = _cluster_codes(clusters, covariance, data.X.shape[0])
    found = estimate(
        placed(loss),
        data,
        codes,
        intercept=flag("intercept", intercept),
        kind=covariance,
        precision=weights == "precision",
    )
    quantile = t_quantile(level, found.reference_degrees)
    level = jnp.asarray(level, data.X.dtype)
    return _assemble(found, quantile, level, intercept=bool(intercept), single=data.y.ndim == 1)


@functools.partial(jax.jit, static_argnames=("intercept", "single"))
def _assemble(
    found: Estimate, quantile: Array, level: Array, *, intercept: bool, single: bool
) -> Inference:
    theta = found.theta
    error = jnp.sqrt(jnp.diagonal(found.covariance, axis1=1, axis2=2)).T
    statistic = theta / error
    half = quantile * error

    def as_params(table: Array) -> Params:
        table = table[:, 0] if single else table
        return Params(table[1:], table[0]) if intercept else Params(table, None)

    numbers: dict[str, Any] = {
        name: value[0] if single and value.ndim == 1 else value
        for name, value in found.statistics.items()
    }
    return Inference(
        params=as_params(theta),
        standard_errors=as_params(error),
        statistics=as_params(statistic),
        p_values=as_params(t_p_values(statistic, found.reference_degrees)),
        lower=as_params(theta - half),
        upper=as_params(theta + half),
        covariance=found.covariance[0] if single else found.covariance,
        reference_degrees=found.reference_degrees,
        level=level,
        **numbers,
    )


def predict_interval(
    inference: Inference,
    X: Any,
    *,
    level: float | Array = 0.95,
    kind: Literal["mean", "observation"] = "observation",
) -> tuple[Float[Array, " n *k"], Float[Array, " n *k"]]:
    """Between what values the mean at x lies, or another observation there.

    With V the covariance of the coefficients::

        prediction ± t sqrt(xᵀ V x)         "mean"
        prediction ± t sqrt(xᵀ V x + σ²)    "observation", of weight 1

    Args:
      inference: what `infer` returned.
      X: [m, d] features.
      level: of the interval, between 0 and 1.
      kind: "mean" or "observation".

    Returns:
      `(lower, upper)`, [m] or [m, k] each; NaN where a coefficient is not identified.

    Raises:
      TypeError: not an `Inference`.
      ValueError: X is not [m, d], an unknown kind, or a level out of range.

    Example:
      >>> found = infer(as_dataset([[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 4.0, 7.0]))
      >>> lower, upper = predict_interval(found, [[1.5]], kind="mean")
      >>> f"{lower[0]:.2f} to {upper[0]:.2f}"
      '2.48 to 5.02'
    """
    if not isinstance(inference, Inference):
        raise TypeError(f"inference must be an Inference, got {shown(inference)}: infer makes one")
    _check_choice("kind", kind, ("mean", "observation"))
    rule = "a number between 0 and 1"
    level = single_setting("level", level, rule, is_between_0_and_1)
    X = jnp.asarray(as_numeric("X", X), inference.params.weights.dtype)
    d = inference.params.weights.shape[0]
    if X.ndim != 2 or X.shape[1] != d:
        raise ValueError(
            f"X has shape {shape_text(X.shape)}: it must be [m, {d}], an example a row"
        )
    quantile = t_quantile(level, inference.reference_degrees)
    return _interval(inference, X, quantile, observation=kind == "observation")


@functools.partial(jax.jit, static_argnames="observation")
def _interval(
    inference: Inference, X: Array, quantile: Array, *, observation: bool
) -> tuple[Array, Array]:
    weights, bias = inference.params
    A = X if bias is None else jnp.concatenate([jnp.ones_like(X[:, :1]), X], axis=1)
    V = inference.covariance
    several = V if V.ndim == 3 else V[None]
    variance = jnp.stack([jnp.sum(matmul(A, one) * A, axis=1) for one in several], axis=1)
    if observation:
        variance = variance + jnp.reshape(inference.residual_deviation, (1, -1)) ** 2
    coefficients = weights if bias is None else jnp.concatenate([bias[None], weights])
    center = matmul(A, coefficients)
    half = quantile * jnp.sqrt(variance).reshape(center.shape)
    return center - half, center + half


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{name} must be one of {listed}, got {shown(value)}")


def _refuse_compressed(covariance: str, weights: str) -> None:
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


def _cluster_codes(clusters: Any, covariance: str, n: int) -> Array | None:
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
