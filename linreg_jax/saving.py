"""`save` and `load`: a record of this package in one file, whole or not at all.

The file is an ordinary `.npz`, whatever its name, that NumPy reads without this package. Each array
has the name of its field, and the array `linreg_jax` holds a header, JSON in UTF-8::

    with np.load("line.npz", allow_pickle=False) as file:
        file["weights"]                                   # of a `Params`
        json.loads(file["linreg_jax"].tobytes())          # format, versions, record

Nothing in it is code: records are told apart by name in a table, and arrays are read as numbers.
dtypes that NumPy lacks, such as bfloat16, are stored as unsigned integers of the same bits, and
random keys as their data; the header names what they are.
"""

import functools
import importlib.metadata
import json
import os
import tokenize
import zipfile
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax._archive import MARK, as_archive, read_archive, require_whole
from linreg_jax._files import write_whole
from linreg_jax._inference.result import Inference
from linreg_jax._standardization import Standardization
from linreg_jax._streaming.result import ChunkState
from linreg_jax._training.result import Anchor, Average, Best, Fit, TrainState
from linreg_jax._validation import is_traced, shown
from linreg_jax.dataset import Dataset
from linreg_jax.exact import Solution
from linreg_jax.model import Params
from linreg_jax.tables import ColumnModel

Record = (
    Dataset
    | Fit
    | Inference
    | Params
    | Solution
    | Standardization
    | TrainState
    | ChunkState
    | ColumnModel
    | Anchor
    | Average
    | Best
)
"""What `save` takes; each may hold others."""

_FORMAT = 1  # of the header; the array that holds it stays as it is
# What a file raises that is whole and that `save` did not write.
_STRANGE = (
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
)
_RECORDS = {record.__name__: record for record in get_args(Record)}


