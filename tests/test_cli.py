"""The command line: what it prints and writes, and one line for whatever is wrong."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from linreg_jax import Params, huber, ridge
from linreg_jax._cli import job
from linreg_jax.checking import Comparison, GradientReport
from linreg_jax.cli import main
from linreg_jax.records import Status
from linreg_jax.saving import load, save
from linreg_jax.tables import ColumnModel

ROWS = 60
WEIGHTS, INTERCEPT = np.array([2.0, -300.0, 0.04]), 7.0


@pytest.fixture(scope="module")
def numbers():
    """[n, 3] features of very different size, [n] targets that they give but for some noise."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, 3)) * [10, 0.1, 500] + [50, 2, 0]
    return X, X @ WEIGHTS + INTERCEPT + rng.normal(size=ROWS)


def write(path, X, y):
    """A CSV file of features and targets; the name of a column holds a comma."""
    rows = "".join(",".join(map(repr, row)) + "\n" for row in np.c_[X, y].tolist())
    path.write_text('size,"age, years",height,price\n' + rows)
    return path


@pytest.fixture
def table(numbers, tmp_path):
    """The path of a CSV file of them. All tests fit as many rows, or each would compile anew."""
    return write(tmp_path / "table.csv", *numbers)


@pytest.fixture
def run(capsys):
    """Arguments -> `(code, out, err)`."""

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


def exact(X, y):
    """Least squares in NumPy float64: the weights, then the intercept."""
    return np.linalg.lstsq(np.c_[X, np.ones(len(X))], y)[0]


def in_order(found):
    return np.array([*found["coefficients"].values(), found["intercept"]])


def test_fit_prints_the_coefficients_in_the_units_of_the_file(run, table, numbers):
    code, out, err = run("fit", table, "--target", "price", "--float64")
    assert (code, err) == (0, "")
    assert "\x1b" not in out  # plain
    assert "\r" not in out
    cells = [re.split(r"\s{2,}", line) for line in out.splitlines() if line]
    rows = {name: values for name, *values in cells}
    wanted = dict(zip(["size", "age, years", "height", "intercept"], exact(*numbers), strict=True))
    for name, value in wanted.items():
        # seven digits are printed
        np.testing.assert_allclose([float(text) for text in rows[name]], value, rtol=1e-6)
    assert rows["rows"] == ["60"]
    assert rows["status"][0].startswith("converged after")
    assert max(map(len, out.splitlines())) <= 80


def test_json_holds_what_the_help_says(run, table, numbers, tmp_path):
    path = tmp_path / "fit.json"
    code, out, err = run("fit", table, "--target", "price", "--float64", "--json", path)
    assert (code, err) == (0, "")
    assert "fitted" in out
    found = json.loads(path.read_text())
    _, help_text, _ = run("fit", "--help")
    described = help_text[help_text.index("--json FILE writes") :]
    assert [key for key in found if f" {key}" not in described] == []
    assert list(found) == [
        "format",
        "file",
        "target",
        "features",
        "rows",
        "dropped_rows",
        "loss",
        "optimizer",
        "learning_rate",
        "dtype",
        "standardized",
        "status",
        "num_steps",
        "coefficients",
        "intercept",
        "exact",
        "training",
        "test",
        "seconds",
    ]
    X, y = numbers
    np.testing.assert_allclose(in_order(found), exact(X, y), rtol=1e-9)  # converged in float64
    np.testing.assert_allclose(in_order(found["exact"]), exact(X, y), rtol=1e-10)
    left = y - np.c_[X, np.ones(ROWS)] @ exact(X, y)
    assert found["training"]["loss"] == pytest.approx((left**2).mean(), rel=1e-9)
    assert found["training"]["r2"] == pytest.approx(1 - (left**2).mean() / y.var(), rel=1e-9)
    assert found["status"] == "converged"
    assert found["test"] is None
    code, out, err = run("fit", table, "--target", "price", "--float64", "--json", "-")
    assert json.loads(out)["coefficients"] == found["coefficients"]


