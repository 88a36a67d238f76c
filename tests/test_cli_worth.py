"""linreg-jax fit: what the coefficients are worth; predict --interval: between what values."""

import io
import json

import jax
import numpy as np
import pytest

from linreg_jax import as_dataset, huber, infer, predict_interval, quantile
from tests.command_line import ROWS, assert_refused, write
from tests.support import relative_error

KEYS = {
    "coefficient": "params",
    "standard_error": "standard_errors",
    "t": "statistics",
    "p": "p_values",
    "lower": "lower",
    "upper": "upper",
}


def assert_same(found, wanted):
    """A report's table beside an `Inference` of the file as it is."""
    rows = [*found["coefficients"].values(), found["intercept"]]
    for key, name in KEYS.items():
        params = getattr(wanted, name)
        expected = np.append(params.weights, params.bias)
        # The features are standardized between, in float64.
        np.testing.assert_allclose([row[key] for row in rows], expected, rtol=1e-8)
    for name in ("level", "reference_degrees", "residual_deviation", "f_statistic", "sparsity"):
        expected = float(getattr(wanted, name))
        assert found[name] == (None if np.isnan(expected) else pytest.approx(expected, rel=1e-8))


@pytest.mark.parametrize(
    ("options", "loss", "kind"),
    [((), None, "classical"), (("--covariance", "hc3"), None, "hc3"),
     (("--loss", "huber:1.5"), huber(1.5), "classical"),
     (("--loss", "quantile:0.4", "--covariance", "hc0", "--steps", "50"), quantile(0.4), "hc0")],
    ids=["mse", "hc3", "huber", "quantile"],
)  # fmt: skip
def test_the_table_is_of_the_columns_in_the_file(run, table, numbers, options, loss, kind):
    arguments = ("fit", table, "--target", "price", "--float64", *options)
    code, out, err = run(*arguments, "--json", "-")
    assert (code, err) == (0, "")
    found = json.loads(out)["inference"]
    with jax.enable_x64(True):
        data = as_dataset(*numbers)
        wanted = (
            infer(data, covariance=kind) if loss is None else infer(data, loss, covariance=kind)
        )
        assert_same(found, wanted)
    assert found["covariance"] == kind
    text = run(*arguments)[1]
    lines = text.splitlines()
    assert lines[0].split() == ["coefficient", "std.", "error", "t", "p", "from", "to"]
    row = found["coefficients"]["height"]
    assert lines[3].split() == ["height", *(f"{row[key]:.4g}" for key in KEYS)]
    assert f"95 % intervals, {kind} covariance, t with 56 degrees of freedom" in text
    assert max(map(len, lines)) <= 80


def test_a_tiny_probability_does_not_run_into_the_column_beside_it(run, numbers, tmp_path):
    path = write(tmp_path / "twice.csv", *(np.concatenate([part, part]) for part in numbers))
    code, out, _ = run("fit", path, "--target", "price", "--float64")
    assert code == 0
    row = out.splitlines()[1].split()
    assert (len(row), row[0], row[4]) == (7, "size", "<1e-99")


def test_what_is_constant_has_no_errors(run, numbers, tmp_path):
    X, y = numbers
    X = X.copy()
    X[:, 1] = 3.0
    path = write(tmp_path / "constant.csv", X, y)
    code, out, _ = run("fit", path, "--target", "price", "--float64", "--json", "-")
    found = json.loads(out)["inference"]
    assert code == 0
    assert set(found["coefficients"]["age, years"].values()) == {None}
    assert set(found["intercept"].values()) == {None}
    assert found["coefficients"]["size"]["standard_error"] > 0


@pytest.mark.slow
def test_with_a_lasso_and_where_none_is_wanted_there_is_no_table(run, table):
    both = ("--loss", "huber:1", "--lasso", 0.1, "--learning-rate", 0.1, "--steps", 10)
    for options in (("--covariance", "none"), both):
        code, out, _ = run("fit", table, "--target", "price", *options)
        assert code == 0
        assert "std. error" not in out


def test_quantiles(run, table, tmp_path, monkeypatch):
    """What they have no answer to is said, and how far out they are not to be trusted."""
    model = tmp_path / "m.model"
    arguments = ("fit", table, "--target", "price", "--loss", "quantile:0.4", "--float64")
    with monkeypatch.context() as before_training:
        before_training.setattr("linreg_jax._cli.commands.train", None)
        wrong = run(*arguments, "--covariance", "hc3", "--save", model)
    assert_refused(wrong, 'covariance "hc3" needs leverages, which quantile(0.4) has none of')
    assert not model.exists()
    arguments = (*arguments, "--steps", 50, "--covariance", "hc0", "--save", model)
    code, out, _ = run(*arguments)
    assert code == 0
    warned = " ".join(out.split())
    assert "Only 24 examples are expected on the lesser side of the line, for 4" in warned
    assert max(map(len, out.splitlines())) <= 80
    assert_refused(
        run("predict", table, "--model", model, "--interval", "0.9"),
        "--interval needs a model that knows how far from it observations lie",
    )
    assert run("predict", table, "--model", model)[0] == 0


def test_intervals_of_predictions(run, table, numbers, tmp_path):
    model = tmp_path / "m.model"
    code, _, _ = run("fit", table, "--target", "price", "--float64", "--save", model)
    assert code == 0
    code, out, err = run("predict", table, "--model", model, "--interval", "0.9")
    assert (code, err) == (0, "")
    name, *_ = out.splitlines()
    assert name == "price,price lower,price upper"
    found = np.loadtxt(io.StringIO(out), delimiter=",", skiprows=1)
    assert found.shape == (ROWS, 3)
    X, y = numbers
    with jax.enable_x64(True):
        lower, upper = predict_interval(infer(as_dataset(X, y)), X, level=0.9)
        assert relative_error(found[:, 1], lower) < 1e-8
        assert relative_error(found[:, 2], upper) < 1e-8
    assert run("predict", table, "--model", model)[1].startswith("price\n")
    run("fit", table, "--target", "price", "--covariance", "none", "--save", model)
    assert_refused(
        run("predict", table, "--model", model, "--interval", "0.9"),
        "--interval needs a model that knows how far from it observations lie",
    )
    assert_refused(
        run("predict", table, "--model", model, "--interval", "95"),
        "must be a number between 0 and 1",
    )
