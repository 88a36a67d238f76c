"""`check_gradients`: catches every wrong gradient we could think of, accuses no right one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import (
    Loss,
    Params,
    as_dataset,
    epsilon_insensitive,
    gradients,
    half_sse,
    huber,
    lasso,
    log_cosh,
    mae,
    mse,
    quantile,
    residuals,
    ridge,
)
from linreg_jax.checking import GradientError, check_gradients
from linreg_jax.losses import AbsoluteError
from tests.support import make_problem

# Each loss and shape compiles for a second or two, so most tests share this shape.
standard = functools.partial(make_problem, n=60, d=5, weighted=True)

CASES = [
    (mse, "float32"),
    (mse, "float64"),
    (mae, "float32"),
    (mae, "float64"),
    (log_cosh(), "float32"),
]


@functools.cache
def right(loss):
    """The right gradient, compiled once; what the mutants do to it they do on the host."""
    compiled = jax.jit(jax.value_and_grad(loss))
    return lambda params, data: jax.tree.map(np.asarray, compiled(params, data))


def scaled(factor, gradient):
    return jax.tree.map(lambda g: (factor * g).astype(g.dtype), gradient)


# A gradient wrong in one named way each, from a right one.


def missing_mean(loss, params, data):
    value, gradient = right(loss)(params, data)
    return value, scaled(data.X.shape[0], gradient)


def factor_two(loss, params, data):
    value, gradient = right(loss)(params, data)
    return value, scaled(2, gradient)


def wrong_sign(loss, params, data):
    value, gradient = right(loss)(params, data)
    return value, scaled(-1, gradient)


def forgotten_bias(loss, params, data):
    value, gradient = right(loss)(params, data)
    return value, gradient._replace(bias=0 * gradient.bias)


def not_transposed(loss, params, data):
    value, gradient = right(loss)(params, data)
    X, y = np.asarray(data.X), np.asarray(data.y)
    r = X @ np.asarray(params.weights) + np.asarray(params.bias) - y
    return value, gradient._replace(weights=X @ (2 * r / len(y)))


def sum_for_mean(loss, params, data):
    return scaled(np.sum(data.sample_weight), right(loss)(params, data))


def unweighted(loss, params, data):
    ones = np.ones(data.y.shape[0], data.y.dtype)
    return right(loss)(params, data._replace(sample_weight=ones))


def typical(gradient):
    """The coordinate of the median size."""
    return np.argsort(np.abs(gradient.weights))[gradient.weights.size // 2]


def one_coordinate(loss, params, data):
    value, gradient = right(loss)(params, data)
    weights = gradient.weights.copy()
    weights[typical(gradient)] *= 1.001
    return value, gradient._replace(weights=weights)


def other_value(loss, params, data):
    value, gradient = right(loss)(params, data)
    return scaled(1.001, value), gradient


MUTANTS = [
    missing_mean,
    factor_two,
    wrong_sign,
    forgotten_bias,
    sum_for_mean,
    unweighted,
    one_coordinate,
    other_value,
]


def mutated(mutant, loss):
    return functools.partial(mutant, loss)


def check_ways(loss, params, data):
    report = check_gradients(loss, params, data)
    report.raise_if_wrong()
    assert len(report.comparisons) == 6
    assert all(len(line) <= 80 for line in str(report).splitlines())


@pytest.mark.parametrize(("loss", "dtype"), CASES, indirect=["dtype"], ids=str)
def test_every_way_is_right(loss, dtype):
    check_ways(loss, *standard(1, dtype=dtype))


@pytest.mark.parametrize(
    "loss", [huber(1.0), quantile(0.3) + lasso(0.1), epsilon_insensitive(0.5)], ids=str
)
def test_every_way_of_the_other_losses_is_right(loss):
    check_ways(loss, *standard(1))


def test_several_targets_and_a_penalty():
    check_ways(mse + ridge(0.1), *standard(1, k=2))


def test_compressed_rows_without_a_bias(x64):
    params, data = make_problem(1, n=7, intercept=False, dtype="float64")
    rows = data._replace(bias_column=data.X[:, 0], total_weight=jnp.asarray(100.0))
    check_ways(half_sse, params, rows)


@pytest.mark.parametrize("loss", [mse, mae], ids=str)
def test_catches_every_mutant(loss, dtype):
    params, data = standard(2, dtype=dtype)
    for mutant in MUTANTS:
        report = check_gradients(loss, params, data, gradient=mutated(mutant, loss))
        assert not report.ok, f"{mutant.__name__} passes as right\n{report}"


@pytest.mark.parametrize(("n", "d"), [(100_000, 1), (10_000, 100)])
def test_catches_a_coordinate_off_by_a_thousandth_in_float32(n, d):
    params, data = make_problem(3, n=n, d=d)
    report = check_gradients(mae, params, data, gradient=mutated(one_coordinate, mae))
    assert not report.ok
    assert report.worst.coordinate == f"weights[{typical(right(mae)(params, data)[1])}]"
    with pytest.raises(GradientError, match="WRONG, most of all at weights"):
        report.raise_if_wrong()


def test_catches_features_not_transposed():
    params, data = make_problem(4, n=30, d=30)
    report = check_gradients(mse, params, data, gradient=mutated(not_transposed, mse))
    assert not report.ok


@dataclasses.dataclass(frozen=True)
class SlopeOneAtZero(AbsoluteError):
    """What jnp.abs and an r >= 0 make of the absolute error at an exact fit."""

    def rho(self, r):
        return jnp.abs(r)

    def psi(self, r):
        return jnp.where(r >= 0, 1, -1).astype(r.dtype)


def exactly_fitted(params, data):
    """The data with the predictions as targets, to rounding."""
    predictions = np.asarray(data.X) @ np.asarray(params.weights) + np.asarray(params.bias)
    return data._replace(y=jnp.asarray(predictions))


def test_catches_a_slope_at_an_exact_fit(dtype):
    params, data = standard(5, dtype=dtype)
    data = exactly_fitted(params, data)
    naive = right(SlopeOneAtZero())  # jnp.abs under automatic differentiation
    assert not check_gradients(mae, params, data, gradient=naive).ok
    by_hand = jax.jit(gradients.vectorized(SlopeOneAtZero()))  # sign(0) = 1
    assert not check_gradients(mae, params, data, gradient=by_hand).ok
    report = check_gradients(mae, params, data)
    report.raise_if_wrong()
    assert report.kinks.exact + report.kinks.close == 60


def test_catches_a_plain_function_with_a_slope_at_an_exact_fit(dtype):
    # Whole numbers: predicted without rounding, in float64 too.
    X = np.random.default_rng(6).integers(-9, 9, (20, 3)).astype(dtype)
    params = Params(np.array([1, 2, -3], dtype), np.array(4, dtype))
    data = as_dataset(X, X @ np.array([1, 2, -3], dtype) + 4)

    def naive(params, data):
        return jnp.mean(jnp.abs(residuals(params, data)))

    def careful(params, data):
        r = residuals(params, data)
        return jnp.mean(r * jnp.sign(r))

    assert not check_gradients(naive, params, data).ok
    check_gradients(careful, params, data).raise_if_wrong()


@dataclasses.dataclass(frozen=True)
class Cauchy(Loss):
    """A user's loss; `error` is how wrong its handwritten derivative is."""

    scale: float = 1.0
    error: float = 0.0

    def rho(self, r):
        return self.scale**2 / 2 * jnp.log1p((r / self.scale) ** 2)

    def psi(self, r):
        return (1 + self.error) * r / (1 + (r / self.scale) ** 2)


