"""The same losses and gradients from PyTorch's autograd."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import Params, as_dataset, huber, mae, mse, sse
from linreg_jax.gradients import autodiff, by_loops, finite_difference, vectorized
from tests.support import relative_error

torch = pytest.importorskip("torch")

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
