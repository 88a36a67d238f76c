"""Losses and penalties of a caller's own, which say what they are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from linreg_jax import (
    Loss,
    Status,
    as_dataset,
    diagnose,
    epsilon_insensitive,
    fit,
    gradients,
    huber,
    init_params,
    lasso,
    log_cosh,
    mse,
    predict,
    ridge,
)
from linreg_jax.penalties import Penalty
from tests.support import make_problem, relative_error


@dataclasses.dataclass(frozen=True)
class Cauchy(Loss):
    """Not convex; its slope rises by 1 at most."""

    width: float | jax.Array = 1.0
    scalars = ("width",)
    curvature_bound = 1.0

    def rho(self, r):
        return self.width**2 / 2 * jnp.log1p((r / self.width) ** 2)

    def psi(self, r):
        return r / (1 + (r / self.width) ** 2)


class PseudoHuber(Loss):
    """Of width 1, and no pytree: a constant of the compiled programs."""

    is_convex = True
    curvature_bound = 1.0

    def rho(self, r):
        return jnp.sqrt(1 + r * r) - 1

    def psi(self, r):
        return r / jnp.sqrt(1 + r * r)


@dataclasses.dataclass(frozen=True)
class ElasticNet(Penalty):
    """strength Σ abs(w) + strength ratio Σ w², as one penalty; no pytree."""

    ratio: float = 1.0
    is_smooth = False
    is_piecewise_quadratic = True
    kinks = (0.0,)

    def rho(self, w):
        return jnp.abs(w) + self.ratio * w * w

    def psi(self, w):
        return jnp.sign(w) + 2 * self.ratio * w

    def prox(self, w, step):
        shrunk = jnp.maximum(jnp.abs(w) - step * self.strength, 0)
        return jnp.sign(w) * shrunk / (1 + 2 * self.ratio * step * self.strength)


class NotNegative(Penalty):
    """0 where no weight is negative."""

    is_smooth = False
    name = "not_negative"

    def rho(self, w):
        return jnp.where(w < 0, jnp.inf, 0)

    def psi(self, w):
        return jnp.zeros_like(w)

    def prox(self, w, step):
        return jnp.maximum(w, 0)


class SmoothAbsolute(Penalty):
    """√(1 + w²), whose slope rises by 1 at most."""

    name = "smooth_absolute"

    @property
    def curvature_bound(self):
        return self.strength

    def rho(self, w):
        return jnp.sqrt(1 + w * w)

    def psi(self, w):
        return w / jnp.sqrt(1 + w * w)


def steepest(loss, data):
    """The largest slope of a loss at what `fit` gives at "auto", and the `Fit`."""
    result = fit(loss, init_params(data), data, learning_rate="auto", num_steps=2000)
    gradient = gradients.autodiff(loss)(result.params, data)[1]
    return max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient)), result


@pytest.mark.parametrize("loss", [Cauchy(2.0), PseudoHuber(), 0.5 * PseudoHuber()])
def test_a_bound_on_the_curvature_is_enough_to_diagnose_and_to_train(loss, x64):
    _, data = make_problem(0, dtype="float64")
    slope, result = steepest(loss, data)
    assert slope < 1e-8
    diagnosis = diagnose(data, loss)
    assert diagnosis.is_bound
    assert relative_error(result.learning_rate, diagnosis.best_rate) < 1e-12
    scale = 0.5 if loss == 0.5 * PseudoHuber() else 1.0
    expected = diagnose(data, scale * huber(1.0)).largest_curvature
    assert relative_error(diagnosis.largest_curvature, expected) < 1e-12
    assert "nowhere above" in str(diagnosis)


def test_mini_batches_train_at_the_automatic_rate_too():
    _, data = make_problem(1)
    runs = [
        fit(
            loss,
            init_params(data),
            data,
            learning_rate="auto",
            num_epochs=2,
            batch_size=10,
            key=jax.random.key(0),
        )
        for loss in (PseudoHuber(), log_cosh())
    ]
    assert relative_error(runs[0].learning_rate, runs[1].learning_rate) < 1e-6


def test_the_curvature_of_a_loss_that_is_not_convex_has_no_bound_from_below():
    _, data = make_problem(2)
    found = [
        float(diagnose(data, loss + ridge(0.25), intercept=False).smallest_curvature)
        for loss in (PseudoHuber(), Cauchy())
    ]
    assert found == [0.5, 0.0]


def test_a_setting_of_ones_own_may_be_mapped():
    params, data = make_problem(3)
    widths = jnp.array([0.5, 2.0])
    values = jax.vmap(lambda width: Cauchy(width)(params, data))(widths)
    assert relative_error(values, [Cauchy(0.5)(params, data), Cauchy(2.0)(params, data)]) < 1e-6
    with pytest.raises(ValueError, match=r"width has shape \[2\]: one loss takes one number"):
        Cauchy(widths)(params, data)


def test_an_elastic_net_as_one_penalty_has_the_minimum_of_lasso_plus_ridge(x64):
    _, data = make_problem(4, dtype="float64")
    own = mse + ElasticNet(1.0, ratio=0.1)
    ours = mse + lasso(1.0) + ridge(0.1)
    fits = [
        fit(loss, init_params(data), data, learning_rate="auto", num_steps=3000)
        for loss in (own, ours)
    ]
    assert relative_error(fits[0].params, fits[1].params) < 1e-10
    assert relative_error(fits[0].final_loss, fits[1].final_loss) < 1e-12
    assert (np.asarray(fits[0].params.weights) == 0).any()


def test_a_lasso_written_by_a_user_has_the_path_of_the_lasso():
    _, data = make_problem(5)
    paths = [
        fit(loss, init_params(data), data, learning_rate=0.1, num_steps=50)
        for loss in (mse + ElasticNet(0.5, ratio=0.0), mse + lasso(0.5))
    ]
    assert relative_error(paths[0].losses, paths[1].losses) < 1e-6
    assert relative_error(paths[0].params, paths[1].params) < 1e-5


def test_weights_that_may_not_be_negative(x64):
    rng = np.random.default_rng(6)
    X = rng.normal(size=(60, 4))
    y = X @ np.array([1.0, -2.0, 0.5, -0.1]) + 3
    data = as_dataset(X, y)
    result = fit(
        mse + NotNegative(1.0), init_params(data), data, learning_rate="auto", num_steps=3000
    )
    weights = np.asarray(result.params.weights)
    assert (weights >= 0).all()
    # Karush, Kuhn and Tucker: no slope where a weight is free, none downwards where it is 0.
    r = np.asarray(predict(result.params, X)) - y
    slope = 2 * X.T @ r / 60
    assert np.abs(slope[weights > 0]).max() < 1e-8
    assert slope[weights == 0].min() > 0
    assert abs(r.mean()) < 1e-8


def test_a_smooth_penalty_states_its_curvature(x64):
    _, data = make_problem(7, dtype="float64")
    loss = mse + SmoothAbsolute(0.5)
    diagnosis = diagnose(data, loss, intercept=False)
    assert diagnosis.is_bound
    without = diagnose(data, intercept=False).largest_curvature
    assert relative_error(diagnosis.largest_curvature, without + 0.5) < 1e-12
    assert steepest(loss, data)[0] < 1e-8


@pytest.mark.parametrize("penalty", [SmoothAbsolute(0.5), ElasticNet(0.5), ridge(0.3)])
def test_every_way_knows_the_slope_of_a_penalty(penalty, x64):
    params, data = make_problem(8, dtype="float64")
    loss = huber(1.0) + penalty
    by_hand = gradients.vectorized(loss)(params, data)
    for way in (gradients.autodiff, gradients.by_loops, gradients.finite_difference):
        assert relative_error(way(loss)(params, data), by_hand) < 1e-9  # of eighth order


def test_on_a_kink_of_a_penalty_differences_give_the_least_slope(x64):
    params, data = make_problem(9, dtype="float64")
    params = params._replace(weights=params.weights.at[0].set(0.0))
    plain = gradients.finite_difference(mse)(params, data)[1].weights
    for penalty in (lasso(0.5), ElasticNet(0.5, ratio=3.0)):
        added = gradients.finite_difference(mse + penalty)(params, data)[1].weights - plain
        assert relative_error(added, penalty.gradient(params.weights)) < 1e-12


def test_a_schedule_that_goes_negative_diverges_instead_of_ascending():
    _, data = make_problem(10)
    schedule = optax.linear_schedule(0.1, -0.1, 20)  # 0 at step 10
    for optimizer in (optax.sgd, optax.adam):
        run = fit(
            mse, init_params(data), data, learning_rate=schedule, num_steps=20, optimizer=optimizer
        )
        assert Status(int(run.status)) == Status.DIVERGED
        assert int(run.state.step) == 11


def test_a_traced_rate_that_is_negative_gives_nan():
    _, data = make_problem(11)
    run = jax.jit(lambda rate: fit(mse, init_params(data), data, learning_rate=rate, num_steps=5))
    assert Status(int(run(0.01).status)) == Status.OUT_OF_STEPS
    assert Status(int(run(-0.01).status)) == Status.DIVERGED


def test_a_traced_tube_that_is_negative_makes_the_loss_nan():
    params, data = make_problem(12)
    both = jax.jit(lambda e: gradients.vectorized(epsilon_insensitive(e))(params, data))
    value, gradient = both(-0.1)
    assert np.isnan(value)
    assert np.isnan(gradient.weights).all()
