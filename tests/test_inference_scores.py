"""What the coefficients of other losses are worth: by hand, by autodiff and in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.optimize import linprog
from scipy.stats import norm

from linreg_jax import (
    Loss,
    Params,
    as_dataset,
    epsilon_insensitive,
    huber,
    infer,
    lasso,
    log_cosh,
    mae,
    mse,
    quantile,
    ridge,
    solve,
)
from tests.support import assert_same_bits, make_problem, relative_error


@dataclasses.dataclass(frozen=True)
class Cauchy(Loss):
    """A user's loss, smooth and not convex."""

    scale: float = 2.0

    def rho(self, r):
        return self.scale**2 / 2 * jnp.log1p((r / self.scale) ** 2)

    def psi(self, r):
        return r / (1 + (r / self.scale) ** 2)


# intercept, precision, strength of ridge
PLAIN, RIDGED = (True, False, 0.0), (False, True, 0.3)


@pytest.fixture(scope="module")
def weighted():
    """The examples of most tests, of one shape: what one compiles serves the others."""
    with jax.enable_x64(True):
        return make_problem(1, weighted=True, dtype="float64")[1]


def flat(params):
    """The bias first, as in a covariance."""
    bias = [] if params.bias is None else [jnp.ravel(params.bias)]
    return jnp.concatenate([*bias, jnp.ravel(params.weights)])


def by_autodiff(loss, params, data, precision):
    """H⁻¹ S H⁻¹ from `jax.hessian` of the loss and the gradients of single examples."""
    order = slice(None) if params.bias is None else np.r_[-1, : params.weights.size]
    vector, unravel = ravel_pytree(params)

    def value(vector, data):
        return loss(unravel(vector), data)

    H = jax.hessian(value)(vector, data)
    s = jnp.ones_like(data.y) if data.sample_weight is None else data.sample_weight
    alone = dataclasses.replace(loss, reduction="sum", penalties=())

    def of_example(x, y, s):
        one = as_dataset(x[None], y[None], s[None])
        return jax.grad(lambda v: alone(unravel(v), one))(vector)

    divisor = jnp.sum(s) if loss.reduction == "mean" else 1.0
    scores = jax.vmap(of_example)(data.X, data.y, jnp.ones_like(s)) / divisor
    S = (scores.T * (s * s if precision else s)[None]) @ scores
    inverse = jnp.linalg.inv(H)
    return (inverse @ S @ inverse)[order][:, order], jax.grad(value)(vector, data)


@pytest.mark.parametrize(
    ("loss", "case"),
    [
        (log_cosh(), PLAIN),
        (log_cosh(), RIDGED),
        (huber(0.7), PLAIN),
        (huber(0.7), RIDGED),
        (Cauchy(), RIDGED),
        (Cauchy(), PLAIN),
    ],
)
def test_the_sandwich_by_hand_and_by_autodiff(loss, case, weighted, x64):
    intercept, precision, strength = case
    loss = loss + ridge(strength) if strength else loss
    kind = "precision" if precision else "frequency"
    found = infer(weighted, loss, covariance="hc0", intercept=intercept, weights=kind)
    expected, gradient = by_autodiff(loss, found.params, weighted, precision)
    assert np.abs(gradient).max() < 1e-14  # the minimum
    assert relative_error(found.covariance, expected) < 1e-12
    assert float(found.distance_to_minimum) < 1e-12


def seen(data):
    """[total weight] the example of each row that stands for one, a weight being a count."""
    return np.repeat(np.arange(len(data.X)), np.asarray(data.sample_weight).astype(int))


def parts(loss, found, data):
    """A, r, psi and psi' of examples, each as often as it was seen."""
    index = seen(data)
    A = np.column_stack([np.ones(len(data.X)), data.X])[index]
    r = A @ np.asarray(flat(found.params)) - np.asarray(data.y)[index]
    slope = np.asarray(jax.vmap(jax.grad(loss.psi))(jnp.asarray(r)))
    return A, r, np.asarray(loss.psi(jnp.asarray(r))), slope, index


def classical(A, psi, slope):
    n, p = A.shape
    k = 1 + p / n * slope.var() / slope.mean() ** 2
    return k**2 * (psi @ psi) / (n - p) / slope.mean() ** 2 * np.linalg.inv(A.T @ A)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classical", "hc1", "hc2", "hc3", "cluster"])
