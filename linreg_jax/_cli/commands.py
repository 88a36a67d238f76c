"""What the commands do; each takes the parsed arguments and returns the exit code."""

import importlib
import json
import math
import sys
import textwrap
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._cli.job import OPTIMIZERS, prepare, train
from linreg_jax._files import require_writable, write_whole
from linreg_jax._plotting.surface import is_squared
from linreg_jax._training.result import Status
from linreg_jax.checking import check_gradients
from linreg_jax.diagnosis import diagnose as diagnose_data
from linreg_jax.exact import solve
from linreg_jax.model import Params, init_params
from linreg_jax.model import predict as predict_rows
from linreg_jax.saving import load, save
from linreg_jax.tables import ColumnModel, read_table

__all__ = ["OPTIMIZERS", "PICTURES", "check", "demonstration", "diagnose", "fit", "plot", "predict"]

PICTURES = ("surface", "learning-rates", "losses", "fit", "gradients", "animation")


def demonstration(arguments) -> int:
    """Hubble's nebulae, and a picture of them."""
    from linreg_jax.demonstration import demonstrate

    path = arguments.hubble_plot
    pictures = None if path is None else _pictures(arguments, path)
    code = demonstrate(seed=arguments.hubble_seed)
    if pictures is not None:
        pictures.draw_hubble(path)
        print(f"\npicture: {path}")
    return code


def fit(arguments) -> int:
    """Trains, and prints the coefficients beside the exact ones."""
    outputs = [arguments.save, arguments.plot, None if arguments.json == "-" else arguments.json]
    _require_outputs(arguments.file, *outputs)
    pictures = None if arguments.plot is None else _pictures(arguments, arguments.plot)
    job = prepare(arguments)
    began = time.perf_counter()
    result = jax.block_until_ready(train(job, arguments))
    seconds = time.perf_counter() - began
    result.raise_if_diverged()
    exact = solve(job.data, job.loss).params if is_squared(job.loss) else None
    model = ColumnModel(_in_file_units(result.params, job), job.features, job.target, str(job.loss))
    report = _report(arguments, job, result, model, exact, seconds)
    if arguments.json == "-":
        json.dump(report, sys.stdout, indent=2)
        print()
    else:
        print(_report_text(report))
    if arguments.json not in (None, "-"):
        write_whole(arguments.json, [json.dumps(report, indent=2).encode() + b"\n"])
    if pictures is not None:
        pictures.draw_fit(arguments.plot, job, arguments, result)
    if arguments.save is not None:
        save(model, arguments.save)
    return 130 if result.status == Status.INTERRUPTED else 0


def predict(arguments) -> int:
    """Predictions of a saved model, one a row."""
    _require_outputs(arguments.file, arguments.out)
    model = load(arguments.model)
    if not isinstance(model, ColumnModel):
        raise ValueError(
            f"{arguments.model} holds a {type(model).__name__}, not a model with the names of its "
            "columns: linreg-jax fit FILE --target COLUMN --save MODEL writes one"
        )
    try:
        table = read_table(
            arguments.file, features=model.features, drop_missing=arguments.drop_missing
        )
    except ValueError as error:
        raise ValueError(f"{error} (the model reads {', '.join(model.features)})") from None
    predictions = np.full(table.kept.shape, np.nan)
    predictions[table.kept] = predict_rows(model.params, table.X)
    name = f'"{model.target}"' if set(model.target) & set(',;\t"\n') else model.target
    lines = "\n".join([name, *map(repr, predictions.tolist())]) + "\n"
    if arguments.out is None:
        sys.stdout.write(lines)
    else:
        write_whole(arguments.out, [lines.encode()])
    return 0


def check(arguments) -> int:
    """Checks the gradients of a loss where they matter to the user, on the user's data."""
    job = prepare(arguments)
    scale = float(jnp.std(job.data.y)) or 1.0
    params = init_params(job.data, key=jax.random.key(arguments.seed), scale=scale)
    report = check_gradients(job.loss, params, job.data)
    print(report)
    names = textwrap.wrap(", ".join(f"[{j}] {name}" for j, name in enumerate(job.features)), 70)
    print("\nweights" + ", of standardized features" * (job.restore is not None))
    print("\n".join(names))
    return 0 if report.ok else 1


