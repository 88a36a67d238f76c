"""Data that come in chunks, compressed and inferred from: beside NumPy's sum, and as rows grow."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from benchmarks.harness import Answer, Case, Competitor, Settings
from linreg_jax import Dataset, Params
from linreg_jax._typing import Float
from linreg_jax.dataset import bias_multipliers, mean_divisor
from linreg_jax.streaming import compress_chunks, infer_chunks, open_chunks

FEATURES = 32
CHUNK_ROWS = 65_536

Chunks = Iterable[tuple[np.ndarray, np.ndarray]]


class Stream(NamedTuple):
    """Chunks made on the fly: the same rows each time, moved a little.

    Attributes:
      X, y: [c, d] and [c] the rows.
      num_rows: of all chunks, the last of which may be cut.
    """

    X: Float[np.ndarray, "c d"]
    y: Float[np.ndarray, " c"]
    num_rows: int

    @property
    def title(self) -> str:
        """The shape of all chunks together."""
        return f"{self.num_rows:,} × {self.X.shape[1]:,}"

    @property
    def num_bytes(self) -> int:
        """Of X in all chunks."""
        return self.num_rows * self.X[0].nbytes

    def pieces(self) -> Iterator[tuple[int, float]]:
        """How many rows each chunk has, and how far they are moved."""
        for i in range(-(-self.num_rows // len(self.X))):
            yield min(len(self.X), self.num_rows - i * len(self.X)), float(np.sin(i))

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The chunks, each written over by the next."""
        moved = np.empty_like(self.X)
        for rows, shift in self.pieces():
            np.add(self.X[:rows], self.X.dtype.type(shift), out=moved[:rows])
            yield moved[:rows], self.y[:rows]


def cases(settings: Settings) -> Iterator[Case]:
    """Chunks made on the fly and chunks of a file beside NumPy; inference; ten times the rows."""
    most = settings.pick(full=10_000_000, quick=1_000_000, tiny=70)
    stream = _stream(most, settings)
    yield _beside_numpy(f"{stream.title}, made on the fly", stream, stream.chunks, settings)
    yield _inferring(stream, settings)
    with tempfile.TemporaryDirectory() as folder:
        yield _beside_numpy(
            f"{stream.title}, from .npy files", stream, _written(stream, Path(folder)), settings
        )
    rows = settings.pick(full=[10**5, 10**6, 10**7, 10**8], quick=[10**5, 10**6], tiny=[20, 40])
    competitors = []
    for stream in [_stream(n, settings) for n in rows]:
        ours = _compressing(stream.title, stream, stream.chunks)
        competitors.append(ours._replace(expected=_expected(stream)))
    yield Case("compress_chunks, ten times the rows", competitors, {}, settings.tolerance, "")


def _stream(num_rows: int, settings: Settings) -> Stream:
    rows, d = settings.pick(full=(CHUNK_ROWS, FEATURES), quick=(CHUNK_ROWS, FEATURES), tiny=(20, 3))
    rng = np.random.default_rng(0)
    X = 1 + rng.standard_normal((rows, d), dtype=np.float32)
    y = X @ rng.standard_normal(d, dtype=np.float32)
    return Stream(X.astype(settings.dtype), y.astype(settings.dtype), num_rows)


def _beside_numpy(
    title: str, stream: Stream, chunks: Callable[[], Chunks], settings: Settings
) -> Case:
    competitors = [
        _reading(stream, chunks, settings),
        _compressing("compress_chunks", stream, chunks),
    ]
    return Case(title, competitors, _expected(stream), settings.tolerance, competitors[0].name)


def _reading(stream: Stream, chunks: Callable[[], Chunks], settings: Settings) -> Competitor:
    return Competitor(
        "NumPy, the sum of X",
        lambda: sum(float(X.sum()) for X, _ in chunks()),
        lambda total: {"sum": np.array([total])},
        expected={"sum": np.array([_sum(stream)])},
        tolerance=10 * settings.tolerance,  # each chunk is summed in its own dtype
        reads=stream.num_bytes,
    )