class PseudoHuber(Loss):
    """A user's loss that is no pytree and loses digits where r is small."""

    def rho(self, r):
        return jnp.sqrt(1 + r * r) - 1

    def psi(self, r):
        return r / jnp.sqrt(1 + r * r)


def test_holds_the_derivative_of_a_loss_of_ones_own_to_its_rho():
    params, data = standard(7)
    for scale in (0.01, 1.0, 100.0):
        check_gradients(Cauchy(scale), params, data).raise_if_wrong()
    assert not check_gradients(Cauchy(1.0, 0.001), params, data).ok
    check_gradients(PseudoHuber(), params, data).raise_if_wrong()
    check_gradients(PseudoHuber(), params, exactly_fitted(params, data)).raise_if_wrong()


@pytest.mark.parametrize(
    ("num_features", "dtype"),
    [(3, "float32"), (3, "float64"), (300, "float32")],
    indirect=["dtype"],
)
def test_plain_functions(num_features, dtype):
    params, data = make_problem(8, n=40, d=num_features, dtype=dtype)

    def plain(params, data):
        return jnp.mean(jnp.log1p(residuals(params, data) ** 2))

    report = check_gradients(plain, params, data)
    report.raise_if_wrong()
    assert ("drawn at random" in str(report)) == (num_features > 128)
    wrong = check_gradients(plain, params, data, gradient=mutated(one_coordinate, plain))
    assert not wrong.ok
    check_gradients(plain, params, data, gradient=right(plain)).raise_if_wrong()


