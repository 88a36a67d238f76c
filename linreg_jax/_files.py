"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Iterable
from pathlib import Path


def write_whole(path: str | os.PathLike, parts: Iterable[bytes]) -> None:
    """Replaces a file in one step, when the new one is complete and on the disk.

    What is no regular file (/dev/stdout, a pipe) is written to as it stands.

    Raises:
      OSError: no such folder, no space left, not allowed to write.
    """
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file():
        with place.open("wb") as file:
            file.writelines(parts)
        return
    temporary = _beside(place)
    try:
        with temporary.open("xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # which names the temporary file
            raise type(error)(error.errno, error.strerror, os.fspath(path)) from None
        raise
    if hasattr(os, "O_DIRECTORY"):  # the name is on the disk when the folder is; not on Windows
        folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def require_writable(path: str | os.PathLike) -> None:
    """Raises where `write_whole` would, before there is anything to write.

    Raises:
      OSError: a folder, no such folder, not allowed to write.
    """
    place = Path(os.path.realpath(path))
    if place.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the file in it a name")
    if not place.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {place.parent}")
    if place.exists() and not place.is_file():
        return
    temporary = _beside(place)
    try:
        temporary.open("xb").close()
        temporary.unlink()
    except OSError as error:
        raise PermissionError(f"{path} cannot be written: {error.strerror}") from None


def _beside(place):
    return place.with_name(f".{place.name}.{secrets.token_hex(8)}.tmp")
