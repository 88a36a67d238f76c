"""An `Inference` as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax.typing import ArrayLike

from linreg_jax.model import Params

if TYPE_CHECKING:
    from linreg_jax._inference.result import Inference

# Below some 15 examples a coefficient the extremes have another distribution: Chernozhukov and
# Fernández-Val 2011, Review of Economic Studies 78.
_FEWEST_IN_TAIL = 15
_FAR = 0.1  # standard errors
_OF_FIT = (
    (
        ("residual standard error", "residual_deviation"),
        ("R²", "r2"),
        ("adjusted R²", "adjusted_r2"),
    ),
    (("F", "f_statistic"), ("log-likelihood", "log_likelihood"), ("AIC", "aic"), ("BIC", "bic")),
    (("sparsity", "sparsity"),),
)
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
    columns = {name: _column(getattr(found, name)) for name in found._fields[:6]}
    names = [f"weights[{j}]" for j in range(found.params.weights.shape[0])]
    if found.params.bias is not None:
        names = ["bias", *names]
    rows = [
        _HEAD,
        *zip(
            names,
            *([_number(v, name) for v in column] for name, column in columns.items()),
            strict=True,
        ),
    ]
    width = max(len(row[0]) for row in rows)
    for row in rows:
        yield " ".join([row[0].ljust(width), *(cell.rjust(12) for cell in row[1:])])
    missing = [
        name for name, value in zip(names, columns["params"], strict=True) if np.isnan(value)
    ]
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
    for line in _OF_FIT:
        parts = [_named(found, label, name) for label, name in line]
        if any(parts):
            yield ", ".join(filter(None, parts))
    yield from _warnings(found, len(names))


def _named(found: Inference, label: str, name: str) -> str:
    """`label value`, nothing for a NaN; F with its p."""
    value = getattr(found, name)
    if np.isnan(value):
        return ""
    p = f" (p {_number(found.f_p_value, 'p_values')})" if name == "f_statistic" else ""
    return f"{label} {_number(value)}{p}"


def _warnings(found: Inference, p: int) -> Iterator[str]:
    tail, distance = float(found.tail_examples), float(found.distance_to_minimum)
    if warning := tail_warning(tail, p):
        yield warning
    if distance > _FAR + (p / float(found.num_examples) ** 0.5 if not np.isnan(tail) else 0):
        yield (
            f"The loss is least {_number(distance)} standard errors from these parameters: they "
            "are not at its minimum."
        )


def tail_warning(tail: float, p: int) -> str:
    """What to say of a quantile so far out that few examples lie beyond it; nothing of others."""
    if not tail < _FEWEST_IN_TAIL * p:
        return ""
    return (
        f"Only {_number(tail)} examples are expected on the lesser side of the line, for {p} "
        "coefficients: so far out errors and intervals are not to be trusted."
    )


def _column(params: Params) -> np.ndarray:
    bias = [] if params.bias is None else [params.bias]
    return np.concatenate([np.ravel(np.asarray(part)) for part in (*bias, params.weights)])


def _number(value: ArrayLike, what: str = "") -> str:
    """Five digits; a probability that underflows is less than the least number there is."""
    number = np.asarray(value)
    if what == "p_values" and number == 0:
        return f"<{np.finfo(number.dtype).tiny:.0e}"
    return f"{float(number):.5g}"
