"""The command line on columns far from 0 beside their spread, and on a single row."""

import json
import re

import numpy as np
import pytest

from tests.command_line import ROWS

FAR = {
    "unix": 1.7e9 + np.sort(np.random.default_rng(3).uniform(0, 3600, ROWS)),
    "near": 1e6 + 0.4 * np.random.default_rng(4).normal(size=ROWS),
    "equal in float32": 1e9 + np.arange(ROWS) / ROWS,
}


@pytest.mark.parametrize("name", FAR)
def test_features_far_from_zero_are_centred_before_they_are_rounded(run, tmp_path, name):
    rng, path = np.random.default_rng(5), tmp_path / "far.csv"
    x = FAR[name]
    y = 3 * (x - x.mean()) / x.std() + rng.normal(size=ROWS)
    path.write_text(
        "x,y\n" + "".join(f"{a!r},{b!r}\n" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    )
    code, out, err = run("fit", path, "--target", "y", "--test-fraction", "0.2", "--json", "-")
    assert (code, err) == (0, "")
    found = json.loads(out)
    slope = found["exact"]["coefficients"]["x"]
    # The rows that are left to train on are some of these, with residuals of deviation 1.
    assert abs(slope * x.std() / 3 - 1) < 0.4
    residuals = y - slope * (x - x.mean())
    assert abs(found["test"]["loss"] / residuals.var() - 1) < 1
    code, out, err = run("fit", path, "--target", "y", "--json", "-")
    wanted = np.polyfit(x - x.mean(), y, 1)[0]
    assert (code, err) == (0, "")
    assert abs(json.loads(out)["exact"]["coefficients"]["x"] / wanted - 1) < 1e-5


def test_digits_that_float32_has_lost_are_warned_of(run, tmp_path):
    path = tmp_path / "far.csv"
    rows = zip(FAR["unix"].tolist(), FAR["near"].tolist(), strict=True)
    path.write_text("x,y\n" + "".join(f"{a!r},{b!r}\n" for a, b in rows))
    _, _, err = run("diagnose", path, "--target", "y")
    assert re.search(
        r"warning: 'x' varies by .* about 1.7e\+09, of which float32 keeps 0 digits", err
    )
    assert err.count("warning: 'y' varies by") == err.count("warning: 'x' varies by") == 1
    assert "pass --float64" in err
    assert "varies" not in run("diagnose", path, "--target", "y", "--float64")[2]
    whole = tmp_path / "whole.csv"  # whole numbers that float32 holds lose nothing
    whole.write_text("x,y\n" + "".join(f"{5_400_000 + i},{i % 7}\n" for i in range(ROWS)))
    assert "varies" not in run("diagnose", whole, "--target", "y")[2]


def test_one_row(run, tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("x,y\n1,2\n")
    for command in ("fit", "diagnose"):
        code, _, err = run(command, path, "--target", "y")
        assert code == 0
        warning = "linreg-jax: warning: constant, so the intercept does the same: x"
        assert err.splitlines() == [warning]  # once, though diagnose looks at two scales