def _inferring(stream: Stream, settings: Settings) -> Case:
    """Standard errors in a pass and in two, beside compressing, which is what the first does."""
    compressing = _compressing("compress_chunks", stream, stream.chunks)
    competitors = [compressing._replace(expected=_expected(stream))]
    kinds: tuple[tuple[Literal["classical", "hc3"], int], ...] = (("classical", 1), ("hc3", 2))
    for kind, passes in kinds:
        competitors.append(
            Competitor(
                f"infer_chunks, {kind}",
                partial(_standard_errors, stream, kind),
                lambda found: {"errors": np.append(found.bias, found.weights)},
                expected={"errors": _expected_errors(stream, kind)},
                reads=passes * stream.num_bytes,
                ours=True,
            )
        )
    title = f"{stream.title}, standard errors"
    return Case(title, competitors, {}, 10 * settings.tolerance, competitors[0].name)


def _standard_errors(stream: Stream, kind: Literal["classical", "hc3"]) -> Params:
    chunks = _Again(stream)
    return jax.block_until_ready(infer_chunks(chunks, covariance=kind).standard_errors)


class _Again:
    """Chunks that start anew each time they are read."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[Any]:
        return self.stream.chunks()


def _compressing(name: str, stream: Stream, chunks: Callable[[], Chunks]) -> Competitor:
    return Competitor(
        name,
        lambda: jax.block_until_ready(compress_chunks(chunks())),
        _products_of,
        reads=stream.num_bytes,
        ours=True,
    )


def _written(stream: Stream, folder: Path) -> Callable[[], Chunks]:
    """A function that opens the rows of a stream, written to .npy files."""
    shapes = {"X": (stream.num_rows, stream.X.shape[1]), "y": (stream.num_rows,)}
    files = {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=stream.X.dtype, shape=shape
        )
        for name, shape in shapes.items()
    }
    start = 0
    for X, y in stream.chunks():
        files["X"][start : start + len(X)], files["y"][start : start + len(y)] = X, y
        start += len(X)
    for array in files.values():
        array.flush()
    return partial(
        open_chunks, folder / "X.npy", folder / "y.npy", rows=min(CHUNK_ROWS, stream.num_rows)
    )


def _products_of(data: Dataset) -> Answer:
    """The inner products of [1 X y], each over the number of rows."""
    rows = np.column_stack([bias_multipliers(data), data.X, data.y]).astype(np.float64)
    return {"products": rows.T @ rows / float(mean_divisor(data))}


def _expected(stream: Stream) -> Answer:
    """`_products_of` in float64, from those of the rows that are moved."""
    total = np.zeros((stream.X.shape[1] + 2,) * 2)
    by_size: dict[int, np.ndarray] = {}
    for rows, shift in stream.pieces():
        if rows not in by_size:
            columns = [np.ones(rows), stream.X[:rows], stream.y[:rows]]
            Z = np.column_stack(columns).astype(np.float64)
            by_size[rows] = Z.T @ Z
        move = np.eye(len(total))
        move[0, 1:-1] = shift
        total += move.T @ by_size[rows] @ move
    return {"products": total / stream.num_rows}


def _sum(stream: Stream) -> float:
    """Σ X over all chunks, in float64."""
    means = _expected(stream)["products"][0, 1:-1]
    return float(stream.num_rows * means.sum())


def _expected_errors(stream: Stream, kind: str) -> Float[np.ndarray, " p"]:
    """[p] standard errors in float64, the intercept's first."""
    products, n = _expected(stream)["products"] * stream.num_rows, stream.num_rows
    G, g = products[:-1, :-1], products[:-1, -1]
    Z, theta = np.linalg.inv(G), np.linalg.solve(G, g)
    meat, squares = np.zeros_like(G), 0.0
    for rows, shift in stream.pieces():
        X = stream.X[:rows].astype(np.float64) + shift
        A = np.column_stack([np.ones(rows), X])
        r = stream.y[:rows] - A @ theta
        squares += r @ r
        if kind == "hc3":
            meat += (A.T * (r / (1 - np.sum(A @ Z * A, axis=1))) ** 2) @ A
    V = Z @ meat @ Z if kind == "hc3" else squares / (n - len(G)) * Z
    return np.sqrt(np.diag(V))
