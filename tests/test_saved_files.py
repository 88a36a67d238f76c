"""The file that `save` writes: an ordinary .npz, and nothing else passes for one."""

import gc
import hashlib
import io
import json
import os
import pickle
import sys
import tracemalloc
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import Params
from linreg_jax._archive import MARK, as_archive
from linreg_jax.saving import load, save
from linreg_jax.tables import ColumnModel

VERSIONS = {"linreg-jax": "7.0", "jax": "0", "numpy": "0"}


def archive_of(members, compression=zipfile.ZIP_STORED):
    """The bytes of an archive with its checksum, as `linreg_jax._archive` describes them.

    Args:
      members: file name -> what it holds, bytes or an array.
      compression: as in `zipfile`.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            if isinstance(content, np.ndarray):
                array, content = content, io.BytesIO()
                np.save(content, array)
                content = content.getvalue()
            archive.writestr(name, content)
        archive.comment = b"sha256 " + bytes(64)
    return sealed(buffer.getvalue())


def sealed(contents):
    """The bytes with a checksum that is right."""
    return contents[:-64] + hashlib.sha256(contents[:-64]).hexdigest().encode()


def file_of(header, arrays=None, **settings):
    """The bytes of a file as the documentation of `linreg_jax.saving` lays them out."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    members = {"linreg_jax.npy": np.frombuffer(text, np.uint8)}
    members |= {f"{name}.npy": array for name, array in (arrays or {}).items()}
    return archive_of(members, **settings)


def header_of(record, file_format=1):
    return {"format": file_format, "versions": VERSIONS, "record": record}


