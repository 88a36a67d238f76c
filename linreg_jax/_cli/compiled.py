"""Compiled programs kept on disk, from one run of the command line to the next."""

import contextlib
import hashlib
import os
import platform
import sys
import warnings
from pathlib import Path

MOST_BYTES = 256 * 2**20
"""Above this the programs not written or replaced for longest go, until half of it is left."""


def keep_programs() -> None:
    """Lets JAX keep what it compiles in the user's folder; to be called before JAX is imported.

    In a process that has imported JAX it does nothing: what is kept is then the importer's choice.
    So it is where `JAX_COMPILATION_CACHE_DIR` is set, and `LINREG_JAX_NO_CACHE` does without.
    A folder that cannot be written and an entry that cannot be read cost no more than compiling.
    """
    if "jax" in sys.modules:
        return
    # XLA tells of every program that it loads, on standard error, which features it would prefer.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    if os.environ.get("LINREG_JAX_NO_CACHE") or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = programs_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_oldest(folder.parent, MOST_BYTES)
    except OSError:
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def programs_folder() -> Path:
    """Where programs for this kind of processor are kept.

    In `$LINREG_JAX_CACHE_DIR`, or else in the user's folder for such files: `~/Library/Caches` on
    macOS, `%LOCALAPPDATA%` on Windows, `$XDG_CACHE_HOME` or `~/.cache` elsewhere. A home that
    several machines share holds a folder for each kind of processor.
    """
    named = os.environ.get("LINREG_JAX_CACHE_DIR")
    processor = hashlib.sha256(_processor().encode()).hexdigest()[:16]
    return (Path(named) if named else _user_folder() / "linreg-jax") / f"programs-{processor}"


def _user_folder() -> Path:
    home = Path(os.path.expanduser("~"))
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    named = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME")
    return Path(named) if named and Path(named).is_absolute() else home / ".cache"


def _processor() -> str:
    """The processor and what it can do: a program compiled for another one may not run on it."""
    found = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        found += [next((line for line in lines if line.startswith(("flags", "Features"))), "")]
    return " ".join(found)


def remove_oldest(folder: Path, most: int) -> None:
    """Removes files that lie in folders of `folder`, oldest first, if they pass `most` bytes."""
    files = []
    for path in folder.glob("programs-*/*"):
        with contextlib.suppress(OSError):  # another process may have removed it
            files.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in files)
    if total <= most:
        return
    for _, size, path in sorted(files):
        if total <= most // 2:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size
