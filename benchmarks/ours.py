"""What the scenarios ask of this package: the data on the device, and results to compare."""

from typing import Any

import jax
import numpy as np

from benchmarks.harness import Answer, Competitor
from benchmarks.problems import Problem
from linreg_jax import Dataset, Loss, Params, as_dataset, init_params
from linreg_jax._trajectory import Trajectory
from linreg_jax._typing import Array, Float
from linreg_jax.sharding import shard
from linreg_jax.training import fit


def start(problem: Problem) -> tuple[Params, Dataset]:
    """Zeros to start from, and the data on the device."""
    data = jax.block_until_ready(as_dataset(*problem))
    return init_params(data), data


def transfer(problem: Problem) -> Competitor:
    """The row that says what moving the data to the device, and checking it, costs."""
    return Competitor(
        "as_dataset: checking, moving the data",
        lambda: jax.block_until_ready(as_dataset(*problem)),
        answer=None,
        reads=problem.X.nbytes,
    )


def fitting(
    name: str,
    reads: float | None,
    loss: Loss,
    params: Params,
    data: Dataset,
    **settings: Any,
) -> Competitor:
    """A competitor that calls `fit(loss, params, data, **settings)` and waits for the result."""
    return Competitor(
        name,
        lambda: jax.block_until_ready(fit(loss, params, data, **settings)),
        answer=lambda fitted: path_answer(fitted.params, fitted.losses),
        reads=reads,
        on_device=True,
        ours=True,
    )


def path_answer(params: Params, losses: Float[Array, "*m steps"]) -> Answer:
    """`params` [..., d + 1], the weights and then the bias, and the `losses`, in NumPy."""
    return {"params": params_answer(params), "losses": np.asarray(losses)}


def trajectory_answer(path: Trajectory) -> Answer:
    """The parameters after the last step, and the losses before each step."""
    weights, bias = path.params
    last = Params(weights[..., -1, :], None if bias is None else bias[..., -1])
    return path_answer(last, path.losses[..., :-1])


def params_answer(params: Params) -> np.ndarray:
    """[..., d + 1] the weights and then the bias."""
    return np.concatenate([params.weights, np.asarray(params.bias)[..., None]], axis=-1)


def over_cores(data: Dataset) -> Dataset | None:
    """The rows laid over all devices, as many CPU devices as cores; None where there is one."""
    return shard(data) if len(jax.devices()) > 1 else None
