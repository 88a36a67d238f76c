"""One line and exit code 2 for whatever is wrong with arguments and files."""

import os

import jax
import numpy as np
import pytest

from linreg_jax import Params
from linreg_jax.saving import save
from linreg_jax.tables import ColumnModel
from tests.command_line import assert_refused


def test_wrong_names_and_files(run, table, tmp_path):
    """Each bad input: one line that says what to do, exit code 2, and nothing written."""
    empty, folder, other = tmp_path / "empty.csv", tmp_path / "folder", tmp_path / "other.csv"
    empty.write_text("")
    folder.mkdir()
    other.write_text("size,height\n1,2\n")
    cases = {
        "missing file": (tmp_path / "none.csv", "price", "none.csv: there is no such file"),
        "directory": (folder, "price", "folder is a directory"),
        "empty": (empty, "price", "empty.csv is empty"),
        "target": (table, "Prise", "no column 'Prise': did you mean 'price'?"),
    }
    before = sorted(os.listdir(tmp_path))
    for command in ("fit", "check", "diagnose"):
        for file, target, message in cases.values():
            assert_refused(run(command, file, "--target", target), message)
    model = tmp_path / "m.model"
    params = Params(np.array([1.0, 2.0]), np.array(3.0))
    with jax.enable_x64(True):
        save(ColumnModel(params, ("size", "weight"), "price", "mse"), model)
    assert_refused(
        run("predict", other, "--model", model),
        "no column 'weight': did you mean 'height'? It has size, height (the model reads size, w",
    )
    with jax.enable_x64(True):
        save(params, model)
    assert_refused(run("predict", other, "--model", model), "holds a Params, not a model")
    assert_refused(run("predict", other, "--model", table), "not a file that linreg_jax saved")
    assert_refused(run("predict", other, "--model", folder), "is a folder")
    model.write_bytes(model.read_bytes()[:-1])
    assert_refused(run("predict", other, "--model", model), "is damaged or cut short")
    assert_refused(run("predict", other, "--model", tmp_path / "no"), "no is missing")
    model.unlink()
    assert sorted(os.listdir(tmp_path)) == before


BAD_CONTENT = {
    "no header": ("1,2\n3,4\n", "has no header"),
    "header only": ("a,y\n", "has a header and no rows"),
    "a name twice": ("a,a,y\n1,2,3\n", "'a' first: rename one"),
    "text": ("a,y\n1,2\nold,3\n", "line 3, column 'a': 'old' is not a number"),
    "ragged": ("a,y\n1,2\n3\n", "line 3 has 1 field, but line 1 names 2"),
    "missing": (
        "a,y\n1,2\n,3\nNA,4\n",
        "2 of 3 rows: 2 in 'a'; fill them, or leave those rows out",
    ),
    "1e308": ("a,y\n1,2\n1e308,3\n", "line 3, column 'a': 1e+308 is too large"),
}


@pytest.mark.parametrize("command", ["fit", "check", "diagnose", "plot"])
@pytest.mark.parametrize(("content", "message"), BAD_CONTENT.values(), ids=BAD_CONTENT)
def test_bad_content(run, tmp_path, command, content, message):
    path, out = tmp_path / "bad.csv", tmp_path / "out.png"
    path.write_text(content)
    outputs = {"fit": ("--save", out), "plot": ("--out", out)}.get(command, ())
    assert_refused(run(command, path, "--target", "y", *outputs), message)
    assert os.listdir(tmp_path) == ["bad.csv"]


