"""The data the peers are compared on, in float64."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, make_regression


@pytest.fixture(params=["make_regression", "diabetes"])
def problem(request):
    """(X, y), with x64 on."""
    if request.param == "diabetes":
        X, y = load_diabetes(return_X_y=True)
    else:
        X, y = make_regression(n_samples=100, n_features=5, noise=5, random_state=2)
    with jax.enable_x64(True):
        yield np.asarray(X, np.float64), np.asarray(y, np.float64)
