"""Data frames of pandas, whose columns may have no common dtype in NumPy."""

import numpy as np
import pytest

from linreg_jax import as_dataset
from linreg_jax.tables import read_table

pd = pytest.importorskip("pandas")


@pytest.mark.parametrize("convert", [lambda frame: frame, lambda frame: frame.convert_dtypes()])
def test_a_frame_of_numbers(convert):
    frame = pd.DataFrame(
        {"rooms": [2, 3, 4], "area": [50.5, 70.0, 90.0], "lift": [True, False, True]}
    )
    data = as_dataset(convert(frame), frame["area"])
    np.testing.assert_array_equal(data.X, [[2, 50.5, 1], [3, 70, 0], [4, 90, 1]])


@pytest.mark.parametrize("culprit", [["a", "b"], pd.array([1, None], dtype="Int64")])
def test_the_column_that_is_no_numbers_is_named(culprit):
    frame = pd.DataFrame({"rooms": pd.array([2, 3], dtype="Int64"), "other": culprit})
    with pytest.raises(TypeError, match=r"real numbers, got .* in column 'other': encode"):
        as_dataset(frame, [1.0, 2.0])


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_a_file_of_a_frame_has_its_rows(tmp_path, names):
    """What misses a value is written as `""` in one column, and as nothing in more."""
    path = tmp_path / "frame.csv"
    frame = pd.DataFrame({"a": [1.5, np.nan, 3.0, np.nan], "b": [np.nan, np.nan, 6.0, np.nan]})
    frame[names].to_csv(path, index=False)
    table = read_table(path, drop_missing=True)
    back = pd.read_csv(path)
    assert table.kept.tolist() == back.notna().all(axis=1).tolist()
    np.testing.assert_array_equal(table.X, back[table.kept])
    assert table.num_blank == 0


@pytest.mark.parametrize("others", [["x", "y"], [1.5, 2.5], [True, False]])
def test_columns_may_share_a_name(others):
    frame = pd.DataFrame({"a": pd.array([1, 2], dtype="Int64"), "b": [0.5, 1.5], "c": others})
    frame.columns = pd.Index(["a", "b", "a"])
    if others == ["x", "y"]:
        with pytest.raises(TypeError, match=r"real numbers, got .* in column 'a': encode"):
            as_dataset(frame, [1.0, 2.0])
    else:
        data = as_dataset(frame, [1.0, 2.0])
        np.testing.assert_array_equal(data.X, np.array([[1, 2], [0.5, 1.5], others]).T)