def test_plain_function_that_keeps_float32():
    params, data = make_problem(9, n=40)

    def rounded(params, data):
        return jnp.mean(residuals(params, data) ** 2).astype(jnp.float32)

    report = check_gradients(rounded, params, data)
    report.raise_if_wrong()
    assert "in float32" in report.note


def random_problem(seed, dtype):
    """Columns and targets of any scale, near and far fits, offsets, sorted rows, equal rows."""
    rng = np.random.default_rng(seed)
    n, d = 60, 5
    scale = 10.0 ** rng.uniform(-4, 4, d)
    X = rng.normal(size=(n, d))
    X = [X, np.sort(X, axis=0), np.sign(X), X[rng.integers(0, 5, n)], X + 100][seed % 5] * scale
    w = rng.normal(size=d) / scale
    y = X @ w + 1 + rng.normal(size=n) * 10.0 ** rng.uniform(-8, 4)
    y = y + 1e4 * (rng.random() < 0.3)
    if rng.random() < 0.5:
        w = rng.normal(size=d) / scale
    sample_weight = rng.exponential(size=n) * rng.integers(0, 2, n)
    sample_weight[0] = 1
    params = Params(jnp.asarray(w.astype(dtype)), jnp.asarray(np.ones((), dtype)))
    return params, as_dataset(X.astype(dtype), y.astype(dtype), sample_weight.astype(dtype))


@pytest.mark.parametrize(("loss", "dtype"), CASES, indirect=["dtype"], ids=str)
def test_accuses_no_right_gradient(loss, dtype):
    def rows_and_columns_reversed(params, data):
        """The same gradient, its sums in another order."""
        data = jax.tree.map(lambda rows: np.asarray(rows)[::-1], data)
        data = data._replace(X=data.X[:, ::-1])
        turned = params._replace(weights=np.asarray(params.weights)[::-1])
        value, gradient = right(loss)(turned, data)
        return value, gradient._replace(weights=gradient.weights[::-1])

    for seed in range(15):
        params, data = random_problem(seed, dtype)
        report = check_gradients(loss, params, data, gradient=rows_and_columns_reversed)
        assert report.ok, report


def test_sums_that_lose_digits_are_not_accused():
    # 100,000 equal terms: a loop that adds them in turn is off by far more than u, and not wrong.
    n = 100_000
    data = as_dataset(np.full((n, 1), 0.1, np.float32), np.ones(n, np.float32))
    params = Params(np.zeros(1, np.float32), np.zeros((), np.float32))
    check_gradients(mae, params, data).raise_if_wrong()


