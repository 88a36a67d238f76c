"""streaming: any cut of the data into chunks gives what all of it at once gives."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import Dataset, as_dataset, combine, compress, load, save
from linreg_jax._streaming import staging
from linreg_jax.streaming import ChunkError, compress_chunks
from tests.support import cut, gram, make_problem, relative_error

# The products are rounded in the dtype and added in float64: as one product of a few hundred rows.
ROUNDING = {"float32": 2e-6, "float64": 1e-13}


def centred_gram(data):
    """`gram` once the column b is eliminated: what large means must leave its digits."""
    G = gram(data)
    return G[1:, 1:] - np.outer(G[0, 1:], G[0, 1:]) / G[0, 0]


def numbers(seed, n, d, dtype, k=None):
    """X [n, d] and y [n] or [n, k] in NumPy."""
    rng = np.random.default_rng(seed)
    y_shape = (n,) if k is None else (n, k)
    return rng.normal(size=(n, d)).astype(dtype), rng.normal(size=y_shape).astype(dtype)


SIZES = [[50], [1] * 50, [20, 1, 29], [7, 7, 7, 7, 7, 7, 7, 1]]


@pytest.mark.parametrize("sizes", SIZES, ids=["whole", "rows", "three", "sevens"])
@pytest.mark.parametrize("k", [None, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_any_cut_gives_what_the_whole_gives(dtype, k, weighted, sizes):
    _, data = make_problem(0, k=k, weighted=weighted, dtype=dtype)
    small = compress_chunks(cut(data, sizes))
    m = 1 + data.X.shape[1] + (k or 1)
    assert small.X.shape == (m, data.X.shape[1])
    assert small.y.shape == (m, *data.y.shape[1:])
    assert small.X.dtype == small.y.dtype == small.total_weight.dtype == dtype
    assert relative_error(gram(small), gram(data)) < ROUNDING[dtype]
    assert relative_error(centred_gram(small), centred_gram(data)) < ROUNDING[dtype]
    expected = 50 if not weighted else np.asarray(data.sample_weight, np.float64).sum()
    assert float(small.total_weight) == expected  # a small integer


@pytest.mark.parametrize("max_bytes", [200, 4_000, 300_000, None])
def test_any_bound_on_memory_gives_the_same(dtype, max_bytes):
    X, y = numbers(1, 3_000, 3, dtype)
    sizes = [1, 2_000, 500, 3, 496]
    max_bytes = max_bytes and max_bytes * np.dtype(dtype).itemsize // 4
    small = compress_chunks(cut(Dataset(X, y), sizes), max_bytes=max_bytes)
    assert relative_error(gram(small), gram(Dataset(X, y))) < ROUNDING[dtype]
    assert float(small.total_weight) == 3_000


def test_large_means_leave_the_digits_of_the_rest(dtype):
    """Each block has a mean of its own, far from 0; the least-squares line must survive it."""
    X, y = numbers(2, 4_000, 3, dtype)
    X += (1e3 + np.repeat(np.arange(4, dtype=dtype), 1_000))[:, None]
    y += 100
    small = compress_chunks(cut(Dataset(X, y), [1_000] * 4), max_bytes=60_000)
    rows = np.column_stack([small.bias_column, small.X]).astype(np.float64)
    found = np.linalg.lstsq(rows, np.asarray(small.y, np.float64))[0]
    Z = np.column_stack([np.ones(4_000), X]).astype(np.float64)
    expected = np.linalg.lstsq(Z, y.astype(np.float64))[0]
    # The weights are near 0, as y knows nothing of X: their error is relative to that of y.
    assert np.abs(found - expected)[1:].max() < 10 * ROUNDING[dtype]


@pytest.mark.parametrize(
    "scales", [(1e-30, 1e30, 1.0), (0.0, 1e-12, 1e18), (1e-30, 1e-30, 1e-30)], ids=str
)
def test_units_neither_overflow_nor_vanish(scales):
    """Squares of 1e30 and of 1e-30 are no float32; units are changed where blocks need it."""
    X, y = numbers(3, 900, 3, "float32")
    scales = np.array(scales, np.float32)
    scaled = X * scales
    chunks = [(X[:300], y[:300]), (scaled[300:600], y[300:600]), (X[600:], y[600:])]
    for parts in (chunks, [(scaled[i : i + 300], y[i : i + 300]) for i in (0, 300, 600)]):
        small = compress_chunks(parts, max_bytes=120 * 300)
        rows = Dataset(np.concatenate([p[0] for p in parts]), y)
        unit = np.append(1, np.append(np.abs(np.asarray(rows.X)).max(axis=0), 1))
        unit = np.where(unit > 0, unit, 1).astype(np.float64)
        scaled_gram = gram(small) / np.outer(unit, unit)
        assert relative_error(scaled_gram, gram(rows) / np.outer(unit, unit)) < 2e-6


@pytest.mark.parametrize("shape", ["steady", "one jump", "there and back"])
def test_means_that_wander_cost_no_digits(dtype, shape):
    """Each block is centred on the mean of an earlier one, which may be far away."""
    X, y = numbers(13, 3_200, 2, dtype)
    t = np.arange(3_200) // 100
    move = {"steady": 20 * t, "one jump": 1e4 * (t >= 7), "there and back": 1e4 * (t % 2)}[shape]
    X[:, 0] += move.astype(dtype)
    small = compress_chunks(cut(Dataset(X, y), [100] * 32), max_bytes=24 * 4 * 100)
    assert relative_error(gram(small), gram(Dataset(X, y))) < ROUNDING[dtype]
    # Once the wandering mean is projected out as well, the rest has its digits.
    rows, all_rows = (
        np.column_stack([d.bias_column if d.bias_column is not None else np.ones(3_200), d.X, d.y])
        for d in (small, Dataset(X, y))
    )

    def rest(Z):
        Z = np.asarray(Z, np.float64)
        Q, _ = np.linalg.qr(Z[:, :2])
        R = Z[:, 2:] - Q @ (Q.T @ Z[:, 2:])
        return R.T @ R

    assert relative_error(rest(rows), rest(all_rows)) < 5 * ROUNDING[dtype]


def test_constant_and_missing_columns_stay_so(dtype):
    X, y = numbers(4, 400, 3, dtype)
    X[:, 0], X[:, 1] = 7.1, 0
    small = compress_chunks(cut(Dataset(X, y), [100] * 4), max_bytes=10_000)
    expected = gram(Dataset(X, y))
    assert relative_error(gram(small), expected) < ROUNDING[dtype]
    assert (np.asarray(small.X)[:, 1] == 0).all()
    # The feature that does not vary has nothing left once its mean is taken off.
    assert np.abs(np.asarray(small.X)[1:, 0]).max() < 1e-6 * 7.1 * 20


def test_a_long_stream_keeps_its_count():
    """2²⁴ + 1 is no float32: counting there in float32 would stop at 2²⁴."""
    one = Dataset(
        X=np.ones((1, 1), np.float32),
        y=np.ones(1, np.float32),
        bias_column=np.ones(1, np.float32),
        total_weight=np.float32(2**24),
    )
    single = [(np.ones((1, 1), np.float32), np.ones(1, np.float32))]
    assert float(compress_chunks([one, *single * 8]).total_weight) == 2**24 + 8


def test_chunks_may_be_datasets_compressed_or_not(dtype):
    _, data = make_problem(5, n=60, weighted=True, dtype=dtype)
    first, second, third = (jax.tree.map(lambda c, i=i: c[i::3], data) for i in range(3))
    small = compress_chunks([first, compress(second), third])
    assert relative_error(gram(small), gram(data)) < ROUNDING[dtype]
    weights = np.asarray(data.sample_weight, np.float64).sum()
    assert relative_error(float(small.total_weight), weights) < ROUNDING[dtype]
    both = combine(compress_chunks([first, second]), compress(third))
    assert relative_error(gram(both), gram(data)) < ROUNDING[dtype]


def test_anything_that_numpy_reads_will_do(tmp_path):
    X, y = numbers(6, 40, 3, "float32")
    expected = gram(Dataset(X, y))
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    kinds = {
        "lists": [[X[:20].tolist(), y[:20].tolist()], [X[20:].tolist(), y[20:].tolist()]],
        "a generator": ((X[i : i + 10], y[i : i + 10]) for i in range(0, 40, 10)),
        "a map": [(mapped, y)],
        "Fortran order": [(np.asfortranarray(X), y)],
        "strides": [(np.repeat(X, 2, axis=0)[::2], np.flip(y)[::-1])],
        "big-endian": [(X.astype(">f4"), y.astype(">f4"))],
        "JAX": [(jnp.asarray(X), jnp.asarray(y))],
    }
    for name, chunks in kinds.items():
        assert relative_error(gram(compress_chunks(chunks)), expected) < 2e-6, name
    half = X.astype(np.float16), y.astype(np.float16)
    small = compress_chunks([half])
    assert small.X.dtype == np.float32
    assert relative_error(gram(small), gram(Dataset(*half))) < 2e-6


def good(count=1):
    return [numbers(8, 10, 3, "float32")] * count


X, y = good()[0]
nan = X.copy()
nan[7, 1] = np.nan
BAD = {
    "other features": ((X[:, :2], y), ValueError, "X has 2 features.*but 3 are expected"),
    "other targets": ((X, y[:, None]), ValueError, r"y is \[n, 1\], but \[n\] is expected"),
    "other dtype": ((X.astype(np.float64), y), TypeError, "are float64, but float32 is expected"),
    "NaN": ((nan, y), ValueError, r"X holds 1 values that are not finite.*nan at \[7, 1\]"),
    "infinity": ((X, y * np.inf), ValueError, "y holds 10 values that are not finite"),
    "no rows": ((X[:0], y[:0]), ValueError, "holds no examples"),
    "fewer targets": ((X, y[:9]), ValueError, r"y has shape \[9\] but X is \[10, 3\]"),
    "negative weight": ((X, y, -np.ones(10)), ValueError, "sample_weight must be at least 0"),
    "NaN weight": ((X, y, np.full(10, np.nan)), ValueError, "sample_weight holds 10 values"),
    "texts": ((np.full((10, 3), "a"), y), TypeError, "X must hold real numbers"),
    "no pair": (X, TypeError, r"a chunk is \(X, y\)"),
    "too long": ((X, y, y, y), TypeError, r"a chunk is \(X, y\)"),
}


@pytest.mark.parametrize(
    ("bad", "at"),
    # The first chunk says what the others must be.
    [(bad, at) for bad in BAD for at in (0, 1, 3) if at > 0 or "expected" not in BAD[bad][2]],
)
def test_a_bad_chunk_is_named_and_the_others_kept(bad, at):
    chunk, kind, text = BAD[bad]
    with pytest.raises(ChunkError, match=f"chunk {at}: .*{text}") as caught:
        compress_chunks([*good(at), chunk, *good(2)])
    error = caught.value
    assert error.chunk == at
    assert isinstance(error.__cause__, kind)
    if at == 0:
        assert error.so_far is None
        return
    assert relative_error(gram(error.so_far), at * gram(Dataset(*good()[0]))) < 2e-6
    finished = compress_chunks(good(2), start=error.so_far)
    assert relative_error(gram(finished), (at + 2) * gram(Dataset(*good()[0]))) < 2e-6
    assert float(finished.total_weight) == 10 * (at + 2)


@pytest.mark.parametrize("place", [0, 4_000, 9_999])
def test_a_chunk_of_many_blocks_counts_whole_or_not_at_all(place):
    X, y = numbers(9, 10_000, 3, "float32")
    broken = X.copy()
    broken[place, 2] = np.inf
    with pytest.raises(ChunkError, match=r"chunk 2: X holds 1 values.*rows from \d+ on") as caught:
        compress_chunks([(X, y), (X[:77], y[:77]), (broken, y)], max_bytes=2**16)
    expected = gram(Dataset(X, y)) + gram(Dataset(X[:77], y[:77]))
    assert relative_error(gram(caught.value.so_far), expected) < 2e-6
    assert float(caught.value.so_far.total_weight) == 10_077


def test_an_iterable_that_raises_is_named_and_the_others_kept(tmp_path):
    def failing():
        yield from good(3)
        raise OSError("the disk is gone")

    with pytest.raises(ChunkError, match=r"chunk 3: OSError.*the disk is gone") as caught:
        compress_chunks(failing())
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.chunk, str(error)) == (3, str(caught.value))
    save(caught.value.so_far, tmp_path / "so far")
    finished = compress_chunks(good(1), start=load(tmp_path / "so far"))
    assert relative_error(gram(finished), 4 * gram(Dataset(*good()[0]))) < 2e-6


def test_an_interruption_is_no_bad_chunk():
    def stopped():
        yield from good(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress_chunks(stopped())


def test_arguments_that_do_not_fit():
    with pytest.raises(ValueError, match="chunks is empty"):
        compress_chunks([])
    with pytest.raises(TypeError, match="one Dataset"):
        compress_chunks(Dataset(*good()[0]))
    with pytest.raises(TypeError, match=r"[iI]terable"):
        compress_chunks(3)
    with pytest.raises(ValueError, match="start is not compressed"):
        compress_chunks(good(), start=as_dataset(*good()[0]))
    with pytest.raises(ValueError, match="max_bytes is 100, and one row of 5 columns"):
        compress_chunks(good(), max_bytes=100)
    small = compress_chunks(good())
    assert compress_chunks([], start=small) is small
    with pytest.raises(ChunkError, match=r"X has 2 features.*but 3 are expected") as caught:
        compress_chunks([(X[:, :2], y)], start=small)
    assert caught.value.so_far is small


def test_float64_is_taken_as_everywhere():
    """float64 becomes float32 without x64, in the first chunk and when going on."""
    X, y = numbers(10, 20, 2, "float64")
    small = compress_chunks([(X, y)])
    assert small.X.dtype == np.float32
    assert compress_chunks([(X, y)], start=small).X.dtype == np.float32
    with pytest.raises(ChunkError, match="do not fit float32"):
        compress_chunks([(X * 1e200, y)])


def test_chunks_of_any_size_run_the_same_few_programs():
    X, y = numbers(11, 1_000, 3, "float32")
    sizes = np.random.default_rng(0).integers(1, 300, 60)
    before = staging._products._cache_size()
    compress_chunks([(X[:size], y[:size]) for size in sizes], max_bytes=30_000)
    assert 1 <= staging._products._cache_size() - before <= 8


def test_the_caller_may_use_a_chunk_again_for_the_next():
    X, y = numbers(12, 600, 3, "float32")

    def chunks():
        buffer = np.empty((100, 3), np.float32)
        for i in range(0, 600, 100):
            buffer[:] = X[i : i + 100]
            yield buffer, y[i : i + 100]

    assert relative_error(gram(compress_chunks(chunks())), gram(Dataset(X, y))) < 2e-6