def test_outputs_that_cannot_be_written_are_found_before_anything_is_read(run, table, tmp_path):
    """The input does not exist, and is not what is complained about."""
    nowhere, folder = tmp_path / "nowhere" / "x.png", tmp_path / "folder.png"
    folder.mkdir()
    under_file = table / "x.png"
    before = table.read_bytes()
    for path in (nowhere, folder, under_file):
        for option in ("--save", "--json", "--plot"):
            code, _, err = run("fit", tmp_path / "none.csv", "--target", "y", option, path)
            assert code == 2
            assert str(path) in err
            assert "none.csv" not in err
        assert_refused(run("plot", "none.csv", "--target", "y", "--out", path), str(path))
        assert_refused(run("predict", "none.csv", "--model", "m", "--out", path), str(path))
    message = "give the output another name"
    assert_refused(run("fit", table, "--target", "price", "--json", table), message)
    twice = ("--save", tmp_path / "same", "--json", tmp_path / "same")
    assert_refused(run("fit", table, "--target", "price", *twice), "two outputs have the same")
    assert_refused(run("plot", table, "--target", "y", "--out", tmp_path / "x.doc"), "no kind of")
    film = ("--kind", "animation", "--out", tmp_path / "x.png")
    assert_refused(run("plot", table, "--target", "y", *film), "a film is a .gif or an .mp4")
    assert table.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["folder.png", "table.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit"], "the following arguments are required: FILE, --target"),
        (["fti"], "invalid choice: 'fti'"),
        (["fit", "f", "--target", "y", "--loss", "msle"], "must be one of mse, half_mse, sse"),
        (["fit", "f", "--target", "y", "--loss", "huber:-1"], "delta must be a finite number"),
        (["fit", "f", "--target", "y", "--loss", "huber:a"], "'huber:a'"),
        (["fit", "f", "--target", "y", "--loss", "mae:1"], "must be one of"),
        (["fit", "f", "--target", "y", "--loss", "quantile:1.5"], "strictly between 0 and 1"),
        (["fit", "f", "--target", "y", "--steps", "0"], "must be a whole number from 1 to"),
        (["fit", "f", "--target", "y", "--steps", "1", "--epochs", "1"], "not allowed with"),
        (["fit", "f", "--target", "y", "--learning-rate", "fast"], "more than 0, got 'fast'"),
        (["fit", "f", "--target", "y", "--learning-rate", "nan"], "more than 0, got 'nan'"),
        (["fit", "f", "--target", "y", "--test-fraction", "1"], "between 0 and 1, got '1'"),
        (["fit", "f", "--target", "y", "--seed", "-1"], "must be a whole number from 0 to"),
        (["fit", "f", "--target", "y", "--features", "a,,b"], "names with commas between"),
        (["fit", "f", "--target", "y", "--features", ""], "names with commas between"),
        (["fit", "f", "--target", "y", "--ridge", "-1"], "or auto, got '-1'"),
        (["fit", "f", "--target", "y", "--lasso", "1,,2"], "must be a finite number, at least 0"),
        (["fit", "f", "--target", "y", "--elastic", "1:0"], "the share of the lasso must be more"),
        (["fit", "f", "--target", "y", "--elastic", "a:0.5"], "at least 0, or several with commas"),
        (["fit", "f", "--target", "y", "--cross-validate", "1"], "at least 2, got '1'"),
        (["check", "f", "--target", "y", "--cross-validate"], "unrecognized arguments"),
        (["fit", "f", "--target", "y", "--optimizer", "sdg"], "invalid choice: 'sdg'"),
        (["plot", "f", "--target", "y", "--out", "x", "--rates", "1,,2"], "got ''"),
        (["--float64", "fit", "f", "--target", "y"], "stand behind the command"),
        (["--plot", "nowhere/x.png"], "there is no folder"),
        (["--plot", ""], "--plot: must be the name of a file, got ''"),
        (["fit", "", "--target", "y"], "FILE: must be the name of a file, got ''"),
        (["fit", "f", "--target", "y", "--json", ""], "--json: must be the name of a file, got"),
        (["fit", "f", "--target", "y", "--save", ""], "--save: must be the name of a file, got"),
        (["fit", "f", "--target", "y", "--save", "-"], "--save: must be the name of a file, got"),
        (["fit", "f", "--target", "y", "--plot", ""], "--plot: must be the name of a file, got"),
        (["plot", "f", "--target", "y", "--out", ""], "--out: must be the name of a file, got"),
        (["predict", "f", "--model", ""], "--model: must be the name of a file, got"),
        (["predict", "f", "--model", "m", "--out", ""], "--out: must be the name of a file, got"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments(run, arguments, message):
    assert_refused(run(*arguments), message)


def test_arguments_that_do_not_fit_the_data(run, table):
    for options, message in [
        (("--epochs", 3), "--epochs needs --batch-size"),
        (("--steps", 3, "--batch-size", 61), "at most the 60 rows to train on, got 61"),
        (("--lasso",), "--lasso needs one strength, --lasso 0.1; fit chooses one with"),
        (("--ridge", "1,2"), "--ridge needs one strength"),
        (("--lasso", 1, "--cross-validate"), "of one penalty, got nothing to choose: pass"),
        (("--lasso", "--ridge", "--cross-validate"), "got --ridge and --lasso: pass"),
        (("--lasso", "--cross-validate", 61), "at most the 60 rows to train on, got 61"),
        (("--features", "size,price"), "'price' is the target"),
        (("--features", "size,hight"), "did you mean 'height'"),
        (("--test-fraction", 0.999), "leaves none to train on"),
    ]:
        assert_refused(run("fit", table, "--target", "price", *options), message)
    for options, message in [
        (("--over", "size"), "must name two parameters"),
        (("--over", "size,hight"), "must name features or intercept, got 'hight'"),
        (("--kind", "learning-rates", "--loss", "mae"), "--rates must say which"),
    ]:
        path = table.with_suffix(".png")
        assert_refused(run("plot", table, "--target", "price", "--out", path, *options), message)
        assert not path.exists()


def test_help_has_examples_of_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in ("fit", "predict", "check", "diagnose", "plot"):
        assert f"linreg-jax {command}" in out or f"    {command}" in out
        code, out_of_command, _ = run(command, "--help")
        assert code == 0
        assert f"usage: linreg-jax {command}" in out_of_command
        assert "%(" not in out_of_command
