"""Losses of parabolas and lines with a lasso, held to linear programmes and to subgradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, lsq_linear

from linreg_jax import (
    Dataset,
    SolutionStatus,
    as_dataset,
    huber,
    lasso,
    mae,
    ridge,
    solve,
)
from linreg_jax._minimum.absolute import WeightRows
from linreg_jax._minimum.reduction import reduced
from tests.support import make_problem, on_the_host, relative_error
from tests.test_exact_robust import EACH, KINDS, LOSSES, draw

N, D = 14, 6


def batch(name, seed=0, n=N, d=D):
    """Problems of every kind, settings, and the strengths of lasso and ridge."""
    rng = np.random.default_rng(seed)
    columns = zip(*(draw(kind, rng, n, d) for kind in KINDS for _ in range(EACH)), strict=True)
    count = len(KINDS) * EACH
    setting = rng.uniform(*LOSSES[name][1], count)
    absolute = 10.0 ** rng.uniform(-4, 0.5, count)
    absolute[::11] = 0
    squared = np.where(np.arange(count) % 4 == 3, 10.0 ** rng.uniform(-4, 0, count), 0)
    return Dataset(*(np.stack(column) for column in columns)), setting, absolute, squared


def solved(name, *problems):
    make = LOSSES[name][0]

    @jax.jit
    @jax.vmap
    def at_once(data, setting, absolute, squared):
        return solve(data, make(setting) + lasso(absolute) + ridge(squared))

    return on_the_host(at_once(*problems))


def least_subgradient(psi, X, y, s, weights, bias, setting, absolute, squared):
    """Of each parameter beside what moves it; a residual or weight on its kink has any slope."""
    X, y, s = (a[s > 0] for a in (X, y, s))
    s = s / s.sum()
    A = np.column_stack([X - s @ X, np.ones(len(y))])
    r = X @ weights + bias - y
    near = 1e-11 * (np.abs(y).max() + np.abs(A) @ np.append(np.abs(weights), 0)) + 1e-300
    low = np.concatenate([psi(r - near, setting), np.where(weights > 0, 1, -1)])
    high = np.concatenate([psi(r + near, setting), np.where(weights < 0, -1, 1)]).astype(float)
    on_weights = absolute * np.eye(len(weights) + 1)[:, :-1]
    matrix = np.hstack([(A * s[:, None]).T, on_weights])
    pull = np.append(2 * squared * weights, 0)
    sizes = np.append(np.full(len(weights), absolute), 0) + np.sqrt(s @ A**2) * np.abs(
        psi(1e9, setting)
    )
    sizes[sizes == 0] = 1
    high = high + 1e-12 * np.abs(high) + 1e-300  # which has to lie above
    found = lsq_linear(matrix / sizes[:, None], -pull / sizes, (low, high), tol=1e-14)
    return np.abs((matrix @ found.x + pull) / sizes).max()


def assert_least(name, data, setting, absolute, squared):
    found = solved(name, data, setting, absolute, squared)
    rho, psi = LOSSES[name][2:]
    assert (found.status == SolutionStatus.CONVERGED).all()
    sparse = 0
    for i in range(len(setting)):
        X, y, s = (column[i] for column in data[:3])
        weights, bias, kind = found.params.weights[i], found.params.bias[i], KINDS[i // EACH]
        value = s @ rho(X @ weights + bias - y, setting[i]) / s.sum()
        value += absolute[i] * np.abs(weights).sum() + squared[i] * weights @ weights
        zero = s @ rho(-y, setting[i]) / s.sum()
        # Coefficients in the units of the file: what rounding makes of the predictions.
        assert abs(found.value[i] - value) <= 1e-9 * value + 1e-12 * zero, (i, kind)
        assert 0 <= found.gap[i] <= max(1e-12 * value, 1e-13 * zero), (i, kind)
        if value > 1e-3 * zero:
            of_i = setting[i], absolute[i], squared[i]
            assert least_subgradient(psi, X, y, s, weights, bias, *of_i) < 1e-6, (i, kind)
        sparse += 0 < (weights == 0).sum() < D
    assert sparse > len(setting) / 5  # exact zeros, and not of all weights


@pytest.mark.parametrize(
    "name",
    [
        "quantile",
        "huber",
        pytest.param("epsilon_insensitive", marks=pytest.mark.exhaustive),
        pytest.param("own", marks=pytest.mark.exhaustive),
    ],
)
def test_the_minimum_is_proven(name, x64):
    assert_least(name, *batch(name))


def linear_programme(X, y, s, level, strength):
    """The least value of a quantile with a lasso, by HiGHS."""
    n, d = X.shape
    costs = [np.full(2 * d, strength), [0], level * s / s.sum(), (1 - level) * s / s.sum()]
    columns = [X, -X, np.ones((n, 1)), np.eye(n), -np.eye(n)]
    bounds = [(0, None)] * 2 * d + [(None, None)] + [(0, None)] * 2 * n
    return linprog(np.concatenate(costs), A_eq=np.hstack(columns), b_eq=y, bounds=bounds).fun


def test_it_is_what_a_linear_programme_says(x64):
    data, level, absolute, _ = batch("quantile")
    found = solved("quantile", data, level, absolute, np.zeros_like(level))
    assert (found.status == SolutionStatus.CONVERGED).all()
    for i in range(len(level)):
        if KINDS[i // EACH] == "badly scaled":
            continue  # HiGHS takes what is below 1e-7 for 0
        X, y, s = (column[i] for column in data[:3])
        least = linear_programme(X, y, s, level[i], absolute[i])
        assert abs(found.value[i] - least) < 1e-9 * max(least, np.abs(y).max()), (i, level[i])


@pytest.mark.slow
def test_float32_says_how_far_it_came(x64):
    problems = batch("quantile")
    least = solved("quantile", *problems).value
    found = solved("quantile", *jax.tree.map(lambda a: a.astype("float32"), problems))
    data, plain = problems[0], np.arange(len(least)) // EACH != KINDS.index("badly scaled")
    scale = np.einsum("bn,bn->b", data.sample_weight, np.abs(data.y))
    rounding = 1e-5 * least + 1e-6 * scale / data.sample_weight.sum(axis=1)
    assert (np.abs(found.value - least) <= found.gap + rounding)[plain].all()
    assert (found.status == SolutionStatus.CONVERGED).mean() > 0.9


@pytest.mark.slow
def test_targets_no_intercept_and_more_features_than_examples(x64):
    _, data = make_problem(5, n=8, d=12, k=2, weighted=True, dtype="float64")
    together = solve(data, mae + lasso(0.05), intercept=False)
    assert together.params.bias is None
    assert int(together.status) == SolutionStatus.CONVERGED
    X, Y, s = (np.asarray(column) for column in data[:3])
    assert int(together.rank) == (s > 0).sum() < 12
    psi, least = LOSSES["mae"][3], 0.0
    for j in range(2):
        weights = np.asarray(together.params.weights[:, j])
        r = X @ weights - Y[:, j]
        least += s @ np.abs(r) / s.sum() + 0.05 * np.abs(weights).sum()
        assert 0 < (weights == 0).sum() < 12
        on_kink = np.abs(r) < 1e-10
        assert on_kink.sum() == (weights != 0).sum()  # a vertex
        # The slopes of the rows on their kink follow from the weights that are not 0.
        active = weights != 0
        share = s / s.sum()
        known = X[~on_kink].T @ (share * psi(r, 1.0))[~on_kink]
        pull = -known[active] - 0.05 * np.sign(weights[active])
        slopes = np.linalg.solve((share[:, None] * X)[np.ix_(on_kink, active)].T, pull)
        assert (np.abs(slopes) < 1 + 1e-9).all()
        gradient = known + (share[:, None] * X)[on_kink].T @ slopes
        assert (np.abs(gradient[~active]) < 0.05 + 1e-9).all()
    assert abs(float(together.value) - least) < 1e-12 * least


@pytest.mark.slow
def test_derivatives_of_the_value_and_none_of_the_parameters(x64):
    rng = np.random.default_rng(7)
    X, y, s = map(jnp.asarray, draw("plain", rng, N, D))

    @jax.jit
    def derivatives(strength):
        def value(strength, y):
            return solve(Dataset(X, y, s), huber(1.0) + lasso(strength)).value

        def weight(strength):
            return solve(Dataset(X, y, s), huber(1.0) + lasso(strength)).params.weights[0]

        found = solve(Dataset(X, y, s), huber(1.0) + lasso(strength))
        return found, jax.grad(value, (0, 1))(strength, y), jax.grad(weight)(strength)

    found, (by_strength, by_y), of_weight = derivatives(0.1)
    weights, bias = found.params
    assert relative_error(by_strength, jnp.sum(jnp.abs(weights))) < 1e-9
    r = X @ weights + bias - y
    assert relative_error(by_y, -jnp.clip(r, -1, 1) / N) < 1e-9
    assert np.isnan(of_weight)


def test_it_says_whether_the_minimum_is_alone(x64):
    X = np.arange(5.0)[:, None]
    twice = np.hstack([X, X])
    y = [0.0, 1.0, 2.0, 3.0, 9.0]
    for features, targets, strength, expected in [
        (X, y, 0.01, True),
        (twice, y, 0.01, False),  # what one column takes, the other may
        (twice, y, 0.0, False),
        (X, y, 100.0, True),  # the median of five
        (X[:4], y[:4], 100.0, False),  # any median of four
    ]:
        unseen = 5 - len(features)
        data = as_dataset(
            np.pad(features, ((0, unseen), (0, 2 - features.shape[1]))),
            np.pad(targets, (0, unseen)),
            np.arange(5) < 5 - unseen,
        )
        # Without a second column its weight is held by the lasso alone.
        found = solve(data, mae + lasso(strength))
        assert bool(found.unique) is expected, (features, strength)
        assert bool((found.params.weights == 0).all()) is (strength == 100)
        assert int(found.status) == SolutionStatus.CONVERGED


def test_a_gradient_by_the_weights_is_one_by_their_coordinates(x64):
    """What the gap rests on: by_weight takes W strength apart again."""
    _, data = make_problem(4, n=9, d=4, weighted=True, dtype="float64")
    data = data._replace(X=data.X * jnp.array([[1e-3, 1.0, 50.0, 1.0]]), y=data.y[:, None])
    one = jnp.ones(())
    reduction = reduced(data, 0.1 * one, one, intercept=True, held=jnp.array(True))
    weights = WeightRows.of(reduction, 0.3 * one)
    found = weights.by_weight @ (weights.W * weights.strength[None, :])
    np.testing.assert_allclose(found, np.eye(4), atol=1e-10)
    # strength abs(w) is what the rows cost, whatever their units.
    z = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5)))
    theta = reduction.theta(z)[:-1, 0] / reduction.factored.rows.X.unit
    np.testing.assert_allclose(weights.costs(z)[0], 0.3 * jnp.sum(jnp.abs(theta)), rtol=1e-12)
