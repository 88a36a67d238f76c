"""What the coefficients of a fit are worth."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

from linreg_jax._conversion import as_numeric
from linreg_jax._host import computed, namespace_of
from linreg_jax._inference.arguments import (
    COVARIANCES,
    OF_QUANTILES,
    check_choice,
    check_minimum,
    checked_loss,
    cluster_codes,
    refuse_compressed,
    refuse_covariance,
)
from linreg_jax._inference.at_minimum import at_minimum
from linreg_jax._inference.distributions import t_p_values, t_quantile
from linreg_jax._inference.fitted import least_squares_fit
from linreg_jax._inference.least_squares import Estimate, estimate
from linreg_jax._inference.neighbours import density_by_neighbours
from linreg_jax._inference.result import Inference
from linreg_jax._inference.scores import estimate_by_scores
from linreg_jax._kernels import matmul, on_device, placed
from linreg_jax._loss import Loss, example_weights
from linreg_jax._minimum.requirements import is_solvable
from linreg_jax._typing import AnyArray, Array, Float
from linreg_jax._validation import flag, is_between_0_and_1, shape_text, shown, single_setting
from linreg_jax.dataset import Dataset, check_dataset
from linreg_jax.exact import solve
from linreg_jax.losses import mse
from linreg_jax.model import Params


def infer(
    data: Dataset,
    loss: Loss = mse,
    *,
    params: Params | None = None,
    intercept: bool = True,
    covariance: Literal["classical", "hc0", "hc1", "hc2", "hc3", "cluster", "nid"] = "classical",
    level: float | Array = 0.95,
    clusters: Any = None,
    weights: Literal["frequency", "precision"] = "frequency",
) -> Inference:
    """Standard errors, tests and intervals of the parameters where a loss is least.

    Of a squared loss, with H = XᵀSX + Λ (the bias's column in X, Λ of ridge), residuals r and
    leverages h::

        classical   σ² H⁻¹ XᵀSX H⁻¹, σ² = Σ s r² / degrees of freedom
        hc0 to hc3  H⁻¹ Σ s r² c x xᵀ H⁻¹ with c = 1, n / degrees of freedom, 1/(1-h), 1/(1-h)²
        cluster     H⁻¹ Σ_g u_g u_gᵀ H⁻¹ G/(G-1) (n-1)/degrees of freedom, u_g = Σ_{i in g} s r x

    Of another smooth loss the scores psi(r) take the place of the residuals, and H is
    Σ s psi'(r) x xᵀ + Λ, with s psi'(r) xᵀH⁻¹x as leverages. "classical" is Huber's for errors that
    are alike, statsmodels' RLM with cov="H1" at a fixed scale (its H2 and H3 estimate the same)::

        K² Σ s psi² / degrees of freedom / mean(psi')² (XᵀSX)⁻¹
        K = 1 + p/n var(psi') / mean(psi')²

    Where psi jumps (`mae`, `quantile`) the density f of the residuals at the kink stands for psi',
    by Epanechnikov's kernel and the bandwidth of Hall and Sheather. "classical" takes one f for all
    examples, level (1 - level) / f² (XᵀSX)⁻¹, QuantReg's vcov="iid" in statsmodels; "hc0" is
    Powell's sandwich, H = Σ s f(x) x xᵀ. (statsmodels' "robust" keeps one f, which is right where
    errors are alike only.) "nid" is Hendricks and Koenker's, as R's quantreg has it: f(x) told by
    the quantiles on either side, and level (1 - level) XᵀSX in the middle. At extreme levels few
    residuals lie there, and `print` warns.

    With ridge it is the covariance of the estimator as it is, biased; the bias is not in it. t's
    degrees of freedom are the residuals' for every loss; RLM takes the normal distribution.
    Coefficients and the classical covariance of squared losses come from the factor of `solve`,
    refined in double-word arithmetic; the others are right to the condition number times eps.
    A smooth loss is minimised by Newton's steps from least squares, one whose psi jumps by `solve`.

    t and F probabilities are computed on the device, those of few numbers by scipy. t's quantile,
    which the intervals need, is scipy's, on the host; inside `jit` the program calls it there.

    Args:
      data: a `Dataset`; X [n, d], y [n] or [n, k]. A compressed one gives the classical covariance
        of squared losses.
      loss: any of this package, or one of your own, with ridge penalties or none.
      params: where the loss is least, such as a fit's; taken as they are, see
        `Inference.distance_to_minimum`. None: found here. Not for squared losses.
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
      ValueError: a lasso penalty, an unknown covariance, HC2 or HC3 where psi jumps, "nid" of
        another loss than a quantile's or with ridge, clusters without "cluster" or the other way
        round, params missing or out of place, or compressed rows where more than them is needed.

    Source: White 1980, Econometrica 48; MacKinnon and White 1985, Journal of Econometrics 29; Liang
    and Zeger 1986, Biometrika 73; Huber 1981, Robust Statistics, 7.6; Koenker 2005, Quantile
    Regression, 3.4; Hendricks and Koenker 1992, JASA 87.

    Example:
      >>> data = as_dataset([[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 4.0, 7.0])
      >>> found = infer(data)
      >>> f"{found.params.weights[0]:.3f} ± {found.standard_errors.weights[0]:.3f}"
      '1.900 ± 0.265'
      >>> f"{found.lower.weights[0]:.2f} to {found.upper.weights[0]:.2f}"
      '0.76 to 3.04'
    """
    check_dataset(data)
    known = checked_loss(loss, "infer")
    intercept = flag("intercept", intercept)
    check_choice("covariance", covariance, (*COVARIANCES, OF_QUANTILES))
    check_choice("weights", weights, ("frequency", "precision"))
    refuse_covariance(known, covariance)
    refuse_compressed(data, covariance, weights)
    if params is None and not known.is_smooth and is_solvable(known):
        params = solve(data, known, intercept=intercept).params
    check_minimum(known, params, data, intercept=intercept)
    rule = "a number between 0 and 1"
    level = single_setting("level", level, rule, is_between_0_and_1)
    codes = cluster_codes(clusters, covariance, data.X.shape[0])
    precision = weights == "precision"
    found = _estimate(placed(known), params, data, codes, intercept, covariance, precision)
    return inference_of(found, level, intercept=intercept, single=data.y.ndim == 1)


def inference_of(
    found: Estimate, level: float | Array, *, intercept: bool, single: bool
) -> Inference:
    """The `Inference` of an `Estimate`; `single`: of one target, y [n]."""
    quantile = t_quantile(level, found.reference_degrees)
    arguments = found, quantile, on_device(level, found.theta.dtype), intercept, single
    size = found.covariance.size
    return computed(_assembled, *arguments, size=size, static_argnums=(3, 4), or_nan=True)


def _estimate(
    loss: Loss,
    params: Params | None,
    data: Dataset,
    codes: Array | None,
    intercept: bool,
    kind: str,
    precision: bool,
) -> Estimate:
    if loss.is_quadratic:
        return estimate(loss, data, codes, intercept=intercept, kind=kind, precision=precision)
    example_weights(loss, data)  # raises where the data or the loss will not do
    fit = least_squares_fit(mse, data, intercept=intercept)
    found = at_minimum(loss, data, fit, params, intercept=intercept)
    if kind == OF_QUANTILES:
        f = density_by_neighbours(loss, data, intercept=intercept, precision=precision)
        found = found._replace(density=f)
    return estimate_by_scores(loss, data, fit, found, codes, intercept, kind, precision)


def _assembled(
    found: Estimate, quantile: AnyArray, level: AnyArray, intercept: bool, single: bool
) -> Inference:
    theta, xp = found.theta, namespace_of(found.theta)
    error = xp.sqrt(xp.diagonal(found.covariance, axis1=1, axis2=2)).T
    statistic = theta / error
    half = quantile * error

    def as_params(table: AnyArray) -> Params:
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
      `(lower, upper)`, [m] or [m, k] each; NaN where a coefficient is not identified, and for an
      observation where the loss has no residual_deviation (`mae`, `quantile`).

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
    check_choice("kind", kind, ("mean", "observation"))
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