def test_a_feature_that_is_0_everywhere():
    params, data = standard(9)
    X = np.array(data.X)
    X[:, 2] = 0
    data = data._replace(X=jnp.asarray(X))
    report = check_gradients(mse, params, data)
    report.raise_if_wrong()
    gradient = jax.jit(gradients.finite_difference(mse))(params, data)[1]
    assert float(gradient.weights[2]) == 0  # whatever the compiler fuses


def with_entry(column, place, number):
    column = np.array(column)
    column[place] = number
    return column


def test_says_what_is_not_finite():
    params, data = standard(10)
    infinite = params._replace(weights=jnp.asarray(with_entry(params.weights, 1, np.inf)))
    report = check_gradients(mse, infinite, data)
    assert not report.ok
    assert "autodiff gives the value" in str(report)

    def not_a_number(params, data):
        value, gradient = right(mse)(params, data)
        return value, gradient._replace(weights=with_entry(gradient.weights, 2, np.nan))

    report = check_gradients(mse, params, data, gradient=not_a_number)
    assert "yours gives nan at weights[2]" in str(report)
    assert report.worst.coordinate == "weights[2]"


def test_a_gradient_that_changes_between_calls():
    params, data = standard(11)
    calls = []

    def drifting(params, data):
        calls.append(1)
        value, gradient = right(mse)(params, data)
        return value, scaled(1 + 1e-7 * len(calls), gradient)

    report = check_gradients(mse, params, data, gradient=drifting)
    assert [check.name for check in report.checks if check.ok is False] == ["same bits twice"]


def test_gradients_of_numpy_are_welcome():
    params, data = standard(12)

    def by_numpy(params, data):
        X, y, s, w, b = map(np.asarray, (data.X, data.y, data.sample_weight, *params))
        r, s = X @ w + b - y, s / s.sum()
        return (s * r * r).sum(), Params(2 * X.T @ (s * r), 2 * (s * r).sum())

    report = check_gradients(mse, params, data, gradient=by_numpy)
    report.raise_if_wrong()
    assert "cannot differentiate yours" in str(report)


def test_a_wrong_hessian_and_a_wrong_slope_are_named():
    params, data = standard(13)

    @jax.custom_jvp
    def steeper(g):
        return g

    steeper.defjvp(lambda primals, tangents: (primals[0], 1.01 * tangents[0]))

    @jax.jit
    def wrong_derivative(params, data):
        value, gradient = jax.value_and_grad(mse)(params, data)
        return value, gradient._replace(weights=steeper(gradient.weights))

    report = check_gradients(mse, params, data, gradient=wrong_derivative)
    assert [check.name for check in report.checks if check.ok is False] == ["Hessian"]
    report = check_gradients(mse, params, data, gradient=mutated(factor_two, mse))
    assert "Taylor" in [check.name for check in report.checks if check.ok is False]


@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        (lambda p, d: jax.grad(mse)(p, d), TypeError, "value_and_grad"),
        (lambda p, d: (mse(p, d), p.weights), TypeError, "shaped as params"),
        (lambda p, d: (residuals(p, d), p), ValueError, r"the value has shape \[60\]"),
        (
            lambda p, d: (mse(p, d), p._replace(weights=p.weights[:, None])),
            ValueError,
            r"gradient of weights has shape \[5, 1\], but weights is \[5\]",
        ),
    ],
)
def test_a_gradient_of_another_shape_is_refused(gradient, error, message):
    params, data = standard(14)
    with pytest.raises(error, match=message):
        check_gradients(mse, params, data, gradient=gradient)


def test_refuses_what_it_cannot_check():
    params, data = standard(15)
    with pytest.raises(TypeError, match="call it outside jit"):
        jax.jit(lambda p: check_gradients(mse, p, data))(params)
    with pytest.raises(TypeError, match="loss must be a function"):
        check_gradients("mse", params, data)
    with pytest.raises(ValueError, match="must be one number"):
        check_gradients(residuals, params, data)
