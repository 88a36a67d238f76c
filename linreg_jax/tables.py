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
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from linreg_jax._csv import CsvFile
from linreg_jax._files import STANDARD_INPUT, on_disk
from linreg_jax.model import Params


class Table(NamedTuple):
    """Columns of finite numbers.

    Attributes:
      X: [n, d] features.
      y: [n] target; None where none was asked for.
      features: the d names.
      kept: [m] bool, which of the file's m rows are here; the others miss a value.
      num_blank: blank lines between the rows of a file of several columns, which are no rows.
      blank_lines: the numbers of the first few of them.
    """

    X: np.ndarray
    y: np.ndarray | None
    features: tuple[str, ...]
    kept: np.ndarray
    num_blank: int = 0
    blank_lines: tuple[int, ...] = ()


class ColumnModel(NamedTuple):
    """A fitted model and the columns it reads: what `linreg-jax fit --save` writes.

    Attributes:
      params: `Params` in the units of the file, float64.
      features: the names of the columns that the weights belong to.
      target: the name of what is predicted.
      loss: what was minimised, as text.
    """

    params: Params
    features: tuple[str, ...]
    target: str
    loss: str


class _Source(Protocol):
    """A file of named columns; see `CsvFile`."""

    names: tuple[str, ...]
    num_rows: int
    place: str
    num_blank: int
    blank_lines: tuple[int, ...]

    def batches(self, chosen: Sequence[int]) -> Iterator[tuple[np.ndarray, Sequence[int]]]: ...


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
        return _read(place, target, features, dtype, drop_missing)


def _read(
    path: Path,
    target: str | None,
    features: Sequence[str] | None,
    dtype: str,
    drop_missing: bool,
) -> Table:
    """`read_table` of a file that can be read again."""
    source: _Source = _NpzFile(path) if path.suffix.lower() == ".npz" else CsvFile(path)
    names = choose_columns(path, source.names, target, features)
    d = len(names)
    columns = names if target is None else (*names, target)
    chosen = [source.names.index(name) for name in columns]

    X, y = np.empty((source.num_rows, d), dtype), np.empty(source.num_rows, dtype)
    largest = float(np.finfo(dtype).max) / 16  # whose reciprocal is a number in full too
    kept, missing, filled = [], np.zeros(len(columns), int), 0
    for values, places in source.batches(chosen):
        nans = np.isnan(values)
        complete = ~nans.any(axis=1)
        missing += nans.sum(axis=0)
        kept.append(complete)
        too_large = np.abs(values) > largest
        if too_large.any():
            row, column = np.argwhere(too_large)[0].tolist()
            where = f"{path}, {source.place} {places[row]}, column {columns[column]!r}"
            raise ValueError(f"{where}: {_too_large_text(values[row, column], largest, dtype)}")
        end = filled + int(complete.sum())
        X[filled:end] = values[complete, :d]
        if target is not None:
            y[filled:end] = values[complete, d]
        filled = end
    if not kept:
        raise ValueError(f"{path} has a header and no rows")
    if missing.any() and not (drop_missing and filled):
        raise ValueError(_missing_text(path, columns, missing, kept, filled, drop_missing))
    y_filled = None if target is None else y[:filled]
    return Table(
        X[:filled], y_filled, names, np.concatenate(kept), source.num_blank, source.blank_lines
    )


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


def _no_column_text(path, names, name):
    known = {known.lower(): known for known in names if known}
    near = difflib.get_close_matches(name.lower(), known, n=1)
    question = f": did you mean {known[near[0]]!r}?" if near else "."
    return f"{path} has no column {name!r}{question} It has {_listed(names)}"


def _listed(names):
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


def _missing_text(path, columns, missing, kept, filled, drop_missing):
    num_rows = sum(map(len, kept))
    counts = [f"{count} in {name!r}" for name, count in zip(columns, missing, strict=True) if count]
    where = f"{path} has missing values in {num_rows - filled} of {num_rows} rows"
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


class _NpzFile:
    """The columns of an .npz file; see `CsvFile`."""

    place = "row"
    num_blank = 0
    blank_lines: tuple[int, ...] = ()

    def __init__(self, path: Path):
        makes_one = "np.savez(path, X=X, y=y) makes one"
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{path} is not an .npz file, or a part of one: {makes_one}")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                loaded = {name: arrays[name] for name in arrays.files}
        # RuntimeError: a password, or a compression that this Python cannot read
        except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            why = "it holds Python objects" if "allow_pickle" in str(error) else str(error)
            raise ValueError(
                f"{path} is not an .npz file of numbers ({why}): {makes_one}"
            ) from None
        columns: dict[str, np.ndarray] = {}
        for name, array in loaded.items():
            if not isinstance(array, np.ndarray):  # the bytes of a file of another kind
                raise ValueError(
                    f"{path} is not an .npz file of numbers ({name!r} in it is no array): "
                    f"{makes_one}"
                )
            if array.ndim not in (1, 2):
                raise ValueError(
                    f"{path}, array {name!r} has shape {list(array.shape)}: columns are [n] or "
                    "[n, d]"
                )
            parts = (
                {name: array}
                if array.ndim == 1
                else {f"{name}{j}": array[:, j] for j in range(array.shape[1])}
            )
            if twice := columns.keys() & parts.keys():
                raise ValueError(f"{path} names column {min(twice)!r} twice: rename an array")
            columns |= parts
        if len({len(column) for column in columns.values()}) > 1:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in loaded.items())
            raise ValueError(f"{path} holds arrays of different lengths: {shapes}")
        if not columns:
            raise ValueError(f"{path} is empty: np.savez(path, X=X, y=y) writes columns")
        self.path, self.names = path, tuple(columns)
        self._columns = tuple(columns.values())
        self.num_rows = len(self._columns[0])

    def batches(self, chosen: Sequence[int]) -> Iterator[tuple[np.ndarray, Sequence[int]]]:
        for i in chosen:
            column = self._columns[i]
            if column.dtype.kind not in "fiub":
                raise ValueError(
                    f"{self.path}, row 0, column {self.names[i]!r}: {str(column[:1])[1:-1]} is not "
                    "a number; choose features without it"
                )
        for start in range(0, self.num_rows, 1 << 16):
            rows = range(start, min(start + (1 << 16), self.num_rows))
            part = [self._columns[i][start : rows.stop].astype(np.float64) for i in chosen]
            yield np.stack(part, axis=1), rows
