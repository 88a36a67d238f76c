"""Linear regression, its losses and their gradients as pure JAX functions."""

from linreg_jax import gradients
from linreg_jax.dataset import Dataset, Standardization, as_dataset, split, standardize
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

__all__ = [
    "Dataset",
    "Loss",
    "Params",
    "Standardization",
    "as_dataset",
    "epsilon_insensitive",
    "gradients",
    "half_mse",
    "half_sse",
    "huber",
    "init_params",
    "lasso",
    "log_cosh",
    "mae",
    "mse",
    "predict",
    "quantile",
    "residuals",
    "ridge",
    "split",
    "sse",
    "standardize",
]
