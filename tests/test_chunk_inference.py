"""What coefficients are worth from chunks is what all rows together say."""

import dataclasses
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import (
    ChunkError,
    Loss,
    as_dataset,
    huber,
    infer,
    infer_chunks,
    lasso,
    log_cosh,
    mae,
    sse,
)
from linreg_jax.penalties import ridge
from tests.support import cut, make_problem, relative_error


@dataclasses.dataclass(frozen=True)
class Cauchy(Loss):
    """A user's loss, smooth and not convex, beside which Newton's full steps often go up."""

    scale: float = 0.1

    def rho(self, r):
        return self.scale**2 / 2 * jnp.log1p((r / self.scale) ** 2)

    def psi(self, r):
        return r / (1 + (r / self.scale) ** 2)


class Read:
    """Chunks, and how often they were read."""

    def __init__(self, chunks):
        self.chunks, self.times = chunks, 0

    def __iter__(self):
        self.times += 1
        return iter(self.chunks)


FIELDS = ("params", "standard_errors", "p_values", "covariance", "residual_deviation", "r2",
          "f_statistic", "log_likelihood", "degrees_of_freedom", "reference_degrees")  # fmt: skip
SIZES = [20, 1, 30, 9]


def assert_same(found, wanted, limit):
    for name in FIELDS:
        ours, theirs = getattr(found, name), getattr(wanted, name)
        if name != "params" and np.isnan(jax.tree.leaves(theirs)[0]).all():  # R² of robust losses
            assert np.isnan(jax.tree.leaves(ours)[0]).all(), name
            continue
        assert relative_error(ours, theirs) < limit, name


@pytest.mark.parametrize("kind", ["classical", "hc0", "hc3", "cluster"])
@pytest.mark.parametrize("weights", ["frequency", "precision"])
def test_as_all_rows(kind, weights, x64):
    _, data = make_problem(1, n=60, weighted=True, dtype="float64")
    codes = np.arange(60) % 7 if kind == "cluster" else None
    pieces = None if codes is None else np.split(codes, np.cumsum(SIZES)[:-1])
    wanted = infer(data, covariance=kind, clusters=codes, weights=weights)
    found = infer_chunks(cut(data, SIZES), covariance=kind, clusters=pieces, weights=weights)
    assert_same(found, wanted, 1e-9)


@pytest.mark.parametrize(
    ("loss", "kind", "most"),
    [
        (huber(0.7), "classical", 5),
        (log_cosh(), "cluster", 8),
        (huber(0.7) + ridge(0.3), "hc3", 8),
        (log_cosh(), "hc1", 7),
        (Cauchy(), "hc0", 30),
    ],
    ids=str,
)
def test_smooth_losses(loss, kind, most, x64):
    _, data = make_problem(1, n=60, weighted=True, dtype="float64")
    codes = np.arange(60) % 7 if kind == "cluster" else None
    pieces = None if codes is None else np.split(codes, np.cumsum(SIZES)[:-1])
    weights = "precision" if kind in ("hc3", "cluster") else "frequency"
    chunks = Read(cut(data, SIZES))
    wanted = infer(data, loss, covariance=kind, clusters=codes, weights=weights)
    found = infer_chunks(chunks, loss, covariance=kind, clusters=pieces, weights=weights)
    assert_same(found, wanted, 1e-9)
    assert float(found.distance_to_minimum) < 1e-12
    assert chunks.times <= most


@pytest.mark.slow
def test_smooth_losses_of_targets_without_intercept():
    _, data = make_problem(2, n=60, k=2)
    chunks = Read(cut(data, SIZES))
    found = infer_chunks(chunks, log_cosh(), covariance="hc3", intercept=False)
    wanted = infer(data, log_cosh(), covariance="hc3", intercept=False)
    assert_same(found, wanted, 1e-4)
    assert found.covariance.dtype == "float32"
    # In float32 steps that are only rounding are not taken for progress.
    assert chunks.times <= 7


