"""What the tests of the command line share: a table of numbers, and how a refusal looks."""

from pathlib import Path

import numpy as np

ROWS = 60
WEIGHTS, INTERCEPT = np.array([2.0, -300.0, 0.04]), 7.0


def make_numbers() -> tuple[np.ndarray, np.ndarray]:
    """[n, 3] features of very different size, [n] targets that they give but for some noise."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, 3)) * [10, 0.1, 500] + [50, 2, 0]
    return X, X @ WEIGHTS + INTERCEPT + rng.normal(size=ROWS)


def write(path: Path, X: np.ndarray, y: np.ndarray) -> Path:
    """A CSV file of features and targets; the name of a column holds a comma."""
    rows = "".join(",".join(map(repr, row)) + "\n" for row in np.c_[X, y].tolist())
    path.write_text('size,"age, years",height,price\n' + rows)
    return path


def write_diabetes(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """`(X, y)` as their authors measured them, once they stand in a CSV file with its target."""
    from sklearn.datasets import load_diabetes  # takes a second

    data = load_diabetes(scaled=False)
    names = ",".join([*data.feature_names, "target"])
    np.savetxt(path, np.c_[data.data, data.target], delimiter=",", header=names, comments="")
    return data.data, data.target


def exact(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least squares in NumPy float64: the weights, then the intercept."""
    return np.linalg.lstsq(np.c_[X, np.ones(len(X))], y)[0]


def in_order(found: dict) -> np.ndarray:
    """The coefficients of a JSON report, then the intercept."""
    return np.array([*found["coefficients"].values(), found["intercept"]])


def assert_refused(result: tuple[int, str, str], message: str) -> None:
    """One line on standard error, with the message in it, exit code 2, and nothing printed."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("linreg-jax")
    assert err.count("\n") == 1
    assert "Traceback" not in err
