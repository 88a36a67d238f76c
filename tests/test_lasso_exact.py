"""The minimum of a lasso, its path and its derivative, held to the conditions of optimality."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import (
    Dataset,
    as_dataset,
    compress,
    half_mse,
    lasso,
    lasso_path,
    mse,
    ridge,
    solve,
    sse,
)
from linreg_jax.penalties import Penalty
from tests.support import make_problem, relative_error

# What a gap may be of the least loss: about what rounding of the loss itself is.
CLOSED = {"float32": 1e-5, "float64": 1e-12}
# What parameters rounded to a dtype may break the conditions by, of the largest correlation.
ROUNDED = {"float32": 2e-6, "float64": 1e-14}
KINDS = ("plain", "duplicates", "constant", "scales", "integers", "sums", "far", "exact")


def worst_condition(problem, weights, bias):
    """How far weights are from the conditions of a minimum of Σ s r² + l1 Σ|w| + l2 Σ w².

    In NumPy with extended precision: every correlation of a weight that is not 0 is l1 sign(w), the
    others are no larger, the residuals have the mean 0. Of the largest that a correlation can be,
    for each column by itself.
    """
    X, y, s, l1, l2 = (np.asarray(part, np.longdouble) for part in problem)
    w = np.asarray(weights, np.longdouble)
    b = np.asarray(0.0 if bias is None else bias, np.longdouble)
    keep = s > 0
    X, y, s = X[keep], y[keep], s[keep]
    size = 2 * (np.abs(X).T * s) @ (np.abs(y) + np.abs(X) @ np.abs(w) + np.abs(b))
    size = size + 2 * l2 * np.abs(w)
    mean = 0 if bias is None else s @ X / s.sum()
    r = y - X @ w - (0 if bias is None else s @ (y - X @ w) / s.sum())
    c = 2 * ((X - mean).T * s) @ r - 2 * l2 * w
    off = np.where(w != 0, np.abs(c - l1 * np.sign(w)), np.maximum(np.abs(c) - l1, 0))
    worst = (off / np.where(size > 0, size, 1)).max()
    if bias is not None:
        scale = s @ (np.abs(y) + np.abs(X) @ np.abs(w) + np.abs(b))
        worst = max(worst, np.abs(s @ (y - X @ w - b)) / (scale if scale > 0 else 1))
    return float(worst)


def awkward_problem(rng, kind, n, d, dtype):
    """(X, y, sample_weight, l1, l2) of one kind."""
    X = rng.normal(size=(n, d))
    if kind == "duplicates":
        X[:, 1], X[:, 2] = X[:, 0], -X[:, 0]
    elif kind == "constant":
        X[:, 0] = 3.0
    elif kind == "scales":
        X = X * 10.0 ** rng.uniform(-4, 4, d)
    elif kind == "integers":
        X = rng.integers(-1, 2, (n, d)).astype(float)
    elif kind == "sums":
        X[:, 2] = X[:, 0] + X[:, 1]
    elif kind == "far":
        X = X + 100.0
    y = X @ (rng.normal(size=d) * (rng.uniform(size=d) < 0.6))
    y = y + (0 if kind == "exact" else 0.3 * np.std(y) * rng.normal(size=n))
    s = rng.integers(0, 3, n).astype(float)
    s[0] = 1.0
    X, y, s = (part.astype(dtype).astype(float) for part in (X, y, s))
    centred = X - s @ X / s.sum()
    most = np.abs(2 * (centred.T * s) @ (y - s @ y / s.sum())).max()
    l1 = most * 10.0 ** rng.uniform(-4, 0.1)
    l2 = 0.0 if rng.uniform() < 0.6 else l1 * 10.0 ** rng.uniform(-3, 0)
    return tuple(np.asarray(part, dtype) for part in (X, y, s, l1, l2))


def problems(n, d, dtype, num):
    rng = np.random.default_rng(n)
    made = [awkward_problem(rng, KINDS[i % len(KINDS)], n, d, dtype) for i in range(num)]
    return made, [jnp.asarray(np.stack(part)) for part in zip(*made, strict=True)]


@pytest.mark.parametrize(
    ("n", "d", "dtype", "intercept"),
    [(30, 8, "float64", True), (6, 10, "float64", False), (30, 8, "float32", True)],
)
def test_awkward_problems_meet_the_conditions_and_prove_it(n, d, dtype, intercept):
    with jax.enable_x64(dtype == "float64"):
        made, stacked = problems(n, d, dtype, 160)

        def one(X, y, s, l1, l2):
            return solve(Dataset(X, y, s), sse + lasso(l1) + ridge(l2), intercept=intercept)

        found = jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(*stacked))
        values = jax.tree.map(np.asarray, found.value)
        assert (found.gap <= CLOSED[dtype] * values).all()
        assert (found.status == 0).all()
        worst = [
            worst_condition(
                problem, found.params.weights[i], found.params.bias[i] if intercept else None
            )
            for i, problem in enumerate(made)
        ]
        assert max(worst) < ROUNDED[dtype]
        some = [np.count_nonzero(w) for w in found.params.weights]
        assert min(some) == 0
        assert max(some) > d // 2  # or nothing was asked
        # Equal features of which one has a weight could share it, unless ridge decides.
        duplicates = np.arange(160) % len(KINDS) == KINDS.index("duplicates")
        shared = duplicates & (found.params.weights[:, :3] != 0).any(1)
        without_ridge = np.asarray(stacked[4]) == 0
        assert not found.unique[shared & without_ridge].any()
        assert found.unique[~without_ridge].all()


def test_a_path_has_every_knot(x64):
    n, d = 12, 8
    made, stacked = problems(n, d, "float64", 80)

    def one(X, y, s):
        return lasso_path(Dataset(X, y, s), sse)

    paths = jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(*stacked[:3]))
    assert paths.is_complete.all()
    for i, (X, y, s, *_) in enumerate(made):
        strengths, (weights, bias) = paths.strengths[i], (part[i] for part in paths.params)
        last = int(paths.num_knots[i])
        assert (np.diff(strengths[:last]) < 0).all()
        assert (weights[0] == 0).all()
        assert strengths[last - 1] == 0
        for j in range(last):
            # At knots, and half-way to the next: a knot left out would show there.
            problem = (X, y, s, strengths[j], 0.0)
            assert worst_condition(problem, weights[j], bias[j]) < 1e-13
            if j + 1 < last:
                half = (X, y, s, (strengths[j] + strengths[j + 1]) / 2, 0.0)
                middle = [(part[j] + part[j + 1]) / 2 for part in (weights, bias)]
                assert worst_condition(half, *middle) < 1e-13


@pytest.mark.slow
def test_a_path_agrees_with_solve_at_any_strength(dtype):
    _, data = make_problem(3, n=40, d=6, weighted=True, dtype=dtype)
    path = lasso_path(data, half_mse + ridge(0.1))
    strengths = path.strengths[0] * jnp.array([1.5, 0.9, 0.5, 0.1, 0.01, 0.0], dtype)
    found = jax.vmap(lambda l1: solve(data, half_mse + ridge(0.1) + lasso(l1)))(strengths)
    tolerance = {"float32": 3e-6, "float64": 1e-14}[dtype]
    assert relative_error(path.at(strengths), found.params) < tolerance
    assert (path.at(strengths).weights[0] == 0).all()
    assert path.at(strengths.reshape(2, 3)).weights.shape == (2, 3, 6)
    few = lasso_path(compress(data), half_mse + ridge(0.1))
    assert relative_error(few.at(strengths), found.params) < 10 * tolerance


def test_a_path_says_where_it_ends():
    _, data = make_problem(3, n=40, d=6)
    short = lasso_path(data, max_knots=3)
    assert not short.is_complete
    assert int(short.num_knots) == 3
    assert np.isnan(short.at(0.0).weights).all()
    least = float(short.strengths[1]) * 0.9
    ends = lasso_path(data, least_strength=least)
    assert ends.is_complete
    assert relative_error(ends.strengths[-1], least) < 1e-6
    with pytest.raises(ValueError, match="lasso_path varies the lasso itself"):
        lasso_path(data, mse + lasso(1.0))
    with pytest.raises(ValueError, match="a path has knots of its own for each target"):
        lasso_path(make_problem(1, k=2)[1])


@pytest.mark.slow
def test_targets_are_solved_as_if_alone(x64):
    _, data = make_problem(7, k=3, weighted=True, dtype="float64")
    loss = mse + lasso(0.4) + lasso(0.1)
    together = solve(data, loss)
    for j in range(3):
        alone = solve(data._replace(y=data.y[:, j]), mse + lasso(0.5)).params
        assert relative_error(together.params.weights[:, j], alone.weights) < 1e-14
        assert relative_error(together.params.bias[j], alone.bias) < 1e-14
    assert relative_error(together.value, loss(together.params, data)) < 1e-14


def test_compressed_rows_have_the_same_minimum(x64):
    _, data = make_problem(5, n=200, weighted=True, dtype="float64")
    loss = half_mse + lasso(0.3)
    assert relative_error(solve(compress(data), loss).params, solve(data, loss).params) < 1e-13


@pytest.mark.slow
def test_derivatives_are_those_of_the_active_weights(x64):
    _, data = make_problem(2, n=25, d=5, k=2, weighted=True, dtype="float64")

    def number(X, y, s, l1, l2):
        found = solve(Dataset(X, y, s), half_mse + lasso(l1) + ridge(l2))
        moved = jnp.sum(jnp.sin(found.params.weights)) + jnp.sum(found.params.bias**2)
        return moved + found.value, found.params.weights

    at = (data.X, data.y, data.sample_weight + 0.5, jnp.array(0.3), jnp.array(0.05))
    rng = np.random.default_rng(0)
    along = tuple(jnp.asarray(rng.normal(size=np.shape(part))) for part in at)

    @jax.jit
    def with_derivatives(*at):
        """The number, the weights, the gradient and the derivative along, in one program."""
        found, gradient = jax.value_and_grad(number, argnums=range(5), has_aux=True)(*at)
        return *found, gradient, jax.jvp(number, at, along)[1][0]

    _, weights, gradient, forward = with_derivatives(*at)
    assert 0 < np.count_nonzero(weights) < weights.size
    for i in range(5):
        quotient = 0.0
        for sign in (1, -1):
            moved = [*at]
            moved[i] = at[i] + sign * 1e-6 * along[i]
            quotient += sign * float(with_derivatives(*moved)[0]) / 2e-6
        # The quotient has half the digits.
        assert relative_error(jnp.sum(gradient[i] * along[i]), quotient) < 1e-7
    backward = sum(jnp.sum(g * v) for g, v in zip(gradient, along, strict=True))
    assert relative_error(forward, backward) < 1e-12


def test_other_penalties_are_refused():
    class Cubic(Penalty):
        pass

    _, data = make_problem(1)
    with pytest.raises(ValueError, match="solve takes ridge and lasso penalties only, got"):
        solve(data, mse + Cubic(1.0))


def test_weights_that_are_lost_give_nan():
    data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
    lost = data._replace(sample_weight=jnp.full(3, 3e38))
    assert np.isnan(solve(lost, mse + lasso(0.1)).params.weights).all()
