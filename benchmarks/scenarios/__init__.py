"""What is measured: each scenario gives cases, problems with those who compete on them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from benchmarks.harness import Case, Settings
from benchmarks.scenarios import (
    accuracy,
    devices,
    exact,
    first_calls,
    full_batch,
    gradients,
    growth,
    lasso,
    mini_batch,
    robust,
    streaming,
    sweep,
)


class Scenario(NamedTuple):
    """A table.

    Attributes:
      name: what `--only` takes.
      what: the heading, what is done.
      cases: settings -> the cases, each made when its turn comes.
    """

    name: str
    what: str
    cases: Callable[[Settings], Iterator[Case]]


SCENARIOS = {
    scenario.name: scenario
    for scenario in [
        Scenario(
            "full_batch",
            "Gradient descent on the mean squared error, every row in every step",
            full_batch.cases,
        ),
        Scenario(
            "robust",
            "Losses with kinks: every row in every step, and in long runs those beside a kink",
            robust.cases,
        ),
        Scenario(
            "mini_batch", "Epochs of shuffled mini-batches, mean squared error", mini_batch.cases
        ),
        Scenario("sweep", "The same descent at many learning rates", sweep.cases),
        Scenario("accuracy", "Least squares to a given accuracy, by whatever way", accuracy.cases),
        Scenario("exact", "Minima of losses that are not squared, by whatever way", exact.cases),
        Scenario("lasso", "A lasso at a hundred strengths, from the data on", lasso.cases),
        Scenario("gradients", "One value and gradient of the mean squared error", gradients.cases),
        Scenario("growth", "What doubling a problem costs", growth.cases),
        Scenario("first_calls", "First calls, each in a process of its own", first_calls.cases),
        Scenario("devices", "The same fit with its rows over devices", devices.cases),
        Scenario("streaming", "Data that come in chunks, compressed", streaming.cases),
    ]
}
