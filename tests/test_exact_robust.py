"""Exact minima of losses that are not squared, held to a checker of subgradients in NumPy."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, lsq_linear

from linreg_jax import (
    Dataset,
    SolutionStatus,
    as_dataset,
    epsilon_insensitive,
    huber,
    lasso,
    log_cosh,
    mae,
    mse,
    quantile,
    ridge,
    solve,
)
from linreg_jax._minimum import finish, interior
from linreg_jax.losses import Loss
from tests.support import make_problem, on_the_host, relative_error


@dataclasses.dataclass(frozen=True)
class Bowl(Loss):
    """A caller's own: a jump at 0, a parabola on the right of it, a line that bends on the left."""

    height: float = 1.0

    is_piecewise_quadratic = True
    is_convex = True
    kinks = (0.0, -1.0)

    def rho(self, r):
        left = jnp.where(r > -1, -r, -2 * r - 1)
        return jnp.where(r > 0, self.height * r + r * r, left)

    def psi(self, r):
        slope = jnp.where(r > 0, self.height + 2 * r, jnp.where(r > -1, -1.0, -2.0))
        return jnp.where(r == 0, 0, slope).astype(r.dtype)


# name: (setting -> loss, its range, NumPy's rho and psi of a setting)
LOSSES = {
    "huber": (
        huber,
        (0.003, 3.0),
        lambda r, v: np.where(abs(r) < v, r * r / 2, v * (abs(r) - v / 2)),
        lambda r, v: np.clip(r, -v, v),
    ),
    "quantile": (
        quantile,
        (0.03, 0.97),
        lambda r, v: np.where(r > 0, (1 - v) * r, -v * r),
        lambda r, v: np.where(r > 0, 1 - v, -v),
    ),
    "epsilon_insensitive": (
        epsilon_insensitive,
        (0.0, 2.0),
        lambda r, v: np.maximum(abs(r) - v, 0),
        lambda r, v: np.sign(r) * (abs(r) > v),
    ),
    "log_cosh": (
        lambda v: v * log_cosh(),
        (0.5, 2.0),
        lambda r, v: v * (np.logaddexp(r, -r) - np.log(2)),
        lambda r, v: v * np.tanh(r),
    ),
    "mae": (lambda v: v * mae, (0.5, 2.0), lambda r, v: v * abs(r), lambda r, v: v * np.sign(r)),
    "own": (
        Bowl,
        (0.5, 2.0),
        lambda r, v: np.where(r > 0, v * r + r * r, np.where(r > -1, -r, -2 * r - 1)),
        lambda r, v: np.where(r > 0, v + 2 * r, np.where(r > -1, -1, -2)),
    ),
}
EACH, N, D = 4, 24, 3


def draw(kind, rng, n=N, d=D):
    """`(X, y, sample_weight)` of one problem."""
    X, s = rng.normal(size=(n, d)), np.ones(n)
    y = X @ rng.normal(size=d) + rng.standard_t(2, size=n) + 3
    match kind:
        case "duplicates":
            rows = rng.integers(0, n // 3, n)
            X, y = X[rows], y[rows]
        case "badly scaled":
            X = X * 10.0 ** rng.uniform(-4, 4, d) + 10.0 ** rng.uniform(-1, 3, d)
        case "exact fit":
            y = X @ rng.normal(size=d) + 3
        case "all equal":
            y = np.full(n, 7.25)
        case "integers":
            X, y = np.round(X), np.round(y)
        case "weights":
            s = rng.integers(0, 3, n).astype(float)
            s[0] = 1
        case "few rows":
            s = np.zeros(n)
            s[:3] = 1
        case "weights of any size":
            s = 10.0 ** rng.uniform(-2, 2, n)
        case "large":
            y = 1e4 * y
        case "collinear":
            X[:, -1] = 2 * X[:, 0]
    return X, y, s


KINDS = [
    "plain", "duplicates", "badly scaled", "exact fit", "all equal", "integers", "weights",
    "few rows", "weights of any size", "large", "collinear",
]  # fmt: skip


def batch(name, seed=0, shape=(N, D)):
    """Problems of every kind, settings and strengths, each with a leading axis."""
    rng = np.random.default_rng(seed)
    columns = zip(*(draw(kind, rng, *shape) for kind in KINDS for _ in range(EACH)), strict=True)
    data = Dataset(*(np.stack(column) for column in columns))
    count = len(KINDS) * EACH
    setting = rng.uniform(*LOSSES[name][1], count)
    strength = np.where(np.arange(count) % 2, 10.0 ** rng.uniform(-4, 0, count), 0)
    return data, setting, strength


def one_by_one(name, data, setting, strength):
    """The solution of each problem of a batch; all have one shape and share one program."""
    make, columns = LOSSES[name][0], zip(*data[:3], strict=True)
    found = [
        solve(Dataset(*one), make(v) + ridge(rate))
        for one, v, rate in zip(columns, setting.tolist(), strength.tolist(), strict=True)
    ]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *found)


