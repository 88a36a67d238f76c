"""Tables from files: columns of numbers, by name, out of CSV and .npz.

A CSV file starts with a line of column names. Commas, semicolons and tabs are told apart by that
line; quotes, a byte-order mark and every kind of line end are understood. A blank line is a row
that misses its value where the file has one column; in a file of more columns it is no row, as in
pandas. Blank lines at the end are never rows. An .npz file holds NumPy arrays: one of shape [n] is
a column, one of shape [n, d] is d columns, X0, X1, ... where it is called X.

Only the columns asked for are made numbers, piece by piece, so that memory holds the result and
little else. Large CSV files are read in several threads where pyarrow is installed: the numbers and
the messages are the same.
"""

import difflib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from linreg_jax._csv import Batch, CsvFile
from linreg_jax._files import STANDARD_INPUT, on_disk, shown_name
from linreg_jax._inference.result import Inference
from linreg_jax._npz import NpzFile
from linreg_jax._typing import Bool, Float, Int
from linreg_jax.model import Params


class Table(NamedTuple):
    """Columns of finite numbers.

    Attributes:
      X: [n, d] features.
      y: [n] target; None where none was asked for.
      features: the d names.
      kept: [m] bool, which of the file's m rows are here; the others miss a value.
      file: its name in messages.
      places: [n] where each row stands: its line in CSV, its row from 0 in .npz.
      place: what that is called, "line" or "row".
      num_blank: blank lines between the rows of a file of several columns, which are no rows.
      blank_lines: the numbers of the first few of them.
    """

    X: Float[np.ndarray, "n d"]
    y: Float[np.ndarray, " n"] | None
    features: tuple[str, ...]
    kept: Bool[np.ndarray, " m"]
    file: str
    places: Int[np.ndarray, " n"]
    place: str
    num_blank: int = 0
    blank_lines: tuple[int, ...] = ()

    def where(self, row: int, column: str) -> str:
        """Where a number stands in the file, the beginning of a message."""
        return f"{self.file}, {self.place} {self.places[row]}, column {column!r}"


class ColumnModel(NamedTuple):
    """A fitted model and the columns it reads: what `linreg-jax fit --save` writes.

    Attributes:
      params: `Params` in the units of the file, float64.
      features: the names of the columns that the weights belong to.
      target: the name of what is predicted.
      loss: what was minimised, as text.
      inference: what the coefficients are worth, in the units of the file, or None: not known.
    """

    params: Params
    features: tuple[str, ...]
    target: str
    loss: str
    inference: Inference | None = None


@runtime_checkable
class _Source(Protocol):
    """A file of named columns; see `CsvFile`."""

    names: tuple[str, ...]
    num_rows: int
    place: str
    num_blank: int
    blank_lines: tuple[int, ...]

    def batches(self, chosen: Sequence[int]) -> Iterator[Batch]: ...


def read_table(
    path: str | Path,
    *,
    target: str | None = None,
    features: Sequence[str] | None = None,
    dtype: str = "float64",
    drop_missing: bool = False,
) -> Table:
    """The numbers of some columns of a file.

    Args:
      path: a file whose name ends in .npz, or a CSV file of any name; a pipe, or `-` for standard
        input, holds CSV.
      target: name of the column to predict; None: no target is read.
      features: names of the columns to predict from; None: all but the target.
      dtype: "float32" or "float64", what X and y hold.
      drop_missing: whether rows that miss a value are left out; False: they are an error.

    Returns:
      A `Table`.

    Raises:
      OSError: no such file, a directory, or not allowed to read it.
      ValueError: the file is no such table: no header, no rows, ragged rows, a name twice, text or
        infinity where a number should be, missing values, numbers too large for the dtype; a
        column that is not there. The message names the line and the column.

    Example:
      >>> from pathlib import Path
      >>> import linreg_jax.data
      >>> table = read_table(Path(linreg_jax.data.__file__).with_name("hubble_1929.csv"),
      ...                    target="velocity_kms")
      >>> table.features, table.X.shape, float(table.y[0])
      (('distance_mpc',), (24, 1), 170.0)
    """
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a directory: pass a CSV or .npz file")
    if os.fspath(path) != STANDARD_INPUT and not os.path.exists(path):
        raise FileNotFoundError(f"{path}: there is no such file")
    with on_disk(path) as place:
        table = _read(place, target, features, dtype, drop_missing)
    return table._replace(file=shown_name(path))


