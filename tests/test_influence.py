"""What single examples do, held to fits without them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import (
    Params,
    as_dataset,
    compress,
    example_gradients,
    huber,
    infer,
    influence,
    leverage,
    log_cosh,
    mae,
    mse,
    quantile,
    ridge,
    sensitivities,
    solve,
    sse,
)
from tests.support import make_problem, relative_error
from tests.test_inference_scores import Step, density, seen


def flat(params):
    """[p, ...] the bias first."""
    bias = [] if params.bias is None else [params.bias[None]]
    return jnp.concatenate([*bias, params.weights])


def without_each(data, loss, intercept):
    """[n, p, k] the coefficients of each fit that leaves out one example, by zero weights."""
    s = jnp.ones(len(data.X)) if data.sample_weight is None else data.sample_weight
    weights = jnp.where(jnp.eye(len(s)) > 0, 0, s[None, :])
    return jax.vmap(
        lambda w: flat(solve(data._replace(sample_weight=w), loss, intercept=intercept).params)
    )(weights)


@pytest.mark.parametrize(("intercept", "strength"), [(True, 0.0), (False, 2.0)])
def test_fits_without_each_example(intercept, strength, x64):
    _, data = make_problem(1, n=20, d=2, k=2, weighted=True, dtype="float64")
    loss = sse + ridge(strength) if strength else sse
    found = influence(data, loss, intercept=intercept)
    theta = flat(solve(data, loss, intercept=intercept).params)
    others = without_each(data, loss, intercept)
    assert relative_error(found.changes, theta[None] - others) < 1e-11
    ones = [jnp.ones((20, 1))] if intercept else []
    A = np.asarray(jnp.concatenate([*ones, data.X], axis=1))
    s, y = np.asarray(data.sample_weight), np.asarray(data.y)
    predictions = np.einsum("np,npk->nk", A, others)
    assert relative_error(found.predictions, predictions) < 1e-11
    assert relative_error(found.press, (s[:, None] * (predictions - y) ** 2).sum(axis=0)) < 1e-11
    Z = np.linalg.inv((A.T * s) @ A + strength * np.diag([0.0] * intercept + [1.0, 1.0]))
    hat = s * np.einsum("ij,jk,ik->i", A, Z, A)
    r = A @ np.asarray(theta) - y
    degrees = (s > 0).sum() - (hat.sum() if strength else A.shape[1])
    variance = (s[:, None] * r**2).sum(axis=0) / degrees
    studentized = np.sqrt(s)[:, None] * r / np.sqrt(variance * (1 - hat)[:, None])
    assert relative_error(found.leverages[:, 0], hat) < 1e-11
    assert relative_error(found.internally_studentized, studentized) < 1e-11
    change = np.asarray(theta)[None] - np.asarray(others)
    cook = np.einsum("npk,pq,nqk->nk", change, (A.T * s) @ A, change)
    used = hat.sum() if strength else A.shape[1]
    assert relative_error(found.cooks_distance, cook / used / variance) < 1e-10
    if not strength:
        left = (s[:, None] * r**2).sum(axis=0) - s[:, None] * r**2 / (1 - hat)[:, None]
        error = np.sqrt(np.diag(Z))[None, :, None] * np.sqrt(left / (degrees - 1))[:, None, :]
        assert relative_error(found.dfbetas, change / error) < 1e-10
        assert relative_error(found.leverages[:, 0], leverage(data)) < 1e-12


@pytest.mark.slow
def test_other_losses_take_one_step_of_newton(x64):
    _, data = make_problem(2, n=20, d=2, weighted=True, dtype="float64")
    loss = log_cosh()
    fitted = infer(data, loss)
    found = influence(data, loss)
    s, gradients = data.sample_weight, example_gradients(loss, fitted.params, data)
    A = jnp.concatenate([jnp.ones((20, 1)), data.X], axis=1)
    curvature = jax.vmap(jax.grad(loss.psi))(found.residuals) * s / s.sum()
    for i in range(3):
        H = (A.T * (curvature * (jnp.arange(20) != i))[None, :]) @ A
        assert relative_error(found.changes[i], -jnp.linalg.solve(H, gradients[i])) < 1e-11
    assert np.isnan(found.externally_studentized).all()
    V = np.linalg.inv(infer(data, loss, weights="precision").covariance)
    change = np.asarray(found.changes)
    distance = np.einsum("np,pq,nq->n", change, V, change) / 3
    assert relative_error(found.cooks_distance, distance) < 1e-9
    same = influence(data, loss, params=fitted.params)
    assert relative_error(same.changes, found.changes) < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("loss", [sse, huber(0.7) + ridge(0.2)], ids=["sse", "huber"])
def test_sensitivities_are_derivatives_by_the_weights(loss, x64):
    _, data = make_problem(3, n=20, d=2, weighted=True, dtype="float64")
    found = sensitivities(data, loss)
    h, s = 1e-5, data.sample_weight
    if loss is sse:
        expected = jax.jacobian(lambda w: flat(solve(data._replace(sample_weight=w)).params))(s).T
        assert relative_error(found, expected) < 1e-10
        return
    # The ridge stays as strong beside the sum: the divisor of the mean must not follow the weight.
    fixed = data._replace(total_weight=s.sum())

    def at(w):
        return flat(infer(fixed._replace(sample_weight=w), loss).params)

    for i in (0, 5):
        quotient = (at(s.at[i].add(h)) - at(s.at[i].add(-h * (s[i] > 0)))) / (h * (1 + (s[i] > 0)))
        assert relative_error(found[i], quotient) < (1e-6 if s[i] > 0 else 1e-3)
    hc0 = infer(data, loss, covariance="hc0").covariance
    assert relative_error((found.T * s[None, :]) @ found, hc0) < 1e-10


def test_sensitivities_where_psi_jumps(x64):
    """By the density of the residuals, in NumPy; residuals are off the kink."""
    _, data = make_problem(3, n=40, d=2, weighted=True, dtype="float64")
    A, y = np.column_stack([np.ones(40), data.X]), np.asarray(data.y)
    theta = np.linalg.lstsq(A, y)[0]
    found = sensitivities(data, quantile(0.4), params=Params(jnp.asarray(theta[1:]), theta[0]))
    r, index = A @ theta - y, seen(data)
    H = (A[index].T * density(r[index], 0.4, y[index])) @ A[index]
    expected = -np.where(r > 0, 0.6, -0.4)[:, None] * A @ np.linalg.inv(H)
    assert relative_error(found, expected) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("k", [None, 2])
def test_gradients_of_examples(k, dtype):
    params, data = make_problem(4, k=k, weighted=True, dtype=dtype)
    for loss in (mse, huber(0.7)):
        found = example_gradients(loss, params, data)
        total = data.sample_weight.sum()

        def of_example(x, y, s, loss=loss, total=total):
            one = as_dataset(x[None], y[None], s[None])._replace(total_weight=total)
            return flat(jax.grad(loss)(params, one))

        expected = jax.vmap(of_example)(data.X, data.y, data.sample_weight)
        assert relative_error(found, expected) < (1e-6 if dtype == "float32" else 1e-14)
        gradient = flat(jax.grad(loss)(params, data))
        assert relative_error(found.sum(axis=0), gradient) < (1e-5 if dtype == "float32" else 1e-13)
    alone = example_gradients(mse, Params(params.weights, None), data)
    assert alone.shape == data.X.shape if k is None else (*data.X.shape, k)


def test_what_one_example_determines_is_nan(x64):
    _, data = make_problem(5, n=20, d=2, dtype="float64")
    alone = data._replace(X=data.X.at[:, 1].set(jnp.arange(20) == 7))
    found = influence(alone)
    assert float(found.leverages[7]) == pytest.approx(1, abs=1e-12)
    assert np.isnan(found.changes[7]).all()
    assert np.isnan(found.predictions[7])
    assert np.isfinite(found.changes[:7]).all()
    assert float(leverage(alone).sum()) == pytest.approx(3, abs=1e-12)


def test_float32_jit_and_vmap():
    _, data = make_problem(6, n=20, d=2)
    expected = influence(data)
    both = jax.jit(jax.vmap(lambda y: influence(data._replace(y=y)).cooks_distance))(
        jnp.stack([data.y, -data.y])
    )
    assert relative_error(both, jnp.stack([expected.cooks_distance] * 2)) < 1e-4
    with jax.enable_x64(True):
        double = influence(jax.tree.map(lambda a: a.astype("float64"), data))
        assert relative_error(expected, double) < 1e-4


def test_bad_input():
    params, data = make_problem(6, n=20, d=2)
    with pytest.raises(ValueError, match="influence needs a smooth loss, got mae"):
        influence(data, mae, params=params)
    with pytest.raises(ValueError, match="params is None, and sensitivities does not minimise"):
        sensitivities(data, Step())
    with pytest.raises(ValueError, match="leverage needs every example"):
        leverage(compress(data))
    with pytest.raises(ValueError, match="params belongs to losses that are not squared"):
        sensitivities(data, params=params)
