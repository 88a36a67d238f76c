"""What is measured: each scenario gives cases, problems with those who compete on them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from benchmarks.harness import Case, Settings
from benchmarks.scenarios import (
    accuracy,
    full_batch,
    gradients,
    growth,
    mini_batch,
    robust,
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
        Scenario("full_batch", "Mean squared error, full batches", full_batch.cases),
        Scenario("robust", "Absolute and Huber loss, full batches", robust.cases),
        Scenario("mini_batch", "Mean squared error, shuffled mini-batches", mini_batch.cases),
        Scenario("sweep", "A sweep of learning rates", sweep.cases),
        Scenario("accuracy", "To a given accuracy", accuracy.cases),
        Scenario("gradients", "One value and gradient of the mean squared error", gradients.cases),
        Scenario("growth", "Doubling a problem, and first calls", growth.cases),
    ]
}
