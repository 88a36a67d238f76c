"""The lines of a CSV file: blank ones, every kind of line end, numbers with commas; and pipes."""

import io
import os
import threading

import numpy as np
import pytest

from linreg_jax import _csv
from linreg_jax.streaming import ChunkError, compress_chunks, open_chunks
from linreg_jax.tables import read_table


def column(path):
    """The numbers of the column x, NaN in the rows that miss it."""
    table = read_table(path, features=["x"], drop_missing=True)
    values = np.full(table.kept.shape, np.nan)
    values[table.kept] = table.X[:, 0]
    return values


@pytest.mark.parametrize(
    ("rows", "values"),
    [
        ("1\n\n3\n", [1, np.nan, 3]),
        ('1\n""\n3\n', [1, np.nan, 3]),
        ('1\n3\n""\n', [1, 3, np.nan]),
        ("\n\n1\n \n3\n", [np.nan, np.nan, 1, np.nan, 3]),
        ("1\nNA\n3", [1, np.nan, 3]),
        ("1\r\n\r\n3\r\n", [1, np.nan, 3]),
        ("1\n3\n\n", [1, 3]),
        ("1\n3\n\n \n\n", [1, 3]),
        ("1\n\n3\n\n\n", [1, np.nan, 3]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("piece", [3, 1 << 22])
def test_a_blank_line_in_a_file_of_one_column_is_a_row(tmp_path, monkeypatch, rows, values, piece):
    monkeypatch.setattr(_csv, "_PIECE", piece)
    path = tmp_path / "table.csv"
    path.write_bytes(b"x\n" + rows.encode())
    np.testing.assert_array_equal(column(path), values)
    assert read_table(path, features=["x"], drop_missing=True).num_blank == 0
    if np.isnan(values).any():
        missing = int(np.isnan(values).sum())
        with pytest.raises(ValueError, match=f"in {missing} of {len(values)} rows: .* in 'x'"):
            read_table(path)


def test_a_blank_line_in_a_file_of_several_columns_is_no_row_and_is_counted(tmp_path):
    path = tmp_path / "table.csv"
    for extra in ("", '"5",6\n'):  # by NumPy's parser, and row by row
        path.write_text("x,y\n1,2\n\n3,4\n  \n\n\n5,6\n7,8\n" + extra + "\n\n")
        table = read_table(path, target="y")
        assert table.X[:, 0].tolist() == [1, 3, 5, 7, *([5] if extra else [])]
        assert (table.num_blank, table.blank_lines) == (4, (3, 5, 6))
    path.write_text('x,y\n1,2\n""\n3,4\n')  # a quoted nothing is a field
    with pytest.raises(ValueError, match="line 3 has 1 field, but line 1 names 2 columns"):
        read_table(path, target="y")


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_line_ends_may_be_mixed(tmp_path, monkeypatch, seed, quoted):
    rng = np.random.default_rng(seed)
    ends, piece = rng.choice(["\n", "\r\n", "\r"], 7).tolist(), int(rng.integers(1, 40))
    path = tmp_path / "table.csv"
    lines = ["x,y", *(f'{i},"{i * i}"' if quoted else f"{i},{i * i}" for i in range(5)), "5,bad"]
    content = "".join(line + end for line, end in zip(lines[:6], ends[:6], strict=True))
    monkeypatch.setattr(_csv, "_PIECE", piece)
    path.write_bytes(content.encode())
    table = read_table(path, target="y")
    assert table.X.ravel().tolist() == [0, 1, 2, 3, 4]
    assert table.y.tolist() == [0, 1, 4, 9, 16]
    path.write_bytes((content + lines[6] + ends[6]).encode())
    with pytest.raises(ValueError, match="line 7, column 'y': 'bad' is not a number"):
        read_table(path, target="y")


@pytest.mark.parametrize(
    ("cell", "fix"),
    [
        ("1,000", "write 1000 where the comma separates thousands, or 1.000 where it is a decimal"),
        ("-12,345", "write -12345 where the comma .*, or -12.345 where it is a decimal comma$"),
        ("1,5", "write 1.5$"),
        ("+0,500", r"write \+0.500$"),
        ("1,234,567", "write 1234567$"),
        ("1,234.5", "write 1234.5$"),
        ("1.234,5", "write 1234.5$"),
        ("1,2,3", "correct it, or choose features without it$"),
        ("12 kg", "correct it, or choose features without it$"),
    ],
)
def test_every_reading_of_a_number_with_a_comma_is_named(tmp_path, cell, fix):
    path = tmp_path / "table.csv"
    path.write_text(f"x;y\n{cell};2\n")
    with pytest.raises(ValueError, match=f"line 2, column 'x': '.*' is not a number; {fix}"):
        read_table(path, target="y")


@pytest.mark.parametrize("bad", ["text,1", "1", "1,2,3"])
def test_a_bad_row_is_the_error_of_its_own_chunk(tmp_path, bad):
    path = tmp_path / "table.csv"
    rows = [f"{i},{i}" for i in range(150)]
    rows[100] = bad
    path.write_text("\n".join(["x,y", *rows]))
    with pytest.raises(ChunkError, match=r"chunk 3: .*, line 102") as raised:
        compress_chunks(open_chunks(path, target="y", rows=30))
    assert raised.value.chunk == 3
    assert float(raised.value.so_far.total_weight) == 90


@pytest.fixture
def pipe():
    """content -> the name of a pipe that holds it, as a shell's `<(...)` makes."""
    opened, writers = [], []

    def pipe(content):
        reading, writing = os.pipe()
        opened.append(reading)

        def fill():
            with os.fdopen(writing, "wb") as file:
                file.write(content)

        writers.append(threading.Thread(target=fill))
        writers[-1].start()
        return f"/dev/fd/{reading}"

    yield pipe
    for writer in writers:
        writer.join()
    for descriptor in opened:
        os.close(descriptor)


def test_a_pipe_and_standard_input_are_read_as_files_are(pipe, tmp_path, monkeypatch):
    rows = [f"{i},{i * i}" for i in range(20_000)]  # more than a pipe holds
    content = "\n".join(["x,y", *rows]).encode()
    (tmp_path / "file.csv").write_bytes(content)
    whole = read_table(tmp_path / "file.csv", target="y")

    def standard_input(content):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        return "-"

    for source, name in ((pipe, "/dev/fd/"), (standard_input, "standard input")):
        table = read_table(source(content), target="y")
        np.testing.assert_array_equal(table.X, whole.X)
        np.testing.assert_array_equal(table.y, whole.y)
        with pytest.raises(ValueError, match=rf"^{name}.*, line 20002, column 'x': 'a' is not"):
            read_table(source(content + b"\na,1"), target="y")


def test_standard_input_that_is_closed(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(OSError, match="standard input is closed"):
        read_table("-", target="y")


def test_chunks_are_not_read_from_a_pipe(pipe):
    with pytest.raises(ValueError, match="can be read only once: save it to the disk first"):
        open_chunks(pipe(b"x,y\n1,2\n"), target="y")
