"""Losses times numbers and plus penalties, and what that makes of their properties."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import (
    Loss,
    diagnose,
    fit,
    gradients,
    half_mse,
    half_sse,
    huber,
    init_params,
    lasso,
    mae,
    mse,
    quantile,
    ridge,
    solve,
    sse,
)
from tests import reference
from tests.support import make_problem, relative_error


def test_a_scaled_squared_error_is_the_other_customary_one():
    assert 0.5 * mse == half_mse
    assert mse * 0.5 == half_mse
    assert 2 * half_sse == sse
    assert np.float64(0.5) * mse == jnp.float32(0.5) * mse == half_mse


@pytest.mark.parametrize("name", reference.TABLE)
def test_a_scaled_loss_scales_all_that_it_is(name, dtype):
    loss = reference.TABLE[name][0]
    scaled = 3 * loss
    r = jnp.asarray([-2.0, -0.5, 0.0, 0.5, 2.0], dtype)
    tolerance = {"float32": 1e-6, "float64": 1e-15}[dtype]  # a few roundings
    assert relative_error(scaled.rho(r), 3 * loss.rho(r)) < tolerance
    assert relative_error(scaled.psi(r), 3 * loss.psi(r)) < tolerance
    assert scaled.rho(r).dtype == scaled.psi(r).dtype == dtype
    assert scaled.kinks == loss.kinks
    assert scaled.reduction == loss.reduction
    for capability in ("is_quadratic", "is_piecewise_quadratic", "is_convex"):
        assert getattr(scaled, capability) == getattr(loss, capability)
    bound = loss.curvature_bound
    assert scaled.curvature_bound == (None if bound is None else 3 * bound)


@pytest.mark.parametrize("loss", [mse, huber(0.5), dataclasses.replace(mae, reduction="sum")])
def test_values_and_gradients_of_a_scaled_loss_are_scaled(loss):
    params, data = make_problem(0, weighted=True)
    loss = loss + ridge(0.1)
    value, gradient = gradients.vectorized(loss)(params, data)
    expected = jax.tree.map(lambda leaf: 0.25 * leaf, (value, gradient))
    scaled = 0.25 * loss
    assert relative_error(scaled(params, data), expected[0]) < 1e-6  # roundings of the sum
    for way in (gradients.autodiff, gradients.vectorized, gradients.one_pass, gradients.by_loops):
        assert relative_error(way(scaled)(params, data), expected) < 1e-5
    assert relative_error(gradients.finite_difference(scaled)(params, data), expected) < 1e-5


def test_penalties_may_stand_on_either_side():
    expected = mse + ridge(0.1)
    assert ridge(0.1) + mse == expected
    assert ridge(0.1) + mse + lasso(0.01) == expected + lasso(0.01)
    assert 2 * (half_mse + ridge(0.1)) == mse + ridge(0.2)
    assert 2 * (huber(1.0) + lasso(0.5)) == 2 * huber(1.0) + lasso(1.0)
    assert 2 * ridge(0.1) == ridge(0.1) * 2 == ridge(0.2)
    assert sum([ridge(0.1), lasso(0.2)], mse) == mse + ridge(0.1) + lasso(0.2)


def test_names_read_as_they_are_written():
    assert str(0.5 * huber(1.0) + ridge(0.1)) == "0.5 * huber(1.0) + ridge(0.1)"
    assert str(3 * mse) == "3.0 * mse"
    assert str(2 * (0.5 * mae)) == "1.0 * mae"
    summed = dataclasses.replace(0.5 * huber(1.0), reduction="sum")
    assert str(summed) == "0.5 * huber(1.0, reduction='sum')"


class _OwnCall(Loss):
    def __call__(self, params, data):
        return jnp.zeros(())


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: mse + mae, TypeError, "only penalties are added to a loss, .* got AbsoluteError"),
        (lambda: mse + 1.0, TypeError, r"as in mse \+ ridge\(0.1\), got 1.0"),
        (lambda: 1.0 + mse, TypeError, "only penalties are added to a loss"),
        (lambda: ridge(0.1) + lasso(0.1), TypeError, r"mse \+ ridge\(0.1\) \+ lasso\(0.1\)"),
        (lambda: ridge + mse, TypeError, r"call it with a strength, ridge\(0.1\)"),
        (lambda: mse * ridge(0.1), TypeError, "scale must be a finite number more than 0, got Rid"),
        (lambda: mse * mse, TypeError, "scale must be a finite number more than 0, got Squared"),
        (lambda: "2" * mse, TypeError, "scale must be a finite number more than 0, got '2'"),
        (lambda: 2 * _OwnCall(), TypeError, "_OwnCall has a __call__ of its own"),
        (lambda: -1 * mse, ValueError, "scale must be a finite number more than 0, got -1"),
        (lambda: 0 * huber(1.0), ValueError, "scale must be a finite number more than 0, got 0"),
        (lambda: float("nan") * ridge(0.1), ValueError, "scale must be .*, got nan"),
    ],
)
def test_meaningless_arithmetic_is_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.parametrize("loss", [mse, huber(0.5)])
def test_a_scale_may_be_traced_and_mapped(loss):
    params, data = make_problem(1)
    scales = jnp.array([0.5, 2.0])
    values = jax.vmap(lambda scale: (scale * loss)(params, data))(scales)
    assert relative_error(values, scales * loss(params, data)) < 1e-6
    slope = jax.grad(lambda scale: (scale * loss)(params, data))(0.5)
    assert relative_error(slope, loss(params, data)) < 1e-6
    with pytest.raises(ValueError, match=r"scale has shape \[2\]: one loss takes one number"):
        (scales * loss)(params, data)


def test_a_scaled_loss_is_solved_diagnosed_and_trained():
    _, data = make_problem(2)
    for scaled, plain in [(3 * mse, mse), (0.5 * (mse + ridge(0.1)), mse + ridge(0.1))]:
        assert relative_error(solve(data, scaled).params, solve(data, plain).params) < 1e-5
    scale = 4 * huber(0.5)
    assert (
        relative_error(
            diagnose(data, scale).largest_stable_rate,
            diagnose(data, huber(0.5)).largest_stable_rate / 4,
        )
        < 1e-6
    )
    path = fit(scale, init_params(data), data, learning_rate=0.025, num_steps=20)
    same = fit(huber(0.5), init_params(data), data, learning_rate=0.1, num_steps=20)
    assert relative_error(path.params, same.params) < 1e-5
    automatic = fit(scale, init_params(data), data, learning_rate="auto", num_steps=20)
    assert float(automatic.final_loss) < float(automatic.initial_loss)
    traced = jax.jit(lambda s: solve(data, s * mse).params)(2.0)
    assert relative_error(traced, solve(data).params) < 1e-5


@pytest.mark.parametrize(
    "loss_of",
    [huber, quantile, lambda v: mse + ridge(-v), lambda v: mse + lasso(-v), lambda v: -v * mae],
    ids=["huber", "quantile", "ridge", "lasso", "scale"],
)
def test_a_traced_setting_out_of_range_makes_the_loss_and_its_gradient_nan(loss_of):
    params, data = make_problem(3)
    bad = 2.0 if loss_of is quantile else -1.0 if loss_of is huber else 1.0
    value, gradient = jax.jit(lambda setting: gradients.vectorized(loss_of(setting))(params, data))(
        bad
    )
    assert np.isnan(value)
    assert np.isnan(gradient.weights).all()
