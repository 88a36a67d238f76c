"""Watching a run: the same program in parts, with a bar, a line of text or a call in between."""

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from linreg_jax._numerics import placed
from linreg_jax._training import loop
from linreg_jax._training.updates import current_rate
from linreg_jax._validation import is_traced
from linreg_jax.records import Fit, Status

_SECONDS = 0.2  # between two looks
_begin = jax.jit(loop.begin, static_argnums=3)
_set_out = jax.jit(loop.set_out, static_argnums=2)
_advance = jax.jit(loop.advance, static_argnums=3)
_finish = jax.jit(loop.finish, static_argnums=4)


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
      step: steps taken by this fit.
      num_steps: steps asked for.
      loss: the last one recorded.
      learning_rate: the rate of the last step.
      seconds: since the first step.
      seconds_left: until the last one, if it takes all of them at this pace.
    """

    step: int
    num_steps: int
    loss: float
    learning_rate: float
    seconds: float
    seconds_left: float

    def __str__(self):
        return (
            f"step {self.step} of {self.num_steps}, loss {self.loss:.6g}, "
            f"rate {self.learning_rate:.3g}, {self.seconds_left:.0f} s left"
        )


def watched(problem, start, key, settings, show: Callable[[Progress], object] | bool) -> Fit:
    """`loop.train` in parts, bit for bit: the same steps, looked at a few times a second.

    Args:
      problem, start, key, settings: as for `loop.train`.
      show: called with a `Progress` at each look; True: a bar of tqdm where it is installed, a line
        of text where it is not, on standard error.

    Returns:
      The `Fit`; after Ctrl-C that of the steps taken so far, with status INTERRUPTED.

    Raises:
      ValueError: called under a transformation, where nothing can be looked at.
    """
    if any(is_traced(leaf) for leaf in jax.tree.leaves((problem, start, key))):
        raise ValueError(
            "progress needs values to show, and a transformed fit has none before it is done: "
            "leave progress out under jax.jit, jax.vmap and jax.grad"
        )
    bar = _bar(settings.num_steps) if show is True else _Caller(show)
    state = _begin(problem, start, key, settings)
    first_step = state.step
    journey = _set_out(problem, state, settings)
    journey = jax.block_until_ready(
        _advance(problem, journey, placed(np.int32(0)), settings)
    )  # compiles
    began = looked = time.perf_counter()
    turn, turns, last_turn = 0, 1, loop.number_of_turns(problem, settings)
    try:
        while turn < last_turn and int(journey.state.status) == Status.RUNNING:
            turn = min(turn + turns, last_turn)
            journey = jax.block_until_ready(
                _advance(problem, journey, placed(np.int32(turn)), settings)
            )
            now = time.perf_counter()
            pace = turns / max(now - looked, 1e-6)
            turns, looked = max(1, min(2 * turns, int(pace * _SECONDS))), now
            bar.show(_measure(problem, settings, journey, first_step, now - began))
    except KeyboardInterrupt:
        interrupted = np.int32(Status.INTERRUPTED)
        journey = journey._replace(state=journey.state._replace(status=interrupted))
    finally:
        bar.close()
    return _finish(problem, first_step, journey.state, journey.histories, settings)


def _measure(problem, settings, journey, first_step, seconds):
    step = int(journey.state.step) - int(first_step)
    losses = np.asarray(journey.histories.losses)
    recorded = np.flatnonzero(~np.isnan(losses))
    rate = current_rate(problem.learning_rate, int(journey.state.step) - 1, problem.data.X.dtype)
    return Progress(
        step=step,
        num_steps=settings.num_steps,
        loss=float(losses[recorded[-1]]) if recorded.size else float("nan"),
        learning_rate=float(rate),
        seconds=seconds,
        seconds_left=seconds * (settings.num_steps - step) / max(step, 1),
    )


class _Caller:
    """Hands each `Progress` to the caller's function."""

    def __init__(self, function):
        self.show = function

    def close(self):
        """Nothing was opened."""


class _Line:
    """One line of text, written over."""

    def show(self, progress):
        sys.stderr.write(f"\r{progress}\x1b[K")
        sys.stderr.flush()

    def close(self):
        sys.stderr.write("\n")


class _Tqdm:
    """A bar of tqdm."""

    def __init__(self, tqdm, num_steps):
        self.bar = tqdm(total=num_steps, unit="step")

    def show(self, progress):
        self.bar.set_postfix_str(
            f"loss {progress.loss:.6g}, rate {progress.learning_rate:.3g}", refresh=False
        )
        self.bar.update(progress.step - self.bar.n)

    def close(self):
        self.bar.close()


def _bar(num_steps):
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _Line()
    return _Tqdm(tqdm, num_steps)
