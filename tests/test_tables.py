"""tables: CSV and .npz into numbers, and one clear line for whatever a file can get wrong."""

import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from linreg_jax import _csv
from linreg_jax.tables import read_table


@pytest.fixture
def write(tmp_path):
    """content (text or bytes) -> the path of a file that holds it."""

    def write(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


PLAIN = "age,bmi,y\n59,32.1,151\n48,21.6,75\n72,30.5,141\n"


def assert_plain(table):
    assert table.features == ("age", "bmi")
    np.testing.assert_array_equal(table.X, [[59, 32.1], [48, 21.6], [72, 30.5]])
    np.testing.assert_array_equal(table.y, [151, 75, 141])
    assert table.kept.tolist() == [True] * 3


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.rstrip("\n"),
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", " , "),
        PLAIN.replace("\n", "\n\n") + "\n \n",
        PLAIN.replace("age", '"age"').replace("48", '"48"'),
        "\ufeff" + PLAIN.replace("age", '"age"').replace("\n", "\r\n"),
        PLAIN.replace("59", "5.9e1").replace("48", "+48.0"),
    ],
    ids=[
        "plain",
        "no last line end",
        "byte-order mark",
        "Windows line ends",
        "old line ends",
        "semicolons",
        "tabs",
        "spaces",
        "blank lines",
        "quotes",
        "quotes, mark and Windows line ends",
        "exponents",
    ],
)
def test_every_spelling_of_a_table_is_the_same_table(write, content):
    assert_plain(read_table(write(content), target="y"))


def test_quoted_names_and_cells_may_hold_delimiters_and_line_ends(write):
    path = write('"a, b";"c\nd";y\n1;"2";"3"\n"4";5;6\n')
    table = read_table(path, target="y")
    assert table.features == ("a, b", "c\nd")
    np.testing.assert_array_equal(table.X, [[1, 2], [4, 5]])


def test_the_columns_come_in_the_order_asked_for_and_others_may_hold_anything(write):
    path = write("name,b,y,a\nNGC 221,1,2,3\nNGC é,4,5,6\n")
    table = read_table(path, target="y", features=["a", "b"])
    np.testing.assert_array_equal(table.X, [[3, 1], [6, 4]])
    without_target = read_table(path, features=["b"])
    assert without_target.y is None
    np.testing.assert_array_equal(without_target.X, [[1], [4]])


def test_a_file_of_many_pieces_is_read_whole(write, monkeypatch):
    """In plain pieces, and among odd ones: a blank line, a missing value, quotes."""
    monkeypatch.setattr(_csv, "_PIECE", 512)
    monkeypatch.setattr(_csv, "_ROWS", 7)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 3)) * 10.0 ** rng.integers(-20, 20, (300, 3))
    lines = ["a,b,y", *(",".join(map(repr, row)) for row in rows.tolist())]
    for content in (
        "\n".join(lines),
        "\n".join([*lines[:100], "", *lines[100:]]) + "\n",
        "\n".join([*lines[:200], "1,NA,2", *lines[200:]]) + "\n",
        "\n".join([*lines[:250], '"1",,2', *lines[250:]]) + "\n",
    ):
        table = read_table(write(content), target="y", drop_missing=True)
        np.testing.assert_array_equal(np.c_[table.X, table.y], rows)
    assert (~table.kept).nonzero()[0].tolist() == [249]


@pytest.mark.parametrize("word", ["", " ", "NA", "n/a", "NaN", "null", "None", "?", "<NA>", "#N/A"])
def test_missing_values_are_counted_by_column_or_dropped(write, word):
    path = write(f"a,b,y\n1,2,3\n{word},5,6\n{word},8,\n10,11,12\n")
    with pytest.raises(ValueError, match=r"in 2 of 4 rows: 2 in 'a', 1 in 'y'; .*--drop-missing"):
        read_table(path, target="y")
    table = read_table(path, target="y", drop_missing=True)
    np.testing.assert_array_equal(table.X, [[1, 2], [10, 11]])
    np.testing.assert_array_equal(table.y, [3, 12])
    assert table.kept.tolist() == [True, False, False, True]
    assert read_table(path, features=["b"]).X.ravel().tolist() == [2, 5, 8, 11]