def test_covariances_in_numpy(kind, weighted, x64):
    data, loss, clusters = weighted, huber(0.7), np.arange(50) // 5
    given = clusters if kind == "cluster" else None
    found = infer(data, loss, covariance=kind, clusters=given)
    A, r, psi, slope, index = parts(loss, found, data)
    n, p = A.shape
    Z = np.linalg.inv((A.T * slope) @ A)
    leverage = np.einsum("ij,jk,ik->i", A, Z, A) * slope
    if kind == "classical":
        expected = classical(A, psi, slope)
    elif kind == "cluster":
        u = np.array([psi[clusters[index] == g] @ A[clusters[index] == g] for g in range(10)])
        expected = 10 / 9 * (n - 1) / (n - p) * Z @ u.T @ u @ Z
    else:
        scale = {"hc1": n / (n - p), "hc2": 1 / (1 - leverage), "hc3": (1 - leverage) ** -2.0}[kind]
        expected = Z @ (A.T * (scale * psi**2)) @ A @ Z
    assert relative_error(found.covariance, expected) < 1e-12
    assert float(found.degrees_of_freedom) == n - p
    theta, V = np.asarray(flat(found.params))[1:], expected[1:, 1:]
    wald = theta @ np.linalg.solve(V, theta) / (p - 1)
    assert float(found.f_statistic) == pytest.approx(wald, rel=1e-10)
    assert float(found.residual_deviation) == pytest.approx(np.sqrt(r @ r / (n - p)), rel=1e-12)
    assert np.isnan(found.r2)
    assert "R²" not in str(found)


def density(r, level, y):
    """The kernel's, written out; and the bandwidth."""
    n, t = len(r), norm.ppf(level)
    b = n ** (-1 / 3) * norm.ppf(0.975) ** (2 / 3)
    b *= (1.5 * norm.pdf(t) ** 2 / (2 * t * t + 1)) ** (1 / 3)
    while level - b <= 0 or level + b >= 1:
        b /= 2
    spread = min(y.std(), np.subtract(*np.percentile(r, [75, 25])) / 1.34)
    h = spread * (norm.ppf(level + b) - norm.ppf(level - b))
    return np.where(np.abs(r / h) <= 1, 0.75 * (1 - (r / h) ** 2), 0) / h


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.5, 0.02])
def test_quantiles_in_numpy(level, weighted, x64):
    # Often enough seen for half of them to be on either side of five coefficients.
    data = weighted._replace(sample_weight=3 * weighted.sample_weight)
    loss, index = quantile(level), seen(data)
    A, y = np.column_stack([np.ones(50), data.X])[index], np.asarray(data.y)[index]
    theta = np.linalg.lstsq(A, y)[0]
    params, r = Params(jnp.asarray(theta[1:]), jnp.asarray(theta[0])), A @ theta - y
    f = density(r, level, y)
    found = infer(data, loss, params=params)
    classical = level * (1 - level) / f.mean() ** 2 * np.linalg.inv(A.T @ A)
    assert relative_error(found.covariance, classical) < 1e-12
    assert float(found.sparsity) == pytest.approx(1 / f.mean(), rel=1e-12)
    assert float(found.tail_examples) == pytest.approx(level * len(r), rel=1e-12)
    assert np.isnan(found.residual_deviation)
    assert ("are not to be trusted" in str(found)) == (level == 0.02)
    assert relative_error(found.params, params) == 0
    Z = np.linalg.inv((A.T * f) @ A)
    psi = np.where(r > 0, 1 - level, -level)
    found = infer(data, loss, params=params, covariance="hc0")
    assert relative_error(found.covariance, Z @ (A.T * psi**2) @ A @ Z) < 1e-12
    if level == 0.5:
        both = infer(data, mae, params=params)
        assert relative_error(both.covariance, classical) < 1e-12
        assert relative_error(both.sparsity, 1 / f.mean()) < 1e-12


