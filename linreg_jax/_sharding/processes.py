"""What the processes of a job tell each other before they compute."""

import json
import math
import threading
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from linreg_jax.dataset import as_dataset

_NOTE_BYTES = 2048
_A_DAY = 24 * 3600


class Note(NamedTuple):
    """What one process has.

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


def join_in_time(timeout, coordinator_address, num_processes, process_id, **options):
    """`jax.distributed.initialize`, or TimeoutError; see `linreg_jax.sharding.initialize`."""
    errors: list[Exception] = []

    def join():
        try:
            # Its own limit is longer than ours: at that one JAX ends the process, with a trace of
            # C++ that says neither who is missing nor what to do.
            jax.distributed.initialize(
                coordinator_address,
                num_processes,
                process_id,
                initialization_timeout=math.ceil(timeout) + _A_DAY,
                **options,
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
    for error in errors:
        if isinstance(error, ValueError) and None in (
            coordinator_address,
            num_processes,
            process_id,
        ):
            raise ValueError(
                "coordinator_address, num_processes and process_id must be given where no cluster "
                f"is recognised that gives them: {error}"
            ) from error
        raise error


def gather_metadata(X, y, sample_weight, *, own_shards, all_shards):
    """This process's `Dataset`, and the `Note` of every process.

    Raises:
      TypeError, ValueError: in every process, where one of them refuses its rows, or where they
        differ in features, targets, dtype or shards.
    """
    try:
        if own_shards == 0:
            raise ValueError("mesh has none of its devices: pass a mesh of all of them")
        data = as_dataset(X, y, sample_weight)
    except Exception as error:
        exchange(Note(0, 0, False, "", str(error)))
        raise
    n, d = data.X.shape
    targets = "" if data.y.ndim == 1 else f", {data.y.shape[1]}"
    layout = f"X {data.X.dtype}[n, {d}] and y [n{targets}] in {all_shards} shards"
    notes = exchange(Note(n, own_shards, data.sample_weight is not None, layout, None))
    for i, note in enumerate(notes):
        if note.problem is not None:
            raise ValueError(f"process {i} refused its rows: {note.problem}")
        if note.layout != notes[0].layout:
            raise ValueError(
                f"process {i} has {note.layout}, but process 0 has {notes[0].layout}: features, "
                "targets, dtype and shards must be the same in every process"
            )
    return data, notes


def exchange(note):
    """The notes of all processes, in their order."""
    text = json.dumps(note._replace(problem=note.problem and note.problem[: _NOTE_BYTES // 8]))
    mine = np.frombuffer(text.encode().ljust(_NOTE_BYTES), np.uint8)
    texts = multihost_utils.process_allgather(mine)
    return [Note(*json.loads(bytes(np.asarray(theirs)))) for theirs in texts]
