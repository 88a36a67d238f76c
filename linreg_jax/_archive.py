"""Named arrays in an `.npz` archive, with a checksum of the whole file.

The archive is what `numpy.savez` writes, one uncompressed `.npy` file an array, and its comment is
the SHA-256 of all bytes before the digest. The checksums of a zip file itself are of its arrays
alone: they do not cover names, sizes and dates.
"""

import hashlib
import io
import math
import zipfile

import numpy as np

MARK = "linreg_jax"
"""The name of the first array: it tells these archives from others."""

_ZIP = b"PK\x03\x04"  # a zip file's first bytes
_NAME_AT = 30  # where the name of its first file begins
_LABEL = b"sha256 "
_DIGEST_LETTERS = 64


def as_archive(arrays: dict[str, np.ndarray]) -> bytes:
    """The bytes of an archive.

    Args:
      arrays: by name, `MARK` first.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
        archive.comment = _LABEL + bytes(_DIGEST_LETTERS)
    with buffer.getbuffer() as contents:  # released before its buffer is
        contents[-_DIGEST_LETTERS:] = _digest(contents)
    return buffer.getvalue()


def require_whole(contents: bytes, path: object) -> None:
    """Raises where the bytes are not an archive that `as_archive` made, each bit of it.

    Raises:
      ValueError: another file, or one that is damaged or cut short.
    """
    name = f"{MARK}.npy".encode()
    found = contents[: len(_ZIP)], contents[_NAME_AT : _NAME_AT + len(name)]
    if not (_ZIP.startswith(found[0]) and name.startswith(found[1])):
        raise ValueError(f"{path} is not a file that linreg_jax saved: check the name")
    if contents[-_DIGEST_LETTERS:] != _digest(memoryview(contents)):
        raise ValueError(
            f"{path} is damaged or cut short, its checksum differs: load another copy of it, or "
            "train again and save"
        )


def read_archive(contents: bytes) -> dict[str, np.ndarray]:
    """The arrays by name; no code of the file runs, and no more memory is taken than it has bytes.

    Raises:
      ValueError, zipfile.BadZipFile: what `as_archive` does not write: other files than arrays of
        numbers, compressed ones, or sizes that are not those of the file.
    """
    with zipfile.ZipFile(io.BytesIO(contents)) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its arrays are compressed")
        if sum(member.file_size for member in members) > len(contents):
            raise ValueError("its arrays are larger than the file")
        return {
            member.filename.removesuffix(".npy"): _read_array(archive.read(member))
            for member in members
        }


def _digest(contents: memoryview) -> bytes:
    """The SHA-256, in letters, of all bytes but the last, which hold it."""
    return hashlib.sha256(contents[:-_DIGEST_LETTERS]).hexdigest().encode()


def _read_array(contents: bytes) -> np.ndarray:
    """The array of a `.npy` file.

    Raises:
      ValueError: Python objects or texts, a newer format, a shape that is not that of the bytes.
    """
    file = io.BytesIO(contents)
    if (version := np.lib.format.read_magic(file)) != (1, 0):
        raise ValueError(f".npy format {version}")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in "biufc":
        raise ValueError(f"{dtype} is no dtype of numbers")
    if math.prod(shape) * dtype.itemsize != len(contents) - file.tell():
        raise ValueError(f"an array of shape {list(shape)} has {len(contents)} bytes")
    array = np.frombuffer(contents, dtype, offset=file.tell())
    return array.reshape(shape, order="F" if is_fortran else "C")
