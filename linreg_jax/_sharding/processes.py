"""The processes of a job: how they join, and exchange what they have before they compute."""

import json
import math
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from linreg_jax.dataset import Dataset, as_dataset

_METADATA_BYTES = 2048
_A_DAY = 24 * 3600


class ProcessMetadata(NamedTuple):
    """The rows that one process has.

    Attributes:
      num_rows: of its own.
      num_shards: that its devices hold.
      is_weighted: whether the rows have weights.
      layout: what must be the same in every process, in words.
      problem: why its rows were refused; None: they were not.
    """

    num_rows: int
    num_shards: int
    is_weighted: bool
    layout: str
    problem: str | None


def join_in_time(
    timeout: float,
    coordinator_address: str | None,
    num_processes: int | None,
    process_id: int | None,
    local_device_ids: int | Sequence[int] | None,
    heartbeat_timeout: int,
) -> None:
    """`jax.distributed.initialize`, or TimeoutError; see `linreg_jax.sharding.initialize`."""
    errors: list[Exception] = []

    def join() -> None:
        try:
            # Its own limit is longer than ours: at that one JAX ends the process, with a trace of
            # C++ that says neither who is missing nor what to do.
            jax.distributed.initialize(
                coordinator_address,
                num_processes,
                process_id,
                local_device_ids,
                initialization_timeout=math.ceil(timeout) + _A_DAY,
                heartbeat_timeout_seconds=heartbeat_timeout,
            )
        except Exception as error:
            errors.append(error)

    joining = threading.Thread(target=join, daemon=True)
    joining.start()
    joining.join(timeout)
    if joining.is_alive():
        raise TimeoutError(
            f"not all {num_processes or 'the'} processes joined within {timeout:g} seconds: start "
            f"each with the same coordinator_address ({coordinator_address}), which all of them "
            "can reach, and its own process_id; or pass a longer timeout"
        )
    if errors:
        is_incomplete = None in (coordinator_address, num_processes, process_id)
        _raise_for_join(errors[0], is_incomplete)


def _raise_for_join(error: Exception, is_incomplete: bool) -> NoReturn:
    """Raises what JAX raised while joining, with what to pass where arguments are missing."""
    if isinstance(error, ValueError) and is_incomplete:
        raise ValueError(
            "coordinator_address, num_processes and process_id must be given where no cluster "
            f"is recognised that gives them: {error}"
        ) from error
    raise error


def gather_metadata(
    X: Any, y: Any, sample_weight: Any, *, own_shards: int, all_shards: int
) -> tuple[Dataset, list[ProcessMetadata]]:
    """This process's `Dataset`, and the `ProcessMetadata` of every process.

    Args:
      X, y, sample_weight: this process's rows, as `as_dataset` takes them.
      own_shards: shards on this process's devices.
      all_shards: shards on all devices.

    Raises:
      TypeError, ValueError: in every process, where one of them refuses its rows, or where they
        differ in features, targets, dtype or shards.
    """
    try:
        if own_shards == 0:
            raise ValueError("mesh has none of its devices: pass a mesh of all of them")
        data = as_dataset(X, y, sample_weight)
    except Exception as error:
        _exchange(ProcessMetadata(0, 0, False, "", str(error)))
        raise
    n, d = data.X.shape
    targets = "" if data.y.ndim == 1 else f", {data.y.shape[1]}"
    layout = f"X {data.X.dtype}[n, {d}] and y [n{targets}] in {all_shards} shards"
    is_weighted = data.sample_weight is not None
    processes = _exchange(ProcessMetadata(n, own_shards, is_weighted, layout, None))
    for i, process in enumerate(processes):
        if process.problem is not None:
            raise ValueError(f"process {i} refused its rows: {process.problem}")
        if process.layout != processes[0].layout:
            raise ValueError(
                f"process {i} has {process.layout}, but process 0 has {processes[0].layout}: "
                "features, targets, dtype and shards must be the same in every process"
            )
    return data, processes


def _exchange(own: ProcessMetadata) -> list[ProcessMetadata]:
    """The metadata of all processes, in their order."""
    problem = None if own.problem is None else own.problem[: _METADATA_BYTES // 8]
    text = json.dumps(own._replace(problem=problem))
    encoded = np.frombuffer(text.encode().ljust(_METADATA_BYTES), np.uint8)
    texts = multihost_utils.process_allgather(encoded)
    return [ProcessMetadata(*json.loads(bytes(np.asarray(other)))) for other in texts]
