"""The exact solution, held to rational arithmetic, NumPy and scikit-learn."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from linreg_jax import Dataset, as_dataset, half_mse, lasso, log_cosh, sse
from linreg_jax.data import load_hubble
from linreg_jax.exact import solve, solve_line
from linreg_jax.penalties import ridge
from tests.support import make_problem, relative_error

# A few roundings of the answer itself: the corrections leave no more.
ROUNDED = {"float32": 5e-7, "float64": 1e-14}


def least_squares(data, *, strength=0.0, intercept=True):
    """The shortest minimiser of Σ s r² + strength Σ w² in NumPy float64: `(weights, bias)`."""
    X, y = np.asarray(data.X, float), np.asarray(data.y, float)
    s = np.ones(len(X)) if data.sample_weight is None else np.asarray(data.sample_weight, float)
    mean_X, mean_y = (s @ X / s.sum(), s @ y / s.sum()) if intercept else (0 * X[0], 0 * y[0])
    root = np.sqrt(s)
    rows = np.concatenate([root[:, None] * (X - mean_X), np.sqrt(strength) * np.eye(X.shape[1])])
    targets = np.concatenate([(root * (y - mean_y).T).T, np.zeros((X.shape[1], *y.shape[1:]))])
    weights = np.linalg.lstsq(rows, targets, rcond=1e-6)[0]
    return weights, mean_y - mean_X @ weights


def rational_solution(X, y):
    """Intercept and weights of the exact normal equations, in rational numbers, as float64."""
    rows = [[Fraction(1), *map(Fraction, row)] for row in X.tolist()]
    targets = list(map(Fraction, y.tolist()))
    p = len(rows[0])
    system = [
        [sum(row[i] * row[j] for row in rows) for j in range(p)]
        + [sum(row[i] * target for row, target in zip(rows, targets, strict=True))]
        for i in range(p)
    ]
    for i in range(p):  # positive definite: no pivoting needed, and none is rounded
        for j in range(i + 1, p):
            factor = system[j][i] / system[i][i]
            system[j] = [a - factor * b for a, b in zip(system[j], system[i], strict=True)]
    solution = [Fraction(0)] * p
    for i in reversed(range(p)):
        known = sum(system[i][j] * solution[j] for j in range(i + 1, p))
        solution[i] = (system[i][p] - known) / system[i][i]
    return np.array([float(value) for value in solution])


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        ({"k": 3, "weighted": True}, "float64"),
        ({"n": 3, "d": 6, "intercept": False}, "float32"),
        ({"n": 3, "d": 6}, "float64"),
        ({"n": 50, "d": 4}, "float32"),
        ({"n": 50, "d": 4}, "float64"),
    ],
    ids=str,
)
def test_it_is_the_shortest_minimiser(case, dtype):
    with jax.enable_x64(dtype == "float64"):
        params, data = make_problem(3, dtype=dtype, **case)
        solution = solve(data, intercept=params.bias is not None)
        weights, bias = least_squares(data, intercept=params.bias is not None)
        assert relative_error(solution.params.weights, weights) < ROUNDED[dtype]
        assert solution.params.weights.dtype == dtype
        if params.bias is None:
            assert solution.params.bias is None
        else:
            assert relative_error(solution.params.bias, bias) < ROUNDED[dtype]
        n, d = data.X.shape
        assert int(solution.rank) == min(d, n - (params.bias is not None))


def test_ridge_minimises_the_loss_as_it_stands(dtype):
    _, data = make_problem(4, weighted=True, dtype=dtype)
    loss = half_mse  # half of it, and a mean: both change what a strength amounts to
    solution = solve(data, loss + ridge(0.2) + ridge(0.3))  # 0.5 in all
    weights, bias = least_squares(data, strength=0.5 * float(data.sample_weight.sum()) / 0.5)
    assert relative_error(solution.params.weights, weights) < ROUNDED[dtype]
    assert relative_error(solution.params.bias, bias) < ROUNDED[dtype]
    expected = jax.jit(loss + ridge(0.5))(solution.params, data)
    assert relative_error(solution.value, expected) < 10 * ROUNDED[dtype]


def test_badly_scaled_features_keep_their_digits(dtype):
    scales = [1e6, 1.0, 1e-6, 1e3]
    _, data = make_problem(3, scales=scales, dtype=dtype)
    params = solve(data).params
    exact = rational_solution(np.asarray(data.X, float), np.asarray(data.y, float))
    actual = np.concatenate([[float(params.bias)], params.weights])
    # Each coefficient by itself, those of features that hardly matter too.
    assert np.abs(actual / exact - 1).max() < ROUNDED[dtype]


def test_scikit_learn_agrees(x64):
    _, data = make_problem(5, weighted=True, dtype="float64")
    peer = LinearRegression(fit_intercept=False).fit(data.X, data.y, data.sample_weight)
    weights = solve(data, intercept=False).params.weights
    assert relative_error(weights, peer.coef_) < 1e-13  # the peer's own rounding
    peer = Ridge(alpha=0.7).fit(data.X, data.y, data.sample_weight)
    params = solve(data, sse + ridge(0.7)).params
    assert relative_error(params.weights, peer.coef_) < 1e-13
    assert abs(float(params.bias) - peer.intercept_) < 1e-13


def test_worked_examples():
    ages = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
    assert solve(ages).params.weights.tolist() == [5.0]
    assert float(solve(ages).params.bias) == 30.0
    # 3a² + b² - ab + a = |F (a, b) - z|² / 2 + constant, with FᵀF = [[6, -1], [-1, 2]] its Hessian
    # and Fᵀz = (-1, 0).
    F = np.linalg.cholesky(np.array([[6.0, -1.0], [-1.0, 2.0]])).T
    z = np.linalg.solve(F.T, [-1.0, 0.0])
    minimum = solve(as_dataset(F.astype("float32"), z.astype("float32")), intercept=False).params
    assert relative_error(minimum.weights, [-2 / 11, -1 / 11]) < 1e-6  # F and z are rounded


def test_hubble(x64):
    table = load_hubble()
    data = as_dataset(np.asarray(table.X, float), np.asarray(table.y, float))
    params = solve(data).params
    assert f"{float(params.weights[0]):.5f} {float(params.bias):.5f}" == "454.15844 -40.78365"
    through_origin = solve(data, intercept=False).params
    assert f"{float(through_origin.weights[0]):.5f}" == "423.93732"
    line = solve_line(np.asarray(data.X)[:, 0], data.y)
    assert relative_error(line, params) < 1e-13  # the closed form is not corrected


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (-9, -3)])
def test_polynomials_keep_the_digits_that_normal_equations_lose(start, stop, x64):
    # Degree 10; on [-9, -3] it has the shape of the NIST problem Filip.
    x = np.linspace(start, stop, 64)
    X = x[:, None] ** np.arange(1, 11)
    y = 0.8 + 0.1 * np.sin(x) + 0.003 * np.random.default_rng(0).normal(size=64)
    expected = rational_solution(X, y)
    solution = solve(as_dataset(X, y))
    actual = np.concatenate([[float(solution.params.bias)], solution.params.weights])
    assert int(solution.rank) == 10
    assert float(solution.condition_number) > (1e9 if start == -9 else 1e6)
    # Every coefficient, however small beside the largest: corrected until only rounding is left.
    assert np.abs(actual / expected - 1).max() < 1e-14
    A = np.concatenate([np.ones((64, 1)), X], axis=1)
    by_normal_equations = np.linalg.solve(A.T @ A, A.T @ y)
    lost = np.abs(by_normal_equations / expected - 1).max()
    assert lost > (0.1 if start == -9 else 1e-4)  # what they would have cost


def test_float32_stays_right_where_centring_must_be_exact():
    years = np.arange(1976.0, 2026.0)
    rng = np.random.default_rng(2)
    X = np.stack([years, years**2, *rng.normal(size=(2, 50))], axis=1).astype("float32")
    y = (0.3 * years + rng.normal(size=50)).astype("float32")
    params = solve(as_dataset(X, y)).params
    actual = np.concatenate([[float(params.bias)], params.weights])
    expected = rational_solution(X.astype(float), y.astype(float))
    assert np.abs(actual / expected - 1).max() < 2e-7  # two roundings of float32


def test_a_million_rows_in_float32():
    rng = np.random.default_rng(3)
    X = (rng.normal(size=(1_000_000, 3)) + [0.0, 3.0, 30.0]).astype("float32")
    y = (X @ [1.0, 2.0, 3.0] + 5 + rng.normal(size=1_000_000)).astype("float32")
    data = as_dataset(X, y)
    params = solve(data).params
    weights, bias = least_squares(data)
    assert relative_error(params.weights, weights) < 2e-7  # two roundings of float32
    assert relative_error(params.bias, bias) < 2e-7


def test_weights_are_repetition_and_zero_is_dropping(x64):
    _, data = make_problem(6, k=3, weighted=True, dtype="float64")
    X, y, times = map(np.asarray, data[:3])
    times = times.astype(int)
    assert (times == 0).any()
    weights, bias = least_squares(as_dataset(*(np.repeat(a, times, axis=0) for a in (X, y))))
    params = solve(data).params
    assert relative_error(params.weights, weights) < ROUNDED["float64"]
    assert relative_error(params.bias, bias) < ROUNDED["float64"]


@pytest.mark.parametrize("last", ["duplicate", "sum"])
def test_constant_and_redundant_columns_share_what_is_known(last, dtype):
    rng = np.random.default_rng(7)
    a, b = rng.integers(-8, 8, (2, 50)) * [[1.0], [64.0]]  # sums are exact
    X = np.stack([a, np.full(50, 0.1), b, a + b if last == "sum" else b], axis=1).astype(dtype)
    data = as_dataset(X, (a - 2 * b + rng.normal(size=50)).astype(dtype))
    solution = solve(data)
    weights, bias = least_squares(data)
    assert int(solution.rank) == 2
    # The rounding of the null space times the columns' ratio of 64.
    assert relative_error(solution.params.weights, weights) < 20 * ROUNDED[dtype]
    assert abs(float(solution.params.bias) - bias) < 20 * ROUNDED[dtype] * np.abs(data.y).max()
    assert float(solution.params.weights[1]) == 0


def test_one_example_is_fitted_by_the_bias():
    solution = solve(as_dataset([[2.0, 3.0]], [7.0]))
    assert solution.params.weights.tolist() == [0, 0]
    assert float(solution.params.bias) == 7
    assert int(solution.rank) == 0


def test_compressed_rows_have_the_same_solution(x64):
    _, data = make_problem(8, weighted=True, dtype="float64")
    s, X, y = (np.asarray(a) for a in (data.sample_weight, data.X, data.y))
    rows = np.sqrt(s)[:, None] * np.concatenate([np.ones((50, 1)), X, y[:, None]], axis=1)
    R = np.linalg.qr(rows, mode="r")
    small = Dataset(R[:, 1:-1], R[:, -1], None, R[:, 0], s.sum())
    loss = half_mse + ridge(0.2) + ridge(0.3)
    one, other = solve(data, loss), solve(small, loss)
    # The compressed rows are rounded, times a condition number of about 2.
    assert relative_error(one.params, other.params) < 1e-14
    assert relative_error(one.value, other.value) < 1e-13


def test_solve_under_jit_and_vmap():
    problems = [make_problem(seed, weighted=True)[1] for seed in range(3)]
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *problems)
    strengths = np.float32([0.1, 0.2, 0.3])

    def ridged(data, strength):
        return solve(data, half_mse + ridge(strength) + ridge(0.5))

    together = np.asarray(jax.jit(jax.vmap(ridged))(batch, strengths).params.weights)
    for index, (data, strength) in enumerate(zip(problems, strengths.tolist(), strict=True)):
        weights, _ = least_squares(
            data, strength=(strength + 0.5) * float(data.sample_weight.sum()) / 0.5
        )
        assert relative_error(together[index], weights) < ROUNDED["float32"]


def test_solve_refuses_what_has_no_formula():
    _, data = make_problem(0)
    with pytest.raises(ValueError, match=r"a lasso with losses made of .*, got log_cosh\(\) \+"):
        solve(data, log_cosh() + lasso(0.1))
    with pytest.raises(TypeError, match="needs a loss"):
        solve(data, lambda params, data: 0.0)
    with pytest.raises(TypeError, match="must be a Dataset"):
        solve((data.X, data.y))


@pytest.mark.parametrize("weighted", [False, True])
def test_solve_line_is_polyfit(weighted, dtype):
    rng = np.random.default_rng(9)
    x = (rng.normal(size=30) + 100).astype(dtype)  # far from 0, where means must come off first
    y = (3 * x - 300 + rng.normal(size=30)).astype(dtype)
    s = rng.integers(0, 3, 30).astype(dtype) if weighted else None
    params = solve_line(x, y, s)
    # polyfit's weights multiply the residuals, not their squares.
    slope, bias = np.polyfit(x.astype(float), y.astype(float), 1, w=None if s is None else s**0.5)
    # The intercept is 300 times what the noise leaves of it, and polyfit rounds too.
    bound = 100 * float(jnp.finfo(dtype).eps)
    assert params.weights.shape == (1,)
    assert relative_error(params.weights, slope) < bound
    assert relative_error(params.bias, bias) < bound


def test_solve_line_through_equal_x_is_flat():
    params = solve_line([0.1, 0.1, 0.1], [1.0, 2.0, 6.0])
    assert params.weights.tolist() == [0.0]
    assert float(params.bias) == 3.0
    under_jit = jax.jit(solve_line)(jnp.array([0.0, 2.0, 4.0]), jnp.array([30.0, 40.0, 50.0]))
    assert under_jit.weights.tolist() == [5.0]


def test_solve_line_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"x has shape \[2, 1\]: a line goes through x \[n\]"):
        solve_line([[1.0], [2.0]], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"y has shape \[2, 1\]"):
        solve_line([1.0, 2.0], [[1.0], [2.0]])
    with pytest.raises(ValueError, match="y has shape"):
        solve_line([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="not finite"):
        solve_line([1.0, np.nan], [1.0, 2.0])