def lowest(A, y, level):
    """[p] the quantile by a linear program."""
    n, p = A.shape
    cost = np.concatenate([np.zeros(p), np.full(n, level), np.full(n, 1 - level)])
    free, positive = [(None, None)] * p, [(0, None)] * (2 * n)
    beside = np.column_stack([A, np.eye(n), -np.eye(n)])
    return linprog(cost, A_eq=beside, b_eq=y, bounds=free + positive).x[:p]


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["frequency", "precision"])
def test_densities_by_the_quantiles_on_either_side(kind, weighted, x64):
    data = weighted._replace(sample_weight=3 * weighted.sample_weight)
    level, loss, index = 0.4, quantile(0.4), seen(data)
    A, y = np.column_stack([np.ones(50), data.X]), np.asarray(data.y)
    n = len(index) if kind == "frequency" else int((data.sample_weight > 0).sum())
    t = norm.ppf(level)
    b = n ** (-1 / 3) * norm.ppf(0.975) ** (2 / 3)
    b *= (1.5 * norm.pdf(t) ** 2 / (2 * t * t + 1)) ** (1 / 3)
    ends = [lowest(A[index], y[index], level + sign * b) for sign in (1, -1)]
    apart = A @ (ends[0] - ends[1])
    assert (np.abs(apart) < 1e-12).any()  # an example that both go through
    f = np.where(apart > 1e-10, 2 * b / np.maximum(apart, 1e-10), 0)[index]
    Z = np.linalg.inv((A[index].T * f) @ A[index])
    expected = level * (1 - level) * Z @ A[index].T @ A[index] @ Z
    found = infer(data, loss, covariance="nid", weights=kind)
    assert relative_error(found.covariance, expected) < 1e-8  # the linear program's own rounding
    assert relative_error(flat(found.params), lowest(A[index], y[index], level)) < 1e-8
    assert float(found.distance_to_minimum) == 0


def test_the_distance_to_the_minimum(weighted, x64):
    data, loss = weighted, log_cosh()
    best = infer(data, loss, covariance="hc0")
    same = infer(data, loss, covariance="hc0", params=best.params)
    assert relative_error(same.covariance, best.covariance) < 1e-10
    assert relative_error(same.f_statistic, best.f_statistic) < 1e-10
    assert float(same.distance_to_minimum) < 1e-10
    assert "are not at its minimum" not in str(same)
    off = best.params._replace(bias=best.params.bias + best.standard_errors.bias)
    found = infer(data, loss, covariance="hc0", params=off)
    assert 0.5 < float(found.distance_to_minimum) < 2
    assert "are not at its minimum" in str(found)


@pytest.mark.exhaustive
def test_targets_in_either_dtype(x64):
    _, data = make_problem(2, k=3, weighted=True, dtype="float64")
    loss = huber(0.7)
    found = infer(data, loss, covariance="hc3")
    for j in range(3):
        one = infer(data._replace(y=data.y[:, j]), loss, covariance="hc3")
        assert relative_error(found.covariance[j], one.covariance) < 1e-11
        assert relative_error(found.params.weights[:, j], one.params.weights) < 1e-11
    with jax.enable_x64(False):
        single = infer(jax.tree.map(jnp.float32, data), loss, covariance="hc3")
    assert single.covariance.dtype == "float32"
    assert relative_error(single.covariance, found.covariance) < 1e-4
    assert relative_error(single.params, found.params) < 1e-4


@pytest.mark.slow
def test_jit_and_vmap(weighted, x64):
    """In float64, where eager programs are shared with the other tests."""
    several = jnp.stack([weighted.y, 1 - weighted.y])

    @jax.jit
    @jax.vmap
    def mapped(y):
        return infer(weighted._replace(y=y), huber(0.7), covariance="hc3")

    for y, found in zip(several, mapped(several).covariance, strict=True):
        alone = infer(weighted._replace(y=y), huber(0.7), covariance="hc3")
        assert relative_error(found, alone.covariance) < 1e-11


