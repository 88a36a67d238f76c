"""Linear regression, its losses and their gradients as pure JAX functions."""

import importlib
from typing import TYPE_CHECKING

# A name is imported when it is first asked for: `import linreg_jax` costs nothing, JAX is imported
# by whoever computes, and `linreg-jax --help` answers at once.
_HOMES = {
    "Standardization": "_standardization",
    "standardize": "_standardization",
    "GradientError": "checking",
    "GradientReport": "checking",
    "check_gradients": "checking",
    "combine": "compression",
    "compress": "compression",
    "CrossValidation": "cross_validation",
    "cross_validate": "cross_validation",
    "Dataset": "dataset",
    "as_dataset": "dataset",
    "split": "dataset",
    "Diagnosis": "diagnosis",
    "diagnose": "diagnosis",
    "Solution": "exact",
    "SolutionStatus": "exact",
    "solve": "exact",
    "solve_line": "exact",
    "Folded": "folding",
    "fold": "folding",
    "Inference": "inference",
    "infer": "inference",
    "predict_interval": "inference",
    "Influence": "_influence",
    "example_gradients": "_influence",
    "influence": "_influence",
    "leverage": "_influence",
    "sensitivities": "_influence",
    "Loss": "losses",
    "epsilon_insensitive": "losses",
    "half_mse": "losses",
    "half_sse": "losses",
    "huber": "losses",
    "log_cosh": "losses",
    "mae": "losses",
    "mse": "losses",
    "quantile": "losses",
    "sse": "losses",
    "Params": "model",
    "init_params": "model",
    "predict": "model",
    "residuals": "model",
    "LassoPath": "paths",
    "lasso_path": "paths",
    "lasso": "penalties",
    "ridge": "penalties",
    "QuantilePath": "quantiles",
    "quantile_path": "quantiles",
    "Bootstrap": "resampling",
    "Jackknife": "resampling",
    "bootstrap": "resampling",
    "jackknife": "resampling",
    "load": "saving",
    "save": "saving",
    "adaptive": "schedules",
    "invscaling": "schedules",
    "initialize": "sharding",
    "replicate": "sharding",
    "shard": "sharding",
    "shard_from_process": "sharding",
    "shuffled_index": "shuffling",
    "ChunkError": "streaming",
    "ChunkFit": "streaming",
    "ChunkState": "streaming",
    "compress_chunks": "streaming",
    "fit_chunks": "streaming",
    "infer_chunks": "streaming",
    "open_chunks": "streaming",
    "solve_chunks": "streaming",
    "DivergedError": "training",
    "Fit": "training",
    "Status": "training",
    "TrainState": "training",
    "fit": "training",
    "Trajectory": "_trajectory",
    "trajectory": "_trajectory",
}

if TYPE_CHECKING:
    from linreg_jax import gradients
    from linreg_jax._influence import (
        Influence,
        example_gradients,
        influence,
        leverage,
        sensitivities,
    )
    from linreg_jax._standardization import Standardization, standardize
    from linreg_jax._trajectory import Trajectory, trajectory
    from linreg_jax.checking import GradientError, GradientReport, check_gradients
    from linreg_jax.compression import combine, compress
    from linreg_jax.cross_validation import CrossValidation, cross_validate
    from linreg_jax.dataset import Dataset, as_dataset, split
    from linreg_jax.diagnosis import Diagnosis, diagnose
    from linreg_jax.exact import Solution, SolutionStatus, solve, solve_line
    from linreg_jax.folding import Folded, fold
    from linreg_jax.inference import Inference, infer, predict_interval
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
    from linreg_jax.paths import LassoPath, lasso_path
    from linreg_jax.penalties import lasso, ridge
    from linreg_jax.quantiles import QuantilePath, quantile_path
    from linreg_jax.resampling import Bootstrap, Jackknife, bootstrap, jackknife
    from linreg_jax.saving import load, save
    from linreg_jax.schedules import adaptive, invscaling
    from linreg_jax.sharding import initialize, replicate, shard, shard_from_process
    from linreg_jax.shuffling import shuffled_index
    from linreg_jax.streaming import (
        ChunkError,
        ChunkFit,
        ChunkState,
        compress_chunks,
        fit_chunks,
        infer_chunks,
        open_chunks,
        solve_chunks,
    )
    from linreg_jax.training import DivergedError, Fit, Status, TrainState, fit
else:

    def __getattr__(name: str) -> object:
        if name == "gradients":
            return importlib.import_module(f"{__name__}.gradients")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
        globals()[name] = value = getattr(home, name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "Bootstrap",
    "ChunkError",
    "ChunkFit",
    "ChunkState",
    "CrossValidation",
    "Dataset",
    "Diagnosis",
    "DivergedError",
    "Fit",
    "Folded",
    "GradientError",
    "GradientReport",
    "Inference",
    "Influence",
    "Jackknife",
    "LassoPath",
    "Loss",
    "Params",
    "QuantilePath",
    "Solution",
    "SolutionStatus",
    "Standardization",
    "Status",
    "TrainState",
    "Trajectory",
    "adaptive",
    "as_dataset",
    "bootstrap",
    "check_gradients",
    "combine",
    "compress",
    "compress_chunks",
    "cross_validate",
    "diagnose",
    "epsilon_insensitive",
    "example_gradients",
    "fit",
    "fit_chunks",
    "fold",
    "gradients",
    "half_mse",
    "half_sse",
    "huber",
    "infer",
    "infer_chunks",
    "influence",
    "init_params",
    "initialize",
    "invscaling",
    "jackknife",
    "lasso",
    "lasso_path",
    "leverage",
    "load",
    "log_cosh",
    "mae",
    "mse",
    "open_chunks",
    "predict",
    "predict_interval",
    "quantile",
    "quantile_path",
    "replicate",
    "residuals",
    "ridge",
    "save",
    "sensitivities",
    "shard",
    "shard_from_process",
    "shuffled_index",
    "solve",
    "solve_chunks",
    "solve_line",
    "split",
    "sse",
    "standardize",
    "trajectory",
]