def diagnose(arguments) -> int:
    """Says what gradient descent would do on the file as it stands, and as `fit` takes it."""
    standardize, arguments.standardize = arguments.standardize, False
    job = prepare(arguments)
    verdict = diagnose_data(job.data, job.loss)
    width = max(map(len, job.features))
    print(f"{'feature':{width + 4}}{'root mean square':>16}{'deviation':>12}")
    for j, name in enumerate(job.features):
        remark = "constant" if verdict.constant[j] else ""
        remark = "a combination of others" if verdict.collinear[j] else remark
        sizes = f"{verdict.feature_scale[j]:16.6g}{verdict.feature_deviation[j]:12.6g}"
        print(f"{j:3} {name:{width}}{sizes}  {remark}".rstrip())
    print(f"\nThe features as they are in the file\n{verdict}")
    if standardize:
        arguments.standardize = True
        job = prepare(arguments)
        print(
            f"\nThe features standardized, as fit takes them\n{diagnose_data(job.data, job.loss)}"
        )
    return 0


def plot(arguments) -> int:
    """Draws one picture of a file."""
    _require_outputs(arguments.file, arguments.out)
    pictures = _pictures(arguments, arguments.out)
    pictures.draw(arguments, prepare(arguments))
    print(arguments.out)
    return 0


def _require_outputs(source, *paths):
    """Raises before any work is done where an output cannot be written."""
    places = [Path(path).resolve() for path in paths if path is not None]
    for path in paths:
        if path is not None:
            require_writable(path)
    if Path(source).resolve() in places:
        raise ValueError(f"{source} is the input: give the output another name")
    if len(set(places)) < len(places):
        raise ValueError("two outputs have the same name: give each its own")


def _pictures(arguments, path):
    """The module that draws, once it is known that it can draw such a file."""
    require_writable(path)
    try:
        pictures = importlib.import_module("linreg_jax._cli.pictures")
    except ModuleNotFoundError:
        raise ValueError("a picture needs matplotlib: pip install 'linreg-jax[plot]'") from None
    pictures.require_format(path, is_film=getattr(arguments, "kind", None) == "animation")
    return pictures


def _in_file_units(params: Params, job) -> Params:
    """Parameters for the columns of the file, float64."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), params)
        if job.restore is None:
            return wide
        restore = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), job.restore)
        return restore(wide)


def _report(arguments, job, result, model, exact, seconds):
    """Everything there is to say of a fit, as `--json` writes it."""
    return {
        "format": 1,
        "file": arguments.file,
        "target": job.target,
        "features": list(job.features),
        "rows": job.data.X.shape[0],
        "dropped_rows": job.num_dropped,
        "loss": str(job.loss),
        "optimizer": arguments.optimizer,
        "learning_rate": _finite(result.learning_rate),
        "dtype": str(job.data.X.dtype),
        "standardized": job.restore is not None,
        "status": Status(int(result.status)).name.lower(),
        "num_steps": int(result.num_steps),
        **_coefficients(model.params, job),
        "exact": None if exact is None else _coefficients(_in_file_units(exact, job), job),
        "training": _quality(job.loss, result.params, job.data),
        "test": None if job.test is None else _quality(job.loss, result.params, job.test),
        "seconds": {"read": round(job.seconds, 3), "fit": round(seconds, 3)},
    }


def _coefficients(params, job):
    values = map(_finite, np.asarray(params.weights))
    return {
        "coefficients": dict(zip(job.features, values, strict=True)),
        "intercept": _finite(params.bias),
    }


def _quality(loss, params, data):
    """How well parameters do; R² as scikit-learn's r2_score."""
    y = np.asarray(data.y, float)
    squares = np.sum((np.asarray(predict_rows(params, data.X), float) - y) ** 2)
    total = np.sum((y - y.mean()) ** 2)
    r2 = 1 - squares / total if total > 0 else math.nan
    plain = float(loss(params, data) - loss.penalty(params))
    return {"rows": len(y), "loss": _finite(plain), "r2": _finite(r2)}


def _finite(value):
    value = float(value)
    return value if math.isfinite(value) else None


def _report_text(report):
    """The report for people."""
    names = [*report["features"], "intercept"]
    width = max(len(name) for name in [*names, "learning rate"]) + 2

    def column(found):
        return [*found["coefficients"].values(), found["intercept"]]

    exact = report["exact"]
    lines = [f"{'':{width}}{'fitted':>15}{'exact' if exact else '':>15}".rstrip()]
    columns = [column(report), *([column(exact)] if exact else [])]
    for name, *values in zip(names, *columns, strict=True):
        lines.append(f"{name:{width}}" + "".join(f"{_number(value):>15}" for value in values))
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
        f"{'learning rate':{width}}{_number(report['learning_rate'])}"
        + (" on standardized features" if report["standardized"] else ""),
        f"{'status':{width}}{status} after {report['num_steps']:,} steps, {report['dtype']}",
        f"{'time':{width}}{report['seconds']['read']:.1f} s to read, "
        f"{report['seconds']['fit']:.1f} s to fit",
    ]
    return "\n".join(lines)


def _number(value):
    return "–" if value is None else f"{value:.7g}"
