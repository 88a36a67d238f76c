"""What a chunk may be: (X, y), (X, y, sample_weight) or a `Dataset`, of anything NumPy can read."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._algebra.linalg import target_columns
from linreg_jax._conversion import as_numeric, decides_dtype
from linreg_jax._typing import Float, Num
from linreg_jax._validation import shape_text
from linreg_jax.dataset import Dataset, as_dataset, check_dataset


class ChunkError(RuntimeError):
    """A chunk that could not be used, or not be read; its `__cause__` is what was raised.

    Attributes:
      chunk: which one, counted from 0.
      so_far: the work on the chunks before it, to save and to continue from; None if there is none.
    """

    def __init__(self, message: str, chunk: int, so_far: Any):
        super().__init__(message)
        self.chunk = chunk
        self.so_far = so_far

    def __reduce__(self) -> tuple[type["ChunkError"], tuple[str, int, Any]]:
        return type(self), (str(self), self.chunk, self.so_far)


@contextlib.contextmanager
def naming_chunk(chunk: int, so_far: Callable[[], Any], place: str = "") -> Iterator[None]:
    """Turns an error into a `ChunkError` of that chunk, with `so_far()`.

    Args:
      chunk: which one, counted from 0.
      so_far: gives the work on the chunks before it.
      place: what else to say about where it is.
    """
    try:
        yield
    except Exception as error:
        what = str(error) if isinstance(error, (TypeError, ValueError)) else repr(error)
        text = f"chunk {chunk}{place}: {what}; the work on the chunks before it is in so_far"
        raise ChunkError(text, chunk, so_far()) from error


class Kind(NamedTuple):
    """What all chunks must have in common.

    Attributes:
      d: features.
      targets: () for y [n], (k,) for y [n, k].
      dtype: the widest of X and y and of float32.
    """

    d: int
    targets: tuple[int, ...]
    dtype: np.dtype

    @property
    def num_columns(self) -> int:
        """m, of [X y]."""
        return self.d + math.prod(self.targets)

    @property
    def computed_in(self) -> np.dtype:
        """The dtype on the device, where float64 becomes float32 unless x64 is on."""
        return jax.dtypes.canonicalize_dtype(self.dtype)


class Chunk(NamedTuple):
    """Rows as they came: NumPy arrays of any real dtype and any layout, not copied.

    Attributes:
      X, y, sample_weight, bias_column: as in `Dataset`.
      total_weight: what the chunk adds to what a mean divides by.
      kind: what it shares with the others.
    """

    X: Num[np.ndarray, "n d"]
    y: Num[np.ndarray, " n *k"]
    sample_weight: Num[np.ndarray, " n"] | None
    bias_column: Num[np.ndarray, " n"] | None
    total_weight: float
    kind: Kind

    def lay_out(
        self,
        start: int,
        stop: int,
        centre: Float[np.ndarray, " m"],
        out: Float[np.ndarray, "rows 1+m"],
    ) -> None:
        """Writes weighted rows less their centre, [b A - b centre] with A = [X y].

        Args:
          start, stop: which rows.
          centre: [m].
          out: [stop - start, 1 + m], where to.
        """
        rows = slice(start, stop)
        d = self.X.shape[1]
        X, y = self.X[rows], target_columns(self.y)[rows]
        if self.bias_column is None:
            out[:, 0] = 1
            shift = centre[None, :]
        else:
            out[:, 0] = self.bias_column[rows]
            shift = out[:, :1] * centre[None, :]
        np.subtract(X, shift[:, :d], out=out[:, 1 : 1 + d], casting="same_kind")
        np.subtract(y, shift[:, d:], out=out[:, 1 + d :], casting="same_kind")
        if self.sample_weight is not None:
            out *= np.sqrt(self.sample_weight[rows], dtype=out.dtype)[:, None]

    def dataset(self) -> Dataset:
        """The rows on the device, at least float32.

        Raises:
          ValueError: a number that is not finite, a negative weight, compressed rows.
        """
        if self.bias_column is not None:
            raise ValueError("the chunk is compressed, its rows are no examples: pass the original")
        X, y = (np.asarray(a, np.promote_types(a.dtype, np.float32)) for a in (self.X, self.y))
        return as_dataset(X, y, self.sample_weight)

    def check(self, start: int, stop: int) -> None:
        """Raises the error of the rows from `start` to `stop`, if there is one in them.

        Raises:
          ValueError: a number that is not finite or does not fit the dtype, a negative weight.
        """
        rows = slice(start, stop)
        columns = [self.X, self.y, self.sample_weight, self.bias_column]
        X, y, weight, bias_column = (None if c is None else c[rows] for c in columns)
        if weight is not None and not weight.any():
            weight = None  # other rows may have some weight
        try:
            as_dataset(X, y, weight)
            if bias_column is not None:
                as_dataset(X, bias_column)
        except ValueError as error:
            raise ValueError(f"{error} (of the rows from {start} on)") from None


def as_chunk(value: Any) -> Chunk:
    """The rows of a chunk, their shapes and dtypes checked and their values not.

    Args:
      value: what an iterable of chunks gave.

    Raises:
      TypeError: not such a chunk, or no numbers.
      ValueError: shapes that do not fit together, no rows.
    """
    if isinstance(value, Dataset):
        columns = value._asdict()
    elif isinstance(value, (tuple, list)) and len(value) in (2, 3):
        columns = dict(zip(Dataset._fields, value, strict=False))
    else:
        raise TypeError(
            "a chunk is (X, y), (X, y, sample_weight) or a Dataset, got "
            f"{type(value).__name__}: yield (X, y)"
        )
    arrays = {name: as_numeric(name, c) for name, c in columns.items() if c is not None}
    dtypes = [arrays[name].dtype for name in ("X", "y") if decides_dtype(arrays[name])]
    shapes: Any = {
        name: jax.ShapeDtypeStruct(array.shape, jnp.float32) for name, array in arrays.items()
    }
    check_dataset(Dataset(**shapes))  # looks at nothing else
    X, y = np.asarray(arrays["X"]), np.asarray(arrays["y"])
    weight, bias_column, given = (
        np.asarray(arrays[name]) if name in arrays else None for name in Dataset._fields[2:]
    )
    if given is not None:
        total_weight = float(given)
    else:
        total_weight = float(len(X) if weight is None else weight.sum(dtype=np.float64))
    dtype = np.result_type(np.float32, *dtypes) if dtypes else np.dtype(jnp.result_type(float))
    return Chunk(X, y, weight, bias_column, total_weight, Kind(X.shape[1], y.shape[1:], dtype))


def require_same(kind: Kind, new: Kind) -> None:
    """Raises where a chunk is not of the kind of those before it, or of the parameters.

    Raises:
      TypeError: another dtype.
      ValueError: other features or targets.
    """
    if new.d != kind.d:
        raise ValueError(
            f"X has {new.d} features (columns), but {kind.d} are expected: pass the same columns"
        )
    if new.targets != kind.targets:
        ours, theirs = (shape_text(("n", *one.targets)).replace("'", "") for one in (kind, new))
        raise ValueError(f"y is {theirs}, but {ours} is expected: pass the same targets")
    if new.dtype != kind.dtype:
        raise TypeError(
            f"X and y are {new.dtype}, but {kind.dtype} is expected: pass one dtype, with astype"
        )