def test_least_squares_read_as_often_as_said(x64):
    _, data = make_problem(1, n=60, weighted=True, dtype="float64")
    for kind, times in [("classical", 1), ("hc0", 2), ("hc3", 2)]:
        chunks = Read(cut(data, SIZES))
        infer_chunks(chunks, covariance=kind)
        assert chunks.times == times


def test_targets_ridge_and_no_intercept(dtype):
    _, data = make_problem(2, n=60, k=2, dtype=dtype)
    loss = sse + ridge(2.0)
    wanted = infer(data, loss, covariance="hc3", intercept=False)
    found = infer_chunks(cut(data, SIZES), loss, covariance="hc3", intercept=False)
    limit = 1e-4 if dtype == "float32" else 1e-9
    for name in FIELDS[:5]:
        assert relative_error(getattr(found, name), getattr(wanted, name)) < limit, name


@pytest.mark.exhaustive
def test_chunks_larger_than_a_block(monkeypatch, x64):
    monkeypatch.setattr("linreg_jax._streaming.blocks._BLOCK_NUMBERS", 1)
    _, data = make_problem(3, n=600, dtype="float64")
    codes = [np.arange(600) // 25]
    chunks = [(np.asarray(data.X), np.asarray(data.y))]
    for kind, given in [("hc2", None), ("cluster", codes)]:
        for loss in (sse, log_cosh()):
            labels = None if given is None else codes[0]
            wanted = infer(data, loss, covariance=kind, clusters=labels)
            found = infer_chunks(chunks, loss, covariance=kind, clusters=given)
            assert_same(found, wanted, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [sse, huber(0.7)], ids=str)
def test_memory_does_not_grow_with_the_chunks(loss):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4096, 8)).astype(np.float32)
    y = X[:, 0] + rng.normal(size=4096).astype(np.float32)

    class Chunks(Read):
        def __iter__(self):
            return ((X + i, y + i) for i in range(self.chunks))

    infer_chunks(Chunks(2), loss, covariance="hc3")  # what compiling takes
    tracemalloc.start()
    try:
        infer_chunks(Chunks(400), loss, covariance="hc3")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Of 52 MB: blocks under way, 8 MB of them while the rows are compressed.
    assert peak < 400 * X.nbytes / 4, peak


def test_bad_input():
    _, data = make_problem(4, n=60)
    chunks = cut(data, SIZES)
    with pytest.raises(ValueError, match="chunks can be read once"):
        infer_chunks(iter(chunks), covariance="hc0")
    assert np.isfinite(infer_chunks(iter(chunks)).r2)
    with pytest.raises(ValueError, match="go together"):
        infer_chunks(chunks, covariance="cluster")
    with pytest.raises(ValueError, match="clusters of chunk 1 has shape"):
        infer_chunks(chunks, covariance="cluster", clusters=[np.arange(20)])
    with pytest.raises(ValueError, match="infer_chunks needs a smooth loss, got mae"):
        infer_chunks(chunks, mae)
    with pytest.raises(ValueError, match="infer_chunks takes ridge penalties only"):
        infer_chunks(chunks, huber(1.0) + lasso(0.1))
    with pytest.raises(ValueError, match=r"huber\(1.0\) needs them more often: pass a list"):
        infer_chunks(iter(chunks), huber(1.0))
    with pytest.raises(ChunkError, match="chunk 1"):
        infer_chunks([chunks[0], (np.ones((2, 3)), np.ones(2))], covariance="hc0")
    far = as_dataset(data.X + 1000, data.y)
    with jax.enable_x64(True):
        wide = infer(jax.tree.map(lambda a: a.astype("float64"), far), covariance="hc3")
    found = infer_chunks(cut(far, SIZES), covariance="hc3")
    assert relative_error(found.standard_errors.weights, wide.standard_errors.weights) < 1e-4
