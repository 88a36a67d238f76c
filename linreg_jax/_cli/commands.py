"""What the commands do; each takes the parsed arguments and returns the exit code."""

import importlib
import json
import textwrap
import time
from argparse import Namespace
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._cli.job import (
    make_job,
    prepare,
    rate_for,
    read_columns,
    steps_to_take,
    train,
    warn,
)
from linreg_jax._cli.outputs import require_outputs, write_outputs
from linreg_jax._cli.report import in_file_units, make_report, report_text
from linreg_jax._cli.terminal import INTERRUPTED, require_output, show, write_data
from linreg_jax._cli.worth import has_worth, predicted_columns, worth
from linreg_jax._csv_cells import header_cell
from linreg_jax._files import write_whole
from linreg_jax._minimum.requirements import is_solvable
from linreg_jax._training.result import DivergedError, Fit, Status
from linreg_jax.checking import check_gradients
from linreg_jax.diagnosis import diagnose as diagnose_data
from linreg_jax.exact import solve
from linreg_jax.model import init_params
from linreg_jax.saving import load, save
from linreg_jax.tables import ColumnModel, Table, read_table


def demonstration(arguments: Namespace) -> int:
    """Hubble's nebulae, and a picture of them."""
    from linreg_jax.demonstration import demonstrate

    path = arguments.hubble_plot
    if arguments.hubble_tour:
        return _tour(arguments, path)
    if path is not None:  # before the report, whose reader may have read enough
        require_outputs([], [path])
        _pictures(arguments, path).draw_hubble(path)
    code = demonstrate(seed=arguments.hubble_seed)
    if path is not None:
        show(f"\npicture: {path}")
    return code


def _tour(arguments: Namespace, path: str | None) -> int:
    """The tour, whose pictures need matplotlib only where they are asked for."""
    from linreg_jax.tour import PICTURE, tour

    if path is not None:
        require_outputs([], [path])
        _pictures(arguments, path)
    return tour(PICTURE if path is None else path)


def fit(arguments: Namespace) -> int:
    """Trains, writes the files asked for, and prints the coefficients beside the exact ones."""
    json_path = None if arguments.json == "-" else arguments.json
    outputs = [arguments.save, json_path, arguments.plot]
    require_outputs([arguments.file], outputs)
    if arguments.json == "-":
        require_output("pass --json FILE")
    if arguments.plot is not None:
        _pictures(arguments, arguments.plot)
    job = prepare(arguments)
    has_worth(job, arguments)  # refuses before anything is trained
    rate = arguments.learning_rate or rate_for(job, arguments, steps_to_take(job, arguments))
    began = time.perf_counter()
    result = jax.block_until_ready(train(job, arguments, rate=rate))
    seconds = time.perf_counter() - began
    _raise_if_diverged(result, asked_for_files=any(outputs))
    exact = solve(job.data, job.loss).params if is_solvable(job.loss) else None
    fitted, found = in_file_units(result.params, job), worth(job, arguments, exact)
    model = ColumnModel(fitted, job.features, job.target, str(job.loss), found)
    report = make_report(arguments, job, result, model, exact, seconds, rate=rate)
    as_json = json.dumps(report, indent=2)

    def draw(path: str) -> None:
        _pictures(arguments, path).draw_fit(path, job, arguments, result)

    try:
        write_outputs(
            (arguments.save, lambda path: save(model, path)),
            (json_path, lambda path: write_whole(path, [as_json.encode() + b"\n"])),
            (arguments.plot, draw),
        )
    finally:  # the numbers are there, whatever became of a file
        show(as_json if arguments.json == "-" else report_text(report))
    return INTERRUPTED if int(result.status) == Status.INTERRUPTED else 0


def _raise_if_diverged(result: Fit, *, asked_for_files: bool) -> None:
    try:
        result.raise_if_diverged()
    except DivergedError as error:
        written = "; nothing was written" if asked_for_files else ""
        raise DivergedError(f"{error}{written}") from None


def predict(arguments: Namespace) -> int:
    """Predictions of a saved model, one a row."""
    out = None if arguments.out == "-" else arguments.out
    require_outputs([arguments.file, arguments.model], [out])
    if out is None:
        require_output("pass --out FILE")
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
    if table.num_blank:
        _warn_of_blank_lines(table)
    names, columns = predicted_columns(model, table, arguments.interval)
    if names[0] != model.target:
        warn(f"the column is named {names[0]}: a spreadsheet would compute {model.target}")
    rows = [",".join(map(repr, row)) for row in np.stack(columns, axis=1).tolist()]
    lines = "\n".join([",".join(map(header_cell, names)), *rows]) + "\n"
    if out is None:
        write_data(lines)
    else:
        write_whole(out, [lines.encode()])
    return 0


def _warn_of_blank_lines(table: Table) -> None:
    lines = ", ".join(map(str, table.blank_lines))
    more = ", ..." if table.num_blank > len(table.blank_lines) else ""
    count = "a blank line" if table.num_blank == 1 else f"{table.num_blank:,} blank lines"
    warn(f"passed over {count} ({lines}{more}), no rows: the predictions are of the other lines")


def check(arguments: Namespace) -> int:
    """Checks the gradients of a loss where they matter to the user, on the user's data."""
    job = prepare(arguments)
    scale = float(jnp.std(job.data.y)) or 1.0
    params = init_params(job.data, key=jax.random.key(arguments.seed), scale=scale)
    report = check_gradients(job.loss, params, job.data)
    names = textwrap.wrap(", ".join(f"[{j}] {name}" for j, name in enumerate(job.features)), 70)
    weights = "weights" + ", of standardized features" * (job.restore is not None)
    show("\n".join([str(report), "", weights, *names]))
    return 0 if report.ok else 1


def diagnose(arguments: Namespace) -> int:
    """Says what gradient descent would do on the file as it stands, and as `fit` takes it."""
    table = read_columns(arguments, rounds_features=True)
    job = make_job(table, arguments, standardized=False)
    verdict = diagnose_data(job.data, job.loss)
    width = max(map(len, job.features))
    lines = [f"{'feature':{width + 4}}{'root mean square':>16}{'deviation':>12}"]
    for j, name in enumerate(job.features):
        remark = "constant" if verdict.constant[j] else ""
        remark = "a combination of others" if verdict.collinear[j] else remark
        sizes = f"{verdict.feature_scale[j]:16.6g}{verdict.feature_deviation[j]:12.6g}"
        lines.append(f"{j:3} {name:{width}}{sizes}  {remark}".rstrip())
    lines += ["", "The features as they are in the file", str(verdict)]
    if arguments.standardize:
        job = make_job(table, arguments, standardized=True)
        verdict = diagnose_data(job.data, job.loss)
        lines += ["", "The features standardized, as fit takes them", str(verdict)]
    show("\n".join(lines))
    return 0


def plot(arguments: Namespace) -> int:
    """Draws one picture of a file."""
    require_outputs([arguments.file], [arguments.out])
    pictures = _pictures(arguments, arguments.out)
    pictures.draw(arguments, prepare(arguments))
    show(arguments.out)
    return 0


def _pictures(arguments: Namespace, path: str) -> ModuleType:
    """The module that draws, once it is known that it can draw such a file."""
    try:
        pictures = importlib.import_module("linreg_jax._cli.pictures")
    except ModuleNotFoundError:
        raise ValueError("a picture needs matplotlib: pip install matplotlib") from None
    pictures.require_format(path, is_film=getattr(arguments, "kind", None) == "animation")
    return pictures
