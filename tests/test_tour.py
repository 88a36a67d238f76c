"""The tour: its numbers are those of the worked examples, and it ends in a page of pictures."""

import numpy as np

from linreg_jax import tour as tour_module


def test_the_tour_prints_the_worked_examples_and_draws_a_page(capsys, tmp_path):
    path = tmp_path / "tour.png"
    assert tour_module.tour(path) == 0
    printed = capsys.readouterr().out
    assert [line[:2] for line in printed.splitlines() if line[:1].isdigit()] == [
        f"{number}." for number in range(1, 10)
    ]
    words = [line.split() for line in printed.splitlines()]
    for way in ("by loops", "vectorised, Xᵀr", "jax.grad", "finite differences"):
        assert [*way.split(), "2230", "-260", "-114"] in words
    largest = np.linalg.eigvalsh([[20, 6], [6, 3]])[-1]  # of [x 1]ᵀ[x 1], x = 0, 2, 4
    for loss, scale in (("mse", 2 / 3), ("half_mse", 1 / 3), ("sse", 2), ("half_sse", 1)):
        [said] = [line[3] for line in words if line[:1] == [loss] and len(line) == 4]
        np.testing.assert_allclose(float(said), 2 / (scale * largest), rtol=1e-3)
    assert "one step with rate 0.01: slope 3.6, intercept 1.14" in printed
    assert ["mae", "5", "30"] in words
    outlier = np.polyfit([0, 2, 4, 1, 3], [30, 40, 50, 35, 450], 1)
    assert ["mse", *(f"{number:.4g}" for number in outlier)] in words
    assert "Steps of 1.1: DIVERGED" in printed
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_command_line_takes_the_tour(run, tmp_path, monkeypatch):
    """What it prints is tested above."""
    seen = []
    monkeypatch.setattr("linreg_jax.tour.tour", lambda picture: seen.append(picture) or 0)
    path = str(tmp_path / "page.png")
    assert run("--tour", "--plot", path) == (0, "", "")
    assert run("--tour") == (0, "", "")
    assert seen == [path, "tour.png"]
    code, _, err = run("--tour", "--plot", tmp_path / "page.xyz")
    assert code == 2
    assert "no kind of picture in its name" in err
