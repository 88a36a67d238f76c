"""The same losses and gradients from PyTorch's autograd and from SymPy's derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
import torch

from linreg_jax import Params, as_dataset, huber, mae, mse, sse
from linreg_jax.gradients import autodiff, by_loops, finite_difference, vectorized
from tests.reference import DELTA, EPSILON, LEVEL, TABLE
from tests.support import relative_error

TORCH_LOSSES = [
    (mse, torch.nn.MSELoss()),
    (sse, torch.nn.MSELoss(reduction="sum")),
    (mae, torch.nn.L1Loss()),
    (huber(1.35), torch.nn.HuberLoss(delta=1.35)),
    (huber(50.0), torch.nn.HuberLoss(delta=50.0)),
]


@pytest.mark.parametrize(("loss", "torch_loss"), TORCH_LOSSES, ids=lambda v: str(v)[:12])
@pytest.mark.parametrize("way", [autodiff, vectorized, by_loops, finite_difference])
def test_pytorch_autograd(problem, loss, torch_loss, way):
    X, y = problem
    rng = np.random.default_rng(0)
    weights = torch.tensor(rng.normal(size=X.shape[1]) * 30, requires_grad=True)
    bias = torch.tensor(100.0, dtype=torch.float64, requires_grad=True)
    expected = torch_loss(torch.tensor(X) @ weights + bias, torch.tensor(y))
    expected.backward()
    params = Params(jnp.asarray(weights.detach().numpy()), jnp.asarray(bias.item()))
    value, gradient = jax.jit(way(loss))(params, as_dataset(X, y))
    assert relative_error(value, expected.item()) < 1e-13  # sums of 442 terms in another order
    torch_gradient = [weights.grad.numpy(), bias.grad.numpy()]
    assert relative_error(gradient, torch_gradient) < 1e-12


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
