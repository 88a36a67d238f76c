"""What a training run returns: `Fit`, the `TrainState` to continue from, and a `Status`."""

import enum
import math
from typing import NamedTuple

import jax
import numpy as np

from linreg_jax._typing import Array, Bool, Float, Int, UInt32
from linreg_jax._validation import is_traced, shape_text
from linreg_jax.model import Params


class Status(enum.IntEnum):
    """Why a run ended. `Fit` and `TrainState` hold it as an int32 array, of a mapped fit one a run.

    Attributes:
      RUNNING: 0, not ended: only inside the loop.
      OUT_OF_STEPS: 1, all the steps asked for were taken.
      CONVERGED: 2, the gradient's norm came down to the tolerance.
      STOPPED_EARLY: 3, the validation loss stopped improving.
      DIVERGED: 4, the loss or a parameter was not finite; the last finite parameters were kept.
      INTERRUPTED: 5, Ctrl-C, while a progress bar was shown.
      INCREASED: 6, all steps were taken, and the loss of all examples ended larger than it began:
        by more than rounding for full batches, more than twice as large for mini-batches.
      VALIDATION_NOT_FINITE: 7, the loss on the validation data was not finite, in a run that may
        stop on it.

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
    INCREASED = 6
    VALIDATION_NOT_FINITE = 7


class DivergedError(RuntimeError):
    """A run whose loss grew, or was not finite any more; see `Fit.raise_if_diverged`."""


class Average(NamedTuple):
    """The mean of iterates (Polyak).

    Attributes:
      params: `Params`, their mean; before the first of them, the last iterate.
      num_steps: [] int32 how many it holds.
    """

    params: Params
    num_steps: Int[Array, "*runs"]


class Best(NamedTuple):
    """The best iterate so far on validation data, where the run may stop on them.

    Attributes:
      params: `Params` with the smallest validation loss.
      loss: [] that loss.
      num_waited: [] int32 validation losses since the last one that improved.
    """

    params: Params
    loss: Float[Array, "*runs"]
    num_waited: Int[Array, "*runs"]


class Anchor(NamedTuple):
    """Where a run that folds its rows stands, at one level of folding.

    Attributes:
      params: `Params` that the rows are folded at; where they are not, those at `step`.
      is_folded: [] bool, whether they are.
      step: [] int32 the step that this was at.
      wait: [] int32 steps from there until folding is considered; 0 for at once.
      reach: [] how far the parameters have been from there.
    """

    params: Params
    is_folded: Bool[Array, "*runs"]
    step: Int[Array, "*runs"]
    wait: Int[Array, "*runs"]
    reach: Float[Array, "*runs"]


class TrainState(NamedTuple):
    """What the next step needs, as plain arrays: `fit(loss, state, data, ...)` continues from it.

    Attributes:
      params: `Params`, the last iterate.
      optimizer_state: the arrays of the optax state, in the order of `jax.tree.leaves`.
      key: [2] uint32, what the order of the mini-batches is drawn from; None for full batches.
      step: [] int32 steps taken since the first fit.
      status: [] int32, a `Status`.
      average: `Average` of the iterates; None unless `average_from` was given.
      best: `Best` iterate; None unless the run may stop on validation data.
      anchors: an `Anchor` for each level of a run that folds its rows; None where none does.
    """

    params: Params
    optimizer_state: tuple[Array, ...]
    key: UInt32[Array, "*runs 2"] | None
    step: Int[Array, "*runs"]
    status: Int[Array, "*runs"]
    average: Average | None = None
    best: Best | None = None
    anchors: tuple[Anchor, ...] | None = None


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
      initial_loss: [] the loss of all examples at the start; for mini-batches NaN where the run has
        fewer steps than an epoch.
      final_loss: [] the same at `params`.
      num_steps: [] int32 steps taken by this fit.
      status: [] int32, a `Status`.
      learning_rate: [] the rate that was given for the last step; an optimizer such as `adaptive()`
        may have taken less.
      largest_stable_rate: [] where the run diverged or its loss increased and the loss is squared,
        the largest rate at which plain gradient descent on all the data does not; NaN otherwise.
      state: `TrainState`, to continue from or to save.
    """

    params: Params
    losses: Float[Array, "*runs m"]
    gradient_norms: Float[Array, "*runs m"]
    validation_losses: Float[Array, "*runs v"] | None
    path: Params | None
    initial_loss: Float[Array, "*runs"]
    final_loss: Float[Array, "*runs"]
    num_steps: Int[Array, "*runs"]
    status: Int[Array, "*runs"]
    learning_rate: Float[Array, "*runs"]
    largest_stable_rate: Float[Array, "*runs"]
    state: TrainState

    @property
    def average(self) -> Params | None:
        """The mean of the iterates (Polyak), or None where `average_from` was not given.

        Where the run ended before the first of them, it is the last iterate.
        """
        return None if self.state.average is None else self.state.average.params

    def raise_if_diverged(self) -> None:
        """Raises where a run exploded: which step, at which rate, and a rate that would not.

        Raises:
          DivergedError: the run, or one of the mapped runs, has status DIVERGED, INCREASED or
            VALIDATION_NOT_FINITE.
          TypeError: called under a transformation, where the status is not known yet.
        """
        if is_traced(self.status):
            raise TypeError(
                "raise_if_diverged needs values: call it on what the transformed function returns, "
                "or keep the status and look at it there"
            )
        failed = np.isin(np.asarray(self.status), _FAILURES)
        if failed.any():
            run = tuple(np.argwhere(failed)[0].tolist())
            raise DivergedError(_failure_text(self, run, int(failed.sum())))

    def __repr__(self) -> str:
        if is_traced(self.status) or np.ndim(self.status) > 0:
            shapes = jax.tree.map(lambda leaf: shape_text(leaf.shape), self.params)
            return f"Fit(status {shape_text(self.status.shape)}, params {shapes})"
        status = Status(int(self.status))
        name = status.name.replace("_", " ")
        ended = name if status in _FAILURES else name.lower()
        parts = [f"{ended} after {int(self.num_steps)} steps"]
        initial, final = float(self.initial_loss), float(self.final_loss)
        if not math.isnan(final):
            parts.append(f"loss {initial:.6g} -> {final:.6g}")
        losses = np.asarray(self.losses)
        losses = losses[~np.isnan(losses)]
        if losses.size and losses[0] != initial:  # those of mini-batches
            parts.append(f"batch losses {losses[0]:.6g} -> {losses[-1]:.6g}")
        return f"Fit({', '.join(parts)})"


