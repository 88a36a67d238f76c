"""What a training run leaves behind: `Fit`, the `TrainState` to go on from, and a `Status`."""

import enum
import math
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from linreg_jax._validation import is_traced, shape_text
from linreg_jax.model import Params


class Status(enum.IntEnum):
    """Why a run ended. Records hold it as an int32 array, so that a mapped fit has one a run.

    Attributes:
      RUNNING: 0, not ended: only inside the loop.
      OUT_OF_STEPS: 1, all the steps asked for were taken.
      CONVERGED: 2, the gradient's norm came down to the tolerance.
      STOPPED_EARLY: 3, the validation loss stopped improving.
      DIVERGED: 4, a loss, gradient or parameter was not finite; the last finite parameters were
        kept.
      INTERRUPTED: 5, Ctrl-C, while a progress bar was shown.

    Example:
      >>> Status(2)
      <Status.CONVERGED: 2>
    """

    RUNNING = 0
    OUT_OF_STEPS = 1
    CONVERGED = 2
    STOPPED_EARLY = 3
    DIVERGED = 4
    INTERRUPTED = 5


class DivergedError(RuntimeError):
    """A run whose numbers left the finite ones; see `Fit.raise_if_diverged`."""


class TrainState(NamedTuple):
    """What the next step needs, as plain arrays: `fit(loss, state, data, ...)` goes on from it.

    Attributes:
      params: `Params`, the last iterate.
      optimizer_state: the arrays of the optax state, in the order of `jax.tree.leaves`.
      key: [2] uint32, what the order of the mini-batches is drawn from; None for full batches.
      step: [] int32 steps taken since the first fit.
      status: [] int32, a `Status`.
      average: `Params`, the mean of the iterates; None unless `average_from` was given.
      num_averaged: [] int32 how many iterates `average` holds; None likewise.
      best: `Params` with the smallest validation loss; None unless the run may stop on it.
      best_loss: [] that loss; None likewise.
      num_waited: [] int32 validation losses since the last one that improved; None likewise.
    """

    params: Params
    optimizer_state: tuple[Array, ...]
    key: Array | None
    step: Array
    status: Array
    average: Params | None = None
    num_averaged: Array | None = None
    best: Params | None = None
    best_loss: Array | None = None
    num_waited: Array | None = None


class Fit(NamedTuple):
    """The result of `fit`. A mapped fit has one more leading axis everywhere.

    Histories keep the shape that the arguments ask for: where a run ended sooner, the rest is NaN.

    Attributes:
      params: `Params`, fitted: the best ones on the validation data where the run may stop on it,
        the last ones otherwise.
      losses: [m] the loss (a mini-batch: that batch's) before step 0, record_every, 2 record_every,
        ...: `losses[0]` is where the fit started.
      gradient_norms: [m] the Euclidean norm of the gradient, at the same steps.
      validation_losses: the loss on the validation data, after each record_every steps or each
        epoch of mini-batches; None without validation data.
      path: `Params` [m, ...], the parameters at the steps of `losses`; None unless recorded.
      num_steps: [] int32 steps taken by this fit.
      status: [] int32, a `Status`.
      learning_rate: [] the rate that was given for the last step; an optimizer such as `adaptive()`
        may have taken less.
      largest_stable_rate: [] where the run diverged and the loss is squared, the largest rate at
        which plain gradient descent on all the data does not; NaN otherwise.
      state: `TrainState`, to go on from or to save.
    """

    params: Params
    losses: Array
    gradient_norms: Array
    validation_losses: Array | None
    path: Params | None
    num_steps: Array
    status: Array
    learning_rate: Array
    largest_stable_rate: Array
    state: TrainState

    @property
    def average(self) -> Params | None:
        """The mean of the iterates (Polyak), or None where `average_from` was not given."""
        return self.state.average

    def raise_if_diverged(self) -> None:
        """Raises where a run diverged: which step, at which rate, and a rate that would not.

        Raises:
          DivergedError: the run, or one of the mapped runs, diverged.
          TypeError: called under a transformation, where the status is not known yet.
        """
        if is_traced(self.status):
            raise TypeError(
                "raise_if_diverged needs values: call it on what the transformed function returns, "
                "or keep the status and look at it there"
            )
        diverged = np.asarray(self.status) == Status.DIVERGED
        if diverged.any():
            run = tuple(np.argwhere(diverged)[0].tolist())
            raise DivergedError(_divergence_text(self, run, int(diverged.sum())))

    def __repr__(self):
        if is_traced(self.status) or np.ndim(self.status) > 0:
            shapes = jax.tree.map(lambda leaf: shape_text(leaf.shape), self.params)
            return f"Fit(status {shape_text(self.status.shape)}, params {shapes})"
        ended = Status(int(self.status)).name.lower().replace("_", " ")
        recorded = np.asarray(self.losses)
        recorded = recorded[~np.isnan(recorded)]
        losses = "" if recorded.size == 0 else f", loss {recorded[0]:.6g} -> {recorded[-1]:.6g}"
        return f"Fit({ended} after {int(self.num_steps)} steps{losses})"


def _divergence_text(fit, run, num_diverged):
    """The whole story of one diverged run, in sentences."""
    state = fit.state
    step = int(np.asarray(state.step)[run])
    rate = float(np.asarray(fit.learning_rate)[run])
    stable = float(np.asarray(fit.largest_stable_rate)[run])
    which = "the run"
    if run:
        place = run[0] if len(run) == 1 else shape_text(run)
        which = f"run {place} (one of {num_diverged} that did)"
    text = f"{which} diverged at step {step} with learning rate {rate:.6g}"
    if step == 0:
        return f"{text}: the loss or its gradient is not finite at the start; check data and params"
    if math.isnan(stable):
        return f"{text}: try a smaller one, or standardize the features"
    if rate < stable:
        return (
            f"{text}: plain gradient descent on all the data is stable up to {stable:.6g}, but "
            "mini-batches, momentum and other optimizers may need less; pass a smaller one"
        )
    return (
        f"{text}: the largest stable rate of gradient descent on these data is {stable:.6g}; "
        "pass a smaller one; on standardized features it is often larger"
    )
