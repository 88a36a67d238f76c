"""What coefficients are worth, held to rational arithmetic and to formulas in NumPy."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from linreg_jax import as_dataset, compress, lasso, mse, ridge, sse
from linreg_jax.inference import infer, predict_interval
from tests import nist
from tests.support import make_problem, relative_error

PROBLEMS = nist.problems()


def root(square):
    """The square root of a rational number, right to some forty digits, as a float."""
    scale = 10**160
    return float(Fraction(math.isqrt(square.numerator * scale**2 // square.denominator), scale))


def rational(problem):
    """Exact: coefficients, standard errors, residual deviation, R² and F of the float64 matrix."""
    A = np.column_stack([np.ones(len(problem.y)), problem.X]) if problem.intercept else problem.X
    rows, y = [list(map(Fraction, row)) for row in A.tolist()], list(map(Fraction, problem.y))
    n, p = A.shape
    table = [
        [sum(row[i] * row[j] for row in rows) for j in range(p)]
        + [sum(row[i] * one for row, one in zip(rows, y, strict=True))]
        + [Fraction(i == j) for j in range(p)]
        for i in range(p)
    ]
    for i in range(p):
        table[i] = [a / table[i][i] for a in table[i]]
        for j in range(p):
            if j != i:
                factor = table[j][i]
                table[j] = [a - factor * b for a, b in zip(table[j], table[i], strict=True)]
    theta = [row[p] for row in table]
    predictions = [sum(a * b for a, b in zip(row, theta, strict=True)) for row in rows]
    squares = sum((a - b) ** 2 for a, b in zip(y, predictions, strict=True))
    mean = sum(y) / n if problem.intercept else 0
    total = sum((one - mean) ** 2 for one in y)
    variance = squares / (n - p)
    errors = [root(variance * table[i][p + 1 + i]) for i in range(p)]
    m = problem.X.shape[1]
    f = float((total - squares) / m / variance) if variance else np.inf
    return np.array(list(map(float, theta))), np.array(errors), root(variance), squares / total, f


def column(params):
    bias = [] if params.bias is None else [params.bias]
    return np.concatenate([np.ravel(np.asarray(part, float)) for part in (*bias, params.weights)])


@pytest.mark.parametrize("name", PROBLEMS)
def test_nist(name, x64):
    problem = PROBLEMS[name]
    theta, errors, deviation, unexplained, f = rational(problem)
    assert deviation == pytest.approx(problem.deviation, rel=1e-8, abs=1e-12)
    assert errors[0] == pytest.approx(problem.error, rel=1e-7, abs=1e-12)  # Filip's powers
    found = infer(as_dataset(problem.X, problem.y), intercept=problem.intercept)
    assert np.abs(column(found.params) / theta - 1).max() < 1e-12
    if not deviation > 0:  # Wampler1 is fitted exactly
        assert column(found.standard_errors).max() < 1e-9
        assert float(found.r2) == 1
        return
    assert np.abs(column(found.standard_errors) / errors - 1).max() < 1e-9
    assert abs(float(found.residual_deviation) / deviation - 1) < 1e-9
    assert abs(float(found.r2) - float(1 - unexplained)) < 1e-12
    assert abs(float(found.f_statistic) / f - 1) < 1e-9


def by_hand(data, kind, *, intercept=True, clusters=None, precision=False, strength=0.0):
    """Covariance of one target by the textbook, NumPy float64."""
    X, y = np.asarray(data.X, float), np.asarray(data.y, float)
    A = np.column_stack([np.ones(len(X)), X]) if intercept else X
    s = np.ones(len(X)) if data.sample_weight is None else np.asarray(data.sample_weight, float)
    if not precision:  # each example as often as it was seen
        index = np.repeat(np.arange(len(X)), s.astype(int))
        A, y, s = A[index], y[index], np.ones(len(index))
        clusters = None if clusters is None else np.asarray(clusters)[index]
    else:
        kept = s > 0
        A, y, s = A[kept], y[kept], s[kept]
        clusters = None if clusters is None else np.asarray(clusters)[kept]
    A, y = np.sqrt(s)[:, None] * A, np.sqrt(s) * y
    n, p = A.shape
    penalty = np.diag([0.0] * intercept + [strength] * X.shape[1])
    Z = np.linalg.inv(A.T @ A + penalty)
    r = y - A @ (Z @ A.T @ y)
    hat = np.einsum("ij,jk,ik->i", A, Z, A)
    degrees = n - (hat.sum() if strength else p)
    if kind == "classical":
        return r @ r / degrees * Z @ A.T @ A @ Z
    if kind == "cluster":
        groups = np.unique(clusters)
        u = np.array([(r[clusters == g, None] * A[clusters == g]).sum(axis=0) for g in groups])
        scale = len(groups) / (len(groups) - 1) * (n - 1) / degrees
        return scale * Z @ u.T @ u @ Z
    scale = {"hc1": n / degrees, "hc2": 1 / (1 - hat), "hc3": 1 / (1 - hat) ** 2}.get(kind, 1.0)
    return Z @ (A.T * (scale * r * r)) @ A @ Z


@pytest.mark.parametrize("kind", ["classical", "hc0", "hc1", "hc2", "hc3", "cluster"])
@pytest.mark.parametrize("weights", ["frequency", "precision"])
@pytest.mark.parametrize("strength", [0.0, 3.0])
@pytest.mark.parametrize("intercept", [True, False])
def test_covariances(intercept, strength, weights, kind, dtype):
    _, data = make_problem(1, weighted=True, dtype=dtype)
    clusters = np.arange(50) // 5 if kind == "cluster" else None
    loss = sse + ridge(strength) if strength else sse
    settings = {"clusters": clusters, "intercept": intercept}
    found = infer(data, loss, covariance=kind, weights=weights, **settings)
    expected = by_hand(data, kind, precision=weights == "precision", strength=strength, **settings)
    # Rounding of sums of squares, some of them divided by (1 - h)².
    limit = 2e-5 if dtype == "float32" else 1e-12
    assert relative_error(found.covariance, expected) < limit
    assert found.covariance.dtype == dtype


def test_targets_are_fitted_side_by_side(x64):
    _, data = make_problem(2, k=3, weighted=True, dtype="float64")
    for kind in ("classical", "hc3"):
        found = infer(data, covariance=kind)
        assert "target 2" in str(found)
        for j in range(3):
            one = infer(data._replace(y=data.y[:, j]), covariance=kind)
            assert relative_error(found.covariance[j], one.covariance) < 1e-12
            assert relative_error(found.p_values.weights[:, j], one.p_values.weights) < 1e-12
            assert relative_error(found.f_statistic[j], one.f_statistic) < 1e-12


def test_what_is_not_identified_is_nan_and_named(dtype):
    _, data = make_problem(3, weighted=True, dtype=dtype)
    found = infer(data._replace(X=data.X.at[:, 3].set(2 * data.X[:, 1])))
    assert np.isnan(found.params.weights).tolist() == [False, True, False, True]
    without = data._replace(X=np.asarray(data.X)[:, [0, 1, 2]])
    expected = np.sqrt(np.diag(by_hand(without, "classical")))[[0, 1, 3]]
    errors = found.standard_errors.bias, found.standard_errors.weights[jnp.array([0, 2])]
    assert relative_error(errors, expected) < (1e-5 if dtype == "float32" else 1e-12)
    assert "Not identified by the data: weights[1], weights[3]." in str(found)
    assert int(found.degrees_of_freedom) == int(data.sample_weight.sum()) - 4
    constant = data._replace(X=data.X.at[:, 0].set(7))
    found = infer(constant)
    assert np.isnan(found.params.bias)
    assert np.isnan(found.params.weights).tolist() == [True, False, False, False]


def test_compressed_rows_are_enough(x64):
    _, data = make_problem(4, weighted=True, dtype="float64")
    expected, found = infer(data), infer(compress(data))
    for name, one in expected._asdict().items():
        if name not in ("sparsity", "tail_examples"):  # NaN for squared losses
            assert relative_error(getattr(found, name), one) < 1e-9
    with pytest.raises(ValueError, match="compressed, and covariance"):
        infer(compress(data), covariance="hc3")
    with pytest.raises(ValueError, match="compressed, and weights"):
        infer(compress(data), weights="precision")


def test_under_jit_and_vmap(x64):
    _, data = make_problem(5, weighted=True, dtype="float64")
    expected = infer(data)

    @jax.jit
    @jax.vmap
    def mapped(y):
        return infer(data._replace(y=y))

    both = mapped(jnp.stack([data.y, -data.y]))
    for name, value in expected._asdict().items():
        found = jax.tree.map(lambda leaf: leaf[0], getattr(both, name))
        if np.isnan(value if hasattr(value, "dtype") else 0.0).all():  # of other losses
            assert np.isnan(found).all()
        else:
            assert relative_error(found, value) < 1e-12
    assert relative_error(both.p_values.weights[1], expected.p_values.weights) < 1e-12


def test_bad_input():
    _, data = make_problem(6)
    with pytest.raises(ValueError, match="ridge penalties only"):
        infer(data, mse + lasso(0.1))
    with pytest.raises(ValueError, match='covariance must be one of "classical"'):
        infer(data, covariance="HC9")
    with pytest.raises(ValueError, match="go together"):
        infer(data, covariance="cluster")
    with pytest.raises(ValueError, match="one cluster for each example"):
        infer(data, covariance="cluster", clusters=[1, 2])
    with pytest.raises(ValueError, match="level must be"):
        infer(data, level=95)
    with pytest.raises(ValueError, match=r"it must be \[m, 4\]"):
        predict_interval(infer(data), [[1.0]])


@pytest.mark.exhaustive
def test_coverage(x64):
    keys = jax.random.split(jax.random.key(0), 2000)
    # HC3 is right for many examples: with 60 of these it covers 93.95 %, in NumPy too.
    X = jax.random.normal(jax.random.key(1), (200, 2))

    def covered(key, spread, kind):
        y = 1.0 + X @ jnp.array([2.0, -1.0]) + spread * jax.random.normal(key, (200,))
        found = infer(as_dataset(X, y), covariance=kind)
        return (found.lower.weights[0] < 2) & (found.upper.weights[0] > 2)

    equal = jnp.ones(200)
    unequal = 0.2 + jnp.abs(X[:, 0])
    for spread, kind in [(equal, "classical"), (unequal, "hc3")]:
        share = jax.vmap(lambda key, s=spread, k=kind: covered(key, s, k))(keys).mean()
        assert 0.94 < float(share) < 0.96


def test_prediction_intervals(x64):
    _, data = make_problem(7, dtype="float64")
    found = infer(data._replace(sample_weight=jnp.ones(50)))
    X, A = np.asarray(data.X), np.column_stack([np.ones(50), data.X])
    y, Z = np.asarray(data.y), np.linalg.inv(A.T @ A)
    theta = Z @ A.T @ y
    variance = np.sum((y - A @ theta) ** 2) / 45
    for kind, more in [("mean", 0), ("observation", 1)]:
        half = stats.t.ppf(0.95, 45) * np.sqrt(
            variance * (np.einsum("ij,jk,ik->i", A, Z, A) + more)
        )
        lower, upper = predict_interval(found, X, level=0.9, kind=kind)
        assert relative_error(lower, A @ theta - half) < 1e-12
        assert relative_error(upper, A @ theta + half) < 1e-12


def test_a_probability_that_underflows_is_not_printed_as_0():
    x = np.linspace(-1, 1, 200, dtype=np.float32)
    y = 3 * x + 1e-3 * np.sin(50 * x)
    text = str(infer(as_dataset(x[:, None], y)))
    assert text.count("<1e-38") == 2  # of the weight and of F
    assert "(p 0)" not in text
