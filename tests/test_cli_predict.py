"""linreg-jax predict: a prediction for each row, under a name that every reader takes for one."""

import csv
import io
import os

import jax
import numpy as np
import pytest

from linreg_jax import Params
from linreg_jax.saving import save
from linreg_jax.tables import ColumnModel, read_table
from tests.command_line import assert_refused


@pytest.fixture
def model(tmp_path):
    """(target, number of features) -> the path of a model that adds up a, b, ... and 1."""

    def model(target="y", num_features=1):
        path = tmp_path / "m.model"
        names = tuple("abc"[:num_features])
        with jax.enable_x64(True):
            params = Params(np.ones(num_features), np.array(1.0))
            save(ColumnModel(params, names, target, "mse"), path)
        return path

    return model


def test_a_blank_row_of_one_column_keeps_its_place(run, tmp_path, model):
    path = tmp_path / "new.csv"
    for blank in ("", '""', " "):  # pandas writes NaN as the second
        path.write_text(f"a\n1\n{blank}\n3\n{blank}\n5\n")
        predict = ("predict", path, "--model", model())
        assert_refused(run(*predict), "missing values in 2 of 5 rows: 2 in 'a'; fill them")
        code, out, err = run(*predict, "--drop-missing")
        assert (code, out, err) == (0, "y\n2.0\nnan\n4.0\nnan\n6.0\n", "")


def test_a_blank_line_between_rows_of_several_columns_is_warned_of(run, tmp_path, model):
    path = tmp_path / "new.csv"
    path.write_text("a,b\n1,1\n\n2,2\n\n\n\n3,3\n\n\n")
    code, out, err = run("predict", path, "--model", model(num_features=2))
    assert (code, out) == (0, "y\n3.0\n5.0\n7.0\n")
    assert err == (
        "linreg-jax: warning: passed over 4 blank lines (3, 5, 6, ...), no rows: "
        "the predictions are of the other lines\n"
    )
    path.write_text("a,b\n1,1\n\n2,2\n")
    _, _, err = run("predict", path, "--model", model(num_features=2))
    assert "passed over a blank line (3), no rows" in err
    path.write_text("a,b\n1,1\n2,2\n\n\n")
    assert run("predict", path, "--model", model(num_features=2))[2] == ""


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ('the "price"', 'the "price"'),
        ("price, in euros", "price, in euros"),
        ("a;b\tc", "a;b\tc"),
        ("two\nlines", "two\nlines"),
        ("=1+1", "'=1+1"),
        ("@x", "'@x"),
        ("+x", "'+x"),
        ('-"x"', '\'-"x"'),
        ("größe", "größe"),
    ],
)
def test_the_name_of_the_target_is_one_cell_and_no_formula(run, tmp_path, model, target, name):
    path, out_path = tmp_path / "new.csv", tmp_path / "out.csv"
    path.write_text("a\n1\n2\n")
    code, out, err = run("predict", path, "--model", model(target))
    assert code == 0
    assert list(csv.reader(io.StringIO(out, newline=""))) == [[name], ["2.0"], ["3.0"]]
    if name == target:
        assert err == ""
    else:
        assert err == (
            f"linreg-jax: warning: the column is named {name}: a spreadsheet would compute "
            f"{target}\n"
        )
    assert run("predict", path, "--model", model(target), "--out", out_path)[:2] == (0, "")
    assert out_path.read_bytes() == out.encode()
    assert read_table(out_path).features == (name,)


def test_a_dash_is_standard_output_and_no_file(run, tmp_path, model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "new.csv"
    path.write_text("a\n1\n")
    assert run("predict", path, "--model", model(), "--out", "-") == (0, "y\n2.0\n", "")
    assert sorted(os.listdir(tmp_path)) == ["m.model", "new.csv"]


def test_standard_input_is_read_by_every_command(run, table, tmp_path, monkeypatch):
    for command, *options in [("fit", "--json", "-"), ("check",), ("diagnose",)]:
        arguments = ("--target", "price", *options)
        _, wanted, _ = run(command, table, *arguments)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(table.read_bytes())))
        code, out, err = run(command, "-", *arguments)
        assert (code, err) == (0, "")
        if command == "fit":
            assert '"file": "-"' in out
        else:
            assert out == wanted
    text = table.read_text() + "1,2,three,4\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert_refused(
        run("diagnose", "-", "--target", "price"),
        "linreg-jax: standard input, line 62, column 'height': 'three' is not a number",
    )
