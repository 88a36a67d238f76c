"""CSV files in pieces: plain ones by NumPy's parser, odd ones row by row.

Lines end in LF, CR LF or CR, mixed or not. A blank line is a row that misses its value where the
file has one column, and no row where it has more; after the last row it never is one.
"""

import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

Batch = tuple[np.ndarray, Sequence[int]]

MISSING = frozenset({"", "?", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"})
"""What stands for a missing value, in small letters."""

_PIECE = 1 << 22  # bytes; large enough that NumPy's parser dominates, small beside any result
_ROWS = 4096  # in a batch that is read row by row
_SHOWN = 3  # blank lines in a warning


def header_cell(name: str) -> str:
    """A name as a cell of line 1, quoted where it would not be read as one cell."""
    quoted = name.replace('"', '""')
    return f'"{quoted}"' if set(name) & set(',;\t"\n\r') else name


def harmless_name(name: str) -> str:
    """A name that no spreadsheet takes for a formula: one that looks so gets an apostrophe."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


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
        num_lines, self._last_line, self._plain = _survey(path)
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
            lines = itertools.chain([first], text)
            header = next(csv.reader(lines, delimiter=self._delimiter))
        self.names = tuple(cell.strip() for cell in header)
        if any("\udc80" <= letter <= "\udcff" for name in self.names for letter in name):
            raise ValueError(f"{path}, line 1 is not UTF-8 text: save the file as UTF-8")
        if all(_is_number(name) for name in self.names):
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
        if not self._plain:
            with self._open() as text:
                rows = self._rows(text, 1)
                next(rows)
                yield from self._read_rows(rows, chosen)
            return
        with self.path.open("rb") as file:
            file.readline()
            line, rest = 2, b""
            while piece := file.read(_PIECE):
                whole, newline, rest = (rest + piece).rpartition(b"\n")
                if newline:
                    yield from self._read_piece(whole + newline, line, chosen)
                    line += whole.count(b"\n") + 1
            if rest:
                yield from self._read_piece(rest + b"\n", line, chosen)

    def _open(self) -> TextIO:
        return self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")

    def _read_piece(self, piece: bytes, line: int, chosen: Sequence[int]) -> Iterator[Batch]:
        """Batches from whole lines, the first of them numbered `line`."""
        if not piece.isspace() and self._is_rectangular(piece):
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

    def _rows(self, text: TextIO, line: int) -> Iterator[tuple[int, list[str]]]:
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
                    values.append(self._numbers(line, [cells[i] for i in chosen], chosen))
                    lines.append(line)
            except ValueError as error:
                failure = error
            if values:
                yield np.array(values), lines
            elif failure is None:
                return
        raise failure

    def _numbers(self, line: int, cells: list[str], chosen: Sequence[int]) -> list[float]:
        if "_" not in "".join(cells):  # Python reads 1_000 as a number, and nobody else does
            try:
                return [float(cell) for cell in cells]
            except ValueError:
                pass
        return [
            self._number(line, cell, self.names[i]) for cell, i in zip(cells, chosen, strict=True)
        ]

    def _number(self, line: int, cell: str, name: str) -> float:
        cell = cell.strip()
        if cell.lower() in MISSING:
            return float("nan")
        if _is_number(cell):
            return float(cell)
        shown = cell if len(cell) <= 30 else cell[:27] + "..."
        shown = repr(shown.encode(errors="surrogateescape").decode(errors="replace"))
        raise ValueError(
            f"{self.path}, line {line}, column {name!r}: {shown} is not a number; "
            f"{_suggested_fix(cell)}"
        )


def _suggested_fix(cell: str) -> str:
    """What to write in place of a cell that is no number, in every way it may be meant."""
    parts = re.fullmatch(r"([-+]?)(\d[\d.,]*)", cell)
    sign, digits = parts.groups() if parts else ("", "")
    meant = []
    if re.fullmatch(r"[1-9]\d{0,2}(,\d{3})+(\.\d*)?", digits):
        meant.append((digits.replace(",", ""), "the comma separates thousands"))
    if re.fullmatch(r"\d+,\d*|[1-9]\d{0,2}(\.\d{3})+,\d*", digits):
        meant.append((digits.replace(".", "").replace(",", "."), "it is a decimal comma"))
    if not meant:
        return "correct it, or choose features without it"
    if len(meant) == 1:
        return f"write {sign}{meant[0][0]}"
    return "write " + ", or ".join(f"{sign}{number} where {what}" for number, what in meant)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _survey(path: Path) -> tuple[int, int, bool]:
    """`(num_lines, last_line, plain)` of a file.

    That is how many lines there are at most, the number of the last one that is not blank, and
    whether LF or CR LF is all that ends a row.
    """
    line, last_line, plain, held = 1, 1, True, b""
    with path.open("rb") as file:
        while piece := held + file.read(_PIECE):
            if b"\0" in piece:
                what = "UTF-16 text" if piece[:2] in (b"\xff\xfe", b"\xfe\xff") else "not text"
                raise ValueError(f"{path} is {what}: save it as CSV in UTF-8")
            is_last = len(piece) == len(held)
            # A CR at the end of a piece may be half of a CR LF.
            held = b"\r" if piece.endswith(b"\r") and not is_last else b""
            piece = piece[: len(piece) - len(held)]
            written = piece.rstrip(b" \r\n")  # a line of tabs may be a row
            if written:
                last_line = line + _num_line_ends(written)
            line += _num_line_ends(piece)
            plain = plain and b'"' not in piece and piece.count(b"\r") == piece.count(b"\r\n")
    return line, last_line, plain


def _num_line_ends(piece: bytes) -> int:
    return piece.count(b"\n") + piece.count(b"\r") - piece.count(b"\r\n")