def save(result: Record, path: str | os.PathLike[str]) -> None:
    """Writes a record to a file: all of it, or nothing.

    The file is written beside its place, and takes it only when it is complete and on the disk: an
    error or a crash at any moment leaves what was there before. (A process that is killed may leave
    `.NAME.*.tmp` beside it, which can be deleted.) A file that is replaced keeps its permissions.

    Args:
      result: a `Fit`, `TrainState`, `ChunkState`, `Params`, `Dataset`, `Standardization`,
        `Solution`, `Inference` or `ColumnModel`, of arrays of any dtype.
      path: the file, in a folder that exists; one of that name is replaced. No ending is added.

    Raises:
      TypeError: not such a record, or a field that holds something else than arrays, random keys,
        numbers, texts, None and tuples of them; called under a transformation.
      ValueError: the path is empty or a folder; an array that is spread over several processes.
      OSError: no such folder, no space left, not allowed to write.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save(Params(weights=jnp.array([5.0]), bias=None), f"{folder}/line.npz")
      ...     print(np.load(f"{folder}/line.npz")["weights"])
      ...     load(f"{folder}/line.npz")
      [5.]
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
    arrays = {MARK: np.zeros(0, np.uint8)}  # the header, which the others make
    header = {
        "format": _FORMAT,
        "versions": {package: _version(package) for package in ("linreg-jax", "jax", "numpy")},
        "record": _describe(result, type(result).__name__, arrays),
    }
    arrays[MARK] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    write_whole(path, [as_archive(arrays)])


def load(path: str | os.PathLike[str]) -> Record:
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
    contents = place.read_bytes()
    require_whole(contents, path)
    try:
        arrays = read_archive(contents)
        header = json.loads(arrays.pop(MARK).tobytes())
        known = header["format"] == _FORMAT
        writer = f"linreg-jax {header['versions']['linreg-jax']}"
        record = _read_record(header["record"], arrays) if known else None
    except _STRANGE as error:
        raise ValueError(
            f"{path} is whole, but this version knows no such record ({error!r}): install the "
            f"version of linreg-jax that wrote it, which the array {MARK!r} in the file names"
        ) from error
    if record is None:
        raise ValueError(
            f"{path} has format {header['format']}, and this version reads format {_FORMAT}: "
            f"install {writer}, which wrote it"
        )
    return jax.tree_util.tree_map_with_path(functools.partial(_as_jax, path, record), record)


def _require_name(path: str | os.PathLike[str]) -> None:
    if not os.fspath(path):
        raise ValueError("path is empty: give the file a name")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from its sources: no reason not to save
        return "not installed"


def _describe(value: object, name: str, arrays: dict[str, np.ndarray]) -> object:
    """What the header says of a value, as JSON; its arrays are added to `arrays`."""
    if value is None:
        return None
    if type(value) in (bool, int, float, str):
        return {"value": value}
    if type(value) is tuple:
        return {"tuple": [_describe(v, f"{name}[{i}]", arrays) for i, v in enumerate(value)]}
    if isinstance(value, Record) and type(value) in _RECORDS.values():
        fields = value._asdict().items()
        described = {field: _describe(v, f"{name}.{field}", arrays) for field, v in fields}
        return {type(value).__name__: described}
    return _describe_array(value, name, arrays)


def _describe_array(value: object, name: str, arrays: dict[str, np.ndarray]) -> object:
    """What the header says of an array or random keys, which are added to `arrays`."""
    if is_traced(value):
        raise TypeError(f"{name} is being traced: save what the transformed function returns")
    if not isinstance(value, (jax.Array, np.ndarray, np.generic)):
        raise TypeError(
            f"{name} is {shown(value)} of type {type(value).__name__}: a file holds arrays, random "
            "keys, numbers, texts, None and tuples of them"
        )
    impl = None
    if isinstance(value, jax.Array):
        if not (value.is_fully_addressable or value.is_fully_replicated):
            raise ValueError(
                f"{name} is spread over several processes: gather it first, with "
                "jax.experimental.multihost_utils.process_allgather(result, tiled=True)"
            )
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            impl, value = str(jax.random.key_impl(value)), jax.random.key_data(value)
    array = np.asarray(value)
    if not _is_numeric(array.dtype):
        raise TypeError(f"{name} holds {array.dtype}: a file holds arrays of numbers")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    label = name.partition(".")[2]  # within the record that is saved
    arrays[label] = array.view(_stored_dtype(array.dtype))
    return {"array": [label, array.dtype.name]} if impl is None else {"key": [label, impl]}


def _is_numeric(dtype: np.dtype) -> bool:
    return dtype == np.dtype(bool) or jnp.issubdtype(dtype, jnp.number)


def _stored_dtype(dtype: np.dtype) -> np.dtype:
    """What an array is in the file: unsigned integers where NumPy does not have its dtype."""
    return np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype


def _read_record(described: object, arrays: dict[str, np.ndarray]) -> Record:
    """The record that `_describe` described, with NumPy arrays."""
    record = _rebuild(described, arrays)
    if not isinstance(record, Record):
        raise TypeError(f"a {type(record).__name__} is no record")
    if arrays:
        raise ValueError(f"the record has no {', '.join(arrays)}")
    return record


def _rebuild(described: Any, arrays: dict[str, np.ndarray]) -> object:
    """The value that `_describe` described; its arrays are taken out of `arrays`."""
    if described is None:
        return None
    ((kind, what),) = described.items()
    if kind == "value":
        return what
    if kind == "tuple":
        return tuple(_rebuild(one, arrays) for one in what)
    if kind == "array":
        label, dtype_name = what
        return _rebuild_array(label, dtype_name, arrays)
    if kind == "key":
        label, impl = what
        return jax.random.wrap_key_data(jnp.array(arrays.pop(label)), impl=impl)
    fields = {field: _rebuild(one, arrays) for field, one in what.items()}
    return _RECORDS[kind](**fields)


def _rebuild_array(label: str, dtype_name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The array of that name and dtype, in the byte order of this machine."""
    dtype = np.dtype(dtype_name)
    array = arrays.pop(label)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not _is_numeric(dtype) or array.dtype != _stored_dtype(dtype):
        raise TypeError(f"{label} is {array.dtype} in the file, which {dtype} is not")
    return array.view(dtype)


def _as_jax(
    path: str | os.PathLike[str], record: Record, place: jax.tree_util.KeyPath, leaf: object
) -> object:
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
