"""The columns of an .npz file: arrays of NumPy, by name."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from linreg_jax._csv import Batch

_ROWS = 1 << 16  # in a batch
_MAKES_ONE = "np.savez(path, X=X, y=y) makes one"


class NpzFile:
    """The columns of an .npz file; see `CsvFile`.

    Attributes:
      names: of the columns; an array [n, d] is d of them.
      num_rows: rows.
      place: what a row is called in messages.
      blank_lines, num_blank: there are none.
    """

    place = "row"
    num_blank = 0
    blank_lines: tuple[int, ...] = ()

    def __init__(self, path: Path):
        """Reads the arrays.

        Raises:
          OSError: the file cannot be read.
          ValueError: it is no .npz file of columns.
        """
        loaded = _load(path)
        columns: dict[str, np.ndarray] = {}
        for name, array in loaded.items():
            parts = _columns_of(path, name, array)
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

    def batches(self, chosen: Sequence[int]) -> Iterator[Batch]:
        """The columns numbered `chosen`, some rows at a time.

        Yields:
          `(values, places)`: [m, c] float64, and the m row numbers, from 0.

        Raises:
          ValueError: a column that holds something else than numbers.
        """
        for i in chosen:
            column = self._columns[i]
            if column.dtype.kind not in "fiub":
                raise ValueError(
                    f"{self.path}, row 0, column {self.names[i]!r}: {str(column[:1])[1:-1]} is not "
                    "a number; choose features without it"
                )
        for start in range(0, self.num_rows, _ROWS):
            rows = range(start, min(start + (_ROWS), self.num_rows))
            part = [self._columns[i][start : rows.stop].astype(np.float64) for i in chosen]
            yield np.stack(part, axis=1), rows


def _load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file by name.

    Raises:
      ValueError: it is damaged, or holds something else.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not an .npz file, or a part of one: {_MAKES_ONE}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: _require_array(name, arrays[name]) for name in arrays.files}
    # RuntimeError: a password, or a compression that this Python cannot read
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        why = "it holds Python objects" if "allow_pickle" in str(error) else str(error)
        raise ValueError(f"{path} is not an .npz file of numbers ({why}): {_MAKES_ONE}") from None


def _require_array(name: str, array: object) -> np.ndarray:
    if not isinstance(array, np.ndarray):  # the bytes of a file of another kind
        raise ValueError(f"{name!r} in it is no array")
    return array


def _columns_of(path: Path, name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of an array [n] or [n, d] by name.

    Raises:
      ValueError: another shape.
    """
    if array.ndim == 1:
        return {name: array}
    if array.ndim != 2:
        raise ValueError(
            f"{path}, array {name!r} has shape {list(array.shape)}: columns are [n] or [n, d]"
        )
    return {f"{name}{j}": array[:, j] for j in range(array.shape[1])}
