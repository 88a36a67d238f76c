"""What `fit_chunks` returns: `ChunkFit`, and the `ChunkState` to continue from."""

from typing import NamedTuple

from linreg_jax._training.result import DivergedError, Fit, Status, TrainState
from linreg_jax._typing import Array, Float, Int
from linreg_jax.model import Params


class ChunkState(NamedTuple):
    """Where a run over chunks is: `fit_chunks(loss, state, ...)` continues from it.

    Attributes:
      state: `TrainState`; its `step` counts from the start of the run.
      epoch: [] int32 epochs that are complete.
      chunk: [] int32 chunks of the next epoch that are.
    """

    state: TrainState
    epoch: Int[Array, ""]
    chunk: Int[Array, ""]


class ChunkFit(NamedTuple):
    """The result of `fit_chunks`.

    Attributes:
      params: `Params`, the last iterate.
      losses: [c] for each chunk of this call but those of zero weight, the mean of its batches'
        losses, each measured before its step.
      status: [] int32, a `Status`: OUT_OF_STEPS; DIVERGED, and the last finite parameters kept; or
        INCREASED, where the last of `losses` is more than ten times the first.
      state: `ChunkState`, to continue from or to save; where the run diverged, that chunk is next.
      last: the `Fit` of the last chunk; None where there was none left to train on.
    """

    params: Params
    losses: Float[Array, " c"]
    status: Int[Array, ""]
    state: ChunkState
    last: Fit | None

    def raise_if_diverged(self) -> None:
        """Raises where the run diverged: see `Fit.raise_if_diverged`.

        Raises:
          DivergedError: it did, or its loss increased.
        """
        if int(self.status) == Status.INCREASED:
            raise DivergedError(
                "the run ended with a larger loss than it began with, "
                f"{float(self.losses[0]):.6g} -> {float(self.losses[-1]):.6g} (means over chunks): "
                "pass a smaller learning_rate, or standardize the features"
            )
        if self.last is not None:
            self.last.raise_if_diverged()
