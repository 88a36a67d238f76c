"""CSV files in pieces: plain ones by pyarrow's parser or NumPy's, odd ones row by row.

A piece that one parser does not read goes to the next. The last, row by row, says what is wrong.

Lines end in LF, CR LF or CR, mixed or not. A blank line is a row that misses its value where the
file has one column, and no row where it has more; after the last row it never is one.
"""

import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from linreg_jax._arrow import read_csv_lines
from linreg_jax._csv_cells import SPELLED_MISSING, CellError, is_number, numbers_of
from linreg_jax._typing import Float

Batch = tuple[Float[np.ndarray, "m c"], Sequence[int] | np.ndarray]
"""Some rows, and where each stands in the file."""

_PIECE = 1 << 22  # bytes; large enough that NumPy's parser dominates, small beside any result
_LARGE = 1 << 22  # bytes of a file; a smaller one is read before pyarrow is imported
_LARGE_PIECE = 1 << 24  # bytes, for pyarrow's threads
_ROWS = 4096  # in a batch that is read row by row
_SHOWN = 3  # blank lines in a warning


class CsvFile:
    """The columns of a CSV file.

    Attributes:
      names: of the columns; "" where line 1 leaves one without.
      num_rows: at most so many rows.
      place: what a row is called in messages.
      blank_lines: the numbers of the first few lines passed over so far, which are no rows.
      num_blank: how many were.
    """

    place = "line"

    def __init__(self, path: Path):
        """Reads the header.

        Raises:
          OSError: the file cannot be read.
          ValueError: it is not text, is empty, or has no line of names.
        """
        self.path = path
        self.num_blank = 0
        self.blank_lines: tuple[int, ...] = ()
        num_lines, self._last_line, self._ends_in_lf = _survey(path)
        with self._open() as text:
            first = text.readline()
            if not first.strip():
                raise ValueError(
                    f"{path} is empty: a CSV file starts with a line of column names"
                    if num_lines <= 1
                    else f"{path}, line 1 is blank: it must name the columns"
                )
            unquoted = re.sub(r'"[^"]*"?', "", first)
            self._delimiter = max(",;\t", key=unquoted.count)  # a tie goes to the first, the comma
            reader = csv.reader(itertools.chain([first], text), delimiter=self._delimiter)
            header = next(reader)
            self._header_lines = reader.line_num
        self.names = tuple(cell.strip() for cell in header)
        if any("\udc80" <= letter <= "\udcff" for name in self.names for letter in name):
            raise ValueError(f"{path}, line 1 is not UTF-8 text: save the file as UTF-8")
        if all(is_number(name) for name in self.names):
            raise ValueError(
                f"{path} has no header: line 1 holds numbers, and it must name the columns"
            )
        self.num_rows = num_lines

    def batches(self, chosen: Sequence[int]) -> Iterator[Batch]:
        """The columns numbered `chosen`, some rows at a time.

        Yields:
          `(values, places)`: [m, c] float64 with NaN for what is missing, and the m line numbers.

        Raises:
          ValueError: a ragged row, or text where a number should be; with its line and column.
        """
        self.num_blank, self.blank_lines = 0, ()
        if self._header_lines > 1 or not self._ends_in_lf:
            with self._open() as text:
                rows = self._rows(text, 1)
                next(rows)
                yield from self._read_rows(rows, chosen)
            return
        is_large = self.path.stat().st_size >= _LARGE
        with self.path.open("rb") as file:
            file.readline()
            line, start = 2, file.tell()
            while piece := file.read(_LARGE_PIECE if is_large else _PIECE) + file.readline():
                if not self._quotes_end_in_line(piece):  # nor may those that follow
                    file.seek(start)
                    text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")
                    yield from self._read_rows(self._rows(text, line), chosen)
                    return
                start = file.tell()
                piece = piece if piece.endswith(b"\n") else piece + b"\n"
                large = self._read_large(piece, chosen) if is_large else None
                if large is None:
                    yield from self._read_piece(piece, line, chosen)
                else:
                    yield from _numbered(large, line)
                line += piece.count(b"\n")

    def _open(self) -> TextIO:
        return self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")

    def _read_large(self, piece: bytes, chosen: Sequence[int]) -> Iterator[np.ndarray] | None:
        """The numbers of whole lines, as far as pyarrow knows them."""
        return read_csv_lines(
            piece,
            delimiter=self._delimiter,
            num_columns=len(self.names),
            chosen=chosen,
            missing=SPELLED_MISSING,
        )

    def _read_piece(self, piece: bytes, line: int, chosen: Sequence[int]) -> Iterator[Batch]:
        """Batches from whole lines, the first of them numbered `line`."""
        if not piece.isspace() and b'"' not in piece and self._is_rectangular(piece):
            try:
                values = np.loadtxt(
                    io.BytesIO(piece),
                    delimiter=self._delimiter,
                    comments=None,
                    encoding="latin-1",  # every byte is a letter; what is not ASCII is no number
                    usecols=chosen,
                    ndmin=2,
                )
            except ValueError:
                pass  # text or missing values: below, where the line is known
            else:
                if len(values) == piece.count(b"\n"):  # no blank lines
                    yield values, range(line, line + len(values))
                    return
        text = io.StringIO(piece.decode(errors="surrogateescape"), newline="")
        yield from self._read_rows(self._rows(text, line), chosen)

    def _quotes_end_in_line(self, piece: bytes) -> bool:
        """Whether cells are quoted whole, with no quote or line end within."""
        if b'"' not in piece:
            return True
        quotes = np.flatnonzero(np.frombuffer(piece, np.uint8) == ord('"'))
        if quotes.size % 2:
            return False
        letters = np.frombuffer(b"\n" + piece + b"\n", np.uint8)  # letter i of the piece at i + 1
        opening, closing = quotes[::2], quotes[1::2]
        bounds = np.frombuffer(f"{self._delimiter}\r\n".encode(), np.uint8)
        ends = np.flatnonzero(letters[1:-1] == ord("\n"))
        return bool(
            np.isin(letters[opening], bounds).all()
            and np.isin(letters[closing + 2], bounds).all()
            and (np.searchsorted(quotes, ends) % 2 == 0).all()
        )

    def _is_rectangular(self, piece: bytes) -> bool:
        """Whether each line has as many delimiters as the header."""
        letters = np.frombuffer(piece, np.uint8)
        ends = np.flatnonzero(letters == ord("\n"))
        delimiters = np.flatnonzero(letters == ord(self._delimiter))
        per_line = len(self.names) - 1
        if delimiters.size != per_line * ends.size:
            return False
        if per_line == 0:
            return True
        by_line = delimiters.reshape(-1, per_line)
        after_line_before = by_line[1:, 0] > ends[:-1]
        return bool(after_line_before.all() and (by_line[:, -1] < ends).all())

    def _rows(self, text: Iterable[str], line: int) -> Iterator[tuple[int, list[str]]]:
        """`(line, cells)` of each row; the first line is numbered `line`."""
        reader = csv.reader(text, delimiter=self._delimiter)
        try:
            for cells in reader:
                place = line - 1 + reader.line_num
                if not cells or (len(cells) == 1 and cells[0].isspace()):
                    if place > self._last_line:
                        return
                    if len(self.names) == 1:
                        yield place, [""]
                    else:
                        self._pass_over(place)
                    continue
                if len(cells) != len(self.names):
                    fields = "1 field" if len(cells) == 1 else f"{len(cells)} fields"
                    raise ValueError(
                        f"{self.path}, line {place} has {fields}, but line 1 names "
                        f"{len(self.names)} columns: every line needs one for each"
                    )
                yield place, cells
        except csv.Error as error:
            place = line - 1 + reader.line_num
            raise ValueError(f"{self.path}, line {place}: {error}; is a quote open?") from None

    def _pass_over(self, line: int) -> None:
        self.num_blank += 1
        if len(self.blank_lines) < _SHOWN:
            self.blank_lines += (line,)

    def _read_rows(
        self, rows: Iterator[tuple[int, list[str]]], chosen: Sequence[int]
    ) -> Iterator[Batch]:
        """Batches of rows; an error in one is raised when those before it have been given."""
        failure: ValueError | None = None
        while failure is None:
            values, lines = [], []
            try:
                for line, cells in itertools.islice(rows, _ROWS):
                    values.append(numbers_of([cells[i] for i in chosen]))
                    lines.append(line)
            except CellError as error:
                name = self.names[chosen[error.index]]
                failure = ValueError(f"{self.path}, line {line}, column {name!r}: {error}")
            except ValueError as error:
                failure = error
            if values:
                yield np.array(values), lines
            elif failure is None:
                return
        raise failure


