"""Several processes, real ones, over gloo: one result, and an end in time when one is gone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import Params, as_dataset, compress, fit, half_mse, huber, infer, load, mae, save
from linreg_jax.sharding import initialize, shard_from_process
from tests.support import relative_error

KEY = jax.random.key(0) if __name__ != "__main__" else None  # a worker joins before it computes
FEATURES, NUM_STEPS, PIECE, BATCH_SIZE = 3, 60, 10, 8
LIMIT = 120  # seconds for what takes about 5 where nothing else runs


def own_rows(process_id):
    """Another number of rows in every process."""
    rng = np.random.default_rng(process_id)
    X = rng.normal(size=(10 + 3 * process_id, FEATURES))
    return X, X @ np.arange(1.0, 1 + FEATURES) + rng.normal(size=len(X))


def start():
    return Params(jnp.zeros(FEATURES, "float64"), jnp.zeros((), "float64"))


def compute(params, data, num_shards, key):
    """The results that must not depend on the processes."""
    full = fit(huber(), params, data, learning_rate=0.1, num_steps=NUM_STEPS)
    options = {"num_steps": NUM_STEPS, "batch_size": BATCH_SIZE, "num_shards": num_shards}
    batches = fit(mae, params, data, learning_rate=0.1, key=key, **options)
    squared = fit(half_mse, params, compress(data), learning_rate=0.1, num_steps=NUM_STEPS)
    errors = infer(data, covariance="hc3").standard_errors
    parameters = [full.params, batches.params, squared.params, errors]
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(parameters)]


# What a worker does: `python -m tests.test_processes NAME PROCESS_ID NUM_PROCESSES PORT FOLDER`.


def same_result(process_id, num_processes, folder):
    """Every disagreement first, then the results."""
    X, y = own_rows(process_id)
    last = process_id == num_processes - 1
    nan = np.where(np.arange(len(X))[:, None] == 4, np.nan, X)
    refused = {
        "columns": (X[:, :2] if last else X, y),
        "targets": (X, y[:, None] if last else y),
        "dtype": (X.astype("float32"), y.astype("float32")) if last else (X, y),
        "values": (nan if last else X, y),
    }
    errors = {}
    for name, rows in refused.items():
        try:
            shard_from_process(*rows)
        except ValueError as error:
            errors[name] = str(error)
    data = shard_from_process(X, y)
    results = compute(start(), data, jax.device_count(), jax.random.key(0))
    written = {"errors": errors, "results": results, "rows": data.X.shape[0]}
    Path(folder, f"{process_id}.json").write_text(json.dumps(written))


def in_pieces(process_id, folder, when_half_done):
    """A run that saves its state after every piece, up to when something happens to process 1."""
    data = shard_from_process(*own_rows(process_id))
    state, key = start(), jax.random.key(0)
    for piece in range(NUM_STEPS // PIECE):
        result = fit(
            mae,
            state,
            data,
            learning_rate=0.1,
            num_steps=PIECE,
            batch_size=BATCH_SIZE,
            key=key,
            gradient=jax.value_and_grad(mae),
        )
        state, key = jax.block_until_ready(result.state), None
        if process_id == 0:
            save(state, Path(folder, "state"))
        elif piece == 2:
            os.kill(os.getpid(), when_half_done)


def work(name, process_id, num_processes, port, folder):
    process_id, num_processes = int(process_id), int(num_processes)
    jax.config.update("jax_enable_x64", True)
    jax.config.update(
        "jax_num_cpu_devices", 2 if name == "same result" and num_processes == 2 else 1
    )
    initialize(
        f"127.0.0.1:{port}",
        num_processes,
        process_id,
        timeout=1 if name == "alone" else LIMIT,
        heartbeat_timeout=LIMIT if name == "same result" else 8,
    )
    if name == "same result":
        same_result(process_id, num_processes, folder)
    elif name in ("killed", "stalled"):
        in_pieces(process_id, folder, signal.SIGKILL if name == "killed" else signal.SIGSTOP)


@pytest.fixture
def launch(tmp_path):
    """Starts workers; those that are left are ended."""
    started = []

    def of(name, num_processes, process_ids):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for process_id in process_ids:
            command = [sys.executable, "-m", "tests.test_processes", name]
            started.append(
                subprocess.Popen(
                    [*command, *map(str, (process_id, num_processes, port, tmp_path))],
                    env={**os.environ, "JAX_PLATFORMS": "cpu"},
                    cwd=Path(__file__).parent.parent,
                    stderr=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    text=True,
                )
            )
        return started

    yield of
    for process in started:
        process.kill()
        process.communicate()


def laid_out_by_hand(num_processes, shards_of_each):
    """The rows of all processes in one, each one's filled up with rows that weigh 0."""
    rows = [own_rows(i) for i in range(num_processes)]
    filled = max(-(-len(y) // shards_of_each) for _, y in rows) * shards_of_each
    X = np.concatenate([np.pad(X, ((0, filled - len(X)), (0, 0))) for X, _ in rows])
    y = np.concatenate([np.pad(y, (0, filled - len(y))) for _, y in rows])
    weight = np.concatenate([np.arange(filled) < len(y) for _, y in rows])
    return as_dataset(X, y, weight)


@pytest.mark.parametrize(
    ("num_processes", "devices_of_each"),
    [(2, 2), pytest.param(4, 1, marks=pytest.mark.exhaustive)],
)
def test_processes_compute_what_one_does(launch, tmp_path, num_processes, devices_of_each, x64):
    processes = launch("same result", num_processes, range(num_processes))
    data = laid_out_by_hand(num_processes, devices_of_each)
    expected = compute(start(), data, num_processes * devices_of_each, KEY)
    for process in processes:
        _, errors = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, errors
    last = num_processes - 1
    for process_id in range(num_processes):
        written = json.loads((tmp_path / f"{process_id}.json").read_text())
        assert written["rows"] == data.X.shape[0]
        # The rounding of sums in another order, over 60 steps.
        assert relative_error(written["results"], expected) < 1e-12
        found = written["errors"]
        assert f"process {last} has X float64[n, 2] and y [n]" in found["columns"]
        assert "process 0 has X float64[n, 3] and y [n]" in found["columns"]
        assert "y [n, 1]" in found["targets"]
        assert f"process {last} has X float32[n, 3]" in found["dtype"]
        assert "not finite, the first nan at [4, 0]" in found["values"]


def test_a_process_that_never_joins_is_an_error_in_time(launch):
    began = time.monotonic()
    (process,) = launch("alone", 2, [1])
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    assert "TimeoutError: not all 2 processes joined within 1 seconds" in errors
    assert time.monotonic() - began < LIMIT / 2


@pytest.mark.slow
def test_a_run_goes_on_from_its_last_state_when_a_process_is_killed(launch, tmp_path, x64):
    left, killed = launch("killed", 2, range(2))
    data = laid_out_by_hand(2, 1)
    options = {"learning_rate": 0.1, "batch_size": BATCH_SIZE, "num_shards": 2}
    whole = fit(mae, start(), data, num_steps=NUM_STEPS, key=KEY, **options)
    killed.wait(timeout=LIMIT)
    assert killed.returncode == -signal.SIGKILL
    died = time.monotonic()
    _, errors = left.communicate(timeout=LIMIT)
    assert time.monotonic() - died < LIMIT / 2  # heartbeats are missed after 8 seconds
    assert left.returncode != 0
    assert "JaxRuntimeError" in errors or "another task died" in errors
    state = load(tmp_path / "state")
    assert 0 < int(state.step) < NUM_STEPS
    rest = fit(mae, state, data, num_steps=NUM_STEPS - int(state.step), **options)
    # The rounding of sums in another order, over 60 steps.
    assert relative_error(rest.params, whole.params) < 1e-12


@pytest.mark.slow
def test_a_process_that_hangs_is_given_up_in_time(launch, tmp_path):
    left, _ = launch("stalled", 2, range(2))
    _, errors = left.communicate(timeout=LIMIT)
    assert left.returncode != 0
    assert "heartbeat" in errors
    assert (tmp_path / "state").exists()


def test_limits_of_time_are_numbers():
    with pytest.raises(ValueError, match="timeout must be a number of seconds, more than 0"):
        initialize("127.0.0.1:1", 1, 0, timeout=0)
    with pytest.raises(TypeError, match="heartbeat_timeout must be a Python integer"):
        initialize("127.0.0.1:1", 1, 0, heartbeat_timeout=2.5)


if __name__ == "__main__":
    work(*sys.argv[1:])
