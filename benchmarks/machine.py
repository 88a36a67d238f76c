"""What a run has to say about itself: the machine, the versions, the bandwidth."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Settings
from benchmarks.threads import usable_cores

_PACKAGES = ("jax", "jaxlib", "numpy", "optax", "torch", "scikit-learn")


def read_bandwidth(threads: int, *, num_bytes: int = 2**29, rounds: int = 7) -> float:
    """Bytes a second that all threads together read from memory: the best of a few rounds.

    Each thread takes the inner product of its part of one array with itself, which reads it once
    and writes nothing.

    Args:
      threads: how many read at once.
      num_bytes: size of the array; several times the caches, or it measures those.
      rounds: how often it is read.
    """
    parts = np.array_split(np.ones(num_bytes // 4, np.float32), threads)
    with ThreadPoolExecutor(threads) as pool:
        seconds = _least_seconds(
            lambda: list(pool.map(lambda part: np.dot(part, part), parts)), rounds
        )
    return num_bytes / seconds


def device_bandwidth(*, num_bytes: int = 2**31, rounds: int = 7) -> float:
    """Bytes a second that JAX's device reads from its memory: the best of a few sums of an array.

    Args:
      num_bytes: size of the array; several times the caches, or it measures those.
      rounds: how often it is read.
    """
    array = jax.block_until_ready(jnp.ones(num_bytes // 4, jnp.float32))
    total = jax.jit(jnp.sum)
    jax.block_until_ready(total(array))  # compiles
    return num_bytes / _least_seconds(lambda: jax.block_until_ready(total(array)), rounds)


def _least_seconds(call: Callable[[], object], rounds: int) -> float:
    least = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - start)
    return least


def about(settings: Settings, flags: list[str]) -> dict[str, Any]:
    """The head of the JSON: date, commit, machine, versions, threads, dtype, bandwidth, flags.

    Args:
      settings: the `Settings` of the run.
      flags: the arguments of the command.
    """
    device = jax.devices()[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks", *flags]),
        "commit": _commit(),
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "platform": platform.platform(),
        "device": f"{device.platform}: {device.device_kind}",
        "num_devices": jax.device_count(),
        "threads": settings.threads,
        "dtype": settings.dtype,
        "read_bandwidth": settings.bandwidth,
        "device_bandwidth": settings.device_bandwidth,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit that is measured, with "+" where files differ from it; None outside git."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
