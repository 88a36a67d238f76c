"""Chunks from files: .npy arrays, mapped into memory; Parquet and CSV, read piece by piece."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from linreg_jax._arrow import ParquetFile
from linreg_jax._csv import Batch, CsvFile
from linreg_jax._files import is_stream
from linreg_jax._typing import Num
from linreg_jax._validation import positive_integer, shape_text
from linreg_jax.tables import choose_columns

Pair = tuple[Num[np.ndarray, "n d"], Num[np.ndarray, " n *k"]]


class ArrayChunks:
    """The rows of two .npy files, some at a time; see `open_chunks`.

    Attributes:
      rows: in a chunk, fewer in the last.
    """

    def __init__(self, path_X: Path, path_y: Path, rows: int):
        self._paths, self.rows = (path_X, path_y), rows
        X, y = self._mapped()
        if X.ndim != 2 or X.size == 0:
            raise ValueError(
                f"{path_X} has shape {shape_text(X.shape)}: X is [n, d], n and d at least 1"
            )
        if y.ndim not in (1, 2) or len(y) != len(X):
            raise ValueError(
                f"{path_y} has shape {shape_text(y.shape)}, but {path_X} has "
                f"{shape_text(X.shape)}: y is [{len(X)}] or [{len(X)}, k]"
            )
        self._num_rows = len(X)

    def __len__(self) -> int:
        return -(-self._num_rows // self.rows)

    def __getitem__(self, index: int) -> Pair:
        start = range(len(self))[index] * self.rows
        # Mapped anew each time: the pages that are read go when the chunk goes.
        X, y = self._mapped()
        return X[start : start + self.rows], y[start : start + self.rows]

    def __iter__(self) -> Iterator[Pair]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"ArrayChunks({self._num_rows} rows, {self.rows} at a time)"

    def _mapped(self) -> tuple[np.ndarray, np.ndarray]:
        path_X, path_y = self._paths
        return _map(path_X), _map(path_y)


class TableChunks:
    """The rows of a Parquet or CSV file, some at a time; see `open_chunks`.

    Attributes:
      rows: in a chunk, fewer in the last.
      features: the names of the columns of X.
    """

    def __init__(self, path: Path, target: str, features: Sequence[str] | None, rows: int):
        self._file = ParquetFile(path) if _is_parquet(path) else CsvFile(path)
        self._path, self._target, self.rows = path, target, rows
        self.features = choose_columns(path, self._file.names, target, features)

    def __iter__(self) -> Iterator[Pair]:
        chosen = [self._file.names.index(name) for name in (*self.features, self._target)]
        for values, places in _regrouped(self._file.batches(chosen), self.rows):
            missing = np.isnan(values)
            if missing.any():
                row, column = np.argwhere(missing)[0].tolist()
                name = self._file.names[chosen[column]]
                raise ValueError(
                    f"{self._path}, {self._file.place} {places[row]}, column {name!r}: the value "
                    "is missing; fill it, or drop the row"
                )
            yield values[:, :-1], values[:, -1]

    def __repr__(self) -> str:
        return f"TableChunks({str(self._path)!r}, {self.rows} rows at a time)"


def open_chunks(
    path_X: str | Path,
    path_y: str | Path | None = None,
    *,
    rows: int = 65_536,
    target: str | None = None,
    features: Sequence[str] | None = None,
) -> ArrayChunks | TableChunks:
    """The rows of files as chunks (X, y), for `compress_chunks` and `fit_chunks`.

    .npy files are mapped into memory: a chunk is read when it is used and not before, whatever its
    dtype and the order of its numbers (rows of an array in Fortran order lie apart on the disk and
    are slower). Such chunks have a `len` and can be taken by number, `chunks[3]`. Tables are read
    from the start, piece by piece: Parquet by pyarrow, and large CSV files too where it is
    installed.

    Args:
      path_X: a .npy file of X [n, d]; or a .parquet file, or a CSV file of any other name, with a
        line of column names.
      path_y: with .npy, the file of y [n] or [n, k].
      rows: in a chunk; the last one has the rest.
      target: of a table, the name of the column y.
      features: of a table, the names of the columns of X; None: all but the target.

    Returns:
      An iterable of (X, y) that starts anew for each loop over it.

    Raises:
      ImportError: a Parquet file, and pyarrow is not installed.
      OSError: a file that cannot be read.
      TypeError: rows is no integer, or a column holds no numbers.
      ValueError: files that do not fit together or are no arrays of numbers, columns that are not
        there, a pipe; while it is read, a value that is missing or no number, with its line and
        column, in the chunk that it belongs to.

    Example:
      >>> import pathlib, tempfile
      >>> folder = pathlib.Path(tempfile.mkdtemp())
      >>> np.save(folder / "X.npy", np.arange(10.0).reshape(5, 2))
      >>> np.save(folder / "y.npy", np.arange(5.0))
      >>> chunks = open_chunks(folder / "X.npy", folder / "y.npy", rows=2)
      >>> len(chunks), chunks[2][0].tolist(), [len(y) for X, y in chunks]
      (3, [[8.0, 9.0]], [2, 2, 1])
    """
    path, rows = Path(path_X), positive_integer("rows", rows)
    if path.suffix == ".npy":
        if path_y is None or target is not None or features is not None:
            raise ValueError(
                f"{path} is an array without names: pass path_y, another .npy file, and neither "
                "target nor features"
            )
        return ArrayChunks(path, Path(path_y), rows)
    if is_stream(path):
        raise ValueError(f"{path} can be read only once: save it to the disk first")
    if path_y is not None or target is None:
        raise ValueError(
            f"{path} is read as a table: pass target, the name of one of its columns, and no path_y"
        )
    return TableChunks(path, target, features, rows)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _map(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no .npy file of numbers: {error}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise ValueError(f"{path} is no .npy file of real numbers: np.save(path, X) makes one")
    return array


def _regrouped(batches: Iterable[Batch], rows: int) -> Iterator[Batch]:
    """The values and places of the same rows, `rows` at a time and fewer in the last."""
    held: list[tuple[np.ndarray, np.ndarray]] = []
    num_held = 0

    def joined() -> Batch:
        values, places = zip(*held, strict=True)
        return np.concatenate(values), np.concatenate(places)

    for values, numbers in batches:
        places = np.asarray(numbers)
        while num_held + len(values) >= rows:
            taken = rows - num_held
            held.append((values[:taken], places[:taken]))
            yield joined()
            values, places = values[taken:], places[taken:]
            held, num_held = [], 0
        held.append((values, places))
        num_held += len(values)
    if num_held:
        yield joined()