@jax.jit
@jax.vmap
def quantiles_at_once(data, level, strength):
    """What `one_by_one` does, in one call."""
    return solve(data, quantile(level) + ridge(strength))


def in_single(batch):
    return jax.tree.map(lambda a: a.astype("float32"), batch)


def subgradient(name, X, y, s, weights, bias, v, strength):
    """The length of the least subgradient beside that of the slopes, in whitened coordinates.

    A residual that lies within rounding of a kink may have any slope of either side.
    """
    psi, (X, y, s) = LOSSES[name][3], (a[s > 0] for a in (X, y, s))
    s = s / s.sum()
    A = np.column_stack([X - s @ X, np.ones(len(y))])
    r = A @ np.append(weights, bias + s @ X @ weights) - y
    near = 1e-11 * (np.abs(y).max() + np.abs(A) @ np.append(np.abs(weights), 0)) + 1e-300
    near = near + 1e-15 * (np.abs(X) @ np.abs(weights) + np.abs(bias))  # features far from 0
    low, high = psi(r - near, v), psi(r + near, v)
    pull = np.append(2 * strength * weights, 0)
    # Whitened by what the loss and ridge hold z with, so that no unit counts.
    root = np.sqrt(2 * strength) * np.eye(len(pull))[:-1]
    rows = np.concatenate([np.sqrt(s)[:, None] * A, root])
    lengths = np.linalg.norm(rows, axis=0)
    lengths[lengths == 0] = 1
    _, values, Vt = np.linalg.svd(rows / lengths, full_matrices=False)
    held = values > 1e-9 * values[0]
    whiten = Vt[held] / values[held, None] / lengths
    matrix = whiten @ (A * s[:, None]).T
    # What has a slope of its own is no variable: of few the method is exact.
    is_free, slopes = high - low > 1e-9 * np.abs(psi(1e9, v)), (low + high) / 2
    target = -whiten @ pull - matrix[:, ~is_free] @ slopes[~is_free]
    if is_free.any():
        bounds = low[is_free], high[is_free]
        slopes[is_free] = lsq_linear(matrix[:, is_free], target, bounds, method="bvls").x
    left = matrix @ slopes + whiten @ pull
    return np.linalg.norm(left) / max(np.sqrt(s @ slopes**2), 1e-3 * np.abs(psi(1e9, v)))


