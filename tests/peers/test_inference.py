"""The standard errors, tests and intervals of statsmodels, on the same data."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

from linreg_jax import Params, as_dataset, huber, influence, quantile
from linreg_jax.inference import infer, predict_interval
from tests.support import relative_error

sm = pytest.importorskip("statsmodels.api")
KINDS = ["classical", "hc0", "hc1", "hc2", "hc3", "cluster"]
# Each coefficient by itself; what differs is the peer's own rounding.
TOLERANCE = 1e-9


def examples(name):
    """(X, y) in float64; Longley's features in units that the peer's own digits suffice for."""
    if name == "diabetes":
        return load_diabetes(return_X_y=True)
    if name == "random":
        rng = np.random.default_rng(0)
        X = rng.normal(size=(80, 3))
        return X, X @ [1.0, -2.0, 0.5] + rng.normal(size=80)
    data = getattr(sm.datasets, name).load_pandas()
    X, y = np.asarray(data.exog, float), np.asarray(data.endog, float)
    if name == "longley":
        X = (X - X.mean(axis=0)) / X.std(axis=0)
    return X, y


def column(params):
    bias = [] if params.bias is None else [params.bias]
    return np.concatenate([np.ravel(part) for part in (*bias, params.weights)])


def assert_same(found, peer):
    for ours, theirs in [
        (found.params, peer.params),
        (found.standard_errors, peer.bse),
        (found.statistics, peer.tvalues),
        (found.p_values, peer.pvalues),
        (found.lower, peer.conf_int()[:, 0]),
        (found.upper, peer.conf_int()[:, 1]),
    ]:
        assert relative_error(column(ours), theirs) < TOLERANCE
    assert relative_error(found.covariance, peer.cov_params()) < TOLERANCE
    scalars = [
        (found.r2, peer.rsquared),
        (found.adjusted_r2, peer.rsquared_adj),
        (found.f_statistic, peer.fvalue),
        (found.f_p_value, peer.f_pvalue),
        (found.log_likelihood, peer.llf),
        (found.aic, peer.aic),
        (found.bic, peer.bic),
        (found.residual_deviation, np.sqrt(peer.scale)),
        (found.degrees_of_freedom, peer.df_resid),
    ]
    for ours, theirs in scalars:
        assert float(ours) == pytest.approx(float(theirs), rel=TOLERANCE)


# Each combination compiles anew: all kinds on the data that are hardest and on weighted ones.
@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in ("longley", "diabetes", "random") for kind in KINDS]
    + [(name, kind) for name in ("stackloss", "engel") for kind in ("classical", "hc3")],
)
def test_least_squares(name, kind):
    X, y = examples(name)
    clusters = np.arange(len(y)) % min(40, len(y) // 2) if kind == "cluster" else None
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y)) if name == "random" else None
    with jax.enable_x64(True):
        for intercept in (True, False):
            found = infer(as_dataset(X, y, weight), covariance=kind, clusters=clusters,
                          weights="precision", intercept=intercept)  # fmt: skip
            A = sm.add_constant(X) if intercept else X
            peer = sm.OLS(y, A) if weight is None else sm.WLS(y, A, weights=weight)
            # The peer asks the data whether a constant is there; diabetes' features are centred.
            peer = peer.fit()
            if kind != "classical":
                groups = {"groups": clusters} if kind == "cluster" else {}
                kind_there = kind if kind == "cluster" else kind.upper()
                peer = peer.get_robustcov_results(kind_there, **groups)
            assert_same(found, peer)
            if intercept:
                model = LinearRegression().fit(X, y, weight)
                r2 = model.score(X, y, weight)
                assert float(found.r2) == pytest.approx(r2, rel=TOLERANCE)


@pytest.mark.parametrize(("kind", "there"), [("mean", "mean_ci"), ("observation", "obs_ci")])
def test_prediction_intervals(kind, there):
    X, y = examples("stackloss")
    with jax.enable_x64(True):
        lower, upper = predict_interval(infer(as_dataset(X, y)), X, level=0.9, kind=kind)
        peer = sm.OLS(y, sm.add_constant(X)).fit().get_prediction().summary_frame(alpha=0.1)
        assert relative_error(lower, peer[f"{there}_lower"]) < TOLERANCE
        assert relative_error(upper, peer[f"{there}_upper"]) < TOLERANCE


@pytest.mark.parametrize("name", ["stackloss", "engel", "diabetes"])
def test_huber(name):
    """RLM with cov="H1" at a scale of 1: its rows are divided by the scale before."""
    X, y = examples(name)
    deviation = np.std(y) / 3
    A = sm.add_constant(X) / deviation
    model = sm.RLM(y / deviation, A, M=sm.robust.norms.HuberT(1.345))
    model._estimate_scale = lambda resid, scale_est: 1.0
    peer = model.fit(maxiter=1000, tol=1e-14, update_scale=False)
    with jax.enable_x64(True):
        found = infer(as_dataset(X, y), huber(1.345 * deviation))
        assert relative_error(column(found.params), peer.params) < TOLERANCE
        assert relative_error(column(found.standard_errors), peer.bse) < TOLERANCE
        assert relative_error(column(found.statistics), peer.tvalues) < TOLERANCE
        assert relative_error(found.covariance, peer.cov_params()) < TOLERANCE


@pytest.mark.parametrize("level", [0.25, 0.5, 0.9])
@pytest.mark.parametrize("name", ["engel", "diabetes"])
def test_quantiles(name, level):
    """QuantReg with vcov="iid", at its own minimum."""
    X, y = examples(name)
    peer = sm.QuantReg(y, sm.add_constant(X)).fit(q=level, vcov="iid", max_iter=5000)
    with jax.enable_x64(True):
        params = Params(jax.numpy.asarray(peer.params[1:]), jax.numpy.asarray(peer.params[0]))
        found = infer(as_dataset(X, y), quantile(level), params=params)
        assert float(found.sparsity) == pytest.approx(peer.sparsity, rel=TOLERANCE)
        assert relative_error(column(found.standard_errors), peer.bse) < TOLERANCE
        assert relative_error(column(found.p_values), peer.pvalues) < TOLERANCE


def test_the_median_of_engel_by_its_neighbours():
    """R's quantreg 5, summary(rq(foodexp ~ income), se = "nid"), as its vignette prints it."""
    food, income = examples("engel")
    with jax.enable_x64(True):
        found = infer(as_dataset(income[:, None], food[:, 0]), quantile(0.5), covariance="nid")
        assert np.round(column(found.params), 5).tolist() == [81.48225, 0.56018]
        assert np.round(column(found.standard_errors), 5).tolist() == [19.25066, 0.02828]
        assert np.round(column(found.statistics), 5).tolist() == [4.23270, 19.81032]
        assert "are not at its minimum" not in str(found)


@pytest.mark.parametrize("name", ["longley", "diabetes"])
def test_influence(name):
    X, y = examples(name)
    with jax.enable_x64(True):
        found = influence(as_dataset(X, y))
        peer = sm.OLS(y, sm.add_constant(X)).fit().get_influence()
        for ours, theirs in [
            (found.leverages, peer.hat_matrix_diag),
            (-found.internally_studentized, peer.resid_studentized_internal),
            (-found.externally_studentized, peer.resid_studentized_external),
            (found.cooks_distance, peer.cooks_distance[0]),
            (-found.dffits, peer.dffits[0]),
            (found.dfbetas, peer.dfbetas),
            (found.predictions, y - peer.resid_press),
            (found.press, peer.ess_press),
        ]:
            assert relative_error(ours, theirs) < TOLERANCE
