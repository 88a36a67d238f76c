"""An `Inference` as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax.typing import ArrayLike

from linreg_jax.model import Params

if TYPE_CHECKING:
    from linreg_jax.inference import Inference

_HEAD = ("", "coefficient", "std. error", "t", "p", "from", "to")


def as_table(inference: Inference) -> str:
    """The coefficients a line each, and below them what is known of the fit."""
    found = jax.tree.map(np.asarray, inference)
    if found.params.weights.ndim == 1:
        return "\n".join(_lines(found))
    num_targets = found.params.weights.shape[1]
    return "\n\n".join(
        "\n".join([f"target {j}", *_lines(_of_target(found, j))]) for j in range(num_targets)
    )


def _of_target(found: Inference, j: int) -> Inference:
    several = found.residual_deviation.shape
    fields = {
        name: value[..., j] if value.shape == several else value
        for name, value in found._asdict().items()
        if isinstance(value, np.ndarray)
    }
    params = {
        name: jax.tree.map(lambda leaf: leaf[..., j], value)
        for name, value in found._asdict().items()
        if isinstance(value, Params)
    }
    return found._replace(**{**fields, **params, "covariance": found.covariance[j]})


def _lines(found: Inference) -> Iterator[str]:
    columns = [_column(getattr(found, name)) for name in found._fields[:6]]
    names = [f"weights[{j}]" for j in range(found.params.weights.shape[0])]
    if found.params.bias is not None:
        names = ["bias", *names]
    rows = [
        _HEAD,
        *((name, *map(_number, row)) for name, *row in zip(names, *columns, strict=True)),
    ]
    width = max(len(row[0]) for row in rows)
    for row in rows:
        yield " ".join([row[0].ljust(width), *(cell.rjust(12) for cell in row[1:])])
    missing = [name for name, value in zip(names, columns[0], strict=True) if np.isnan(value)]
    if missing:
        yield f"Not identified by the data: {', '.join(missing)}."
    yield (
        f"{100 * float(found.level):g} % intervals; "
        f"t has {_number(found.reference_degrees)} degrees of freedom"
    )
    yield (
        f"examples {_number(found.num_examples)}, rank {found.rank}, residual degrees of freedom "
        f"{_number(found.degrees_of_freedom)}, condition number {_number(found.condition_number)}"
    )
    yield (
        f"residual standard error {_number(found.residual_deviation)}, R² {_number(found.r2)}, "
        f"adjusted R² {_number(found.adjusted_r2)}"
    )
    yield (
        f"F {_number(found.f_statistic)} (p {_number(found.f_p_value)}), log-likelihood "
        f"{_number(found.log_likelihood)}, AIC {_number(found.aic)}, BIC {_number(found.bic)}"
    )


def _column(params: Params) -> np.ndarray:
    bias = [] if params.bias is None else [params.bias]
    return np.concatenate([np.ravel(np.asarray(part)) for part in (*bias, params.weights)])


def _number(value: ArrayLike) -> str:
    return f"{float(np.asarray(value)):.5g}"
