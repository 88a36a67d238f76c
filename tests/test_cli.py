"""The command line: what it prints and writes, and one line for whatever is wrong."""

import json
import os
import re

import jax
import numpy as np
import pytest
from sklearn.linear_model import ElasticNet

from linreg_jax import huber, ridge
from linreg_jax.checking import Comparison, GradientReport
from linreg_jax.saving import load
from tests.command_line import ROWS, assert_refused, exact, in_order, write


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
        "first_learning_rate",
        "learning_rate",
        "dtype",
        "standardized",
        "status",
        "num_steps",
        "coefficients",
        "intercept",
        "exact",
        "inference",
        "cross_validation",
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
    if "--loss" in options or "sgd" in options:
        assert in_order(found) == pytest.approx(in_order(found["exact"]), rel=2e-2)
    else:
        assert found["exact"] is not None


def test_a_lasso_has_its_exact_answer_beside_it(run, table, numbers):
    options = ("--lasso", 1000, "--ridge", 0.1, "--float64", "--json", "-")
    code, out, err = run("fit", table, "--target", "price", *options)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["loss"] == "mse + ridge(0.1) + lasso(1000.0)"
    # So strong that no weight is left, and the mean is all that there is to say.
    assert in_order(found["exact"])[:-1].tolist() == [0, 0, 0]
    np.testing.assert_allclose(in_order(found["exact"])[-1], numbers[1].mean(), rtol=1e-13)
    np.testing.assert_allclose(in_order(found), in_order(found["exact"]), atol=1e-4)


