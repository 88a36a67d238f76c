"""What the coefficients are worth, in the units of the file: as a record, JSON and text."""

import math
import textwrap
from argparse import Namespace
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from linreg_jax._cli.job import Job
from linreg_jax._csv_cells import harmless_name
from linreg_jax._inference.arguments import refuse_covariance
from linreg_jax._inference.distributions import t_p_values, t_quantile
from linreg_jax._inference.result import Inference
from linreg_jax._inference.text import tail_warning
from linreg_jax.inference import infer, predict_interval
from linreg_jax.model import Params, predict
from linreg_jax.tables import ColumnModel, Table

_NUMBERS = ("params", "standard_errors", "statistics", "p_values", "lower", "upper")
_KEYS = ("coefficient", "standard_error", "t", "p", "lower", "upper")
_WIDTH = 80
_SMALLEST = 1e-99
_WIDTHS = (12, 11, 9, 10, 11, 11)


def has_worth(job: Job, arguments: Namespace) -> bool:
    """Whether standard errors are asked for and there are some: not with a lasso.

    Raises:
      ValueError: a covariance that the loss does not have.
    """
    if arguments.covariance == "none" or job.loss.proximal_penalties:
        return False
    refuse_covariance(job.loss, arguments.covariance)
    return True


def worth(job: Job, arguments: Namespace, exact: Params | None) -> Inference | None:
    """The `Inference` of what was trained on, at the minimum, float64, in the units of the file.

    None where `has_worth` says so; `exact` is the minimum as `solve` found it.
    """
    if not has_worth(job, arguments):
        return None
    params = None if job.loss.is_smooth else exact
    found = infer(job.data, job.loss, params=params, covariance=arguments.covariance)
    found = jax.tree.map(_widened, found)
    with jax.enable_x64(True):
        return jax.device_put(found if job.restore is None else _restored(found, job))


def _widened(leaf: ArrayLike) -> Any:
    """A number or array as NumPy's, floats as float64."""
    array = np.asarray(leaf)
    return array.astype(float) if array.dtype.kind == "f" else array


def _restored(found: Inference, job: Job) -> Inference:
    """For the features as they were before they were standardized, NumPy's arrays both."""
    mean, scale = (np.asarray(part, float) for part in job.restore or ())
    # (bias, weights) of the file are T (bias, weights) of standardized features.
    T = np.diag(np.concatenate([[1.0], 1 / scale]))
    T[0, 1:] = -mean / scale
    standardized = np.concatenate([[found.params.bias], found.params.weights])
    V = np.asarray(found.covariance)
    # A sum over 0 times NaN is NaN: what is not identified stays out, but for the bias in the file.
    known = ~np.isnan(standardized)
    both = np.ix_(known, known)
    theta: Any = np.full_like(standardized, np.nan)
    covariance: Any = np.full_like(V, np.nan)
    theta[known], covariance[both] = T[both] @ standardized[known], T[both] @ V[both] @ T[both].T
    if not known.all():
        theta[0] = covariance[0] = covariance[:, 0] = np.nan
    error = np.sqrt(np.diag(covariance))
    half = np.asarray(t_quantile(float(found.level), found.reference_degrees)) * error
    with np.errstate(divide="ignore", invalid="ignore"):  # a perfect fit has no errors
        statistic = theta / error
    p = t_p_values(statistic, found.reference_degrees)

    def named(values: Any) -> Params:
        return Params(values[1:], values[0])

    return found._replace(
        params=named(theta),
        standard_errors=named(error),
        statistics=named(statistic),
        p_values=named(p),
        lower=named(theta - half),
        upper=named(theta + half),
        covariance=covariance,
    )


def predicted_columns(
    model: ColumnModel, table: Table, level: float | None
) -> tuple[list[str], list[np.ndarray]]:
    """Names and columns [n] of predictions, with a level those of their intervals; NaN for gaps.

    Raises:
      ValueError: a level, and a model that does not know what its coefficients are worth.
    """
    found = [predict(model.params, table.X)]
    names = [harmless_name(model.target)]
    if level is not None:
        if model.inference is None or np.isnan(model.inference.residual_deviation):
            raise ValueError(
                "--interval needs a model that knows how far from it observations lie, and this "
                "one does not: linreg-jax fit writes one for squared losses, huber and log_cosh, "
                "unless it is told --covariance none"
            )
        found += predict_interval(model.inference, table.X, level=level)
        names += [f"{names[0]} {end}" for end in ("lower", "upper")]
    columns = []
    for values in found:
        column = np.full(table.kept.shape, np.nan)
        column[table.kept] = values
        columns.append(column)
    return names, columns


def as_json(found: Inference, job: Job, covariance: str) -> dict[str, Any]:
    """What `--json` says of it."""
    found = jax.tree.map(np.asarray, found)
    numbers = [getattr(found, name) for name in _NUMBERS]
    rows = [
        dict(zip(_KEYS, [_finite(one.weights[j]) for one in numbers], strict=True))
        for j in range(len(job.features))
    ]
    scalars = ("level", "reference_degrees", "residual_deviation", "f_statistic", "f_p_value",
               "sparsity", "tail_examples")  # fmt: skip
    return {
        "covariance": covariance,
        **{name: _finite(getattr(found, name)) for name in scalars},
        "coefficients": dict(zip(job.features, rows, strict=True)),
        "intercept": dict(zip(_KEYS, [_finite(one.bias) for one in numbers], strict=True)),
    }


def as_lines(report: dict[str, Any], width: int) -> list[str]:
    """The table that `fit` prints, from what `as_json` made."""
    head = ("coefficient", "std. error", "t", "p", "from", "to")
    cells = "".join(f"{text:>{w}}" for text, w in zip(head, _WIDTHS, strict=True))
    lines = [f"{'':{width}}{cells}"]
    for name, row in {**report["coefficients"], "intercept": report["intercept"]}.items():
        cells = "".join(
            f"{_number(value, key):>{w}}"
            for (key, value), w in zip(row.items(), _WIDTHS, strict=True)
        )
        lines.append(f"{name:{width}}{cells}")
    degrees = _number(report["reference_degrees"])
    lines.append(
        f"{100 * report['level']:g} % intervals, {report['covariance']} covariance, t with "
        f"{degrees} degrees of freedom"
    )
    tail = report["tail_examples"]
    warning = "" if tail is None else tail_warning(tail, len(report["coefficients"]) + 1)
    return lines + textwrap.wrap(warning, _WIDTH)


def _finite(value: ArrayLike | None) -> float | None:
    number = math.nan if value is None else float(np.asarray(value))
    return number if math.isfinite(number) else None


def _number(value: float | None, key: str = "") -> str:
    """Four digits; of a probability no exponent of three, which would fill its column."""
    if key == "p" and value is not None and value < _SMALLEST:
        return "<1e-38" if value == 0 else f"<{_SMALLEST:g}"  # 0: less than the least float32
    return "–" if value is None else f"{value:.4g}"
