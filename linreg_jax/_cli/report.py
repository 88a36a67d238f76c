"""What there is to say of a fit: as JSON, and as text."""

import math
from argparse import Namespace
from typing import Any

import jax
import numpy as np
import optax
from jax.typing import ArrayLike

from linreg_jax._cli import choosing
from linreg_jax._cli.job import Job
from linreg_jax._cli.worth import as_json, as_lines
from linreg_jax._training.result import Fit, Status
from linreg_jax.dataset import Dataset
from linreg_jax.losses import Loss
from linreg_jax.model import Params
from linreg_jax.tables import ColumnModel

Report = dict[str, Any]
"""What `--json` writes: see `linreg-jax fit --help`."""


def in_file_units(params: Params, job: Job) -> Params:
    """Parameters for the columns of the file, float64."""
    wide, restore = jax.tree.map(lambda leaf: np.asarray(leaf, float), (params, job.restore))
    with jax.enable_x64(True):
        return jax.device_put(wide if restore is None else restore(wide))


def make_report(
    arguments: Namespace,
    job: Job,
    result: Fit,
    model: ColumnModel,
    exact: Params | None,
    seconds: float,
    *,
    rate: float | str | optax.Schedule,
) -> Report:
    """Everything there is to say of a fit, as `--json` writes it.

    Args:
      arguments: of the command line.
      job: what was trained on.
      result: the run.
      model: its parameters in the units of the file.
      exact: the exact minimum, as it was trained on; None: it is not known.
      seconds: training took.
      rate: the learning rate as it was handed to `fit`.
    """
    first_rate = rate(0) if callable(rate) else result.learning_rate
    return {
        "format": 1,
        "file": arguments.file,
        "target": job.target,
        "features": list(job.features),
        "rows": job.data.X.shape[0],
        "dropped_rows": job.num_dropped,
        "loss": str(job.loss),
        "optimizer": arguments.optimizer,
        "first_learning_rate": _finite(first_rate),
        "learning_rate": _finite(result.learning_rate),
        "dtype": str(job.data.X.dtype),
        "standardized": job.restore is not None,
        "status": Status(int(result.status)).name.lower(),
        "num_steps": int(result.num_steps),
        **_coefficients(model.params, job),
        "exact": None if exact is None else _coefficients(in_file_units(exact, job), job),
        "inference": None
        if model.inference is None
        else as_json(model.inference, job, arguments.covariance),
        "cross_validation": None if job.choice is None else choosing.as_json(job.choice),
        "training": _quality(job.loss, result.params, job.data),
        "test": None if job.test is None else _quality(job.loss, result.params, job.test),
        "seconds": {"read": round(job.seconds, 3), "fit": round(seconds, 3)},
    }


def _coefficients(params: Params, job: Job) -> dict[str, Any]:
    values = map(_finite, np.asarray(params.weights))
    return {
        "coefficients": dict(zip(job.features, values, strict=True)),
        "intercept": _finite(params.bias),
    }


def _quality(loss: Loss, params: Params, data: Dataset) -> dict[str, Any]:
    """How well parameters do on all rows; R² as scikit-learn's r2_score."""
    y, (weights, bias) = np.asarray(data.y, float), jax.device_get(params)
    predicted = np.asarray(data.X) @ weights + bias  # in the dtype of the run
    squares = np.sum((np.asarray(predicted, float) - y) ** 2)
    total = np.sum((y - y.mean()) ** 2)
    r2 = 1 - squares / total if total > 0 else math.nan
    plain = float(loss(params, data)) - float(loss.penalty(params))
    return {"rows": len(y), "loss": _finite(plain), "r2": _finite(r2)}


def _finite(value: ArrayLike | None) -> float | None:
    number = math.nan if value is None else float(np.asarray(value))
    return number if math.isfinite(number) else None


def report_text(report: Report) -> str:
    """The report for people."""
    names = [*report["features"], "intercept"]
    width = max(len(name) for name in [*names, "learning rate"]) + 2

    def column(found: dict[str, Any]) -> list[float | None]:
        return [*found["coefficients"].values(), found["intercept"]]

    exact, lines = report["exact"], []
    if report["inference"] is not None:
        lines = [*as_lines(report["inference"], width), ""]
    lines += [f"{'':{width}}{'fitted':>15}{'exact' if exact else '':>15}".rstrip()]
    columns = [column(report), *([column(exact)] if exact else [])]
    for name, *values in zip(names, *columns, strict=True):
        lines.append(f"{name:{width}}" + "".join(f"{_number(value):>15}" for value in values))
    if report["cross_validation"] is not None:
        lines += ["", *choosing.as_lines(report["cross_validation"], width)]
    parts = {"training": report["training"], "test": report["test"]}
    parts = {name: part for name, part in parts.items() if part is not None}
    lines += ["", f"{'':{width}}" + "".join(f"{name:>15}" for name in parts)]
    for key, name in (("rows", "rows"), ("loss", report["loss"].split(" + ")[0]), ("r2", "R²")):
        shown = [
            f"{part[key]:,}" if key == "rows" else _number(part[key]) for part in parts.values()
        ]
        lines.append(f"{name:{width}}" + "".join(f"{text:>15}" for text in shown))
    status = report["status"].replace("_", " ")
    lines += [
        "",
        f"{'loss':{width}}{report['loss']}",
        f"{'optimizer':{width}}{report['optimizer']}",
        f"{'learning rate':{width}}{_rate(report)}"
        + (" on standardized features" if report["standardized"] else ""),
        f"{'status':{width}}{status} after {report['num_steps']:,} steps, {report['dtype']}",
        f"{'time':{width}}{report['seconds']['read']:.1f} s to read, "
        f"{report['seconds']['fit']:.1f} s to fit",
    ]
    return "\n".join(lines)


def _rate(report: Report) -> str:
    """The learning rate, or from what to what it fell."""
    first, last = report["first_learning_rate"], report["learning_rate"]
    if first is None or last is None or first == last:
        return _number(last)
    return f"falling from {first:.4g} to {last:.4g}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.7g}"