def test_a_strength_is_chosen_by_cross_validation(run, table, numbers, tmp_path):
    path, options = tmp_path / "fit.json", ("--loss", "half_mse", "--float64", "--cross-validate")
    asked = (*options, 3, "--elastic", "0.01,1000,100,0.1:0.9")
    code, out, err = run("fit", table, "--target", "price", *asked, "--json", path)
    assert (code, err) == (
        0,
        "linreg-jax: warning: elastic 0.01 is at an end of the strengths "
        "tried: others may be better\n",
    )
    report = json.loads(path.read_text())
    found = report["cross_validation"]
    assert (found["penalty"], found["folds"], found["best"]) == ("elastic", 3, 0.01)
    assert found["strengths"] == [0.01, 1000, 100, 0.1]
    scores = np.array(found["scores"])  # of folds of 20 rows each
    np.testing.assert_allclose(found["mean"], scores.mean(axis=1), rtol=1e-12)
    error = scores.std(axis=1, ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(found["standard_error"], error, rtol=1e-9)
    assert np.argmin(found["mean"]) == 0
    as_good = scores.mean(axis=1) <= scores.mean(axis=1)[0] + error[0]
    assert found["one_standard_error"] == max(np.array(found["strengths"])[as_good])
    # The best is what is fitted: scikit-learn's own elastic net, on standardized features.
    X, y = numbers
    scale = X.std(axis=0)
    peer = ElasticNet(0.01, l1_ratio=0.9, tol=1e-12, max_iter=10**6).fit(X / scale, y)
    np.testing.assert_allclose(in_order(report["exact"])[:-1], peer.coef_ / scale, rtol=1e-8)
    lines = [re.split(r"\s{2,}", line) for line in out.splitlines()]
    assert [
        "best",
        *(f"{found[key][0]:.5g}" for key in ("strengths", "mean", "standard_error")),
    ] in lines
    assert "the best of 4 strengths is fitted, 3 folds" in out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ridge", pytest.param("lasso", marks=pytest.mark.exhaustive)])
def test_strengths_are_looked_for_where_none_are_given(run, table, numbers, name):
    options = (f"--{name}", "--cross-validate", "--json", "-")
    code, out, _ = run("fit", table, "--target", "price", *options)
    report = json.loads(out)
    found = report["cross_validation"]
    assert (code, found["penalty"], found["folds"]) == (0, name, 5)
    X, y = numbers
    slopes = 2 * (X - X.mean(axis=0)).T @ (y - y.mean()) / ROWS / X.std(axis=0)
    # From the least strength that leaves no weight to a thousandth of it.
    ends = np.abs(slopes).max() * np.array([1, 1e-3])
    if name == "ridge":
        ends = np.abs(slopes).max() / np.sqrt((y * y).mean()) * np.array([1e2, 1e-4])
    np.testing.assert_allclose(np.array(found["strengths"])[[0, -1]], ends, rtol=1e-5)
    assert report["loss"] == f"mse + {name}({found['best']})"
    assert len(found["scores"]) == 50


def test_auto_rates_do_not_explode_without_standardizing(run, table, numbers):
    code, out, _ = run("fit", table, "--target", "price", "--no-standardize", "--json", "-")
    assert code == 0
    assert json.loads(out)["training"]["loss"] < 0.1 * (numbers[1] ** 2).mean()


@pytest.mark.parametrize(
    ("options", "falls"),
    [
        (("--loss", "mae"), True),
        (("--optimizer", "adam"), True),
        (("--loss", "mae", "--optimizer", "momentum"), True),
        (("--loss", "mae", "--learning-rate", 0.5), False),
        (("--loss", "huber:1.35", "--optimizer", "momentum"), False),
        ((), False),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
def test_the_report_says_whether_the_learning_rate_fell(run, table, tmp_path, options, falls):
    path = tmp_path / "fit.json"
    arguments = ("--target", "price", "--steps", 20, "--json", path, *options)
    code, out, err = run("fit", table, *arguments)
    assert (code, err) == (0, "")
    (line,) = [line for line in out.splitlines() if line.startswith("learning rate")]
    found = json.loads(path.read_text())
    first, last = found["first_learning_rate"], found["learning_rate"]
    if falls:
        # Step 19 of 20, of a fall to 1/10,000 after step 20; float32.
        assert last / first == pytest.approx(1e-4 ** (19 / 20), rel=1e-4)
        assert f"falling from {first:.4g} to {last:.4g} on standardized features" in line
    else:
        assert first == last
        assert "falling" not in line
    assert max(map(len, out.splitlines())) <= 80


def test_the_help_says_what_auto_means(run):
    _, out, _ = run("fit", "--help")
    said = " ".join(out.split())
    assert "falls to 1/10,000 of a first one" in said
    assert "the best constant rate where there is one, else one that falls ten-thousandfold" in said


def test_an_explosion_says_which_rate_would_not(run, table, tmp_path):
    model = tmp_path / "m.model"
    arguments = ("fit", table, "--target", "price", "--learning-rate", 5, "--save", model)
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert "diverged at step" in err
    assert err.count("\n") == 1
    assert not model.exists()


def test_a_run_that_ends_with_a_larger_loss_is_an_error(run, table, tmp_path):
    """Each step doubles the distance along the intercept: large, finite and no fit."""
    outputs = ("--save", tmp_path / "m.model", "--json", tmp_path / "fit.json")
    arguments = ("--target", "price", "--learning-rate", 1.5, "--steps", 30, *outputs)
    code, out, err = run("fit", table, *arguments)
    assert (code, out) == (1, "")
    assert "ended with a larger loss than it began with" in err
    assert "largest stable rate" in err
    assert err.endswith("; nothing was written\n")
    assert os.listdir(tmp_path) == ["table.csv"]


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
    largest = "column 'price': -5.69372e+302 is too large to square in float64 (at most 1.7e+153)"
    assert_refused(run(*fit), f"line 48, {largest}")


@pytest.mark.parametrize("command", ["fit", "check", "diagnose"])
def test_a_number_too_large_for_float32_names_its_line_and_the_fix(run, tmp_path, command):
    """Lines are counted with those of rows that are dropped."""
    path = tmp_path / "table.csv"
    rows = [f"{i},{i * i % 7}\n" for i in range(9)]
    path.write_text("x,y\n" + "".join([*rows[:2], ",1\n", *rows[2:5], "1e39,2\n", *rows[5:]]))
    asked = (command, path, "--target", "y", "--drop-missing")
    code, out, err = run(*asked)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == (
        f"linreg-jax: {path}, line 8, column 'x': 1e+39 is too large to compute with in float32 "
        "(at most 2.1e+37): rescale the column, or compute in float64 (--float64)"
    )
    assert run(*asked, "--float64")[0] == 0
    path.write_text(path.read_text().replace("1e39,2", "1,-3e19"))
    code, out, err = run(*asked)
    assert f"{path}, line 8, column 'y': -3e+19 is too large to square in float32" in err


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