def test_a_saved_model_predicts_the_file_it_came_from(run, table, numbers, tmp_path):
    model, out_path = tmp_path / "m.model", tmp_path / "out.csv"
    features = 'height,size,"age, years"'
    arguments = ("fit", table, "--target", "price", "--features", features, "--save", model)
    assert run(*arguments)[0] == 0
    assert sorted(os.listdir(tmp_path)) == ["m.model", "table.csv"]
    code, out, err = run("predict", table, "--model", model)
    assert (code, err) == (0, "")
    name, *predictions = out.splitlines()
    assert name == "price"
    X, y = numbers
    wanted = np.c_[X[:, [2, 0, 1]], np.ones(ROWS)] @ exact(X[:, [2, 0, 1]], y)
    # trained in float32
    np.testing.assert_allclose(np.array(predictions, float), wanted, rtol=1e-4)
    code, out, err = run("predict", table, "--model", model, "--out", out_path)
    assert (code, out, err) == (0, "", "")
    assert out_path.read_text().splitlines()[1:] == predictions
    with jax.enable_x64(True):
        saved = load(model)
    assert saved.features == ("height", "size", "age, years")
    assert (saved.target, saved.loss) == ("price", "mse")
    assert saved.params.weights.dtype == np.float64


def test_held_out_rows_are_not_trained_on(run, numbers, tmp_path):
    X, y = (np.concatenate([part, part[:20]]) for part in numbers)
    arguments = ("fit", write(tmp_path / "80.csv", X, y), "--target", "price")
    code, out, _ = run(*arguments, "--test-fraction", 0.25, "--json", "-", "--seed", 3)
    found = json.loads(out)
    assert code == 0
    assert (found["training"]["rows"], found["test"]["rows"]) == (60, 20)
    squares = (X @ in_order(found)[:3] + found["intercept"] - y) ** 2
    # training and test rows together are all of them; float32
    total = 60 * found["training"]["loss"] + 20 * found["test"]["loss"]
    assert total == pytest.approx(squares.sum(), rel=1e-4)
    _, out, _ = run(*arguments, "--test-fraction", 0.25, "--seed", 4)
    cells = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert cells["rows"] == ["60", "20"]
    assert float(cells["mse"][1]) != pytest.approx(found["test"]["loss"])