BAD = {
    "empty": ("", "is empty"),
    "only a mark": ("\ufeff", "is empty"),
    "blank first line": ("\na,y\n1,2\n", "line 1 is blank"),
    "header only": ("a,y\n", "has a header and no rows"),
    "header only, no line end": ("a,y", "has a header and no rows"),
    "no header": ("1,2\n3,4\n", "no header: line 1 holds numbers"),
    "a name twice": ("a,a,y\n1,2,3\n", "names 1 columns twice, 'a' first"),
    "a column without a name": (",a,y\n0,1,2\n", "column 1 has no name"),
    "only the target": ("y\n1\n", "no column but the target 'y'"),
    "no such target": ("age,Y2\n1,2\n", "no column 'y': did you mean 'Y2'? It has age, Y2"),
    "text": ("a,y\n1,2\n3,4\nold,6\n", "line 4, column 'a': 'old' is not a number"),
    "text among quotes": ('a,y\n"1",2\n"o,l",6\n', "line 3, column 'a': 'o,l' is not a number"),
    "text after blank lines": ("a,y\n\n1,2\n\n3,x\n", "line 5, column 'y': 'x' is not"),
    "a long text": ("a,y\n" + "x" * 99 + ",2\n", f"'{'x' * 27}...' is not a number"),
    "an underscore": ("a,y\n1_000,2\n", "'1_000' is not a number"),
    "a decimal comma": ("a;y\n1,5;2\n", "'1,5' is not a number; write 1.5"),
    "a date": ("a,y\n2020-01-01,2\n", "'2020-01-01' is not a number"),
    "bytes that are not UTF-8": (b"a,y\n\xe9,2\n", "line 2, column 'a': '\ufffd' is not a number"),
    "a header that is not UTF-8": (b"\xe9,y\n1,2\n", "line 1 is not UTF-8"),
    "a short row": ("a,b,y\n1,2,3\n4,5\n", "line 3 has 2 fields, but line 1 names 3"),
    "a long row": ("a,b,y\n1,2,3,4\n", "line 2 has 4 fields, but line 1 names 3"),
    "rows short and long": ("a,b,y\n1,2\n3,4,5,6\n", "line 2 has 2 fields"),
    "other delimiters below": ("a,b,y\n1;2;3\n", "line 2 has 1 field, but line 1 names 3"),
    "an open quote": ('a,y\n1,"2\n3,4\n' + "5,6\n" * 40000, "line .*field limit.*is a quote open"),
    "infinity": ("a,y\n1,2\n3,inf\n", "line 3, column 'y': the number is infinite or too large"),
    "too large for float64": ("a,y\n1e309,2\n", "column 'a': the number is infinite or too"),
    "UTF-16": (PLAIN.encode("utf-16"), "is UTF-16 text: save it as CSV in UTF-8"),
    "not text": (b"PK\x03\x04\0\0", "is not text"),
    "all rows miss a value": ("a,y\n,1\n2,\n", "2 of 2 rows: 1 in 'a', 1 in 'y'; fill"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_a_bad_file_gets_one_line_that_names_it(write, content, message):
    path = write(content)
    escaped = message if ".*" in message else message.replace("?", r"\?")
    with pytest.raises(ValueError, match=escaped) as raised:
        read_table(path, target="y")
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_dropping_every_row_is_an_error(write):
    with pytest.raises(ValueError, match=r"2 of 2 rows: 1 in 'a', 1 in 'y'; no row is complete"):
        read_table(write("a,y\n,1\n2,\n"), target="y", drop_missing=True)


def test_ragged_rows_are_found_among_columns_that_are_not_read(write):
    path = write("a,b,y\n1,2,3,4\n5,6\n")
    with pytest.raises(ValueError, match="line 2 has 4 fields"):
        read_table(path, target="b", features=["a"])


def test_a_number_too_large_names_its_place_and_the_fix(write):
    path = write("a,y\n1,2\n1e100,4\n")
    assert read_table(path, target="y").X[1, 0] == 1e100
    with pytest.raises(ValueError, match=r"line 3, column 'a': 1e\+100 is too large .*--float64"):
        read_table(path, target="y", dtype="float32")
    with pytest.raises(ValueError, match=r"1e\+308 is too large .* float64 \(at most 1.1e\+307\)"):
        read_table(write("a,y\n1,2\n1e308,4\n"), target="y")


def test_columns_asked_for_wrongly(write):
    path = write(PLAIN)
    for features, message in [
        (["age", "bmy"], "no column 'bmy': did you mean 'bmi'"),
        (["age", "y"], "'y' is the target"),
        (["age", "age"], "names a column twice, got age, age"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_table(path, target="y", features=features)
    wide = write(",".join(f"c{i}" for i in range(20)) + "\n")
    with pytest.raises(ValueError, match=r"c6, c7 and 12 more$"):
        read_table(wide, target="y")


def test_no_such_file_and_a_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv: there is no such file"):
        read_table(tmp_path / "none.csv", target="y")
    with pytest.raises(IsADirectoryError, match=r"is a directory: pass a CSV or \.npz file"):
        read_table(tmp_path, target="y")


@pytest.fixture
def savez(tmp_path):
    def savez(**arrays):
        np.savez(tmp_path / "table.npz", **arrays)
        return tmp_path / "table.npz"

    return savez


def test_npz_arrays_are_columns(savez):
    path = savez(X=np.arange(6).reshape(3, 2), y=np.array([1.0, 2.0, 3.0]), b=[True, False, True])
    table = read_table(path, target="y", dtype="float32")
    assert table.features == ("X0", "X1", "b")
    assert table.X.dtype == np.float32
    np.testing.assert_array_equal(table.X, [[0, 1, 1], [2, 3, 0], [4, 5, 1]])
    np.testing.assert_array_equal(table.y, [1, 2, 3])


def test_npz_missing_values(savez):
    path = savez(x=[1.0, np.nan, 3.0], y=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="1 of 3 rows: 1 in 'x'"):
        read_table(path, target="y")
    assert read_table(path, target="y", drop_missing=True).X.ravel().tolist() == [1, 3]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": [1.0, 2.0], "y": [1.0]}, r"arrays of different lengths: x \[2\], y \[1\]"),
        ({"x": [[[1.0]]], "y": [1.0]}, r"array 'x' has shape \[1, 1, 1\]"),
        ({"x": 1.0, "y": [1.0]}, r"array 'x' has shape \[\]"),
        ({"x": ["a"], "y": [1.0]}, "row 0, column 'x': 'a' is not a number"),
        ({"x": [1j], "y": [1.0]}, "column 'x': .*j is not a number"),
        ({"x": [np.inf], "y": [1.0]}, "row 0, column 'x': the number is infinite"),
        ({"x": np.array([{}]), "y": [1.0]}, r"not an .npz file of numbers \(it holds Python obj"),
        ({"x": [[1.0]], "x0": [1.0]}, "names column 'x0' twice"),
        ({}, "is empty"),
        ({"x": np.zeros(0), "y": np.zeros(0)}, "no rows"),
    ],
)
def test_a_bad_npz_gets_one_line_that_names_it(savez, arrays, message):
    with pytest.raises(ValueError, match=message) as raised:
        read_table(savez(**arrays), target="y")
    assert "table.npz" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("keep", [0, 10, 300, -1])
def test_a_truncated_npz(savez, keep):
    path = savez(x=np.arange(100.0), y=np.arange(100.0))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"is not an \.npz file, or a part of one"):
        read_table(path, target="y")


def test_a_damaged_npz(savez):
    path = savez(x=np.arange(100.0), y=np.arange(100.0))
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is not an .npz file of numbers \(Bad CRC"):
        read_table(path, target="y")


def test_an_npz_of_something_else_than_arrays(tmp_path):
    path = tmp_path / "table.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("notes.txt", "no array")
    message = (
        r"table.npz is not an .npz file of numbers \('notes.txt' in it is no array\): np.savez"
    )
    with pytest.raises(ValueError, match=message):
        read_table(path, target="y")


def test_text_named_npz(write):
    with pytest.raises(ValueError, match=r"is not an \.npz file, or a part of one"):
        read_table(write(PLAIN, "table.npz"), target="y")


@pytest.mark.parametrize("reader", ["numpy", "pyarrow"])
def test_reading_holds_little_besides_the_result(write, monkeypatch, reader):
    """At no time the text of the file, nor all of it as float64."""
    if reader == "numpy":
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    else:
        pytest.importorskip("pyarrow.csv")
    monkeypatch.setattr(_csv, "_PIECE", 1 << 18)
    monkeypatch.setattr(_csv, "_LARGE_PIECE", 1 << 18)
    n, d = 40_000, 20
    header = ",".join(["y", *(f"x{j}" for j in range(d))])
    path = write(header + "\n" + ("7" + ",0.123456" * d + "\n") * n)
    read_table(path, target="y", dtype="float32")  # imports
    tracemalloc.start()
    table = read_table(path, target="y", dtype="float32")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert table.X.shape == (n, d)
    # Of one piece: its bytes twice, and 8 bytes in each of a few arrays for every 9 of text.
    assert peak < table.X.nbytes + table.y.nbytes + table.places.nbytes + 8 * _csv._PIECE
    assert peak < path.stat().st_size
