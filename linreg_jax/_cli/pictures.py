"""The pictures that the command line draws, into files."""

import functools
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from linreg_jax import plotting
from linreg_jax._cli.job import Job, is_smooth, recorded_every, steps_to_take, train
from linreg_jax._plotting.rate_plots import rate_axes
from linreg_jax._training.result import Fit
from linreg_jax.checking import check_gradients
from linreg_jax.data import load_hubble
from linreg_jax.diagnosis import diagnose
from linreg_jax.losses import mse
from linreg_jax.model import init_params
from linreg_jax.training import fit

Over = tuple[int | str, int | str]
"""Two parameters: numbers of features, or "bias"."""

_STEPS = 100  # of a path, unless the arguments say otherwise


def require_format(path: str, *, is_film: bool) -> None:
    """Raises where a file of such a name cannot be drawn.

    Raises:
      ValueError: another kind of file, or an .mp4 without ffmpeg.
    """
    if is_film:
        plotting.film_writer(Path(path), 12)
        return
    known = Figure().canvas.get_supported_filetypes()
    suffix = Path(path).suffix.lower().lstrip(".")
    if suffix not in known:
        raise ValueError(f"{path} has no kind of picture in its name: end it in .png, .pdf or .svg")


def draw(arguments: Namespace, job: Job) -> None:
    """The picture of `linreg-jax plot`.

    Raises:
      DivergedError: a fit to draw that is none; the other kinds show how a run diverges.
    """
    over = None if arguments.over is None else _over(arguments.over, job)
    if arguments.kind == "animation":
        _animate(arguments, job, over)
        return
    if arguments.kind == "learning-rates":
        _write(_draw_learning_rates(arguments, job, over), arguments.out)
        return
    figure = Figure(layout="constrained")
    ax = figure.subplots()
    if arguments.kind == "surface":
        runs = [_run(arguments, job, rate, record=True) for rate in _rates(arguments, job)]
        plotting.plot_surface(
            job.loss, job.data, runs, over=over, ax=ax, feature_names=job.trained_on
        )
    elif arguments.kind == "losses":
        runs = [_run(arguments, job, rate, record=False) for rate in _rates(arguments, job)]
        every = _recorded_every(arguments, job)
        plotting.plot_losses(*runs, loss_name=_loss_name(arguments, job), record_every=every, ax=ax)
    elif arguments.kind == "fit":
        _draw_line(arguments, job, ax)
    else:
        scale = float(np.std(job.data.y)) or 1.0
        params = init_params(job.data, key=jax.random.key(arguments.seed), scale=scale)
        plotting.plot_gradient_check(check_gradients(job.loss, params, job.data), ax=ax)
    _write(figure, arguments.out)


def _animate(arguments: Namespace, job: Job, over: Over | None) -> None:
    # The best rate of one feature would be there in a single step.
    slow = None if arguments.learning_rate else _telling_rates(job, arguments)[0]
    plotting.animate(
        _run(arguments, job, _first_rate(arguments) or slow, record=True),
        job.data,
        arguments.out,
        loss=job.loss,
        over=over,
        target_name=job.target,
        record_every=_recorded_every(arguments, job),
        feature_names=job.trained_on,
    )


def _draw_learning_rates(arguments: Namespace, job: Job, over: Over | None) -> Figure:
    shown = arguments.rates or _rates_around(job, (0.1, 0.6, 1.02))
    figure = Figure(figsize=(8.0, 4.0 + 3.2 * -(-len(shown) // 3)), layout="constrained")
    draw_rates = functools.partial(
        plotting.plot_learning_rates, over=over, feature_names=job.trained_on
    )
    if arguments.steps is not None:
        draw_rates = functools.partial(draw_rates, num_steps=arguments.steps)
    draw_rates(job.loss, job.data, shown, ax=rate_axes(figure, len(shown)))
    return figure


def _draw_line(arguments: Namespace, job: Job, ax: Axes) -> None:
    result = train(job, arguments, rate=_first_rate(arguments))
    result.raise_if_diverged()
    plotting.plot_fit(
        result.params, job.data, feature_names=job.trained_on, target_name=job.target, ax=ax
    )


def draw_fit(path: str, job: Job, arguments: Namespace, result: Fit) -> None:
    """The picture of `linreg-jax fit --plot`: the fit, and how the loss went down."""
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    plotting.plot_fit(
        result.params, job.data, feature_names=job.trained_on, target_name=job.target, ax=left
    )
    every = recorded_every(steps_to_take(job, arguments))
    plotting.plot_losses(result, loss_name=_loss_name(arguments, job), record_every=every, ax=right)
    _write(figure, path)


def draw_hubble(path: str) -> None:
    """Hubble's fit, and the ways to it over the loss."""
    data = load_hubble()
    best = float(diagnose(data, mse).best_rate)
    runs = [
        fit(mse, init_params(data), data, learning_rate=rate, num_steps=200, record_params=True)
        for rate in (0.1 * best, best)
    ]
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    distance = "distance (Mpc)"
    plotting.plot_fit(
        runs[1].params, data, feature_names=distance, target_name="velocity (km/s)", ax=left
    )
    plotting.plot_surface(mse, data, runs, feature_names=distance, ax=right)
    _write(figure, path)


def _run(arguments: Namespace, job: Job, rate: float | None, *, record: bool) -> Fit:
    """A run with that rate; None: that of the arguments."""
    return train(job, arguments, rate=rate, num_steps=_STEPS, record=record)


def _recorded_every(arguments: Namespace, job: Job) -> int:
    return recorded_every(steps_to_take(job, arguments, _STEPS))


def _rates(arguments: Namespace, job: Job) -> Sequence[float | None]:
    """The rates to draw a run of each; None: that of the arguments."""
    if arguments.rates:
        return arguments.rates
    return [None] if arguments.learning_rate else _telling_rates(job, arguments)


def _loss_name(arguments: Namespace, job: Job) -> str:
    """What is recorded at each step: the loss of all rows, or of its mini-batch."""
    return str(job.loss) + (" of a mini-batch" if arguments.batch_size is not None else "")


def _first_rate(arguments: Namespace) -> float | None:
    """The first of the rates given, or None."""
    return arguments.rates[0] if arguments.rates else None


def _telling_rates(job: Job, arguments: Namespace) -> Sequence[float | None]:
    """A slow rate, a good one and one that swings, for plain gradient descent; else the one."""
    plain = arguments.optimizer == "sgd" and arguments.batch_size is None
    return _rates_around(job, (0.05, 0.5, 0.95)) if plain and is_smooth(job.loss) else [None]


def _rates_around(job: Job, shares: Sequence[float]) -> list[float]:
    """Shares of the largest stable rate.

    Raises:
      ValueError: the loss has none.
    """
    try:
        limit = float(diagnose(job.data, job.loss).largest_stable_rate)
    except ValueError as error:
        raise ValueError(f"--rates must say which learning rates: {error}") from None
    return [share * limit for share in shares]


def _over(names: Sequence[str], job: Job) -> Over:
    """The two parameters that `--over` names.

    Raises:
      ValueError: not two, or one that is not there.
    """
    known = {name: j for j, name in enumerate(job.features)} | {"intercept": "bias"}
    for name in names:
        if name not in known:
            raise ValueError(f"--over must name features or intercept, got {name!r}")
    if len(names) != 2:
        other = "intercept" if names[0] != "intercept" else job.features[0]
        raise ValueError(
            f"--over must name two parameters, for instance {names[0]},{other}, got {len(names)}"
        )
    first, second = (known[name] for name in names)
    return first, second


def _write(figure: Figure, path: str) -> None:
    plotting.save_picture(figure, path)
