"""Pictures of what coefficients are worth: drawn, right, and nothing on top of each other."""

import matplotlib as mpl
import numpy as np
import pytest
from scipy import stats

from linreg_jax import as_dataset, huber, infer, influence
from linreg_jax.plotting import plot_coefficients, plot_leverage, plot_quantiles, plot_residuals

mpl.use("agg")
from matplotlib import pyplot as plt

from tests.test_plotting import assert_well_laid_out


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3)).astype("float32")
    X[7] *= 4
    y = (X @ [2.0, 0.0, -1.0] + rng.normal(size=40)).astype("float32")
    y[7] += 5
    data = as_dataset(X, y)
    return data, infer(data), influence(data)


def test_coefficients(found):
    _, inference, _ = found
    names = ["age", "height", "size"]
    ax = plot_coefficients(inference, feature_names=names)
    assert_well_laid_out(ax)
    assert [label.get_text() for label in ax.get_yticklabels()] == names
    (intervals,) = ax.collections
    ends = np.array([segment[:, 0] for segment in intervals.get_segments()])
    expected = np.stack([inference.lower.weights, inference.upper.weights], axis=1)
    np.testing.assert_allclose(ends, expected, rtol=1e-6)
    ax = plot_coefficients(inference, intercept=True)
    assert ax.get_yticklabels()[0].get_text() == "intercept"
    assert ax.lines[1].get_xdata()[0] == pytest.approx(float(inference.params.bias))
    with pytest.raises(ValueError, match="must name the 3 features"):
        plot_coefficients(inference, feature_names=["age"])


def test_residuals_and_quantiles(found):
    data, _, inf = found
    ax = plot_residuals(inf, data.y, target_name="price")
    assert_well_laid_out(ax)
    x, r = ax.lines[1].get_data()
    np.testing.assert_allclose(x - r, data.y, rtol=1e-4, atol=1e-5)
    ax = plot_quantiles(inf)
    assert_well_laid_out(ax)
    x, t = ax.lines[1].get_data()
    np.testing.assert_allclose(x, stats.norm.ppf((np.arange(40) + 0.5) / 40), rtol=1e-9)
    np.testing.assert_allclose(t, np.sort(inf.internally_studentized), rtol=1e-6)


@pytest.mark.slow
def test_leverages_and_cooks_distance(found):
    data, _, inf = found
    ax = plot_leverage(inf)
    assert_well_laid_out(ax)
    labels = [text.get_text() for text in ax.texts]
    assert labels == [str(i) for i in np.argsort(-np.asarray(inf.cooks_distance))[:3]]
    assert labels[0] == "7"
    h, edge = ax.lines[4].get_data()
    np.testing.assert_allclose(edge**2 * h / ((1 - h) * 4), 1.0, rtol=1e-4)
    with pytest.raises(ValueError, match="holds no studentized residuals"):
        plot_leverage(influence(data, huber(1.0)))
    several = influence(data._replace(y=np.stack([data.y, data.y], axis=1)))
    with pytest.raises(ValueError, match="several targets"):
        plot_residuals(several, data.y)
