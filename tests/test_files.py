"""Files that are replaced keep their permissions, long names work, and streams stay streams."""

import os
import stat
import subprocess
import sys

import jax.numpy as jnp
import pytest

from linreg_jax import Params
from linreg_jax._files import is_same_file, require_writable, write_whole
from linreg_jax.saving import load, save

LINE = Params(jnp.array([5.0]), jnp.array(30.0))


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o604])
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, mode, umask):
    path = tmp_path / "line"
    path.touch()
    path.chmod(mode)
    before = os.umask(umask)
    try:
        save(LINE, path)
        write_whole(tmp_path / "new", [b"x"])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o666 & ~umask
    assert load(path).bias == 30


def test_no_moment_shows_more_than_the_file_that_is_replaced(tmp_path, monkeypatch):
    path = tmp_path / "line"
    path.touch()
    path.chmod(0o600)
    seen = []

    def look(descriptor):
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))

    monkeypatch.setattr(os, "fsync", look)
    save(LINE, path)
    assert seen[0] == 0o600


@pytest.mark.parametrize("letter", ["a", "é", "𝄞"], ids=["1 byte", "2 bytes", "4 bytes"])
def test_the_longest_names_can_be_written_and_longer_ones_are_named(tmp_path, letter):
    longest = letter * (255 // len(letter.encode()))
    require_writable(tmp_path / longest)
    save(LINE, tmp_path / longest)
    assert load(tmp_path / longest).bias == 30
    too_long = tmp_path / (longest + letter)
    for write in (require_writable, lambda path: save(LINE, path)):
        with pytest.raises(OSError, match="too long") as raised:
            write(too_long)
        assert ".tmp" not in str(raised.value)
        assert str(too_long) in str(raised.value)
    assert os.listdir(tmp_path) == [longest]


def test_an_empty_name_is_no_folder():
    with pytest.raises(ValueError, match="path is empty: give the file a name"):
        save(LINE, "")
    with pytest.raises(ValueError, match="path is empty: give the file a name"):
        load("")


def test_two_names_of_one_file(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    assert is_same_file(one, tmp_path / "." / "one")  # not there yet
    assert not is_same_file(one, other)
    one.touch()
    other.touch()
    assert not is_same_file(one, other)
    (tmp_path / "soft").symlink_to("one")
    os.link(one, tmp_path / "hard")
    assert is_same_file(one, tmp_path / "soft")
    assert is_same_file(one, tmp_path / "hard")
    (tmp_path / "dangling").symlink_to("new")
    assert is_same_file(tmp_path / "dangling", tmp_path / "new")


WRITES = "from linreg_jax._files import *; write_whole({!r}, [b'text\\n']); require_writable({!r})"


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_written_to_as_it_stands(tmp_path, name):
    command = [sys.executable, "-c", WRITES.format(name, name)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("text\n", "")
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("a") as file:
        subprocess.run(command, stdout=file, check=True)
    assert log.read_text() == "before\ntext\n"
    assert os.listdir(tmp_path) == ["log"]


def test_a_pipe_with_a_name_is_written_to(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    command = [sys.executable, "-c", WRITES.format(str(path), str(path))]
    with subprocess.Popen(command) as process:
        assert path.read_text() == "text\n"
    assert process.returncode == 0
    assert stat.S_ISFIFO(path.stat().st_mode)
