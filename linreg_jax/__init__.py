"""Linear regression, its losses and their gradients as pure JAX functions."""

from linreg_jax import gradients
from linreg_jax.checking import GradientError, GradientReport, check_gradients
from linreg_jax.compression import combine, compress
from linreg_jax.dataset import Dataset, Standardization, as_dataset, split, standardize
from linreg_jax.diagnosis import Diagnosis, diagnose
from linreg_jax.exact import Solution, solve, solve_line
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
from linreg_jax.saving import load, save
from linreg_jax.schedules import adaptive, invscaling
from linreg_jax.shuffling import shuffled_index
from linreg_jax.training import DivergedError, Fit, Status, TrainState, fit
from linreg_jax.trajectory import Trajectory, trajectory

__all__ = [
    "Dataset",
    "Diagnosis",
    "DivergedError",
    "Fit",
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
    "diagnose",
    "epsilon_insensitive",
    "fit",
    "gradients",
    "half_mse",
    "half_sse",
    "huber",
    "init_params",
    "invscaling",
    "lasso",
    "load",
    "log_cosh",
    "mae",
    "mse",
    "predict",
    "quantile",
    "residuals",
    "ridge",
    "save",
    "shuffled_index",
    "solve",
    "solve_line",
    "split",
    "sse",
    "standardize",
    "trajectory",
]
