"""What pyarrow reads where it is installed: pieces of CSV files in several threads, and Parquet."""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from linreg_jax._typing import Float


@runtime_checkable
class _Column(Protocol):
    """What is used of a `pyarrow.Array`."""

    null_count: int
    offset: int

    def __len__(self) -> int: ...
    def buffers(self) -> list[memoryview]: ...


def read_csv_lines(
    lines: bytes, *, delimiter: str, num_columns: int, chosen: Sequence[int], missing: Sequence[str]
) -> Iterator[Float[np.ndarray, "rows c"]] | None:
    """Some columns of CSV lines, by pyarrow.

    It knows fewer spellings than `CsvFile` does, and reads those as the same numbers.

    Args:
      lines: whole ones, without a header; quoted cells end in the line they begin in.
      delimiter: one character.
      num_columns: that each line must have.
      chosen: the numbers of the columns to read.
      missing: cells that stand for a missing value, NaN.

    Returns:
      The rows in order, in float64, in blocks; None where pyarrow is not installed, or a line is
      blank, has another number of columns or a chosen cell that pyarrow does not know.
    """
    try:
        pyarrow, csv = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.csv"))
    except ImportError:
        return None
    if b"(" in lines:  # it reads nan(text) as NaN
        return None
    names = [str(i) for i in range(num_columns)]
    included = [names[i] for i in chosen]
    try:
        table = csv.read_csv(
            pyarrow.py_buffer(lines),
            read_options=csv.ReadOptions(column_names=names),
            parse_options=csv.ParseOptions(
                delimiter=delimiter, quote_char='"' if b'"' in lines else False
            ),
            convert_options=csv.ConvertOptions(
                include_columns=included,
                column_types=dict.fromkeys(included, pyarrow.float64()),
                null_values=list(missing),
            ),
        )
    except ValueError:
        return None
    if table.num_rows < lines.count(b"\n"):  # it passes over blank lines
        return None
    return (
        np.column_stack([_numbers(column) for column in batch.columns])
        for batch in table.to_batches()
    )


def _numbers(column: _Column) -> Float[np.ndarray, " rows"]:
    """A column of float64 with NaN for what is missing; its own `to_numpy` would import pandas."""
    rows = slice(column.offset, column.offset + len(column))
    validity, data = column.buffers()
    numbers = np.frombuffer(data, np.float64)[rows]
    if column.null_count == 0:
        return numbers
    is_valid = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")[rows]
    return np.where(is_valid, numbers, np.nan)


class ParquetFile:
    """The columns of a Parquet file; see `CsvFile`.

    Attributes:
      names: of the columns.
      place: what a row is called in messages.
    """

    place = "row"

    def __init__(self, path: Path):
        """Reads the names.

        Raises:
          ImportError: pyarrow is not installed.
          OSError: the file cannot be read.
        """
        try:
            parquet = importlib.import_module("pyarrow.parquet")
        except ImportError:
            raise ImportError(
                f"{path} is a Parquet file, which pyarrow reads: pip install pyarrow"
            ) from None
        self._open = lambda: parquet.ParquetFile(path)
        with self._open() as file:
            self.names: tuple[str, ...] = tuple(file.schema_arrow.names)

    def batches(self, chosen: Sequence[int]) -> Iterator[tuple[np.ndarray, Sequence[int]]]:
        """The columns numbered `chosen`, some rows at a time.

        Yields:
          `(values, places)`: [m, c] floating-point numbers with NaN for what is missing, and the m
          row numbers, from 0.

        Raises:
          TypeError: a column that holds something else than numbers.
        """
        names = [self.names[i] for i in chosen]
        first = 0
        with self._open() as file:
            for batch in file.iter_batches(columns=names):
                columns = []
                for name in names:
                    column = batch.column(name)
                    numbers = column.to_numpy(zero_copy_only=False)
                    if numbers.dtype.kind not in "fiub":
                        raise TypeError(
                            f"column {name!r} holds {column.type}: choose features without it"
                        )
                    is_floating = numbers.dtype.kind == "f"
                    columns.append(numbers if is_floating else numbers.astype(np.float64))
                yield np.column_stack(columns), range(first, first + batch.num_rows)
                first += batch.num_rows
