"""`save` and `load`: a record of this package in one file, whole or not at all.

The file is, one after the other::

    linreg_jax file and a line end   16 bytes
    SHA-256 of all that follows      32 bytes
    length of the header             8 bytes, little-endian
    header                           JSON: format, versions, dtypes and shapes, the record
    arrays                           their bytes, row by row, in the order of the header

Nothing in it is code: records are told apart by name in a table, and arrays are read as numbers.
"""

import functools
import hashlib
import importlib.metadata
import json
import math
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._files import write_whole
from linreg_jax._standardization import Standardization
from linreg_jax._streaming.training import ChunkState
from linreg_jax._training.result import Fit, TrainState
from linreg_jax._validation import is_traced, shown
from linreg_jax.dataset import Dataset
from linreg_jax.exact import Solution
from linreg_jax.model import Params
from linreg_jax.tables import ColumnModel

_FORMAT = 1  # of the header; what stands before it stays as it is
_MAGIC = b"linreg_jax file\n"
_START = len(_MAGIC) + hashlib.sha256().digest_size
_LENGTH_BYTES = 8

_RECORDS = {
    record.__name__: record
    for record in (
        Dataset,
        Fit,
        Params,
        Solution,
        Standardization,
        TrainState,
        ChunkState,
        ColumnModel,
    )
}

Record = Dataset | Fit | Params | Solution | Standardization | TrainState | ChunkState | ColumnModel


def save(result: Record, path: str | os.PathLike) -> None:
    """Writes a record to a file: all of it, or nothing.

    The file is written beside its place, and takes it only when it is complete and on the disk: an
    error or a crash at any moment leaves what was there before. (A process that is killed may leave
    `.NAME.*.tmp` beside it, which can be deleted.) A file that is replaced keeps its permissions.

    Args:
      result: a `Fit`, `TrainState`, `ChunkState`, `Params`, `Dataset`, `Standardization`,
        `Solution` or `ColumnModel`, of arrays of any dtype.
      path: the file, in a folder that exists; one of that name is replaced.

    Raises:
      TypeError: not such a record, or a field that holds something else than arrays, random keys,
        numbers, texts, None and tuples of them; called under a transformation.
      ValueError: the path is empty or a folder; an array that is spread over several processes.
      OSError: no such folder, no space left, not allowed to write.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save(Params(weights=jnp.array([5.0]), bias=None), f"{folder}/line")
      ...     load(f"{folder}/line")
      Params(weights=Array([5.], dtype=float32), bias=None)
    """
    if type(result) not in _RECORDS.values():
        raise TypeError(
            f"result must be one of {', '.join(_RECORDS)}, got {type(result).__name__}: "
            "save the records one by one, other arrays with numpy.savez"
        )
    _require_name(path)
    place = Path(os.path.realpath(path))
    if os.path.isdir(place):
        raise ValueError(f"{path} is a folder: give the file in it a name")
    if not os.path.isdir(place.parent):
        raise FileNotFoundError(f"{path} is in a folder that does not exist: make {place.parent}")
    arrays: list[np.ndarray] = []
    described = _describe(result, type(result).__name__, arrays)
    header = {
        "format": _FORMAT,
        "versions": {package: _version(package) for package in ("linreg-jax", "jax", "numpy")},
        "arrays": [[array.dtype.name, array.shape] for array in arrays],
        "record": described,
    }
    write_whole(path, _parts(header, arrays))


def load(path: str | os.PathLike) -> Any:
    """The record that `save` wrote, bit for bit.

    Loading runs no code of the file, so that a file from a stranger can do no harm.

    Args:
      path: the file.

    Returns:
      The record, with JAX arrays of the dtypes that they were saved with.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: an empty path or a folder; a file that `save` did not write, is cut short or
        damaged, or that a newer version wrote; arrays of 64 bits while `jax_enable_x64` is off.

    Example:
      >>> import pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "line.params"
      >>> save(Params(jnp.array([5.0]), jnp.array(30.0)), path)
      >>> load(path)
      Params(weights=Array([5.], dtype=float32), bias=Array(30., dtype=float32))
    """
    _require_name(path)
    place = Path(path)
    if place.is_dir():
        raise ValueError(f"{path} is a folder: name the file in it")
    if not place.exists():
        raise FileNotFoundError(f"{path} is missing: check the name, or save(result, path) first")
    text, data = _read_whole(place)
    try:
        header = json.loads(text)
        known = header["format"] == _FORMAT
        writer = f"linreg-jax {header['versions']['linreg-jax']}"
        record = _read_record(header, data) if known else None
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is whole, but this version knows no such record ({error!r}): install the "
            "version of linreg-jax that wrote it, which the first lines of the file name"
        ) from error
    if not known:
        raise ValueError(
            f"{path} has format {header['format']}, and this version reads format {_FORMAT}: "
            f"install {writer}, which wrote it"
        )
    return jax.tree_util.tree_map_with_path(functools.partial(_as_jax, path, record), record)


