"""The same data in statsmodels; `api` is None where it is not installed."""

import importlib.util
import warnings
from typing import Any

import numpy as np

from benchmarks.harness import Missing
from benchmarks.minima_by_hand import Vector, with_ones
from benchmarks.problems import Problem

api: Any = (
    importlib.import_module("statsmodels.api") if importlib.util.find_spec("statsmodels") else None
)


def missing(name: str) -> list[Missing]:
    """What stands in the table where statsmodels is not installed, and nothing where it is."""
    if api is not None:
        return []
    return [Missing(name, "statsmodels is not installed: pip install statsmodels")]


def quantile(problem: Problem, level: float) -> Vector:
    """`QuantReg`, by reweighted least squares; the weights and then the bias."""
    with warnings.catch_warnings(action="ignore"):  # of cycles: its answer is compared
        return np.asarray(api.QuantReg(problem.y, with_ones(problem)).fit(q=level).params)
