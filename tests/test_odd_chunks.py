"""fit_chunks on chunks that cannot be used, and on those that have nothing to train on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import mse
from linreg_jax.streaming import ChunkError, compress_chunks, fit_chunks
from tests.support import assert_same_bits, make_problem

KEY = jax.random.key(3)


def falling(step):
    """A schedule that lasts over many chunks."""
    return 0.1 / (1 + step)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_chunk_of_zero_weight_takes_no_step(place):
    """As `compress_chunks` takes one, and a state after it is followed by the right chunk."""
    params, data = make_problem(11, n=20)
    X, y = (np.asarray(column) for column in data[:2])
    weighted = [(X[:10], y[:10], np.ones(10, "f4")), (X[10:], y[10:], np.ones(10, "f4"))]
    ignored = X[:10] * 100, y[:10], np.zeros(10, "f4")
    chunks = [*weighted[:place], ignored, *weighted[place:]]
    # A schedule and full batches, so that neither the step nor the order tells the two apart.
    settings = {"num_epochs": 2, "batch_size": None, "learning_rate": falling}
    states = []
    fitted = fit_chunks(mse, params, chunks, after_chunk=states.append, **settings)
    wanted = fit_chunks(mse, params, weighted, **settings)
    assert_same_bits(fitted.params, wanted.params)
    assert_same_bits(fitted.state, wanted.state)
    assert_same_bits(fitted.losses, wanted.losses)
    assert [(int(s.epoch), int(s.chunk)) for s in states] == [
        (epoch, chunk) for epoch in range(2) for chunk in (1, 2, 3)
    ]
    for state in states:
        assert_same_bits(fit_chunks(mse, state, chunks, **settings).params, wanted.params)
    assert float(compress_chunks(chunks).total_weight) == 20
    broken = np.where(np.arange(10)[:, None] == 4, np.nan, X[:10]), y[:10], np.zeros(10, "f4")
    with pytest.raises(ChunkError, match="X holds 4 values that are not finite"):
        fit_chunks(mse, params, [*weighted, broken], **settings)
    for train_or_compress in (
        lambda: fit_chunks(mse, params, [ignored, ignored], **settings),
        lambda: compress_chunks([ignored, ignored]),
    ):
        with pytest.raises(ValueError, match="all chunks have zero weight: give some rows"):
            train_or_compress()


X, y = (np.asarray(column) for column in make_problem(7, n=10)[1][:2])
BROKEN = np.where(np.arange(10)[:, None] == 4, np.nan, X).astype(np.float32)
BAD = {
    "NaN": ((BROKEN, y), ValueError, r"X holds 4 values that are not finite"),
    "features": ((X[:, :2], y), ValueError, "X has 2 features.*but 4 are expected"),
    "dtype": ((X.astype(float), y), TypeError, "are float64, but float32 is expected"),
    "targets": ((X, y[:, None]), ValueError, r"y is \[n, 1\], but \[n\] is expected"),
    "no rows": ((X[:0], y[:0]), ValueError, "holds no examples"),
    "no pair": (X, TypeError, r"a chunk is \(X, y\)"),
    "raises": (None, OSError, "the disk is gone"),
}


@pytest.mark.parametrize("bad", BAD, ids=BAD)
def test_a_bad_chunk_is_named_and_the_work_so_far_is_continued(bad):
    chunk, kind, text = BAD[bad]
    params, _ = make_problem(7, n=10)
    good = [(X, y), (-X, y), (X, -y)]
    settings = {"learning_rate": 0.05, "num_epochs": 2, "batch_size": 5, "key": KEY}

    def failing(epoch):
        for index, right in enumerate(good):
            if (epoch, index) == (1, 1) and chunk is None:
                raise OSError("the disk is gone")
            yield chunk if (epoch, index) == (1, 1) else right

    with pytest.raises(ChunkError, match=f"chunk 1 of epoch 1: .*{text}") as caught:
        fit_chunks(mse, params, failing, **settings)
    error = caught.value
    assert error.chunk == 1
    assert isinstance(error.__cause__, kind)
    assert (int(error.so_far.epoch), int(error.so_far.chunk)) == (1, 1)
    finished = fit_chunks(mse, error.so_far, good, **settings)
    assert_same_bits(finished.state, fit_chunks(mse, params, good, **settings).state)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([2, 1], "chunk 1 of epoch 1: the epoch has 1 chunks, but the first had 2: pass as many"),
        ([1, 0], "chunk 0 of epoch 1: the epoch has 0 chunks, but the first had 1: pass as many"),
        ([2, 3], "chunk 2 of epoch 1: the epoch has 3 chunks or more, but the first had 2"),
    ],
)
def test_an_epoch_of_more_or_fewer_chunks_than_the_first_is_an_error(sizes, message):
    """Fewer would train on a part of the data without a word; the work so far is kept."""
    params, _ = make_problem(7, n=10)
    good = [(X, y), (-X, y), (X, -y)]
    settings = {"learning_rate": 0.05, "num_epochs": 2, "batch_size": 5, "key": KEY}
    with pytest.raises(ChunkError, match=message) as caught:
        fit_chunks(mse, params, lambda epoch: good[: sizes[epoch]], **settings)
    so_far, done = caught.value.so_far, min(sizes[1], sizes[0])
    expected = fit_chunks(mse, params, good[: sizes[0]], **settings)
    if sizes[1] < sizes[0]:
        assert (int(so_far.epoch), int(so_far.chunk)) in ((1, done), (0, sizes[0]))
        finished = fit_chunks(mse, so_far, good[: sizes[0]], **settings)
        assert_same_bits(finished.state, expected.state)
    else:
        assert_same_bits(so_far.state, expected.state.state)


def test_a_run_that_continues_may_count_the_chunks_of_its_first_epoch():
    """Those that it has behind it are among them."""
    params, _ = make_problem(7, n=10)
    good = [(X, y), (-X, y), (X, -y)]
    settings = {"learning_rate": 0.05, "num_epochs": 3, "batch_size": 5, "key": KEY}
    states = []
    fit_chunks(mse, params, good, after_chunk=states.append, **settings)
    with pytest.raises(ChunkError, match="epoch 2: the epoch has 2 chunks, but the first had 3"):
        fit_chunks(mse, states[4], lambda epoch: good[: 4 - epoch], **settings)


def test_a_state_continues_with_chunks_of_its_kind():
    params, data = make_problem(8, n=10)
    chunk = tuple(np.asarray(column) for column in data[:2])
    settings = {"learning_rate": 0.05, "num_epochs": 2, "batch_size": 5, "key": KEY}
    state = fit_chunks(mse, params, [chunk], **{**settings, "num_epochs": 1}).state
    with pytest.raises(ChunkError, match="chunk 0 of epoch 1: X has 2 features"):
        fit_chunks(mse, state, [(chunk[0][:, :2], chunk[1])], **settings)
    later = state._replace(chunk=jnp.int32(3))
    with pytest.raises(ValueError, match="epoch 1 has 1 chunks, and 3 are expected at least"):
        fit_chunks(mse, later, [chunk], **settings)
