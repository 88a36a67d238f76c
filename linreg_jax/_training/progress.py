"""Watching a run: the same program in parts, with a bar, a line of text or a call in between."""

import functools
import sys
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from linreg_jax._kernels import placed
from linreg_jax._training import loop
from linreg_jax._training.layout import Problem, Settings
from linreg_jax._training.loop import is_done
from linreg_jax._training.outcome import Carry, finish
from linreg_jax._training.rates import current_rate
from linreg_jax._training.result import Fit, Status, TrainState
from linreg_jax._validation import is_traced
from linreg_jax.model import Params

_SECONDS = 0.2  # between two looks
_init = jax.jit(loop.init, static_argnames="settings")
_finish = jax.jit(finish, static_argnames="settings")


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
      step: steps taken by this fit.
      num_steps: steps asked for.
      loss: the last one recorded; that of one mini-batch where `is_batch_loss`.
      learning_rate: the rate of the last step.
      seconds: since the first step.
      seconds_left: until the last one, if it takes all of them at this pace.
      is_batch_loss: whether the loss is that of a mini-batch and not of all examples.
    """

    step: int
    num_steps: int
    loss: float
    learning_rate: float
    seconds: float
    seconds_left: float
    is_batch_loss: bool = False

    @property
    def loss_name(self) -> str:
        """What the loss is called: "loss", or "batch loss"."""
        return "batch loss" if self.is_batch_loss else "loss"

    def __str__(self) -> str:
        return (
            f"step {self.step} of {self.num_steps}, {self.loss_name} {self.loss:.6g}, "
            f"rate {self.learning_rate:.3g}, {self.seconds_left:.0f} s left"
        )


def watched(
    problem: Problem,
    start: Params | TrainState,
    key: Array | None,
    settings: Settings,
    show: Callable[[Progress], object] | Literal[True],
) -> Fit:
    """`loop.train` in parts, bit for bit: the same periods, looked at a few times a second.

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
    bar: _Bar = _bar(settings.num_steps) if show is True else _Caller(show)
    carry = _init(problem, start, key, settings)
    carry, has_ended = _advance(problem, carry, 0, settings)  # compiles
    began = looked = time.perf_counter()
    period, periods = 0, 1
    try:
        while not has_ended:
            period = period + periods
            carry, has_ended = _advance(problem, carry, period, settings)
            now = time.perf_counter()
            pace = periods / max(now - looked, 1e-6)
            periods, looked = max(1, min(2 * periods, int(pace * _SECONDS))), now
            bar.show(_measure(problem, settings, carry, now - began))
    except KeyboardInterrupt:
        interrupted = jnp.asarray(Status.INTERRUPTED, jnp.int32)
        carry = carry._replace(state=carry.state._replace(status=interrupted))
    finally:
        bar.close()
    return _finish(problem, carry, settings)


def _advance(problem: Problem, carry: Carry, until: int, settings: Settings) -> tuple[Carry, bool]:
    """Periods, until the run is done or `until` of them are taken; and whether it is done."""
    carry, has_ended = _compiled_advance(problem, carry, placed(np.int32(until)), settings)
    return jax.block_until_ready(carry), bool(jax.device_get(has_ended))


@functools.partial(jax.jit, static_argnames="settings")
def _compiled_advance(
    problem: Problem, carry: Carry, until: ArrayLike, settings: Settings
) -> tuple[Carry, Array]:
    def continues(carry: Carry) -> Array:
        return ~is_done(carry, settings) & (carry.period < until)

    carry = lax.while_loop(continues, functools.partial(loop.period, problem, settings), carry)
    return carry, is_done(carry, settings)


def _measure(problem: Problem, settings: Settings, carry: Carry, seconds: float) -> Progress:
    step = int(carry.state.step) - int(carry.first_step)
    losses = np.asarray(carry.histories.steps.numbers)[:, 0]
    recorded = np.flatnonzero(~np.isnan(losses))
    rate = current_rate(problem.learning_rate, int(carry.state.step) - 1, problem.data.X.dtype)
    return Progress(
        step=step,
        num_steps=settings.num_steps,
        loss=float(losses[recorded[-1]]) if recorded.size else float("nan"),
        learning_rate=float(rate),
        seconds=seconds,
        seconds_left=seconds * (settings.num_steps - step) / max(step, 1),
        is_batch_loss=settings.batch_size is not None,
    )


@runtime_checkable
class _Bar(Protocol):
    """What shows a run."""

    def show(self, progress: Progress) -> object: ...

    def close(self) -> None: ...


class _Caller:
    """Hands each `Progress` to the caller's function."""

    def __init__(self, function: Callable[[Progress], object]):
        self.show = function

    def close(self) -> None:
        """Nothing was opened."""


class _Line:
    """One line of text, written over."""

    def show(self, progress: Progress) -> None:
        sys.stderr.write(f"\r{progress}\x1b[K")
        sys.stderr.flush()

    def close(self) -> None:
        sys.stderr.write("\n")


class _Tqdm:
    """A bar of tqdm."""

    def __init__(self, tqdm: Callable[..., Any], num_steps: int):
        self.bar = tqdm(total=num_steps, unit="step")

    def show(self, progress: Progress) -> None:
        loss = f"{progress.loss_name} {progress.loss:.6g}"
        rate = f"rate {progress.learning_rate:.3g}"
        self.bar.set_postfix_str(f"{loss}, {rate}", refresh=False)
        self.bar.update(progress.step - self.bar.n)

    def close(self) -> None:
        self.bar.close()


def _bar(num_steps: int) -> _Bar:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _Line()
    return _Tqdm(tqdm, num_steps)
