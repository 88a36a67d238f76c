"""`Inference`: what the coefficients of a fit are worth."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from linreg_jax._inference.text import as_table
from linreg_jax._typing import Array, Float, Int
from linreg_jax._validation import is_traced
from linreg_jax.model import Params


class Inference(NamedTuple):
    """What `infer` found; `print` shows it as a table.

    With several targets every number of a fit is [k]. What the data do not identify (a feature
    that others make up, a constant one beside the bias) is NaN.

    Attributes:
      params: `Params`, the coefficients.
      standard_errors, statistics, p_values, lower, upper: `Params` of each coefficient's standard
        error, coefficient / standard error, two-sided p by t, and interval.
      covariance: [p, p] of the coefficients, the bias first; [k, p, p] for k targets.
      residual_deviation: residual standard error, sqrt(Σ s r² / degrees_of_freedom); NaN where psi
        jumps (`mae`, `quantile`), whose minimum is no mean.
      r2, adjusted_r2: about the mean; about 0 without an intercept, as statsmodels has it. Of
        squared losses, NaN with others.
      f_statistic, f_p_value: that all weights are 0. By the residuals for the classical covariance
        of a squared loss, a Wald test with the others; NaN with ridge, and where clusters are no
        more than weights.
      log_likelihood, aic, bic: for normal errors; the variance does not count as a parameter. Of
        squared losses, NaN with others.
      rank: [] of the features, as in `Solution`.
      degrees_of_freedom: [] n - rank (- 1 with an intercept); n - trace of the hat matrix with
        ridge.
      condition_number: [] as in `Solution`.
      num_examples: [] n.
      distance_to_minimum: Newton's step from params to where the loss is least, in standard errors,
        the largest of a few directions; 0 for squared losses. Where psi jumps it is 0 at a minimum,
        whose examples on the line hold it there, and some p / sqrt(n) beside one; far more than
        that says that params are no minimum.
      sparsity: 1 over the density of the residuals at 0, for `mae` and `quantile`, NaN otherwise.
      tail_examples: n min(level, 1 - level), how many examples are expected on the lesser side of
        the line, for `mae` and `quantile`, NaN otherwise.
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
    distance_to_minimum: Float[Array, " *k"]
    sparsity: Float[Array, " *k"]
    tail_examples: Float[Array, " *k"]
    reference_degrees: Float[Array, ""]
    level: Float[Array, ""]

    def __str__(self) -> str:
        known = not any(is_traced(leaf) for leaf in jax.tree.leaves(self))
        return as_table(self) if known and jnp.ndim(self.rank) == 0 else repr(self)
