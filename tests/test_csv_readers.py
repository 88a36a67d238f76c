"""pyarrow's parser, NumPy's and ours: the same numbers and the same messages from every file."""

import itertools
import sys

import numpy as np
import pytest

from linreg_jax import _arrow, _csv
from linreg_jax.tables import read_table

pyarrow = pytest.importorskip("pyarrow")


@pytest.fixture
def read(tmp_path, monkeypatch):
    """`(content, pyarrow=...)` -> the table with NaN for what is missing, or the message."""

    def read(content, *, by_pyarrow, piece=1 << 22):
        path = tmp_path / "table.csv"
        path.write_bytes(content)
        with monkeypatch.context() as patch:
            patch.setattr(_csv, "_LARGE", 0)
            patch.setattr(_csv, "_LARGE_PIECE", piece)
            patch.setattr(_csv, "_PIECE", piece)
            if not by_pyarrow:
                patch.setitem(sys.modules, "pyarrow", None)
            try:
                table = read_table(path, target="y", drop_missing=True)
            except ValueError as error:
                return str(error)
        values = np.full((table.kept.size, table.X.shape[1] + 1), np.nan)
        values[table.kept] = np.column_stack([table.X, table.y])
        return values.view(np.uint64).tolist(), table.num_blank, table.blank_lines

    return read


