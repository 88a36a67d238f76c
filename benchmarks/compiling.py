"""How long JAX traces, lowers and compiles during a call, by its own account."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax.monitoring


def seconds_compiling(call: Callable[[], Any]) -> tuple[float, Any]:
    """Calls `call` and returns the seconds that went into compiling, and what it returned.

    Events nest (a function traced within another), so the time is that of their union.
    """
    intervals = _intervals()
    intervals.clear()
    output = call()
    total, covered_to = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, covered_to))
        covered_to = max(covered_to, end)
    return total, output


@functools.cache
def _intervals() -> list[tuple[float, float]]:
    """The list that JAX's events are written to from now on, as (begin, end) in seconds."""
    intervals: list[tuple[float, float]] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            end = time.perf_counter()
            intervals.append((end - duration_secs, end))

    jax.monitoring.register_event_duration_secs_listener(listen)
    return intervals
