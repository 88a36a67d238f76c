"""The same work in PyTorch on the CPU: as its users write it, and without autograd.

`torch` is None where PyTorch is not installed; `missing` then stands in the table for it.
"""

import importlib.util
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Answer, Missing
from benchmarks.problems import Problem
from linreg_jax._typing import Float

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

torch: Any = importlib.import_module("torch") if importlib.util.find_spec("torch") else None


def missing(name: str) -> list[Missing]:
    """What stands in the table where PyTorch is not installed, and nothing where it is."""
    if torch is not None:
        return []
    return [Missing(name, "PyTorch is not installed: pip install torch")]


def use_threads(threads: int) -> None:
    """Has PyTorch use as many threads as everybody else."""
    if torch is not None:
        torch.set_num_threads(threads)


def loss_named(name: str) -> Callable:
    """The PyTorch module of "mse", "mae" or "huber" (delta 1)."""
    modules = {"mse": torch.nn.MSELoss, "mae": torch.nn.L1Loss, "huber": torch.nn.HuberLoss}
    return modules[name]()


def full_batch(problem: Problem, loss: Callable, num_steps: int, rate: float) -> Answer:
    """The usual loop: autograd and `torch.optim.SGD`, every row in every step."""
    X, y = torch.from_numpy(problem.X), torch.from_numpy(problem.y)
    weights, bias, optimizer = _start(X, rate)
    losses = torch.empty(num_steps, dtype=X.dtype)
    for i in range(num_steps):
        optimizer.zero_grad()
        value = loss(X @ weights + bias, y)
        value.backward()
        optimizer.step()
        losses[i] = value.detach()
    return _answer(weights, bias, losses)


def full_batch_by_hand(problem: Problem, num_steps: int, rate: float) -> Answer:
    """The mean squared error without autograd: two products a step, into tensors made once."""
    with torch.no_grad():
        X, y = torch.from_numpy(problem.X), torch.from_numpy(problem.y)
        n, d = X.shape
        weights, bias = torch.zeros(d, dtype=X.dtype), torch.zeros((), dtype=X.dtype)
        gradient, r = torch.empty_like(weights), torch.empty_like(y)
        losses = torch.empty(num_steps, dtype=X.dtype)
        factor = 2 * rate / n
        for i in range(num_steps):
            torch.mv(X, weights, out=r)
            r.sub_(y).add_(bias)
            torch.dot(r, r, out=losses[i])
            torch.mv(X.T, r, out=gradient)
            weights.sub_(gradient, alpha=factor)
            bias.sub_(r.sum(), alpha=factor)
        losses /= n
    return _answer(weights, bias, losses)


def mini_batches(
    problem: Problem, orders: Iterable[np.ndarray], batch_size: int, rate: float
) -> Answer:
    """Shuffled mini-batches of the mean squared error, rows chosen by index, autograd and SGD.

    Args:
      problem: the data.
      orders: for each epoch, the order [n] in which it sees the rows: arrays or tensors.
      batch_size: rows in a batch; the last one of an epoch may be smaller.
      rate: the learning rate.
    """
    X, y = torch.from_numpy(problem.X), torch.from_numpy(problem.y)
    loss = torch.nn.MSELoss()
    weights, bias, optimizer = _start(X, rate)
    losses = []
    for order in orders:
        for rows in torch.as_tensor(order).split(batch_size):
            optimizer.zero_grad()
            value = loss(X[rows] @ weights + bias, y[rows])
            value.backward()
            optimizer.step()
            losses.append(value.detach())
    return _answer(weights, bias, torch.stack(losses))


def permutations(n: int, num_epochs: int, seed: int) -> Iterable:
    """For each epoch, an order of n rows by `torch.randperm`, drawn when it begins."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randperm(n, generator=generator) for _ in range(num_epochs))


def value_and_gradient(problem: Problem, loss: Callable) -> Callable[[np.ndarray], Answer]:
    """params [d + 1] -> the loss, `value` [1], and its `gradient` [d + 1], by autograd."""
    X, y = torch.from_numpy(problem.X), torch.from_numpy(problem.y)

    def call(params: Float[np.ndarray, " p"]) -> Answer:
        leaf = torch.from_numpy(params).requires_grad_()
        value = loss(X @ leaf[:-1] + leaf[-1], y)
        value.backward()
        return {"value": value.detach().numpy()[None], "gradient": leaf.grad.numpy()}

    return call


def _start(X: "Tensor", rate: float) -> "tuple[Tensor, Tensor, Optimizer]":
    weights = torch.zeros(X.shape[1], dtype=X.dtype, requires_grad=True)
    bias = torch.zeros((), dtype=X.dtype, requires_grad=True)
    return weights, bias, torch.optim.SGD([weights, bias], lr=rate)


def _answer(weights: "Tensor", bias: "Tensor", losses: "Tensor") -> Answer:
    params = np.append(weights.detach().numpy(), bias.detach().numpy())
    return {"params": params, "losses": losses.numpy()}
