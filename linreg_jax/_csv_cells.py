"""The cells of a CSV file: numbers, what stands for a missing one, and names."""

import re
from collections.abc import Sequence

MISSING = frozenset({"", "?", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"})
"""What stands for a missing value, in small letters."""

SPELLED_MISSING = sorted(
    {spell(word) for word in MISSING for spell in (str.lower, str.upper, str.capitalize)}
)
"""The same as it is mostly written."""


def header_cell(name: str) -> str:
    """A name as a cell of line 1, quoted where it would not be read as one cell."""
    quoted = name.replace('"', '""')
    return f'"{quoted}"' if set(name) & set(',;\t"\n\r') else name


def harmless_name(name: str) -> str:
    """A name that no spreadsheet takes for a formula: one that looks so gets an apostrophe."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def is_number(cell: str) -> bool:
    """Whether Python reads a number there that others read too."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def numbers_of(cells: Sequence[str]) -> list[float]:
    """Cells as numbers, NaN for what is missing.

    Raises:
      CellError: one of them is neither.
    """
    if "_" not in "".join(cells):  # Python reads 1_000 as a number, and nobody else does
        try:
            return [float(cell) for cell in cells]
        except ValueError:
            pass
    return [_number_of(cell, index) for index, cell in enumerate(cells)]


class CellError(ValueError):
    """A cell that is no number.

    Attributes:
      index: which of the cells.
    """

    def __init__(self, message: str, index: int):
        super().__init__(message)
        self.index = index


def _number_of(cell: str, index: int) -> float:
    cell = cell.strip()
    if cell.lower() in MISSING:
        return float("nan")
    if is_number(cell):
        return float(cell)
    shown = cell if len(cell) <= 30 else cell[:27] + "..."
    shown = repr(shown.encode(errors="surrogateescape").decode(errors="replace"))
    raise CellError(f"{shown} is not a number; {_suggested_fix(cell)}", index)


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
