"""The runs to draw, as one list, and what to call each."""

from collections.abc import Iterable, Sequence

import numpy as np

from linreg_jax._plotting.ticks import number_text
from linreg_jax._training.result import Fit
from linreg_jax._validation import kind_text


def as_fits(fits: Fit | Iterable[Fit | Sequence[Fit]]) -> list[Fit]:
    """Results of `fit` as one list, out of one, of several and of lists of them.

    Raises:
      TypeError: something else among them.
    """
    if isinstance(fits, Fit):
        return [fits]
    runs: list[Fit] = []
    for run in fits:
        if isinstance(run, Fit):
            runs.append(run)
        elif isinstance(run, (list, tuple)) and all(isinstance(one, Fit) for one in run):
            runs.extend(run)
        else:
            raise TypeError(f"fits must be what fit returned, got {kind_text(run)}")
    return runs


def labels_of(fits: Sequence[Fit], labels: Sequence[str] | None) -> list[str]:
    """What to call each of some fits.

    Raises:
      ValueError: not one label a fit.
    """
    if labels is None:
        rates = [float(np.ravel(run.learning_rate)[0]) for run in fits]
        return [f"learning rate {number_text(rate, 3)}" for rate in rates]
    if len(labels) != len(fits):
        raise ValueError(f"labels must name the {len(fits)} fits, got {len(labels)}: {labels}")
    return list(labels)
