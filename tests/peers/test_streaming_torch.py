"""Chunks from a PyTorch loader."""

import numpy as np
import pytest

from linreg_jax.streaming import compress_chunks
from tests.support import relative_error

torch = pytest.importorskip("torch")


def test_a_loader_is_an_iterable_of_chunks():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 3)).astype(np.float32), rng.normal(size=50).astype(np.float32)
    rows = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    small = compress_chunks(torch.utils.data.DataLoader(rows, batch_size=16))
    ours = np.column_stack([small.bias_column, small.X, small.y]).astype(np.float64)
    Z = np.column_stack([np.ones(50), X, y]).astype(np.float64)
    # The products are rounded once a row in float32.
    assert relative_error(ours.T @ ours, Z.T @ Z) < 2e-6
    assert float(small.total_weight) == 50