def _read(
    path: Path,
    target: str | None,
    features: Sequence[str] | None,
    dtype: str,
    drop_missing: bool,
) -> Table:
    """`read_table` of a file that can be read again."""
    source: _Source = NpzFile(path) if path.suffix.lower() == ".npz" else CsvFile(path)
    names = choose_columns(path, source.names, target, features)
    d = len(names)
    columns = names if target is None else (*names, target)
    chosen = [source.names.index(name) for name in columns]

    X, y = np.empty((source.num_rows, d), dtype), np.empty(source.num_rows, dtype)
    places = np.empty(source.num_rows, np.int64)
    parts, missing, filled = [], np.zeros(len(columns), int), 0
    for values, numbers in source.batches(chosen):
        where, nans = np.asarray(numbers), np.isnan(values)
        if (found := first_too_large(values, dtype)) is not None:
            row, column, text = found
            place = f"{path}, {source.place} {where[row]}, column {columns[column]!r}"
            raise ValueError(f"{place}: {text}")
        complete = ~nans.any(axis=1)
        parts.append(complete)
        missing += nans.sum(axis=0)
        end = filled + int(complete.sum())
        X[filled:end] = values[complete, :d]
        places[filled:end] = where[complete]
        if target is not None:
            y[filled:end] = values[complete, d]
        filled = end
    if not parts:
        raise ValueError(f"{path} has a header and no rows")
    kept = np.concatenate(parts)
    if missing.any() and not (drop_missing and filled):
        raise ValueError(_missing_text(path, columns, missing, kept, drop_missing))
    return Table(
        X=X[:filled],
        y=None if target is None else y[:filled],
        features=names,
        kept=kept,
        file=str(path),
        places=places[:filled],
        place=source.place,
        num_blank=source.num_blank,
        blank_lines=source.blank_lines,
    )


def first_too_large(
    values: Float[np.ndarray, "n c"], dtype: str | np.dtype
) -> tuple[int, int, str] | None:
    """The first number whose reciprocal is not one in full; NaN is none.

    Returns:
      `(row, column, text)`, the text is the rule and the fix; None: all are small enough.
    """
    largest = float(np.finfo(dtype).max) / 16
    too_large = np.abs(values) > largest
    if not too_large.any():
        return None
    row, column = np.argwhere(too_large)[0].tolist()
    return row, column, _too_large_text(values[row, column], largest, str(dtype))


def choose_columns(
    path: Path, names: Sequence[str], target: str | None, features: Sequence[str] | None
) -> tuple[str, ...]:
    """The features' names, after everything about names is found right."""
    twice = [name for name, times in Counter(names).items() if times > 1 and name]
    if twice:
        raise ValueError(f"{path} names {len(twice)} columns twice, {twice[0]!r} first: rename one")
    for name in [*(features or ()), *([] if target is None else [target])]:
        if name not in names or not name:
            raise ValueError(_no_column_text(path, names, name))
    if features is None:
        features = tuple(name for name in names if name != target)
        if "" in features:
            raise ValueError(
                f"{path}, column {names.index('') + 1} has no name: name it, or choose features"
            )
    if not features:
        raise ValueError(f"{path} has no column but the target {target!r}: nothing to predict from")
    if target in features:
        raise ValueError(f"{target!r} is the target: it cannot be a feature too")
    if len(set(features)) < len(features):
        raise ValueError(f"features names a column twice, got {', '.join(features)}")
    return tuple(features)


def _no_column_text(path: Path, names: Sequence[str], name: str) -> str:
    known = {known.lower(): known for known in names if known}
    near = difflib.get_close_matches(name.lower(), known, n=1)
    question = f": did you mean {known[near[0]]!r}?" if near else "."
    return f"{path} has no column {name!r}{question} It has {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


def _missing_text(
    path: Path,
    columns: Sequence[str],
    missing: Int[np.ndarray, " c"],
    kept: Bool[np.ndarray, " m"],
    drop_missing: bool,
) -> str:
    counts = [f"{count} in {name!r}" for name, count in zip(columns, missing, strict=True) if count]
    where = f"{path} has missing values in {int((~kept).sum())} of {kept.size} rows"
    where += f": {_listed(counts)}"
    if drop_missing:
        return f"{where}; no row is complete"
    return f"{where}; fill them, or leave those rows out, --drop-missing (drop_missing=True)"


def _too_large_text(value: float, largest: float, dtype: str) -> str:
    if np.isinf(value):
        return "the number is infinite or too large; correct it or drop the line"
    wider = ", or compute in float64 (--float64)" if dtype == "float32" else ""
    return (
        f"{value:g} is too large to compute with in {dtype} (at most {largest:.2g}): rescale the "
        f"column{wider}"
    )
