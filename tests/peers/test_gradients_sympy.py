"""The same derivatives from SymPy, of each penalty and of a whole loss."""

import jax
import jax.numpy as jnp
import pytest

from linreg_jax import Params, as_dataset, mse
from linreg_jax.gradients import autodiff, by_loops, finite_difference, vectorized
from tests.reference import DELTA, EPSILON, LEVEL, TABLE
from tests.support import relative_error

sympy = pytest.importorskip("sympy")

R = sympy.Symbol("r", real=True)
SYMBOLIC = {
    "mse": R**2,
    "half_mse": R**2 / 2,
    "sse": R**2,
    "half_sse": R**2 / 2,
    "mae": sympy.Abs(R),
    "huber": sympy.Piecewise(
        (R**2 / 2, sympy.Abs(R) <= DELTA), (DELTA * (sympy.Abs(R) - DELTA / 2), True)
    ),
    "quantile": sympy.Max((1 - LEVEL) * R, -LEVEL * R),
    "log_cosh": sympy.log(sympy.cosh(R)),
    "epsilon_insensitive": sympy.Max(sympy.Abs(R) - EPSILON, 0),
}


@pytest.mark.parametrize("name", TABLE)
def test_sympy_derivative_of_rho_is_psi(name):
    loss = TABLE[name][0]
    derivative = sympy.lambdify(R, sympy.diff(SYMBOLIC[name], R), "numpy")
    rho = sympy.lambdify(R, SYMBOLIC[name], "numpy")
    with jax.enable_x64(True):
        for r in (-3.25, -0.7, -0.3, 0.2, 0.45, 0.9, 4.0):  # either side of every kink
            assert abs(float(loss.psi(jnp.asarray(r))) - float(derivative(r))) < 1e-14
            assert abs(float(loss.rho(jnp.asarray(r))) - float(rho(r))) < 1e-14


def test_sympy_gradient_of_the_mean_squared_error(x64):
    X, y = [[1, 2], [3, -1], [0, 4]], [1, 0, 2]
    w1, w2, b = sympy.symbols("w1 w2 b")
    residuals = [row[0] * w1 + row[1] * w2 + b - target for row, target in zip(X, y, strict=True)]
    objective = sum(r**2 for r in residuals) / 3
    at = {w1: sympy.Rational(1, 2), w2: -2, b: sympy.Rational(3, 4)}
    expected = [float(sympy.diff(objective, symbol).subs(at)) for symbol in (w1, w2, b)]
    params = Params(jnp.array([0.5, -2.0]), jnp.array(0.75))
    for way in (autodiff, vectorized, by_loops, finite_difference):
        assert relative_error(way(mse)(params, as_dataset(X, y))[1], expected) < 1e-15
