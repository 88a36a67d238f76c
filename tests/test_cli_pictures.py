"""The pictures that the command line draws."""

import os
import sys

import jax
import matplotlib
import pytest

from tests.command_line import assert_refused


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("surface", ("--over", "height,intercept")),
        ("learning-rates", ("--rates", "0.1,0.6", "--steps", "5")),
        ("losses", ()),
        ("fit", ()),
    ],
)
def test_plot_draws_a_picture(run, table, kind, options):
    path = table.with_suffix(".png")
    arguments = ("plot", table, "--target", "price", "--kind", kind, "--out", path)
    assert run(*arguments, *options) == (0, f"{path}\n", "")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000
    assert sorted(os.listdir(path.parent)) == ["table.csv", "table.png"]


def test_fit_plot_and_a_picture_without_matplotlib(run, table, monkeypatch):
    path = table.with_suffix(".svg")
    assert run("fit", table, "--target", "price", "--plot", path)[0] == 0
    assert "<svg" in path.read_text()[:500]
    monkeypatch.setitem(sys.modules, "linreg_jax._cli.pictures", None)
    refused = run("fit", table, "--target", "price", "--plot", path)
    assert_refused(refused, "needs matplotlib: pip install matplotlib")


def test_the_demonstration_is_there_without_a_command(run, tmp_path, monkeypatch):
    """What it prints has tests of its own."""
    seen = []
    monkeypatch.setattr(
        "linreg_jax.demonstration.demonstrate",
        lambda **settings: seen.append((settings, jax.config.jax_enable_x64)) or 0,
    )
    path = tmp_path / "hubble.png"
    assert run() == (0, "", "")
    assert run("--seed", 3, "--float64", "--plot", path) == (0, f"\npicture: {path}\n", "")
    assert seen == [({"seed": None}, False), ({"seed": 3}, True)]
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_losses_of_mini_batches_are_called_so(run, table):
    path = table.with_suffix(".svg")
    losses = ("plot", table, "--target", "price", "--kind", "losses", "--out", path)
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # text as text
        assert run(*losses, "--epochs", 2, "--batch-size", 16)[0] == 0
        assert ">mse of a mini-batch<" in path.read_text()
        assert run(*losses)[0] == 0
        assert ">mse<" in path.read_text()


def test_a_film_is_written_as_every_other_file(run, table, tmp_path):
    """Its permissions are those of the file that it replaces, and its name may be long."""
    path = tmp_path / ("a" * 251 + ".gif")
    path.touch()
    path.chmod(0o600)
    (tmp_path / "link.gif").symlink_to(path)
    film = ("--kind", "animation", "--features", "size", "--steps", 3)
    code, _, err = run("plot", table, "--target", "price", *film, "--out", tmp_path / "link.gif")
    assert (code, err) == (0, "")
    assert path.read_bytes().startswith(b"GIF89a")
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "link.gif").is_symlink()
    assert len(os.listdir(tmp_path)) == 3
