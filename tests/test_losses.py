"""The table of losses: rho, psi, reductions, penalties and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import (
    Loss,
    Params,
    as_dataset,
    epsilon_insensitive,
    half_mse,
    half_sse,
    huber,
    lasso,
    log_cosh,
    mae,
    mse,
    quantile,
    ridge,
    sse,
)
from linreg_jax.penalties import Penalty
from tests import reference
from tests.support import make_problem, relative_error

# residuals across every kink, then what the paper's definition gives there
HAND_TABLE = [
    (mse, [-3.0, 0.0, 2.0], [9.0, 0.0, 4.0], [-6.0, 0.0, 4.0]),
    (half_mse, [-3.0, 0.0, 2.0], [4.5, 0.0, 2.0], [-3.0, 0.0, 2.0]),
    (sse, [-3.0, 0.0, 2.0], [9.0, 0.0, 4.0], [-6.0, 0.0, 4.0]),
    (half_sse, [-3.0, 0.0, 2.0], [4.5, 0.0, 2.0], [-3.0, 0.0, 2.0]),
    (mae, [-3.0, 0.0, 2.0], [3.0, 0.0, 2.0], [-1.0, 0.0, 1.0]),
    (
        huber(1.5),
        [-4.0, -1.5, -1.0, 0.0, 1.0, 1.5, 4.0],
        [4.875, 1.125, 0.5, 0.0, 0.5, 1.125, 4.875],
        [-1.5, -1.5, -1.0, 0.0, 1.0, 1.5, 1.5],
    ),
    (quantile(0.75), [-4.0, 0.0, 4.0], [3.0, 0.0, 1.0], [-0.75, 0.0, 0.25]),
    (
        epsilon_insensitive(0.5),
        [-2.0, -0.5, -0.25, 0.0, 0.25, 0.5, 2.0],
        [1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 1.5],
        [-1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
    ),
    (epsilon_insensitive(0.0), [-2.0, 0.0, 2.0], [2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]),
]


@pytest.mark.parametrize(("loss", "r", "rho", "psi"), HAND_TABLE, ids=lambda v: str(v)[:20])
def test_hand_table(loss, r, rho, psi, dtype):
    r = jnp.asarray(r, dtype)
    np.testing.assert_array_equal(loss.rho(r), rho)
    np.testing.assert_array_equal(loss.psi(r), psi)
    np.testing.assert_array_equal(jax.vmap(jax.grad(loss.rho))(r), psi)  # kinks included
    assert loss.rho(r).dtype == loss.psi(r).dtype == dtype


@pytest.mark.parametrize("name", reference.TABLE)
def test_rho_and_psi_are_the_references(name, dtype):
    loss, rho, psi, _ = reference.TABLE[name]
    r = np.concatenate([np.linspace(-3, 3, 61), [0.5, -0.5, 1e-4, -1e-4]]).astype(dtype)
    tolerance = {"float32": 1e-6, "float64": 1e-15}[dtype]  # a few roundings
    found = jax.jit(lambda r: (loss.rho(r), loss.psi(r), jax.vmap(jax.grad(loss.rho))(r)))(r)
    expected = [[function(float(v)) for v in r] for function in (rho, psi)]
    for actual, right in zip(found, [*expected, found[1]], strict=True):
        assert relative_error(actual, right) < tolerance


def test_log_cosh_keeps_its_digits_near_zero_and_far_out(dtype):
    r = np.array([1e-6, 1e-3, 0.1, 0.999, 1.001, 20.0, 1e4, 1e30], dtype)
    wide = r.astype(np.longdouble)
    near = np.log1p(2 * np.sinh(np.minimum(wide, 1.5) / 2) ** 2)
    far = wide + np.log1p(np.exp(-2 * wide)) - np.log(np.longdouble(2))
    expected = np.where(wide < 1.5, near, far)
    tolerance = 8 * np.finfo(dtype).eps
    rho, slope = (jax.jit(f) for f in (log_cosh().rho, jax.vmap(jax.grad(log_cosh().rho))))
    np.testing.assert_allclose(rho(r), expected.astype(dtype), rtol=tolerance)
    np.testing.assert_allclose(slope(r), np.tanh(r), rtol=tolerance)
    r[:2] = 0, -1e30
    assert slope(r)[:2].tolist() == [0, -1]


@pytest.mark.parametrize(
    "loss", [huber(2.0), quantile(0.3), mae, epsilon_insensitive(), log_cosh()]
)
def test_linear_tails_do_not_overflow(loss):
    values_and_slopes = jax.jit(jax.vmap(jax.value_and_grad(loss.rho)))
    assert np.isfinite(values_and_slopes(np.float32([1e30, -1e30]))).all()


def test_weights_equal_repetition_and_zero_weight_equals_dropping(dtype):
    params, data = make_problem(1, n=6, d=2, dtype=dtype)
    times = np.array([2, 0, 1, 3, 0, 1])
    weighted = data._replace(sample_weight=jnp.asarray(times, dtype))
    X, y = map(np.asarray, data[:2])
    repeated = as_dataset(np.repeat(X, times, 0), np.repeat(y, times))
    tolerance = {"float32": 1e-6, "float64": 1e-15}[dtype]  # sums in another order
    losses = [loss for loss, *_ in reference.TABLE.values()]
    values = jax.jit(lambda params, data: [loss(params, data) for loss in losses])
    pairs = zip(values(params, weighted), values(params, repeated), strict=True)
    for of_weighted, of_repeated in pairs:
        assert relative_error(of_weighted, of_repeated) < tolerance


@pytest.mark.parametrize("penalty", [ridge, lasso])
def test_a_penalty_without_a_strength_says_what_is_missing(penalty):
    with pytest.raises(TypeError, match=rf"call it with a strength, {penalty.__name__}\(0.1\)"):
        mse + penalty


def test_penalties_are_added_as_they_stand():
    params, data = make_problem(2, k=2)
    w = np.asarray(params.weights, np.float64)
    expected = float(mse(params, data)) + 0.5 * (w**2).sum() + 0.25 * np.abs(w).sum()
    assert relative_error((mse + ridge(0.5) + lasso(0.25))(params, data), expected) < 1e-6
    assert str(mse + ridge(0.5) + lasso(0.25)) == "mse + ridge(0.5) + lasso(0.25)"
    with pytest.raises(TypeError):
        mse + 1


def test_names_are_written_as_they_are_called():
    losses = [mse, half_mse, sse, half_sse, mae, huber(1), quantile(0.9), log_cosh()]
    written = ["mse", "half_mse", "sse", "half_sse", "mae", "huber(1.0)", "quantile(0.9)"]
    assert [str(loss) for loss in losses] == [*written, "log_cosh()"]
    assert str(dataclasses.replace(huber(2), reduction="sum")) == "huber(2.0, reduction='sum')"


@pytest.mark.parametrize(
    ("make", "argument", "wrong"),
    [
        (huber, "delta", [0, -1.0, float("nan"), float("inf"), jnp.array([1.0, -1.0])]),
        (quantile, "level", [0.0, 1.0, -0.1, 2, float("nan")]),
        (epsilon_insensitive, "epsilon", [-0.1, float("inf"), float("nan")]),
        (ridge, "strength", [-1e-9, float("inf"), float("nan")]),
        (lasso, "strength", [-1, float("nan")]),
    ],
)
def test_settings_are_checked(make, argument, wrong):
    for value in wrong:
        with pytest.raises(ValueError, match=rf"{argument} must be a .*number.*, got"):
            make(value)
    for value in ["1", None, True, 1j, [1.0]]:
        with pytest.raises(TypeError, match=rf"{argument} must be a .*number"):
            make(value)


def test_settings_may_be_traced_and_mapped():
    params, data = make_problem(3)
    mapped = jax.vmap(lambda delta: huber(delta)(params, data))(jnp.array([0.5, 2.0]))
    expected = [float(huber(0.5)(params, data)), float(huber(2.0)(params, data))]
    assert relative_error(mapped, expected) < 1e-6
    slope = jax.grad(lambda s: (mse + ridge(s))(params, data))(0.1)
    assert relative_error(slope, np.square(params.weights).sum()) < 1e-6


def test_compressed_rows_are_for_squared_losses_only():
    params, data = make_problem(4)
    compressed = data._replace(bias_column=jnp.ones(50), total_weight=jnp.array(50.0))
    assert relative_error(mse(params, compressed), mse(params, data)) < 1e-6
    for loss in (mae, huber(), log_cosh()):
        with pytest.raises(ValueError, match=r"is not squared; pass the original data"):
            loss(params, compressed)


def test_a_loss_of_ones_own():
    @dataclasses.dataclass(frozen=True)
    class Cauchy(Loss):
        scale: float = 1.0

        def rho(self, r):
            return self.scale**2 / 2 * jnp.log1p((r / self.scale) ** 2)

        def psi(self, r):
            return r / (1 + (r / self.scale) ** 2)

    params = Params(jnp.array([2.0]), None)
    data = as_dataset([[1.0], [2.0]], [0.0, 3.0])
    expected = (np.log1p(4.0) + np.log1p(1.0)) / 4
    assert relative_error((Cauchy() + ridge(0.0))(params, data), expected) < 1e-6
    assert str(Cauchy(2.0)) == "cauchy(2.0)"


def test_a_loss_without_its_functions_says_so():
    params, data = make_problem(5)
    with pytest.raises(TypeError, match="Loss must define rho and psi"):
        Loss()(params, data)
    with pytest.raises(TypeError, match="Penalty must define rho and psi"):
        Penalty(1.0)(params.weights)
