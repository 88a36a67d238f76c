"""Saved records come back bit for bit, and a file is replaced whole or not at all."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from linreg_jax import Dataset, Params, mse, standardize
from linreg_jax.exact import Solution
from linreg_jax.saving import load, save
from linreg_jax.training import fit
from tests.support import make_problem


def assert_same(actual, expected):
    """The same types, and arrays of the same dtypes, shapes and bits."""
    assert type(actual) is type(expected)
    if isinstance(expected, tuple):
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, jax.Array):
        assert actual.dtype == expected.dtype
        assert actual.shape == expected.shape
        if jnp.issubdtype(actual.dtype, jax.dtypes.prng_key):
            actual, expected = jax.random.key_data(actual), jax.random.key_data(expected)
        assert np.asarray(actual).tobytes() == np.asarray(expected).tobytes()
    else:
        assert actual == expected


@pytest.fixture
def small(tmp_path):
    """A small file."""
    save(Params(jnp.array([5.0, -0.0]), jnp.array(30.0)), tmp_path / "small")
    return tmp_path / "small"


@functools.cache
def problem():
    return make_problem(0, n=10, d=2, weighted=True)


def trained(start=None, num_steps=6, **settings):
    params, data = problem()
    start = params if start is None else start
    return fit(mse, start, data, learning_rate=0.01, num_steps=num_steps, **settings)


MINI_BATCHES = {"batch_size": 4, "optimizer": optax.adam, "average_from": 2}

RECORDS = {
    "params": lambda: problem()[0],
    "params without bias": lambda: problem()[0]._replace(bias=None),
    "dataset": lambda: problem()[1],
    "compressed": lambda: Dataset(
        *problem()[1][:2], bias_column=jnp.ones(10), total_weight=jnp.ones(())
    ),
    "standardization": lambda: standardize(problem()[1])[1],
    "solution": lambda: Solution(problem()[0], *jnp.ones((8, 2))),
    "fit": lambda: trained(),
    "mini-batches": lambda: trained(key=jax.random.key(1), **MINI_BATCHES),
    "state": lambda: trained().state,
    "typed key": lambda: trained().state._replace(key=jax.random.key(5, impl="rbg")),
    "keys": lambda: trained().state._replace(key=jax.random.split(jax.random.key(5), (2, 3))),
    "stopping": lambda: trained(
        batch_size=4, key=jax.random.key(2), validation=problem()[1], patience=2, average_from=1
    ),
    "average": lambda: trained(average_from=1).state.average,
    "best": lambda: trained(validation=problem()[1], patience=2).state.best,
    "python": lambda: Params((1, 2.5, True, "weights", None, float("inf"), 10**30, ()), 0.1),
}


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_comes_back(tmp_path, name):
    record = RECORDS[name]()
    save(record, tmp_path / "file")
    assert_same(load(str(tmp_path / "file")), record)
    assert os.listdir(tmp_path) == ["file"]


def test_every_dtype_comes_back(tmp_path):
    """Every bit pattern of 8 and 16 bits, NaNs of every kind among them; wide ones at random."""
    arrays = []
    for name in ["float8_e4m3fn", "int8", "bfloat16", "float16", "uint16"]:
        bits = np.arange(2 ** (8 * np.dtype(name).itemsize), dtype=f"u{np.dtype(name).itemsize}")
        arrays.append(jnp.asarray(bits.view(name)))
    words = np.random.default_rng(0).integers(0, 2**32, (3, 1, 8), dtype="uint32")
    arrays += [
        jnp.asarray(words.view(name)) for name in ["uint32", "int32", "float32", "complex64"]
    ]
    arrays += [jnp.array([True, False]), jnp.arange(-8, 8).astype("int4")]
    arrays += [jnp.zeros((2, 0, 3)), jnp.zeros(0, "int8"), jnp.array(float("nan"))]
    record = Params(tuple(arrays), None)
    save(record, tmp_path / "file")
    assert_same(load(tmp_path / "file"), record)


def test_numpy_arrays_come_back_as_jax_arrays(tmp_path):
    columns = np.arange(6, dtype=">f4").reshape(2, 3).T  # neither row by row nor little-endian
    save(Params(columns, np.float32(2)), tmp_path / "file")
    expected = Params(jnp.array([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]), jnp.array(2, "float32"))
    assert_same(load(tmp_path / "file"), expected)


def test_arrays_spread_over_devices_come_back(tmp_path):
    rows = NamedSharding(Mesh(np.array(jax.devices()), ("rows",)), PartitionSpec("rows"))
    weights = jax.device_put(jnp.arange(16.0), rows)
    save(Params(weights, None), tmp_path / "file")
    assert_same(load(tmp_path / "file"), Params(weights, None))


def test_64_bits_are_never_cut(tmp_path):
    with jax.enable_x64(True):
        record = Params(jnp.array([1 / 3]), jnp.array(2**40, "int64"))
        save(record, tmp_path / "file")
        assert_same(load(tmp_path / "file"), record)
    with pytest.raises(ValueError, match=r"file holds float64 \(Params\.weights\).*enable_x64"):
        load(tmp_path / "file")


WAYS = {
    "full batches": {},
    "mini-batches": MINI_BATCHES | {"key": jax.random.key(1)},
    "early stopping": {"patience": 3, "average_from": 1},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_loaded_run_continues_as_if_never_saved(tmp_path, way):
    settings = WAYS[way]
    if way == "early stopping":
        settings = settings | {"validation": problem()[1]}
    first = trained(**settings)
    save(first, tmp_path / "file")
    rest = trained(load(tmp_path / "file").state, num_steps=5, **settings)
    assert_same(rest, trained(first.state, num_steps=5, **settings))
    if way != "early stopping":  # a run that continues waits anew
        assert_same(rest.state, trained(num_steps=11, **settings).state)


def test_paths(tmp_path, small, monkeypatch):
    params = load(small)
    with pytest.raises(FileNotFoundError, match=r"nothing is missing: .* save\(result, path\)"):
        load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is a folder: name the file in it"):
        load(tmp_path)
    with pytest.raises(ValueError, match="is a folder: give the file in it a name"):
        save(params, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"new/file is in a folder that does not exist"):
        save(params, tmp_path / "new" / "file")
    monkeypatch.chdir(tmp_path)
    save(params._replace(bias=None), "small")
    (tmp_path / "link").symlink_to("small")
    save(params, "link")
    assert (tmp_path / "link").is_symlink()
    assert_same(load("small"), params)


def test_a_file_can_be_read_by_those_who_may_read_new_files(tmp_path, small):
    (tmp_path / "new").touch()
    assert small.stat().st_mode == (tmp_path / "new").stat().st_mode


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"weights": 1}, "result must be one of Dataset, Fit, .*, got dict"),
        (jnp.ones(3), "result must be one of"),
        (Params([1.0], None), r"Params\.weights is \[1\.0\] of type list"),
        (Params(np.array(["a"]), None), r"Params\.weights holds <U1"),
        (Params((None, object), None), r"Params\.weights\[1\] is <class 'object'> of type type"),
    ],
)
def test_what_is_not_saved(tmp_path, result, message):
    with pytest.raises(TypeError, match=message):
        save(result, tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_tracers_are_not_saved(tmp_path):
    with pytest.raises(TypeError, match=r"Params\.weights is being traced"):
        jax.jit(lambda w: save(Params(w, None), tmp_path / "file"))(1.0)


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_an_error_leaves_the_old_file(small, monkeypatch, function, error):
    old = load(small)

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(type(error)):
            save(old._replace(bias=None), small)
    assert_same(load(small), old)
    assert os.listdir(small.parent) == ["small"]


# A child saves 1, then 2, then 3, ... until it is killed; a copy of what it leaves is kept. Only
# NumPy computes, so that the process has no threads and may fork.
SAVES_AND_KILLS = """
import itertools, os, random, shutil, signal, sys, time
import numpy as np
from linreg_jax import Params
from linreg_jax.saving import save

path, kills = sys.argv[1], int(sys.argv[2])
chance = random.Random(0)
for kill in range(kills):
    save(Params(np.zeros(300_000, "int32"), np.int32(0)), path)
    child = os.fork()
    if child == 0:
        for number in itertools.count(1):
            save(Params(np.full(300_000, number, "int32"), np.int32(number)), path)
    time.sleep(chance.uniform(0.05, 0.3))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    shutil.copy(path, f"{path}{kill}")
"""


def test_a_killed_process_leaves_a_whole_file(tmp_path):
    path, kills = tmp_path / "file", 8
    subprocess.run([sys.executable, "-c", SAVES_AND_KILLS, path, str(kills)], check=True)
    numbers = []
    for kill in range(kills):
        weights, number = load(f"{path}{kill}")
        assert (weights == number).all()
        numbers.append(int(number))
    assert max(numbers) > 1  # the children did get to replace files