_FAILURES = (Status.DIVERGED, Status.INCREASED, Status.VALIDATION_NOT_FINITE)


def _failure_text(fit: Fit, run: tuple[int, ...], num_failed: int) -> str:
    """The whole story of one run that exploded, in sentences."""
    status, step, rate, stable, initial, final = (
        np.asarray(value)[run].item()
        for value in (
            fit.status,
            fit.state.step,
            fit.learning_rate,
            fit.largest_stable_rate,
            fit.initial_loss,
            fit.final_loss,
        )
    )
    which = "the run"
    if run:
        place = run[0] if len(run) == 1 else shape_text(run)
        which = f"run {place} (one of {num_failed} that did)"
    if status == Status.VALIDATION_NOT_FINITE:
        return f"{which} ended at step {step}: the loss on the validation data is not finite"
    if status == Status.INCREASED:
        text = (
            f"{which} ended with a larger loss than it began with, {initial:.6g} -> {final:.6g} "
            f"at step {step} with learning rate {rate:.6g}"
        )
    else:
        text = f"{which} diverged at step {step} with learning rate {rate:.6g}"
        if step == 0:
            return (
                f"{text}: the loss or its gradient is not finite at the start; "
                "check data and params"
            )
    if math.isnan(stable):
        return f"{text}: try a smaller one, or standardize the features"
    if rate < stable:
        return (
            f"{text}: plain descent on all data is stable up to {stable:.6g}, mini-batches and "
            "momentum may need less; pass a smaller one, or check_gradients of a gradient of yours"
        )
    return (
        f"{text}: the largest stable rate of gradient descent on these data is {stable:.6g}; "
        "pass a smaller one; on standardized features it is often larger"
    )