NUMBERS = [
    *("0", "-0", "1.5", " 2 ", "+3", ".5", "5.", "1e5", "1E+05", "-1e-300", "4.9e-324", "1e-400"),
    *("2.2250738585072011e-308", "1.7976931348623157e307", "0.1", "123456789012345678901234567890"),
    *("0.30000000000000004", "9007199254740993", "179769313486231570" + "0" * 288, "-nan", "007"),
]
ODD = {
    "quoted numbers": b'a,y\n"1","2"\n3,"4"\n',
    "a quoted delimiter": b'a,name,y\n1,"x, z",2\n3,"",4\n',
    "a quoted line end": b'a,name,y\n1,"x\nz",2\n3,"",4\nold,5,6\n',
    "a quoted quote": b'a,name,y\n1,"x ""z""",2\n3,"",4\n5,old,x\n',
    "a quote within": b'a,name,y\n1,5" pipe,2\n3,"4",4\n5,6" and 7",x\n',
    "an open quote": b'a,y\n1,2\n3,"4\n',
    "a quote after a space": b'a,y\n1, "2"\n',
    "a quoted header": b'"a","y"\n1,2\n3,4\n',
    "a quoted header of two lines": b'"a\nb","y"\n1,2\n3,4\n',
    "semicolons": b"a;y\n1;2\n3;4\n",
    "semicolons and a decimal comma": b"a;y\n1;2\n1,5;4\n",
    "thousands": b"a;y\n1;2\n1,000;4\n",
    "tabs": b"a\ty\n1\t2\n3\t4\n",
    "text": b"a,y\n1,2\nold,4\n",
    "an underscore": b"a,y\n1,2\n1_0,4\n",
    "hexadecimal": b"a,y\n1,2\n0x10,4\n",
    "NaN with text": b"a,y\n1,2\nnan(1),4\n",
    "digits of another script": "a,y\n1,2\n١٢,4\n".encode(),
    "a no-break space": "a,y\n1,2\n\xa05,4\n".encode(),
    "no UTF-8": b"a,y\n1,2\n\xff,4\n",
    "no UTF-8 in what is not read": b"a,y,z\n1,2,\xff\n",
    "a byte-order mark": b"\xef\xbb\xbfa,y\n1,2\n",
    "a short row": b"a,b,y\n1,2,3\n4,5\n",
    "a long row": b"a,b,y\n1,2,3\n4,5,6,7\n",
    "all rows short": b"a,b,y\n1,2\n4,5\n",
    "all rows long": b"a,b,y\n1,2,3,4\n4,5,6,7\n",
    "blank lines": b"a,y\n1,2\n\n  \n3,4\n\n\n",
    "a comma at the end": b"a,y\n1,2,\n",
    "CR LF": b"a,y\r\n1,2\r\n3,4\r\n",
    "CR": b"a,y\r1,2\r3,4\r",
    "mixed ends": b"a,y\n1,2\r\n3,4\r5,6\n7,x\r\n",
    "no end": b"a,y\n1,2\n3,4",
    "infinity": b"a,y\n1,2\ninf,4\n",
    "too large": b"a,y\n1,2\n1e400,4\n",
    "almost too large": b"a,y\n1,2\n1e308,4\n",
    "missing": b"a,y\n1,2\n,4\nNA,5\n?,6\n7,<NA>\nNaN,8\nnULL,9\n NA ,10\n'',11\n",
    "numbers": b"a,y\n" + b"".join(f"{cell},1\n".encode() for cell in NUMBERS),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("piece", [1, 12, 1 << 22])
def test_odd_files_are_the_same_by_pyarrow_and_without_it(read, odd, piece):
    assert read(ODD[odd], by_pyarrow=True, piece=piece) == read(ODD[odd], by_pyarrow=False)


CELLS = [
    *("1", "-2.5", "3e7", "", "NA", "nan", " 4 ", "+5", "6,7", "x", '"8"', '""', '"9,1"', '"', "-"),
    *("1e", "inf", "1_0", '"1""2"', 'a"b', "nan(2)", "\t", "é", "1e999", "0.1", "1\r", "2\r"),
]


@pytest.mark.parametrize("seed", range(40))
def test_files_at_random_are_the_same_by_pyarrow_and_without_it(read, seed):
    """Mostly numbers, so that many files are read; one cell or line in ten is odd."""
    rng = np.random.default_rng(seed)
    for delimiter, end in itertools.product(",;", ("\n", "\r\n")):
        lines = [delimiter.join("aby")]
        for _ in range(12):
            cells = [repr(float(number)) for number in rng.normal(size=3)]
            if rng.random() < 0.1:
                cells[rng.integers(3)] = str(rng.choice(CELLS))
            lines.append(delimiter.join(cells))
            if rng.random() < 0.05:
                lines.append(str(rng.choice(["", " ", delimiter, "1", '""'])))
        content = (end.join(lines) + end * int(rng.integers(3))).encode()
        piece = int(rng.integers(1, 200))
        assert read(content, by_pyarrow=True, piece=piece) == read(content, by_pyarrow=False)


def test_numbers_have_the_bits_that_python_reads(read):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**63, 2000, dtype=np.uint64)
    numbers = bits.view(np.float64)
    numbers = numbers[np.abs(numbers) < 1e307].tolist()
    content = "a,y\n" + "".join(f"{number!r},1\n" for number in numbers)
    values, _, _ = read(content.encode(), by_pyarrow=True)
    assert np.array(values, np.uint64)[:, 0].view(np.float64).tolist() == numbers


def test_large_files_are_read_by_pyarrow_and_small_ones_without_it(tmp_path, monkeypatch):
    num_lines = []

    def spy(lines, **settings):
        blocks = read_csv_lines(lines, **settings)
        num_lines.append(lines.count(b"\n") if blocks is not None else 0)
        return blocks

    read_csv_lines = _arrow.read_csv_lines
    monkeypatch.setattr(_csv, "read_csv_lines", spy)
    path = tmp_path / "table.csv"
    path.write_text('"a","name","y"\n' + '1.5,"x, z",2\n' * 1000)
    read_table(path, target="y", features=["a"])
    assert num_lines == []
    monkeypatch.setattr(_csv, "_LARGE", 10_000)
    monkeypatch.setattr(_csv, "_LARGE_PIECE", 5_000)
    assert read_table(path, target="y", features=["a"]).X.shape == (1000, 1)
    assert len(num_lines) == 3
    assert sum(num_lines) == 1000