def test_badly_scaled_and_missing_features(weighted, x64):
    data, loss, scales = weighted, huber(0.7), np.array([1e-8, 1.0, 1e6, 1.0])
    moved = data._replace(X=data.X * scales[None] + np.array([[0, 0, 1e9, 0]]))
    one, other = infer(data, loss), infer(moved, loss)
    assert relative_error(other.statistics.weights, one.statistics.weights) < 1e-8
    twice = data._replace(X=data.X.at[:, 1].set(2 * data.X[:, 0]))
    found = infer(twice, loss)
    assert np.isnan(found.params.weights).tolist() == [True, True, False, False]
    # Beside the fit without the second column, in NumPy.
    A = np.delete(np.column_stack([np.ones(50), data.X])[seen(data)], 2, axis=1)
    y = np.asarray(data.y)[seen(data)]
    theta = np.linalg.lstsq(A, y)[0]
    for _ in range(50):
        r = A @ theta - y
        psi, slope = np.clip(r, -0.7, 0.7), np.where(abs(r) < 0.7, 1.0, 0.0)
        theta = theta - np.linalg.solve((A.T * slope) @ A, A.T @ psi)
    expected = np.sqrt(np.diag(classical(A, psi, slope)))
    assert relative_error(found.params.weights[2:], theta[2:]) < 1e-10
    assert relative_error(found.standard_errors.weights[2:], expected[2:]) < 1e-10
    assert int(found.degrees_of_freedom) == len(y) - 4


def test_few_examples_within_the_parabola(x64):
    rng = np.random.default_rng(0)
    X, ones = rng.normal(size=(50, 4)), np.ones(50)
    data = as_dataset(X, X @ [1.0, 2.0, 3.0, 4.0] + rng.standard_cauchy(50), ones)
    for loss, kind in [(huber(0.01), "classical"), (Cauchy(0.1), "hc0")]:
        found = infer(data, loss, covariance=kind)
        assert np.abs(np.asarray(flat(jax.grad(loss)(found.params, data)))).max() < 1e-13


@pytest.mark.slow
@pytest.mark.parametrize("loss", [mae, quantile(0.7) + ridge(0.1)], ids=["mae", "quantile"])
@pytest.mark.parametrize("intercept", [True, False])
def test_losses_that_jump_are_minimised(intercept, loss):
    _, data = make_problem(6)
    params = solve(data, loss, intercept=intercept).params
    found = infer(data, loss, intercept=intercept)
    assert_same_bits(found, infer(data, loss, params=params, intercept=intercept))
    assert float(found.distance_to_minimum) < 1e-3  # the examples on the line hold it there
    assert "are not at its minimum" not in str(found)
    off = params._replace(weights=params.weights + 3 * found.standard_errors.weights)
    away = infer(data, loss, params=off, intercept=intercept)
    assert "are not at its minimum" in str(away)


@dataclasses.dataclass(frozen=True)
class Step(Loss):
    """A user's loss with a jump, not known to be convex."""

    kinks = (0.0,)

    def rho(self, r):
        return jnp.abs(r)

    def psi(self, r):
        return jnp.sign(r)


def test_bad_input():
    params, data = make_problem(6)
    with pytest.raises(ValueError, match="params is None, and infer does not minimise"):
        infer(data, Step())
    with pytest.raises(ValueError, match="params belongs to losses that are not squared"):
        infer(data, mse, params=params)
    with pytest.raises(ValueError, match="pass intercept=False"):
        infer(data, mae, params=params._replace(bias=None))
    with pytest.raises(ValueError, match='covariance "hc3" needs leverages'):
        infer(data, mae, params=params, covariance="hc3")
    for loss in (huber(1.0), mae + ridge(0.1), epsilon_insensitive(0.1), mse):
        with pytest.raises(ValueError, match='covariance "nid" takes two more quantiles'):
            infer(data, loss, covariance="nid")
    with pytest.raises(ValueError, match="ridge penalties only"):
        infer(data, huber(1.0) + lasso(0.1))
    with pytest.raises(TypeError, match="params must be Params"):
        infer(data, mae, params=data)


def test_a_tube_has_two_kinks(weighted, x64):
    A = np.column_stack([np.ones(50), weighted.X])[seen(weighted)]
    theta = jnp.asarray(np.linalg.lstsq(A, np.asarray(weighted.y)[seen(weighted)])[0])
    params = Params(theta[1:], theta[0])
    found = infer(weighted, epsilon_insensitive(0.1), params=params, covariance="hc1")
    assert np.isfinite(found.standard_errors.weights).all()
    assert np.isnan(found.sparsity)
