"""The embedded data: Hubble's nebulae of 1929."""

import csv
import math
from importlib import resources
from pathlib import Path

from linreg_jax.dataset import Dataset, as_dataset

HUBBLE_COLUMNS = ["distance_mpc", "velocity_kms"]


def load_hubble(path: Path | None = None) -> Dataset:
    """Distance (Mpc, X [24, 1]) and radial velocity (km/s, y [24]) of 24 nebulae.

    Source: E. Hubble 1929, Proceedings of the National Academy of Sciences 15, 168, table 1. The
    least-squares slope, 454.158 km/s/Mpc, was the first measurement of the expansion of the
    universe (several times too steep: the distances were too short).

    Args:
      path: another file of the same two columns; None: the embedded one.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not the table; the message names the line.

    Example:
      >>> data = load_hubble()
      >>> data.X.shape, float(data.y[0])
      ((24, 1), 170.0)
    """
    source = resources.files(__name__) / "hubble_1929.csv" if path is None else path
    if not source.is_file():
        raise FileNotFoundError(f"{source} is missing: reinstall linreg_jax to restore its data")
    rows = list(csv.reader(source.read_text(encoding="utf-8").splitlines()))
    if not rows or rows[0] != HUBBLE_COLUMNS:
        header = ",".join(rows[0]) if rows else "nothing"
        raise ValueError(f"{source}, line 1: expected {','.join(HUBBLE_COLUMNS)}, got {header}")
    numbers = []
    for line, row in enumerate(rows[1:], start=2):
        try:
            distance, velocity = (float(cell) for cell in row)
        except ValueError:
            raise ValueError(f"{source}, line {line}: expected two numbers, got {row}") from None
        if not (math.isfinite(distance) and math.isfinite(velocity)):
            raise ValueError(f"{source}, line {line}: expected finite numbers, got {row}")
        numbers.append((distance, velocity))
    if not numbers:
        raise ValueError(f"{source} has a header and no rows: reinstall linreg_jax to restore it")
    distances, velocities = zip(*numbers, strict=True)
    return as_dataset([[distance] for distance in distances], velocities)
