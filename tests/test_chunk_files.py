"""open_chunks: files in pieces, the same as the whole file, and clear errors."""

import sys
import tracemalloc

import numpy as np
import pytest

from linreg_jax import Dataset, compress
from linreg_jax.streaming import ChunkError, compress_chunks, open_chunks
from linreg_jax.tables import read_table
from tests.support import relative_error


@pytest.fixture
def arrays(tmp_path):
    """(X, y, write): write(X, y) -> the paths of two .npy files."""
    rng = np.random.default_rng(0)

    def write(X, y):
        np.save(tmp_path / "X.npy", X)
        np.save(tmp_path / "y.npy", y)
        return tmp_path / "X.npy", tmp_path / "y.npy"

    return rng.normal(size=(23, 3)), rng.normal(size=23), write


def joined(chunks):
    """All rows of the chunks, and how many each had."""
    parts = [(np.array(X), np.array(y)) for X, y in chunks]
    X, y = (np.concatenate(part) for part in zip(*parts, strict=True))
    return X, y, [len(part[1]) for part in parts]


@pytest.mark.parametrize("stored", ["<f2", "<f4", "<f8", ">f8", "<i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_in_pieces(arrays, stored, order):
    X, y, write = arrays
    X, y = np.asarray(10 * X, stored, order=order), np.asarray(10 * y, stored)
    chunks = open_chunks(*write(X, y), rows=10)
    assert len(chunks) == 3
    for _ in range(2):  # anew for each loop
        found_X, found_y, sizes = joined(chunks)
        np.testing.assert_array_equal(found_X, X)
        np.testing.assert_array_equal(found_y, y)
        assert sizes == [10, 10, 3]
    np.testing.assert_array_equal(chunks[-1][0], X[20:])
    with pytest.raises(IndexError):
        chunks[3]
    small = compress_chunks(chunks)
    whole = compress(Dataset(np.float32(X), np.float32(y)))
    ours, theirs = (np.column_stack([c.bias_column, c.X, c.y]) for c in (small, whole))
    # Two factors of the same products, each rounded in float32 once a row.
    assert relative_error(ours.T @ ours, theirs.T @ theirs) < 3e-6


def test_several_targets_in_an_array(arrays):
    X, y, write = arrays
    chunks = open_chunks(*write(X, np.column_stack([y, -y])), rows=8)
    assert [part[1].shape for part in chunks] == [(8, 2), (8, 2), (7, 2)]


def test_a_large_array_is_read_block_by_block(tmp_path):
    n, d = 200_000, 20
    X = np.lib.format.open_memmap(tmp_path / "X.npy", mode="w+", shape=(n, d), dtype=np.float32)
    X[:] = 1.5
    np.save(tmp_path / "y.npy", np.zeros(n, np.float32))
    X.flush()
    del X
    chunks = open_chunks(tmp_path / "X.npy", tmp_path / "y.npy", rows=n)
    compress_chunks([(np.ones((1, d), np.float32), np.ones(1, np.float32))])  # compiles
    tracemalloc.start()
    try:
        small = compress_chunks(chunks, max_bytes=2**20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert float(small.total_weight) == n
    assert peak < 1.5 * 2**20, peak  # of 16 MB; the rest is what Python allocates to compile


@pytest.fixture
def table(tmp_path):
    """A CSV file of 3 columns and 23 rows."""
    values = np.random.default_rng(1).normal(size=(23, 3)).round(3)
    path = tmp_path / "table.csv"
    np.savetxt(path, values, delimiter=",", header="a,b,y", comments="", fmt="%.3f")
    return path


@pytest.mark.parametrize("rows", [1, 10, 23, 100])
def test_a_csv_file_comes_in_pieces(table, rows):
    whole = read_table(table, target="y")
    chunks = open_chunks(table, rows=rows, target="y")
    assert chunks.features == ("a", "b")
    for _ in range(2):
        X, y, sizes = joined(chunks)
        np.testing.assert_array_equal(X, whole.X)
        np.testing.assert_array_equal(y, whole.y)
        assert sizes == [rows] * (23 // rows) + [23 % rows] * (23 % rows > 0)
    X, y, _ = joined(open_chunks(table, target="a", features=["y"]))
    np.testing.assert_array_equal(X[:, 0], whole.y)
    np.testing.assert_array_equal(y, whole.X[:, 0])


def test_a_csv_file_says_where_it_is_wrong(table):
    table.write_text(table.read_text() + "1,,3\n")
    with pytest.raises(ChunkError, match=r"chunk 2: .*line 25, column 'b': the value is missing"):
        compress_chunks(open_chunks(table, target="y", rows=10))
    table.write_text(table.read_text().replace("1,,3", "1,two,3"))
    with pytest.raises(ChunkError, match=r"line 25, column 'b': 'two' is not a number"):
        compress_chunks(open_chunks(table, target="y", rows=10))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match="which pyarrow reads: pip install pyarrow"):
        open_chunks(tmp_path / "t.parquet", target="y")


def test_files_that_do_not_fit(arrays, table, tmp_path):
    X, y, write = arrays
    paths = write(X, y[:20])
    with pytest.raises(ValueError, match=r"y.npy has shape \[20\], but .*X.npy has \[23, 3\]"):
        open_chunks(*paths)
    with pytest.raises(ValueError, match=r"has shape \[23\]: X is \[n, d\]"):
        open_chunks(*write(y, y))
    with pytest.raises(ValueError, match=r"has shape \[0, 3\]"):
        open_chunks(*write(X[:0], y[:0]))
    for wrong in (X.astype(str), X.astype(object), X.astype(complex)):
        with pytest.raises(ValueError, match=r"X.npy is no .npy file of"):
            open_chunks(*write(wrong, y))
    paths = write(X, y)
    paths[0].write_bytes(b"")
    with pytest.raises(ValueError, match=r"X.npy is no .npy file of numbers"):
        open_chunks(*paths)
    with pytest.raises(FileNotFoundError):
        open_chunks(tmp_path / "none.npy", tmp_path / "y.npy")
    with pytest.raises(FileNotFoundError):
        open_chunks(tmp_path / "none.csv", target="y")
    with pytest.raises(ValueError, match="pass path_y"):
        open_chunks(tmp_path / "X.npy")
    with pytest.raises(ValueError, match="pass target"):
        open_chunks(table)
    with pytest.raises(ValueError, match="has no column 'z'"):
        open_chunks(table, target="z")
    with pytest.raises(ValueError, match="rows must be an integer of 1 or more"):
        open_chunks(table, target="y", rows=0)