def number_not_proven(name, data, setting, strength):
    """Each minimum of a batch is what NumPy makes of it, and its gap and a checker agree on it.

    Returns how many have not converged, as they say themselves.
    """
    found = one_by_one(name, data, setting, strength)
    rho = LOSSES[name][2]
    has_converged = found.status == SolutionStatus.CONVERGED
    for i in np.flatnonzero(has_converged):
        X, y, s = (column[i] for column in data[:3])
        weights, bias = found.params.weights[i], found.params.bias[i]
        value = s @ rho(X @ weights + bias - y, setting[i]) / s.sum()
        value += strength[i] * weights @ weights
        zero = s @ rho(-y, setting[i]) / s.sum()
        # Coefficients in the units of the file: what rounding makes of the predictions.
        assert abs(found.value[i] - value) <= 1e-9 * value + 1e-10 * zero, (i, KINDS[i // EACH])
        assert 0 <= found.gap[i] <= max(1e-12 * value, 1e-13 * zero), (i, KINDS[i // EACH])
        if value > 1e-3 * zero:
            left = subgradient(name, X, y, s, weights, bias, setting[i], strength[i])
            assert left < 1e-5, (i, KINDS[i // EACH])
    return np.sum(~has_converged)


@pytest.mark.parametrize("name", LOSSES)
def test_the_minimum_is_proven(name, x64):
    assert number_not_proven(name, *batch(name)) == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", LOSSES)
def test_a_thousand_minima_are_proven(name, x64):
    seeds = {(N, D): 8, (5, 4): 6, (12, 20): 4, (300, 8): 4, (2000, 30): 1}
    assert sum(seeds.values()) * EACH * len(KINDS) >= 1_000
    given_up = [
        number_not_proven(name, *batch(name, seed, shape))
        for shape, num in seeds.items()
        for seed in range(1, 1 + num)
    ]
    assert sum(given_up) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["huber", "quantile"])
def test_float32_says_how_far_it_came(name):
    data, setting, strength = batch(name, seed=1)
    with jax.enable_x64(True):
        least = one_by_one(name, data, setting, strength).value
    single = in_single((data, setting, strength))
    found = quantiles_at_once(*single) if name == "quantile" else one_by_one(name, *single)
    found = on_the_host(found)
    scale = np.einsum("bn,bn->b", data.sample_weight, np.abs(data.y))
    rounding = 1e-5 * least + 1e-6 * scale / data.sample_weight.sum(axis=1)
    plain = np.arange(len(least)) // EACH != KINDS.index("badly scaled")
    missing = found.value - least
    assert (np.abs(missing) <= found.gap + rounding)[plain].all()
    assert (found.status == SolutionStatus.CONVERGED).mean() > 0.9


def least_absolute_errors(A, y, s):
    """The coefficients and the mean, as a linear programme."""
    n, p = A.shape
    found = linprog(
        np.append(np.zeros(p), s / s.sum()),
        A_ub=np.block([[A, -np.eye(n)], [-A, -np.eye(n)]]),
        b_ub=np.concatenate([y, -y]),
        bounds=[(None, None)] * p + [(0, None)] * n,
    )
    return found.x[:p], found.fun


@pytest.mark.slow
def test_targets_weights_and_no_intercept(x64):
    _, data = make_problem(5, n=30, d=3, k=2, weighted=True, dtype="float64")
    together = solve(data, mae, intercept=False)
    assert together.params.bias is None
    X, y, s = (np.asarray(column) for column in data[:3])
    for j in range(2):
        weights, _ = least_absolute_errors(X, y[:, j], s)
        assert relative_error(together.params.weights[:, j], weights) < 1e-10


@pytest.mark.slow
def test_it_says_whether_the_minimum_is_alone(x64):
    x, even, odd = np.zeros((4, 1)), [1.0, 2.0, 5.0, 9.0], [2.0, 2.0, 2.0, 9.0]
    X = np.arange(4.0)[:, None]
    line = np.arange(5.0)[:, None], [0.0, 1.0, 2.0, 3.0, 9.0]

    def solved(X, y, loss, strength):
        """As five weighted rows and with a ridge, perhaps of 0: one program for each loss."""
        unseen = 5 - len(X)
        X, y = np.pad(X, ((0, unseen), (0, 0))), np.pad(y, (0, unseen))
        return solve(as_dataset(X, y, np.arange(5) < 5 - unseen), loss + ridge(strength))

    for (features, targets), loss, strength, expected in [
        ((X, even), mse, 0.0, True),
        (line, mae, 0.0, True),
        ((X, odd), mae, 0.0, False),  # the line through (0, 0.6) with slope 2.1 is as good
        ((x, odd), mae, 0.0, False),  # no slope is better than another
        ((x, odd), mae, 0.1, True),
        ((x, even), mae, 0.1, False),  # any median will do
        (line, huber(0.01), 0.0, True),
        ((X, even), huber(0.01), 0.0, False),  # four slopes that hold each other
        ((X, odd), epsilon_insensitive(100.0), 0.0, False),
    ]:
        found = solved(features, targets, loss, strength)
        assert bool(found.unique) is expected, (features, targets, loss)
        assert int(found.status) == SolutionStatus.CONVERGED
    middle = solved(x, even, mae, 0.1).params
    assert 2.1 < float(middle.bias) < 4.9


def test_what_is_not_finite_is_said():
    data, level, strength = in_single(batch("quantile", seed=1))
    data.y[0, 3] = np.nan
    level[1] = 1.5
    found = on_the_host(quantiles_at_once(data, level, strength))
    assert (found.status[:2] == SolutionStatus.NOT_FINITE).all()
    assert np.isnan(found.params.weights[:2]).all()
    assert np.isinf(found.gap[:2]).all()
    assert found.status[2] == SolutionStatus.CONVERGED


def test_what_did_not_converge_says_how_far_it_may_be(x64, monkeypatch):
    monkeypatch.setattr(finish, "_ROUNDS", 0)
    monkeypatch.setattr(interior, "_MOST_ITERATIONS", 4)
    X, y, _ = draw("plain", np.random.default_rng(3), n=26)  # a shape that no other test compiles
    found = solve(as_dataset(X, y), mae)
    _, least = least_absolute_errors(np.column_stack([X, np.ones(26)]), y, np.ones(26))
    assert int(found.status) == SolutionStatus.NOT_CONVERGED
    assert int(found.num_iterations) == 4
    assert 0 < found.value - least < found.gap < 0.5 * least


def assert_slope(found, expected, tolerance):
    assert abs(found - expected) < tolerance * max(abs(expected), 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("make", [huber, quantile, epsilon_insensitive])
def test_derivatives_of_the_value_and_of_the_parameters_of_a_smooth_loss(make, x64):
    rng = np.random.default_rng(7)
    X, y, _ = draw("plain", rng)
    s = np.linspace(0.5, 2, N)
    s[3] = 0  # a row that would begin to count
    start = tuple(map(jnp.asarray, (X, y, s, 0.3, 0.2)))

    def answer(X, y, s, setting, strength):
        found = solve(Dataset(X, y, s), make(setting) + ridge(strength))
        return found.value, jnp.append(found.params.weights, found.params.bias) @ along_params

    @jax.jit
    def derivatives(*start):
        """In reverse of the value and of the parameters; forward, by the setting, of both."""
        _, forward = jax.linearize(answer, *start)
        in_reverse = (
            jax.linear_transpose(lambda *t, i=i: forward(*t)[i], *start)(jnp.ones(()))
            for i in (0, 1)
        )
        by_setting = [jnp.ones_like(a) if a is start[3] else jnp.zeros_like(a) for a in start]
        return *in_reverse, forward(*by_setting)

    along_params = rng.normal(size=X.shape[1] + 1)
    of_value, of_params, by_setting = derivatives(*start)
    h = 1e-6
    for place in range(len(start)):
        along = rng.normal(size=np.shape(start[place]))
        if place == 2:
            along[3] = 0
        ahead, behind = (
            answer(*start[:place], start[place] + step * along, *start[place + 1 :])
            for step in (h, -h)
        )
        slopes = [float(a - b) / (2 * h) for a, b in zip(ahead, behind, strict=True)]
        assert_slope(np.sum(of_value[place] * along), slopes[0], 1e-6)
        if make is huber:
            assert_slope(np.sum(of_params[place] * along), slopes[1], 1e-6)
        else:
            assert np.isnan(of_params[place]).all()
    counts = answer(*start[:2], start[2].at[3].set(h), *start[3:])
    without = answer(*start)
    assert_slope(of_value[2][3], float(counts[0] - without[0]) / h, 1e-4)
    if make is huber:
        assert_slope(of_params[2][3], float(counts[1] - without[1]) / h, 1e-4)
    assert relative_error(by_setting[0], of_value[3]) < 1e-12
    if make is huber:
        assert relative_error(by_setting[1], of_params[3]) < 1e-12
    else:
        assert np.isnan(by_setting[1])


@pytest.mark.exhaustive
def test_the_minimum_of_a_smooth_loss_has_second_derivatives(x64):
    """Of several targets, by the targets, their weights and the strength at once."""
    rng = np.random.default_rng(8)
    X, Y = rng.normal(size=(20, 2)) * [1.0, 1e4], rng.normal(size=(20, 2))
    move = rng.normal(size=Y.shape)

    def minimum(t):
        weight = jnp.exp(t * move[:, 0])
        data = Dataset(jnp.asarray(X), jnp.asarray(Y) + t * move, weight)
        found = solve(data, log_cosh() + ridge(jnp.exp(t)))
        return found.params.weights, found.value

    @jax.jit
    def with_derivatives(t):
        """The minimum, its derivative by t and that of this one, in one program."""
        first = partial(jax.jvp, minimum, tangents=(1.0,))
        (found, slope), (_, bend) = jax.jvp(lambda t: first((t,)), (t,), (1.0,))
        return found, slope, bend

    h = 1e-5
    behind, here, ahead = (with_derivatives(0.1 + step) for step in (-h, 0.0, h))
    for order in (0, 1):
        for part in (0, 1):
            by_difference = (ahead[order][part] - behind[order][part]) / (2 * h)
            assert relative_error(here[order + 1][part], by_difference) < 1e-7


@pytest.mark.exhaustive
def test_where_a_smooth_loss_has_many_minima_only_its_value_has_a_derivative_by_y(x64):
    def value(y, X):
        return solve(Dataset(X, y), huber(1.0)).value

    def weight(y, X):
        return solve(Dataset(X, y), huber(1.0)).params.weights[0]

    @jax.jit
    def derivatives(y, X):
        forward = jax.jvp(partial(weight, X=X), (y,), (jnp.ones_like(y),))[1]
        return *jax.grad(value, (0, 1))(y, X), jax.grad(weight)(y, X), forward

    by_y, by_X, of_weight, forward = derivatives(jnp.arange(4.0), jnp.ones((4, 1)))
    # The column is constant, the bias 1.5: residuals of 1.5, 0.5, -0.5 and -1.5.
    np.testing.assert_allclose(by_y, [-0.25, -0.125, 0.125, 0.25], atol=1e-12)
    for unknown in (by_X, of_weight, forward):
        assert np.isnan(unknown).all()


def test_refusals():
    _, data = make_problem(0)

    @dataclasses.dataclass(frozen=True)
    class Unknown(Loss):
        is_convex = True

    with pytest.raises(ValueError, match="states its curvature_bound"):
        solve(data, Unknown())
    with pytest.raises(ValueError, match="needs a convex loss"):
        solve(data, Loss())
    with pytest.raises(ValueError, match="a lasso with losses made of parabolas and lines only"):
        solve(data, log_cosh() + lasso(0.1))
    with pytest.raises(ValueError, match="one loss takes one number"):
        solve(data, quantile(jnp.array([0.1, 0.9])))


@pytest.mark.slow
def test_a_solution_says_what_it_is():
    data = as_dataset([[0.0], [0.0], [0.0]], [1.0, 2.0, 90.0])
    found = solve(data, mae)
    assert repr(found).startswith("Solution(converged, loss 29.6667, gap ")
    assert repr(found).endswith(", not unique, rank 0)")
    assert repr(found._replace(status=jnp.asarray(1))).startswith("Solution(NOT CONVERGED, loss ")
    assert repr(found._replace(status=jnp.asarray(2))) == "Solution(NOT FINITE, rank 0)"
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), found)
    assert repr(two) == "Solution(status [2], params Params(weights='[2, 1]', bias='[2]'))"
    seen = []
    jax.jit(lambda solution: seen.append(repr(solution)))(found)
    assert seen == ["Solution(status [], params Params(weights='[1]', bias='[]'))"]
