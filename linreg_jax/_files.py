"""Files that are written whole or not at all, and what can be read only once as a file."""

import contextlib
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

STANDARD_INPUT = "-"
_NEW_FILE = 0o666  # less the umask
_NAME_LETTERS = 40  # of at most 4 bytes; a name has 255 bytes


def write_whole(path: str | os.PathLike[str], parts: Iterable[bytes | memoryview]) -> None:
    """Replaces a file in one step, when the new one is complete and on the disk.

    A file that is replaced keeps its permissions. What is no regular file (a pipe, a terminal) and
    standard output (/dev/stdout) are written to as they stand.

    Raises:
      OSError: no such folder, no space left, not allowed to write.
    """
    if (stream := _open_stream(path)) is not None:
        with os.fdopen(stream, "wb") as file:
            file.writelines(parts)
        return
    place = Path(os.path.realpath(path))
    temporary = _beside(place)
    try:
        replaced = place.exists()
        mode = stat.S_IMODE(place.stat().st_mode) if replaced else _NEW_FILE
        # With this mode from the start: nobody may open it who may not read what it replaces.
        descriptor = os.open(temporary, _create_flags(), mode)
        with os.fdopen(descriptor, "wb") as file:
            if replaced:
                temporary.chmod(mode)
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):  # which names the temporary file
            raise type(error)(error.errno, error.strerror, os.fspath(path)) from None
        raise
    if hasattr(os, "O_DIRECTORY"):  # the name is on the disk when the folder is; not on Windows
        folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def require_writable(path: str | os.PathLike[str]) -> None:
    """Raises where `write_whole` would, before there is anything to write.

    Raises:
      OSError: a folder, no such folder, not allowed to write, a name that is too long.
    """
    place = Path(os.path.realpath(path))
    if os.path.isdir(place):
        raise IsADirectoryError(f"{path} is a folder: give the file in it a name")
    if is_stream(path):
        return
    if not os.path.isdir(place.parent):
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {place.parent}")
    temporary = _beside(place)
    try:
        os.lstat(place)  # a name too long for the disk
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror}") from None
    try:
        temporary.open("xb").close()
        temporary.unlink()
    except OSError as error:
        raise PermissionError(f"{path} cannot be written: {error.strerror}") from None


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether the name stands for a pipe, a terminal or a stream of the process, no file."""
    if _descriptor(path) is not None:
        return True
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def is_same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two names are of one file, through links of both kinds."""
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them is not there yet
        return os.path.realpath(one) == os.path.realpath(other)


def shown_name(path: str | os.PathLike[str]) -> str:
    """What a file that is read is called in messages."""
    return "standard input" if os.fspath(path) == STANDARD_INPUT else os.fspath(path)


@contextlib.contextmanager
def on_disk(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Where a file can be read from its start, and again.

    That is its own place; of a pipe, or of standard input (`-`), a copy for as long as the context
    lasts. Errors name what was asked for.

    Raises:
      OSError: it cannot be read.
    """
    shown, is_standard = shown_name(path), os.fspath(path) == STANDARD_INPUT
    if not (is_standard or is_stream(path)):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="linreg_jax-") as folder:
        copy = Path(folder) / "copy"
        with copy.open("wb") as target:
            if not is_standard:
                with open(path, "rb") as source:
                    shutil.copyfileobj(source, target)
            elif sys.stdin is None:
                raise OSError("standard input is closed: pass the name of a file")
            else:
                shutil.copyfileobj(sys.stdin.buffer, target)
        try:
            yield copy
        except ValueError as error:
            raise ValueError(str(error).replace(str(copy), shown)) from None


def _create_flags() -> int:
    return os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def _descriptor(path: str | os.PathLike[str]) -> int | None:
    """The number of the open stream that a name such as /dev/stdout stands for."""
    streams = {"stdin": 0, "stdout": 1, "stderr": 2}
    found = re.fullmatch(
        r"/dev/(stdin|stdout|stderr)|(?:/dev|/proc/self)/fd/(\d+)", os.fspath(path)
    )
    if found is None:
        return None
    return streams[found[1]] if found[1] else int(found[2])


def _open_stream(path: str | os.PathLike[str]) -> int | None:
    """A descriptor to write to what is no regular file; None: it is one, or will be."""
    descriptor = _descriptor(path)
    if descriptor is not None:
        # As it stands, after what is in it: opened by name, a file behind it would be emptied.
        return os.dup(descriptor)
    return os.open(path, os.O_WRONLY) if is_stream(path) else None


def _beside(place: Path) -> Path:
    return place.with_name(f".{place.name[:_NAME_LETTERS]}.{secrets.token_hex(8)}.tmp")