@pytest.mark.parametrize(
    "options",
    [
        ("--loss", "huber:1.35"),
        ("--loss", "mae", "--steps", 4000),
        ("--optimizer", "adam", "--steps", 2000),
        ("--optimizer", "momentum"),
        ("--epochs", 60, "--batch-size", 16),
        ("--no-standardize", "--learning-rate", 1e-6, "--steps", 20),
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_every_way_to_train_comes_near_the_truth(run, table, options):
    code, out, err = run("fit", table, "--target", "price", "--json", "-", *options)
    assert (code, err) == (0, "")
    found = json.loads(out)
    if "--no-standardize" in options:
        assert found["standardized"] is False
        assert found["num_steps"] == 20
    else:
        assert found["training"]["r2"] > 0.99  # the noise leaves 0.9992 to explain
    assert (found["exact"] is None) == ("--loss" in options)


def test_auto_rates_do_not_explode_without_standardizing(run, table, numbers):
    code, out, _ = run("fit", table, "--target", "price", "--no-standardize", "--json", "-")
    assert code == 0
    assert json.loads(out)["training"]["loss"] < 0.1 * (numbers[1] ** 2).mean()


def test_an_explosion_says_which_rate_would_not(run, table, tmp_path):
    model = tmp_path / "m.model"
    arguments = ("fit", table, "--target", "price", "--learning-rate", 5, "--save", model)
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert "diverged at step" in err
    assert err.count("\n") == 1
    assert not model.exists()


@pytest.mark.parametrize(("error", "code", "verdict"), [(0.0, 0, "ok: "), (1.0, 1, "WRONG")])
def test_check_prints_the_report_and_the_names_of_the_columns(
    run, table, monkeypatch, error, code, verdict
):
    compared = Comparison("autodiff", "by_loops", "weights[1]", (1.0, 2.0), error, 1e-3)
    checked = []

    def check_gradients(*arguments):
        checked.append(arguments)
        return GradientReport("the title", (compared,), (), None)

    monkeypatch.setattr("linreg_jax._cli.commands.check_gradients", check_gradients)
    found, out, err = run("check", table, "--target", "price", "--loss", "huber:2", "--ridge", 0.5)
    assert (found, err) == (code, "")
    assert out.startswith("the title")
    assert verdict in out
    assert "[0] size, [1] age, years, [2] height" in out
    ((loss, params, data),) = checked
    assert loss == huber(2.0) + ridge(0.5)
    assert np.all(np.asarray(params.weights) != 0)
    np.testing.assert_allclose(np.std(data.X, axis=0), 1, rtol=1e-5)  # float32


def test_diagnose_speaks_of_the_columns_before_and_after_standardizing(run, table):
    code, out, err = run("diagnose", table, "--target", "price")
    assert (code, err) == (0, "")
    assert [line.split()[1] for line in out.splitlines()[1:4]] == ["size", "age,", "height"]
    assert out.count("Gradient descent explodes") == 2
    _, alone, _ = run("diagnose", table, "--target", "price", "--no-standardize")
    assert alone.count("Gradient descent explodes") == 1


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


def assert_refused(result, message):
    code, out, err = result
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("linreg-jax")
    assert err.count("\n") == 1
    assert "Traceback" not in err


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


@pytest.mark.parametrize(
    "spelling",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace("\n", "\r\n"),
    ],
    ids=["byte-order mark", "semicolons", "tabs", "Windows line ends"],
)
def test_spellings_of_a_file_that_change_nothing(run, table, numbers, spelling):
    table.write_bytes(spelling(table.read_text().replace('"age, years"', "age")).encode())
    code, out, err = run("fit", table, "--target", "price", "--json", "-")
    assert (code, err) == (0, "")
    # float32; the intercept, 4, is what the features' means leave of 700
    np.testing.assert_allclose(in_order(json.loads(out)), exact(*numbers), rtol=1e-2)


def test_huge_numbers_in_float64(run, numbers, tmp_path):
    X, y = numbers
    path = write(tmp_path / "table.csv", X * [1e300, 1, 1], y)
    fit = ("fit", path, "--target", "price", "--float64", "--json", "-")
    code, out, _ = run(*fit)
    assert code == 0
    wanted = exact(X, y) / [1e300, 1, 1, 1]
    np.testing.assert_allclose(in_order(json.loads(out)), wanted, rtol=1e-9)
    write(path, X * [1e306, 1, 1], y)
    assert_refused(run(*fit), "e+307 is too large to compute with in float64")
    write(path, X, y * 1e300)
    assert_refused(run(*fit), "'price' holds numbers too large to square in float64")


def test_rows_that_miss_a_value_are_dropped_or_predicted_as_nan(run, table, numbers, tmp_path):
    model = tmp_path / "m.model"
    with table.open("a") as file:
        file.write("3,,5,6\n")
    arguments = ("--target", "price", "--drop-missing", "--save", model, "--json", "-")
    code, out, err = run("fit", table, *arguments)
    assert code == 0
    assert err == "linreg-jax: warning: dropped 1 of 61 rows, which miss a value\n"
    assert (json.loads(out)["rows"], json.loads(out)["dropped_rows"]) == (60, 1)
    assert_refused(run("predict", table, "--model", model), "1 of 61 rows: 1 in 'age, years'")
    code, out, _ = run("predict", table, "--model", model, "--drop-missing")
    values = [float(line) for line in out.splitlines()[1:]]
    X, y = numbers
    wanted = [*(np.c_[X, np.ones(ROWS)] @ exact(X, y)), np.nan]
    np.testing.assert_allclose(values, wanted, rtol=1e-4)  # trained in float32


def test_a_constant_column_is_warned_of(run, tmp_path):
    path = tmp_path / "file.csv"
    rows = "".join(f"{i % 7},1,{i * i % 11},{i % 5}\n" for i in range(ROWS))
    path.write_text("x,one,z,y\n" + rows)
    code, out, err = run("fit", path, "--target", "y", "--json", "-")
    assert code == 0
    assert "warning: constant, so the intercept does the same: one" in err
    assert err.count("\n") == 1
    assert json.loads(out)["coefficients"]["one"] == 0


FAR = {
    "unix": 1.7e9 + np.sort(np.random.default_rng(3).uniform(0, 3600, ROWS)),
    "near": 1e6 + 0.4 * np.random.default_rng(4).normal(size=ROWS),
    "equal in float32": 1e9 + np.arange(ROWS) / ROWS,
}


@pytest.mark.parametrize("name", FAR)
def test_features_far_from_zero_are_centred_before_they_are_rounded(run, tmp_path, name):
    rng, path = np.random.default_rng(5), tmp_path / "far.csv"
    x = FAR[name]
    y = 3 * (x - x.mean()) / x.std() + rng.normal(size=ROWS)
    path.write_text(
        "x,y\n" + "".join(f"{a!r},{b!r}\n" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    )
    code, out, err = run("fit", path, "--target", "y", "--test-fraction", "0.2", "--json", "-")
    assert (code, err) == (0, "")
    found = json.loads(out)
    slope = found["exact"]["coefficients"]["x"]
    # The rows that are left to train on are some of these, with residuals of deviation 1.
    assert abs(slope * x.std() / 3 - 1) < 0.4
    residuals = y - slope * (x - x.mean())
    assert abs(found["test"]["loss"] / residuals.var() - 1) < 1
    code, out, err = run("fit", path, "--target", "y", "--json", "-")
    wanted = np.polyfit(x - x.mean(), y, 1)[0]
    assert (code, err) == (0, "")
    assert abs(json.loads(out)["exact"]["coefficients"]["x"] / wanted - 1) < 1e-5


def test_digits_that_float32_has_lost_are_warned_of(run, tmp_path):
    path = tmp_path / "far.csv"
    rows = zip(FAR["unix"].tolist(), FAR["near"].tolist(), strict=True)
    path.write_text("x,y\n" + "".join(f"{a!r},{b!r}\n" for a, b in rows))
    _, _, err = run("diagnose", path, "--target", "y")
    assert re.search(
        r"warning: 'x' varies by .* about 1.7e\+09, of which float32 keeps 0 digits", err
    )
    assert "warning: 'y' varies by" in err
    assert "pass --float64" in err
    assert "varies" not in run("diagnose", path, "--target", "y", "--float64")[2]
    whole = tmp_path / "whole.csv"  # whole numbers that float32 holds lose nothing
    whole.write_text("x,y\n" + "".join(f"{5_400_000 + i},{i % 7}\n" for i in range(ROWS)))
    assert "varies" not in run("diagnose", whole, "--target", "y")[2]


def test_one_row(run, tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("x,y\n1,2\n")
    for command in ("fit", "diagnose"):
        code, _, err = run(command, path, "--target", "y")
        assert code == 0
        assert set(err.splitlines()) == {
            "linreg-jax: warning: constant, so the intercept does the same: x"
        }


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
        (["fit", "f", "--target", "y", "--ridge", "-1"], "at least 0, got '-1'"),
        (["fit", "f", "--target", "y", "--optimizer", "sdg"], "invalid choice: 'sdg'"),
        (["plot", "f", "--target", "y", "--out", "x", "--rates", "1,,2"], "got ''"),
        (["--float64", "fit", "f", "--target", "y"], "stand behind the command"),
        (["--plot", "nowhere/x.png"], "there is no folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments(run, arguments, message):
    assert_refused(run(*arguments), message)


def test_arguments_that_do_not_fit_the_data(run, table):
    for options, message in [
        (("--epochs", 3), "--epochs needs --batch-size"),
        (("--steps", 3, "--batch-size", 61), "at most the 60 rows to train on, got 61"),
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


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("surface", ("--over", "height,intercept")),
        ("learning-rates", ("--rates", "0.1,0.6", "--steps", "5")),
        ("losses", ()),
        ("fit", ()),
    ],
)
def test_plot_draws_a_picture(run, table, kind, options):
    path = table.with_suffix(".png")
    arguments = ("plot", table, "--target", "price", "--kind", kind, "--out", path)
    assert run(*arguments, *options) == (0, f"{path}\n", "")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000
    assert sorted(os.listdir(path.parent)) == ["table.csv", "table.png"]


def test_fit_plot_and_a_picture_without_matplotlib(run, table, monkeypatch):
    path = table.with_suffix(".svg")
    assert run("fit", table, "--target", "price", "--plot", path)[0] == 0
    assert "<svg" in path.read_text()[:500]
    monkeypatch.setitem(sys.modules, "linreg_jax._cli.pictures", None)
    refused = run("fit", table, "--target", "price", "--plot", path)
    assert_refused(refused, "pip install 'linreg-jax[plot]'")


def test_the_demonstration_is_there_without_a_command(run, tmp_path, monkeypatch):
    """What it prints has tests of its own."""
    seen = []
    monkeypatch.setattr(
        "linreg_jax.demonstration.demonstrate",
        lambda **settings: seen.append((settings, jax.config.jax_enable_x64)) or 0,
    )
    path = tmp_path / "hubble.png"
    assert run() == (0, "", "")
    assert run("--seed", 3, "--float64", "--plot", path) == (0, f"\npicture: {path}\n", "")
    assert seen == [({"seed": None}, False), ({"seed": 3}, True)]
    assert path.read_bytes().startswith(b"\x89PNG")


def test_help_has_examples_of_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in ("fit", "predict", "check", "diagnose", "plot"):
        assert f"linreg-jax {command}" in out or f"    {command}" in out
        code, out_of_command, _ = run(command, "--help")
        assert code == 0
        assert f"usage: linreg-jax {command}" in out_of_command
        assert "%(" not in out_of_command


def interrupted(*arguments, **keywords):
    raise KeyboardInterrupt


def test_an_interrupted_fit_leaves_a_saved_model_whole(run, table, tmp_path, monkeypatch):
    model = tmp_path / "m.model"
    arguments = ("fit", table, "--target", "price", "--save", model)
    assert run(*arguments)[0] == 0
    before = model.read_bytes()
    monkeypatch.setattr("linreg_jax._cli.commands.train", interrupted)
    code, out, err = run(*arguments)
    assert (code, out) == (130, "")
    assert err == "linreg-jax: interrupted; nothing was written\n"
    assert model.read_bytes() == before


def test_a_run_stopped_at_its_progress_bar_is_reported_and_saved(run, table, tmp_path, monkeypatch):
    def stopped(*arguments, **keywords):
        result = job.train(*arguments, **keywords)
        return result._replace(status=np.int32(Status.INTERRUPTED))

    monkeypatch.setattr("linreg_jax._cli.commands.train", stopped)
    model = tmp_path / "m.model"
    code, out, _ = run("fit", table, "--target", "price", "--save", model)
    assert code == 130
    assert "interrupted after" in out
    with jax.enable_x64(True):
        assert load(model).target == "price"


def test_a_reader_that_has_read_enough_is_no_error(tmp_path):
    path, model = tmp_path / "long.csv", tmp_path / "m.model"
    path.write_text("x\n" + "0.125\n" * 30_000)  # predictions of more bytes than a pipe holds
    save(ColumnModel(Params(np.ones(1), np.array(0.0)), ("x",), "y", "mse"), model)
    predict = [sys.executable, "-m", "linreg_jax", "predict", str(path), "--model", str(model)]
    piped = f"{subprocess.list2cmdline(predict)} | head -n 2"
    done = subprocess.run(["sh", "-c", piped], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("y\n0.125\n", "")


def test_ctrl_c_ends_a_running_fit(table):
    with table.open("a") as file:
        file.write(",,,\n")  # dropped with a warning, which says that the process is under way
    fit = [sys.executable, "-m", "linreg_jax", "fit", str(table), "--target", "price"]
    slow = [*fit, "--drop-missing", "--loss", "mae", "--steps", "100000000"]
    pipe = subprocess.PIPE
    # A shell's background job, such as this may be, ignores Ctrl-C, and so would its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(slow, stdout=pipe, stderr=pipe, text=True) as process:
        signal.signal(signal.SIGINT, before)
        assert "dropped 1 of 61 rows" in process.stderr.readline()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    # It was compiling, or under way.
    assert err == "linreg-jax: interrupted; nothing was written\n" or "interrupted after" in out
