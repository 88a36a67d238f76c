"""open_chunks of Parquet files, which pyarrow writes and reads."""

import numpy as np
import pytest

from linreg_jax.streaming import ChunkError, compress_chunks, open_chunks

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def test_a_parquet_file_comes_in_pieces(tmp_path):
    path = tmp_path / "table.parquet"
    X, y = np.random.default_rng(0).normal(size=(23, 2)), np.arange(23.0)
    columns = {"a": X[:, 0], "b": X[:, 1], "y": y, "name": ["x"] * 23}
    parquet.write_table(pyarrow.table(columns), path, row_group_size=7)
    chunks = open_chunks(path, target="y", features=["a", "b"], rows=10)
    for _ in range(2):  # the file is opened anew
        pieces = list(chunks)
        assert [len(targets) for _, targets in pieces] == [10, 10, 3]
        np.testing.assert_array_equal(np.concatenate([features for features, _ in pieces]), X)
        np.testing.assert_array_equal(np.concatenate([targets for _, targets in pieces]), y)
    with pytest.raises(ChunkError, match="column 'name' holds string: choose features without it"):
        compress_chunks(open_chunks(path, target="y"))
    columns["b"] = [None if i == 17 else i for i in range(23)]
    parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(ChunkError, match="row 17, column 'b': the value is missing"):
        compress_chunks(chunks)
