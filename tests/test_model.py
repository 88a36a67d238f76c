"""Parameters, predictions and residuals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import Dataset, Params, as_dataset, init_params, mse, predict, residuals
from tests.support import make_problem, relative_error


@pytest.mark.parametrize("k", [None, 1, 3])
@pytest.mark.parametrize("intercept", [True, False])
def test_init_params_fits_the_data(k, intercept, dtype):
    _, data = make_problem(0, k=k, dtype=dtype)
    zeros = init_params(data, intercept=intercept)
    drawn = init_params(data, key=jax.random.key(0), intercept=intercept)
    for params in (zeros, drawn):
        assert params.weights.shape == (4, *data.y.shape[1:])
        assert (params.bias is None) is not intercept
        assert all(p.dtype == dtype for p in jax.tree.leaves(params))
        assert residuals(params, data).shape == data.y.shape
    assert not any(np.any(p) for p in jax.tree.leaves(zeros))
    assert all(0 < np.abs(p).max() < 0.1 for p in jax.tree.leaves(drawn))
    again = init_params(data, key=jax.random.key(0), intercept=intercept)
    np.testing.assert_array_equal(again.weights, drawn.weights)


@pytest.mark.parametrize("k", [None, 2])
@pytest.mark.parametrize("intercept", [True, False])
def test_residual_is_prediction_minus_target(k, intercept, dtype):
    params, data = make_problem(1, k=k, intercept=intercept, dtype=dtype)
    X, y = np.asarray(data.X, np.float64), np.asarray(data.y, np.float64)
    expected = X @ np.asarray(params.weights, np.float64)
    if intercept:
        expected = expected + np.asarray(params.bias, np.float64)
    tolerance = {"float32": 1e-6, "float64": 1e-15}[dtype]  # a sum of five terms
    assert relative_error(predict(params, data.X), expected) < tolerance
    assert relative_error(predict(params, np.asarray(data.X)), expected) < tolerance
    assert relative_error(residuals(params, data), expected - y) < tolerance


P1 = Params(jnp.ones(3), jnp.ones(()))
P2 = Params(jnp.ones((3, 2)), jnp.ones(2))
X, Y = jnp.ones((64, 3)), jnp.ones(64)


@pytest.mark.parametrize(
    ("params", "y", "kind", "message"),
    [
        (P1, Y[:, None], ValueError, r"y has shape \[64, 1\] but X is \[64, 3\]: .*pass y\[:, 0\]"),
        (P1, jnp.ones((64, 2)), ValueError, r"for 2 targets init_params\(data\)"),
        (P2, Y, ValueError, r"weights \[3, 2\] need y \[64, 2\]"),
        (Params(jnp.ones((3, 1)), jnp.ones(1)), Y, ValueError, r"pass y\[:, None\]"),
        (Params(jnp.ones(4), None), Y, ValueError, r"weights has shape \[4\] but X is \[64, 3\]"),
        (Params(jnp.ones(3), jnp.ones(1)), Y, ValueError, r"bias has shape \[1\].*must be \[\]"),
        (Params(jnp.ones((3, 2)), jnp.ones(())), Y, ValueError, r"bias has shape \[\].*\[2\]"),
        (Params(jnp.ones(3, int), None), Y, TypeError, "weights must hold floating-point.*int32"),
        (Params([1.0, 1.0, 1.0], None), Y, TypeError, "weights must be an array, got list"),
        (Params(jnp.ones(3), 0.0), Y, TypeError, "bias must be an array, got float"),
        ((jnp.ones(3), 0.0), Y, TypeError, "params must be Params, got tuple"),
    ],
)
@pytest.mark.parametrize("trace", [True, False])
def test_shapes_that_do_not_fit_are_refused(params, y, kind, message, trace):
    use = mse
    if trace and all(isinstance(p, jax.Array) for p in jax.tree.leaves(params)):
        use = jax.jit(mse)
    with pytest.raises(kind, match=message):
        use(params, Dataset(X, y))


def test_predict_refuses_what_is_not_rows():
    with pytest.raises(ValueError, match=r"X has shape \[3\].*X\[None, :\] for one example"):
        predict(P1, jnp.ones(3))
    with pytest.raises(ValueError, match=r"weights has shape \[3\] but X is \[5, 2\]"):
        predict(P1, jnp.ones((5, 2)))


def test_products_follow_the_precision_that_is_asked_for():
    # Float32 factors stay float32 on every device unless less is asked for.
    def precision():
        return str(jax.make_jaxpr(predict)(P1, X))

    assert "HIGHEST" in precision()
    with jax.default_matmul_precision("bfloat16"):
        assert "HIGHEST" not in precision()


def test_targets_train_as_separate_fits():
    params, data = make_problem(2, k=3)
    together = jax.grad(mse)(params, data)
    for k in range(3):
        alone = Params(params.weights[:, k], params.bias[k])
        gradient = jax.grad(mse)(alone, as_dataset(data.X, data.y[:, k]))
        assert relative_error(together.weights[:, k], gradient.weights) < 1e-6  # sum order
        assert relative_error(together.bias[k], gradient.bias) < 1e-6
