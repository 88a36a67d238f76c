"""The command line's numbers on the diabetes data, in its own units, against other libraries'."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import HuberRegressor, LinearRegression, QuantileRegressor, Ridge
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from linreg_jax.cli import main
from tests import command_line
from tests.command_line import in_order


@pytest.fixture(scope="module")
def diabetes(tmp_path_factory):
    """`(path, X, y)`: the data as its authors measured it, and as CSV."""
    path = tmp_path_factory.mktemp("diabetes") / "diabetes.csv"
    return path, *command_line.write_diabetes(path)


def fitted(capsys, path, *options):
    arguments = ["fit", str(path), "--target", "target", "--json", "-", *map(str, options)]
    assert main(arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_the_fit_is_that_of_linear_regression_and_ols(diabetes, capsys):
    sm = pytest.importorskip("statsmodels.api")
    path, X, y = diabetes
    found = fitted(capsys, path, "--float64")
    assert found["features"] == load_diabetes().feature_names
    theirs = LinearRegression().fit(X, y)
    ols = sm.OLS(y, sm.add_constant(X)).fit()
    for coefficients in (found, found["exact"]):
        ours = in_order(coefficients)
        # The data's condition number is 7,000 as it is; the fit stops at a gradient 1e-12 as large.
        np.testing.assert_allclose(ours, [*theirs.coef_, theirs.intercept_], rtol=1e-8)
        np.testing.assert_allclose(ours, [*ols.params[1:], ols.params[0]], rtol=1e-8)
    assert found["training"]["r2"] == pytest.approx(ols.rsquared, rel=1e-10)
    assert found["training"]["loss"] == pytest.approx(
        mean_squared_error(y, theirs.predict(X)), rel=1e-10
    )


def test_float32_shows_the_same_numbers_but_for_its_rounding(diabetes, capsys):
    path, X, y = diabetes
    found = fitted(capsys, path)
    theirs = LinearRegression().fit(X, y)
    scale = np.array([*X.std(axis=0), 1.0])
    # standardized: s1 to s4 are nearly combinations of each other, condition number 470
    difference = (in_order(found) - [*theirs.coef_, theirs.intercept_]) * scale
    assert np.abs(difference).max() < 0.1
    assert found["training"]["r2"] == pytest.approx(r2_score(y, theirs.predict(X)), abs=1e-5)


def test_ridge_is_that_of_a_scaler_and_ridge(diabetes, capsys):
    path, X, y = diabetes
    found = fitted(capsys, path, "--float64", "--ridge", 0.5)
    # mse + 0.5 Σ w² is 1/n of sklearn's Σ r² + alpha Σ w²
    theirs = make_pipeline(StandardScaler(), Ridge(alpha=0.5 * len(y))).fit(X, y)
    predicted = X @ in_order(found)[:-1] + found["intercept"]
    np.testing.assert_allclose(predicted, theirs.predict(X), rtol=1e-9)
    assert found["training"]["loss"] == pytest.approx(((predicted - y) ** 2).mean(), rel=1e-9)


def test_held_out_rows_are_scored_as_theirs(diabetes, capsys):
    path, X, y = diabetes
    found = fitted(capsys, path, "--float64", "--test-fraction", 0.2, "--seed", 5)
    predicted = X @ in_order(found)[:-1] + found["intercept"]
    rows = found["training"]["rows"], found["test"]["rows"]
    assert rows == (353, 89)
    total = sum(n * found[part]["loss"] for n, part in zip(rows, ("training", "test"), strict=True))
    assert total / 442 == pytest.approx(mean_squared_error(y, predicted), rel=1e-9)


@pytest.mark.slow
def test_quantiles_and_huber_reach_their_objectives(diabetes, capsys):
    path, X, y = diabetes
    scaled = StandardScaler().fit_transform(X)

    def residuals(found):
        return X @ in_order(found)[:-1] + found["intercept"] - y

    for level in (0.5, 0.9):
        theirs = QuantileRegressor(quantile=level, alpha=0.0, solver="highs").fit(scaled, y)

        def pinball(r, level=level):
            return np.maximum((1 - level) * r, -level * r).mean()

        ours = pinball(residuals(fitted(capsys, path, "--loss", f"quantile:{level}")))
        # 10,000 steps of a falling rate end this near a corner
        assert ours <= pinball(theirs.predict(scaled) - y) * (1 + 1e-3)

    theirs = HuberRegressor(epsilon=1.35, alpha=0.0, max_iter=10_000, tol=1e-8).fit(scaled, y)
    delta = 1.35 * theirs.scale_  # it fits the scale as well, ours is given

    def objective(r):
        return np.where(np.abs(r) <= delta, r * r / 2, delta * (np.abs(r) - delta / 2)).mean()

    ours = objective(residuals(fitted(capsys, path, "--loss", f"huber:{delta}")))
    assert ours == pytest.approx(objective(theirs.predict(scaled) - y), rel=1e-4)