def npy(shape, dtype="<f4", data=b""):
    """The bytes of a .npy file that says of itself what they are not."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.fixture
def small(tmp_path):
    """A small file."""
    save(Params(jnp.array([5.0, -0.0]), jnp.array(30.0)), tmp_path / "small")
    return tmp_path / "small"


def test_numpy_reads_the_file_as_documented(tmp_path):
    """Any name, and no Python objects: the arrays by their fields, and a header in JSON."""
    params = Params(jnp.array([5.0, -0.0]), jnp.array(30.0, "bfloat16"))
    save(ColumnModel(params, ("a", "b"), "y", "mse"), tmp_path / "model.of.mine")
    assert os.listdir(tmp_path) == ["model.of.mine"]
    with np.load(tmp_path / "model.of.mine", allow_pickle=False) as file:
        assert file.files == ["linreg_jax", "params.weights", "params.bias"]
        np.testing.assert_array_equal(file["params.weights"], np.float32([5, -0.0]))
        assert file["params.bias"] == np.asarray(params.bias).view("uint16")
        header = json.loads(file["linreg_jax"].tobytes())
    assert header["format"] == 1
    assert header["versions"]["jax"] == jax.__version__
    fields = header["record"]["ColumnModel"]
    assert fields["params"]["Params"]["bias"] == {"array": ["params.bias", "bfloat16"]}
    assert fields["target"] == {"value": "y"}


def test_the_same_record_makes_the_same_file(tmp_path, small):
    save(load(small), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == small.read_bytes()


def test_an_archive_in_a_cycle_is_collected_in_silence(monkeypatch):
    """As in the traceback of a write that failed; Python 3.13 complained in whatever ran next."""
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: found.append(repr(what.exc_value)))
    cycle: list = [as_archive({MARK: np.zeros(3)})]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert found == []


def test_every_flipped_bit_is_found(small):
    contents = small.read_bytes()
    for place in range(len(contents)):
        damaged = bytearray(contents)
        damaged[place] ^= 1 << place % 8
        small.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"small is (damaged|not a file)"):
            load(small)


def test_every_cut_is_found(small):
    contents = small.read_bytes()
    for length in range(len(contents)):
        small.write_bytes(contents[:length])
        with pytest.raises(ValueError, match="small is damaged or cut short"):
            load(small)
    small.write_bytes(contents + b"\0")
    with pytest.raises(ValueError, match="small is damaged"):
        load(small)


def test_foreign_files(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, X=np.ones(3))
    old = b"linreg_jax file\n" + bytes(99)
    for contents in (b"X,y\n1,2\n", pickle.dumps(Path), b"\x93NUMPY", old, buffer.getvalue()):
        (tmp_path / "other").write_bytes(contents)
        with pytest.raises(ValueError, match="other is not a file that linreg_jax saved: check"):
            load(tmp_path / "other")


def weights(place):
    return header_of({"Params": {"weights": place, "bias": None}})


ONE = np.ones(1, np.float32)
EMPTY = weights(None)
HEADER = np.frombuffer(json.dumps(weights({"array": ["weights", "float32"]})).encode(), np.uint8)
STRANGE = {
    "not JSON": file_of(b"not json"),
    "no object": file_of(b"[]"),
    "deep": file_of(b"[" * 100_000),
    "a class": file_of(header_of({"Popen": {"args": {"value": "true"}}})),
    "too few fields": file_of(header_of({"Params": {"weights": None}})),
    "too many fields": file_of(header_of({"Params": {"weights": None, "bias": None, "new": None}})),
    "no such array": file_of(weights({"array": ["weights", "float32"]})),
    "an array too many": file_of(EMPTY, {"weights": ONE}),
    "an array twice": file_of(
        header_of({"Params": {"weights": {"array": ["w", "float32"]}, "bias": {"array": ["w"]}}}),
        {"w": ONE},
    ),
    "no such key": file_of(weights({"key": ["weights", "new"]}), {"weights": np.uint32([1])}),
    "another dtype": file_of(weights({"array": ["weights", "int32"]}), {"weights": ONE}),
    "bits of another size": file_of(weights({"array": ["weights", "bfloat16"]}), {"weights": ONE}),
    "objects": file_of(weights({"array": ["weights", "object"]}), {"weights": ONE}),
    "texts": file_of(weights({"array": ["weights", "<U1"]}), {"weights": np.array(["a"])}),
    "no record": file_of(header_of({"value": 5})),
    "nothing": file_of(header_of(None)),
    "compressed": file_of(
        weights({"array": ["weights", "float32"]}),
        {"weights": np.zeros(10_000_000, np.float32)},
        compression=zipfile.ZIP_DEFLATED,
    ),
    **{
        f"an array that lies, {name}": archive_of({"linreg_jax.npy": HEADER, "weights.npy": lie})
        for name, lie in {
            "large": npy("(1000000000000,)", data=bytes(4)),
            "negative": npy("(-1,)", data=bytes(4)),
            "negative twice": npy("(-1, -1)", data=bytes(4)),
            "short": npy("(2,)", data=bytes(4)),
            "long": npy("(1,)", data=bytes(8)),
            "Python objects": npy("(1,)", "|O", pickle.dumps([Path])),
            "a record": npy("(1,)", [("a", "<f4")], bytes(4)),
            "no header": b"\x93NUMPY\x01\x00",
            "half a header": npy("(1", data=bytes(4)),
            "not even that": b"no array",
            "nothing": b"",
        }.items()
    },
}


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning")
def test_whole_files_with_what_save_never_writes(tmp_path, strange):
    """Their checksums are right: only the reader stands between them and the program."""
    (tmp_path / "strange").write_bytes(STRANGE[strange])
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="strange is whole, but this version knows no such"):
            load(tmp_path / "strange")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_an_archive_whose_members_overlap(tmp_path):
    """Many names of one large array would take more memory than the file has bytes."""
    names = [f"{i:03}" for i in range(100)]
    contents = archive_of({"linreg_jax.npy": HEADER, **{f"{n}.npy": b"" for n in names}})
    large = bytearray(archive_of({"linreg_jax.npy": HEADER, "weights.npy": bytes(200_000)}))
    entry = large.rindex(b"PK\x01\x02")
    end = large.rindex(b"PK\x05\x06")
    entries = b"".join(
        bytes(large[entry:end]).replace(b"weights.npy", f"{n}ABCD.npy".encode()) for n in names
    )
    first = large.index(b"PK\x01\x02")
    size = (entry - first) + len(entries)
    count = (1 + len(names)).to_bytes(2, "little")
    ending = bytes(large[end : end + 8]) + count + count + size.to_bytes(4, "little")
    overlapping = bytes(large[:entry]) + entries + ending + bytes(large[end + 16 :])
    assert len(zipfile.ZipFile(io.BytesIO(overlapping)).infolist()) == 101
    assert len(contents) < len(overlapping) < 250_000
    (tmp_path / "strange").write_bytes(sealed(overlapping))
    with pytest.raises(ValueError, match="its arrays are larger than the file"):
        load(tmp_path / "strange")


@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning")
def test_no_damage_passes_even_with_a_right_checksum(small):
    """Another record, or our own error; nothing else is raised."""
    contents, rng, num_refused = small.read_bytes(), np.random.default_rng(0), 0
    for place in rng.integers(50, len(contents) - 64, 400).tolist():
        damaged = bytearray(contents)
        damaged[place] ^= int(rng.integers(1, 256))
        small.write_bytes(sealed(bytes(damaged)))
        try:
            record = load(small)
        except ValueError:
            num_refused += 1
        else:
            assert isinstance(record, Params)
    assert num_refused > 100


def test_a_newer_format(tmp_path):
    (tmp_path / "new").write_bytes(
        file_of(header_of({"unheard": "of"}, file_format=2), {"of": ONE})
    )
    with pytest.raises(ValueError, match=r"new has format 2, .* reads format 1: install .* 7\.0"):
        load(tmp_path / "new")
