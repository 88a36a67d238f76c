"""Compiled programs kept between runs of the command line, and answers that need no JAX."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from linreg_jax._cli.compiled import keep_programs, programs_folder, remove_oldest

JAX_SETTINGS = ("JAX_COMPILATION_CACHE_DIR", "LINREG_JAX_CACHE_DIR", "LINREG_JAX_NO_CACHE")


@pytest.fixture
def environment(tmp_path):
    """The process's environment, with a cache folder of the test's own."""
    kept = {name: value for name, value in os.environ.items() if name not in JAX_SETTINGS}
    kept.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return kept | {"XDG_CACHE_HOME": str(tmp_path), "MPLBACKEND": "Agg"}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("x,y\n" + "".join(f"{i},{2 * i + i % 3}\n" for i in range(20)))
    return path


def run(environment, *arguments):
    command = [sys.executable, "-m", "linreg_jax", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def programs(folder):
    return sorted(folder.glob("linreg-jax/programs-*/*"))


def test_programs_are_kept_and_found_again_without_a_word(environment, table, tmp_path):
    if sys.platform != "linux":
        pytest.skip("the folder of another system is under the home")
    first = run(environment, "diagnose", table, "--target", "y")
    kept = programs(tmp_path)
    written = {path: path.stat().st_mtime_ns for path in kept}
    second = run(environment, "diagnose", table, "--target", "y")
    assert kept
    assert programs(tmp_path) == kept
    assert {path: path.stat().st_mtime_ns for path in kept} == written
    assert (first.returncode, first.stderr) == (0, "")
    assert (second.returncode, second.stderr, second.stdout) == (0, "", first.stdout)
    for path in kept:  # damaged entries cost the compile, and no more
        path.write_bytes(path.read_bytes()[:100])
    third = run(environment, "diagnose", table, "--target", "y")
    assert (third.returncode, third.stderr, third.stdout) == (0, "", first.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["option", "option before", "variable", "folder"])
def test_nothing_is_kept_where_that_is_asked_for_or_cannot_be(how, environment, table, tmp_path):
    arguments = ["diagnose", table, "--target", "y"]
    if how == "option":
        arguments += ["--no-cache"]
    elif how == "option before":
        arguments = ["--no-cache", *arguments]
    elif how == "variable":
        environment["LINREG_JAX_NO_CACHE"] = "1"
    else:
        environment["LINREG_JAX_CACHE_DIR"] = str(table)  # a file, where a folder cannot be made
    done = run(environment, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert not programs(tmp_path)


def test_help_and_wrong_options_do_not_import_jax(environment):
    program = (
        "import sys; from linreg_jax.cli import main\n"
        "try: main({arguments})\n"
        "except SystemExit: pass\n"
        "assert not {{'jax', 'numpy', 'optax'}} & set(sys.modules)"
    )
    for arguments in (["--help"], ["fit", "--help"], ["fit", "a.csv", "--steps", "0"]):
        code = program.format(arguments=arguments)
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_a_process_that_has_jax_keeps_its_own_settings(monkeypatch):
    for name in JAX_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    keep_programs()
    assert dict(os.environ) == before


def test_the_folder_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("LINREG_JAX_CACHE_DIR", str(tmp_path))
    assert programs_folder().parent == tmp_path
    monkeypatch.delenv("LINREG_JAX_CACHE_DIR")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, as its specification says
    assert programs_folder().parent == Path("~/.cache/linreg-jax").expanduser()


def test_the_oldest_programs_go_where_there_are_too_many_bytes(tmp_path):
    folder = tmp_path / "programs-1"
    folder.mkdir()
    for age in range(10):
        path = folder / str(age)
        path.write_bytes(b"x" * 10)
        os.utime(path, (1000 - age, 1000 - age))
    remove_oldest(tmp_path, 100)
    assert len(list(folder.iterdir())) == 10
    remove_oldest(tmp_path, 99)
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1", "2", "3"]