def _require_name(path: str | os.PathLike) -> None:
    if not os.fspath(path):
        raise ValueError("path is empty: give the file a name")


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from its sources: no reason not to save
        return "not installed"


def _describe(value, name, arrays):
    """What the header says of a value; its arrays are appended to `arrays`."""
    if value is None:
        return None
    if type(value) in (bool, int, float, str):
        return {"value": value}
    if type(value) is tuple:
        return {"tuple": [_describe(v, f"{name}[{i}]", arrays) for i, v in enumerate(value)]}
    if type(value) in _RECORDS.values():
        fields = value._asdict().items()
        described = {field: _describe(v, f"{name}.{field}", arrays) for field, v in fields}
        return {type(value).__name__: described}
    if is_traced(value):
        raise TypeError(f"{name} is being traced: save what the transformed function returns")
    if not isinstance(value, (jax.Array, np.ndarray, np.generic)):
        raise TypeError(
            f"{name} is {shown(value)} of type {type(value).__name__}: a file holds arrays, random "
            "keys, numbers, texts, None and tuples of them"
        )
    if isinstance(value, jax.Array) and not (
        value.is_fully_addressable or value.is_fully_replicated
    ):
        raise ValueError(
            f"{name} is spread over several processes: gather it first, with "
            "jax.experimental.multihost_utils.process_allgather(result, tiled=True)"
        )
    array: Any = value
    impl = None
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array, impl = jax.random.key_data(array), jax.random.key_impl(array)
    array = np.asarray(array)
    if not _is_numeric(array.dtype):
        raise TypeError(f"{name} holds {array.dtype}: a file holds arrays of numbers")
    arrays.append(array.astype(array.dtype.newbyteorder("="), copy=False))
    index = len(arrays) - 1
    return {"array": index} if impl is None else {"key": [impl, index]}


def _is_numeric(dtype):
    return dtype == np.dtype(bool) or jnp.issubdtype(dtype, jnp.number)


def _read_record(header, data):
    """The record of a header and its arrays' bytes, with NumPy arrays."""
    record = _rebuild(header["record"], _read_arrays(header["arrays"], data))
    if type(record) not in _RECORDS.values():
        raise TypeError(f"a {type(record).__name__} is no record")
    return record


def _read_arrays(described, data):
    """The NumPy arrays of `[dtype, shape]` pairs, from their bytes."""
    arrays = []
    for name, shape in described:
        dtype = np.dtype(name)
        if not _is_numeric(dtype):
            raise TypeError(f"{name} is no dtype of numbers")
        size = dtype.itemsize * math.prod(shape)
        arrays.append(np.frombuffer(data[:size], dtype).reshape(shape))
        data = data[size:]
    if data:
        raise ValueError(f"{len(data)} bytes too many")
    return arrays


def _rebuild(described, arrays):
    """The value that `_describe` described, with NumPy arrays."""
    if described is None:
        return None
    ((kind, what),) = described.items()
    if kind == "value":
        return what
    if kind == "array":
        return arrays[what]
    if kind == "tuple":
        return tuple(_rebuild(one, arrays) for one in what)
    if kind == "key":
        impl, data = what
        return jax.random.wrap_key_data(jnp.array(arrays[data]), impl=impl)
    fields = {field: _rebuild(one, arrays) for field, one in what.items()}
    return _RECORDS[kind](**fields)


def _as_jax(path, record, place, leaf):
    """A leaf of what `_rebuild` made, as the record holds it."""
    if not isinstance(leaf, np.ndarray):
        return leaf
    if jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype:
        name = type(record).__name__ + jax.tree_util.keystr(place)
        raise ValueError(
            f"{path} holds {leaf.dtype} ({name}), which JAX would cut to 32 bits: call "
            'jax.config.update("jax_enable_x64", True) before loading it'
        )
    return jnp.array(leaf)


def _parts(header, arrays):
    """The parts of the file, in order."""
    text = json.dumps(header).encode()
    parts = [len(text).to_bytes(_LENGTH_BYTES, "little"), text]
    parts += [array.tobytes() for array in arrays]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return [_MAGIC, digest.digest(), *parts]


def _read_whole(place):
    """`(header, data)`: the bytes of both, from a file that is whole."""
    contents = memoryview(place.read_bytes())
    if not _MAGIC.startswith(bytes(contents[: len(_MAGIC)])):
        raise ValueError(f"{place} is not a file that linreg_jax saved: check the name")
    body = contents[_START:]
    if hashlib.sha256(body).digest() != contents[len(_MAGIC) : _START]:
        raise ValueError(
            f"{place} is damaged or cut short, its checksum differs: load another copy of it, or "
            "train again and save"
        )
    header_end = _LENGTH_BYTES + int.from_bytes(body[:_LENGTH_BYTES], "little")
    return bytes(body[_LENGTH_BYTES:header_end]), body[header_end:]
