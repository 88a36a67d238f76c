"""Linear regression, its losses and their gradients as pure JAX functions."""

import importlib
from typing import TYPE_CHECKING

from linreg_jax import gradients
from linreg_jax._standardization import Standardization, standardize
from linreg_jax.compression import combine, compress
from linreg_jax.dataset import Dataset, as_dataset, split
from linreg_jax.diagnosis import Diagnosis, diagnose
from linreg_jax.folding import Folded, fold
from linreg_jax.losses import (
    Loss,
    epsilon_insensitive,
    half_mse,
    half_sse,
    huber,
    log_cosh,
    mae,
    mse,
    quantile,
    sse,
)
from linreg_jax.model import Params, init_params, predict, residuals
from linreg_jax.penalties import lasso, ridge
from linreg_jax.schedules import adaptive, invscaling
from linreg_jax.shuffling import shuffled_index
from linreg_jax.training import DivergedError, Fit, Status, TrainState, fit
from linreg_jax.trajectory import Trajectory, trajectory

# Submodules that a training run does not need are imported when they are first asked for.
_LATER = {
    "GradientError": "checking",
    "GradientReport": "checking",
    "check_gradients": "checking",
    "Solution": "exact",
    "solve": "exact",
    "solve_line": "exact",
    "load": "saving",
    "save": "saving",
    "initialize": "sharding",
    "replicate": "sharding",
    "shard": "sharding",
    "shard_from_process": "sharding",
    "ChunkError": "streaming",
    "ChunkFit": "streaming",
    "ChunkState": "streaming",
    "compress_chunks": "streaming",
    "fit_chunks": "streaming",
    "open_chunks": "streaming",
}

if TYPE_CHECKING:
    from linreg_jax.checking import GradientError, GradientReport, check_gradients
    from linreg_jax.exact import Solution, solve, solve_line
    from linreg_jax.saving import load, save
    from linreg_jax.sharding import initialize, replicate, shard, shard_from_process
    from linreg_jax.streaming import (
        ChunkError,
        ChunkFit,
        ChunkState,
        compress_chunks,
        fit_chunks,
        open_chunks,
    )
else:

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(
            importlib.import_module(f"{__name__}.{_LATER[name]}"), name
        )
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LATER})


__all__ = [
    "ChunkError",
    "ChunkFit",
    "ChunkState",
    "Dataset",
    "Diagnosis",
    "DivergedError",
    "Fit",
    "Folded",
    "GradientError",
    "GradientReport",
    "Loss",
    "Params",
    "Solution",
    "Standardization",
    "Status",
    "TrainState",
    "Trajectory",
    "adaptive",
    "as_dataset",
    "check_gradients",
    "combine",
    "compress",
    "compress_chunks",
    "diagnose",
    "epsilon_insensitive",
    "fit",
    "fit_chunks",
    "fold",
    "gradients",
    "half_mse",
    "half_sse",
    "huber",
    "init_params",
    "initialize",
    "invscaling",
    "lasso",
    "load",
    "log_cosh",
    "mae",
    "mse",
    "open_chunks",
    "predict",
    "quantile",
    "replicate",
    "residuals",
    "ridge",
    "save",
    "shard",
    "shard_from_process",
    "shuffled_index",
    "solve",
    "solve_line",
    "split",
    "sse",
    "standardize",
    "trajectory",
]
