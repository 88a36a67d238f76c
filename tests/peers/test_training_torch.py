"""The same steps as PyTorch's optimisers, one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from linreg_jax import Params, as_dataset, fit, huber, mae, mse
from tests.support import relative_error

torch = pytest.importorskip("torch")

NUM_STEPS = 60
# Adam divides a gradient by its own size: this keeps one that is only the rounding of a 0 (the mean
# of as many signs up as down, say) from becoming a step.
ADAM_EPSILON = 1e-3


def momentum(rate):
    return optax.sgd(rate, momentum=0.9)


def nesterov(rate):
    return optax.sgd(rate, momentum=0.9, nesterov=True)


def adam(rate):
    return optax.adam(rate, eps=ADAM_EPSILON)


OPTIMIZERS = [
    (optax.sgd, torch.optim.SGD, {}),
    (momentum, torch.optim.SGD, {"momentum": 0.9}),
    (nesterov, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (adam, torch.optim.Adam, {"eps": ADAM_EPSILON}),
]
LOSSES = [
    (mse, torch.nn.MSELoss()),
    (mae, torch.nn.L1Loss()),
    (huber(20.0), torch.nn.HuberLoss(delta=20.0)),
]


def torch_path(X, y, start, make_optimizer, loss_function):
    """Parameters before each step and losses, by PyTorch in float64."""
    weights = torch.tensor(start.weights.tolist(), dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(float(start.bias), dtype=torch.float64, requires_grad=True)
    X, y = torch.tensor(X), torch.tensor(y)
    optimizer = make_optimizer([weights, bias])
    path, losses = [], []
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        loss = loss_function(X @ weights + bias, y)
        loss.backward()
        path.append([*weights.tolist(), bias.item()])
        losses.append(loss.item())
        optimizer.step()
    return np.array(path), np.array(losses)


@pytest.mark.parametrize(("ours", "theirs", "settings"), OPTIMIZERS, ids=["sgd", "m", "n", "adam"])
@pytest.mark.parametrize(("loss", "torch_loss"), LOSSES, ids=["mse", "mae", "huber"])
def test_every_step_is_pytorchs(problem, ours, theirs, settings, loss, torch_loss):
    X, y = problem
    X = (X - X.mean(0)) / X.std(0)
    start = Params(jnp.linspace(-1.0, 1.0, X.shape[1]), jnp.asarray(2.0))
    rate = 0.05
    path, losses = torch_path(
        X, y, start, lambda params: theirs(params, lr=rate, **settings), torch_loss
    )
    result = fit(
        loss,
        start,
        as_dataset(X, y),
        learning_rate=rate,
        num_steps=NUM_STEPS,
        optimizer=ours,
        record_params=True,
    )
    found = np.concatenate([result.path.weights, result.path.bias[:, None]], axis=1)
    # Sixty steps of roundings. Adam's first step is g / abs(g): where slopes cancel in g it is made
    # of what their sum was rounded by.
    bound = 1e-11 if ours is adam else 1e-12
    assert relative_error(found, path) < bound
    assert relative_error(result.losses, losses) < bound


def test_make_regression_lands_where_pytorch_and_scikit_learn_do():
    # The worked example of FACTS: slope -10, intercept 9, mini-batches of 32, rate 0.1, 10 epochs.
    from sklearn.datasets import make_regression
    from sklearn.linear_model import SGDRegressor
    from sklearn.model_selection import train_test_split

    X, y, slope = make_regression(
        n_samples=100,
        n_features=1,
        n_informative=1,
        n_targets=1,
        noise=5,
        coef=True,
        random_state=2,
    )
    assert abs(float(slope) - 60.84) < 0.01
    for seed in range(3):
        train_X, test_X, train_y, test_y = train_test_split(X, y, test_size=0.2, random_state=seed)
        start = Params(jnp.array([-10.0]), jnp.array(9.0))
        result = fit(
            mse,
            start,
            as_dataset(train_X.astype("float32"), train_y.astype("float32")),
            learning_rate=0.1,
            num_epochs=10,
            batch_size=32,
            key=jax.random.key(seed),
        )
        assert 59.6 < float(result.params.weights[0]) < 60.9
        assert abs(float(result.params.bias)) < 0.9
        test = as_dataset(test_X.astype("float32"), test_y.astype("float32"))
        ours = float(mse(result.params, test))
        peer = SGDRegressor(alpha=0.0, random_state=seed).fit(train_X, train_y)
        theirs = float(np.mean((peer.predict(test_X) - test_y) ** 2))
        assert abs(ours - theirs) < 0.06 * theirs
        assert 14 < ours < 30