def _numbered(blocks: Iterator[np.ndarray], line: int) -> Iterator[Batch]:
    """Batches of consecutive lines, the first of them numbered `line`."""
    for block in blocks:
        yield block, range(line, line + len(block))
        line += len(block)


class _Survey(NamedTuple):
    """What a look at all of a file tells.

    Attributes:
      num_lines: how many lines there are at most.
      last_line: the number of the last one that is not blank.
      ends_in_lf: whether LF or CR LF is all that ends a line.
    """

    num_lines: int
    last_line: int
    ends_in_lf: bool


def _survey(path: Path) -> _Survey:
    """The `_Survey` of a file.

    Raises:
      ValueError: it is not text.
    """
    line, last_line, ends_in_lf, held = 1, 1, True, b""
    with path.open("rb") as file:
        while piece := held + file.read(_PIECE):
            if b"\0" in piece:
                what = "UTF-16 text" if piece[:2] in (b"\xff\xfe", b"\xfe\xff") else "not text"
                raise ValueError(f"{path} is {what}: save it as CSV in UTF-8")
            is_last = len(piece) == len(held)
            # A CR at the end of a piece may be half of a CR LF.
            held = b"\r" if piece.endswith(b"\r") and not is_last else b""
            piece = piece[: len(piece) - len(held)]
            num_written = len(piece.rstrip(b" \r\n"))  # a line of tabs may be a row
            num_lone = _num_lone_returns(piece)
            ends_in_lf = ends_in_lf and num_lone == 0
            line += piece.count(b"\n") + num_lone
            if num_written:
                after = piece[num_written:]
                last_line = line - after.count(b"\n") - _num_lone_returns(after)
    return _Survey(line, last_line, ends_in_lf)


def _num_lone_returns(piece: bytes) -> int:
    """How often CR alone ends a line."""
    return piece.count(b"\r") - piece.count(b"\r\n") if b"\r" in piece else 0
