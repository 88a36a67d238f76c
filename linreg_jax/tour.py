"""A guided tour of gradient descent on a line: `python -m linreg_jax --tour`.

Each stop prints what it computes; the last one draws a page of pictures.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from linreg_jax._typing import Array
from linreg_jax.dataset import Dataset, as_dataset
from linreg_jax.diagnosis import diagnose
from linreg_jax.exact import solve, solve_line
from linreg_jax.gradients import autodiff, by_loops, finite_difference, vectorized
from linreg_jax.losses import Loss, half_mse, half_sse, mae, mse, sse
from linreg_jax.model import Params
from linreg_jax.training import Fit, Status, fit

PICTURE = "tour.png"
_TRUE_SLOPE, _NOISE, _EXAMPLES = 60.0, 5.0, 100
_RATES = (0.1, 0.6, 0.8)
_EXPLODING = 1.1
_STEPS = 30


def tour(picture: str | Path | None = PICTURE) -> int:
    """Prints the tour, and draws its last page where matplotlib is installed.

    Args:
      picture: the file to draw into; None: no pictures.

    Returns:
      0.

    Raises:
      OSError, ValueError: the picture cannot be written, or its name tells no kind of picture.
    """
    ages = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
    start = Params(jnp.ones(1, ages.X.dtype), jnp.zeros((), ages.X.dtype))
    _one_row(start, ages)
    _four_ways(start, ages)
    _scalings(start, ages)
    _kink_and_outliers(ages)
    points, begin = _points(), _begin()
    runs = _rates(points, begin)
    _explosion(points, begin)
    _mini_batches(points, begin)
    _closed_form(points)
    if picture is not None:
        _page(Path(picture), points, begin, runs)
    return 0


def _stop(number: int, title: str, *lines: str) -> None:
    print("\n".join([*([""] if number > 1 else []), f"{number}. {title}", *lines]))


def _points() -> Dataset:
    """Noisy points along a line through 0."""
    x, noise = jax.random.normal(jax.random.key(2), (2, _EXAMPLES))
    return as_dataset(x[:, None], _TRUE_SLOPE * x + _NOISE * noise)


def _begin() -> Params:
    """Far from the minimum."""
    return Params(jnp.array([-10.0]), jnp.full((), 9.0))


def by_hand(
    x: float, y: float, *, slope: float, intercept: float
) -> tuple[float, float, float, float]:
    """Half the squared error of one example, and how it changes with slope and intercept.

    Returns:
      `(residual, loss, d loss / d slope, d loss / d intercept)`.

    Example:
      >>> by_hand(2.0, 40.0, slope=1.0, intercept=0.0)
      (-38.0, 722.0, -76.0, -38.0)
    """
    r = slope * x + intercept - y
    return r, r * r / 2, r * x, r


def _one_row(start: Params, ages: Dataset) -> None:
    x, y = float(ages.X[1, 0]), float(ages.y[1])
    slope, intercept = float(start.weights[0]), float(start.bias if start.bias is not None else 0)
    residual, loss, by_slope, by_intercept = by_hand(x, y, slope=slope, intercept=intercept)
    _stop(
        1,
        "A loss and its gradient, by hand for one row",
        f"  age {x:g} months, height {y:g} cm; slope {slope:g}, intercept {intercept:g}",
        f"  prediction  slope * x + intercept = {residual + y:g}",
        f"  residual    r = prediction - target = {residual:g}",
        f"  loss        r² / 2 = {loss:g}",
        f"  d/d slope      = r * x = {by_slope:g}      (the chain rule: dr/d slope = x)",
        f"  d/d intercept  = r     = {by_intercept:g}",
    )


def _four_ways(start: Params, ages: Dataset) -> None:
    ways: dict[str, Callable[[Loss], Callable[[Params, Dataset], tuple[Array, Params]]]] = {
        "by loops": by_loops,
        "vectorised, Xᵀr": vectorized,
        "jax.grad": autodiff,
        "finite differences": finite_difference,
    }
    lines = [f"  {'':<20}{'loss':>10}{'d/d slope':>12}{'d/d intercept':>16}"]
    for name, way in ways.items():
        value, gradient = way(half_sse)(start, ages)
        lines.append(
            f"  {name:<20}{value:>10.6g}{gradient.weights[0]:>12.6g}{gradient.bias:>16.6g}"
        )
    one_step = fit(half_sse, start, ages, learning_rate=0.01, num_steps=1).params
    lines.append(
        f"  one step with rate 0.01: slope {one_step.weights[0]:g}, intercept {one_step.bias:g}"
    )
    _stop(2, "The same for all three rows, four ways", *lines)


def _scalings(start: Params, ages: Dataset) -> None:
    n, limit = len(ages.y), float(diagnose(ages, mse).largest_stable_rate)
    lines = [f"  {'loss':<10}{'value':>10}{'d/d slope':>12}{'largest stable rate':>22}"]
    for loss, share in ((mse, 1.0), (half_mse, 2.0), (sse, 1 / n), (half_sse, 2 / n)):
        value, gradient = vectorized(loss)(start, ages)
        numbers = f"{value:>10.6g}{gradient.weights[0]:>12.6g}{share * limit:>22.4g}"
        lines.append(f"  {loss!s:<10}{numbers}")
    _stop(
        3,
        "1/m against 1/2m: the same minimum, another learning rate",
        *lines,
        "  Half the loss has half the gradient: twice the rate walks the same path.",
    )


def _kink_and_outliers(ages: Dataset) -> None:
    at_kink = float(jax.grad(jnp.abs)(0.0)), float(jax.grad(mae.rho)(0.0))
    spoiled = ages._replace(
        X=jnp.concatenate([ages.X, jnp.array([[1.0], [3.0]], ages.X.dtype)]),
        y=jnp.concatenate([ages.y, jnp.array([35.0, 450.0], ages.y.dtype)]),  # for 45
    )
    fits = {"mse": solve_line(spoiled.X[:, 0], spoiled.y), "mae": solve(spoiled, mae).params}
    lines = [f"  a typing error, 450 for 45 at age 3:{'slope':>10}{'intercept':>12}"]
    for name, found in fits.items():
        lines.append(f"  {name:<36}{found.weights[0]:>9.4g}{found.bias:>12.4g}")
    _stop(
        4,
        "The absolute error: a kink at 0, and no fear of outliers",
        f"  at r = 0 jax.grad(jnp.abs) gives {at_kink[0]:g}; mae has {at_kink[1]:g}, the middle",
        *lines,
        "  The squares follow the error; the absolute values stay with 5 cm a month from 30.",
    )


def _rates(points: Dataset, begin: Params) -> list[Fit]:
    runs = [
        fit(mse, begin, points, learning_rate=rate, num_steps=_STEPS, record_params=True)
        for rate in _RATES
    ]
    lines = [f"  {'rate':<6}{'loss after 1':>14}{'5':>10}{'20 steps':>12}{'slope':>10}"]
    for rate, run in zip(_RATES, runs, strict=True):
        after = "".join(f"{run.losses[i]:>{w}.2f}" for i, w in ((1, 14), (5, 10), (20, 12)))
        lines.append(f"  {rate:<6g}{after}{run.params.weights[0]:>10.3f}")
    _stop(
        5,
        f"Why a small rate: {_EXAMPLES} points along y = {_TRUE_SLOPE:g} x, from slope -10",
        *lines,
        "  0.1 creeps down the slope, 0.6 is there at once, 0.8 swings from side to side.",
    )
    return runs


def _explosion(points: Dataset, begin: Params) -> None:
    found = diagnose(points)
    bad = fit(mse, begin, points, learning_rate=_EXPLODING, num_steps=1000)
    good = fit(mse, begin, points, learning_rate="auto", num_steps=20)
    status = Status(int(bad.status)).name
    _stop(
        6,
        "What explodes, and how to fix it",
        f"  Steps of {_EXPLODING:g}: {status} at step {int(bad.num_steps)}.",
        "  Each step multiplies the error by |1 - rate * curvature|. The largest curvature is",
        f"  {found.largest_curvature:.4g}: rates up to 2 / curvature = "
        f"{found.largest_stable_rate:.4g} are stable; {found.best_rate:.4g} is the best.",
        f'  learning_rate="auto" takes it: loss {good.final_loss:.4g} after 20 steps.',
        "  Features of very different size make the valley narrow: standardize them.",
    )


def _mini_batches(points: Dataset, begin: Params) -> None:
    lines = []
    for size, rate in ((32, 0.1), (1, 0.02)):
        run = fit(
            mse,
            begin,
            points,
            learning_rate=rate,
            num_epochs=10,
            batch_size=size,
            key=jax.random.key(0),
        )
        took = f"{int(run.num_steps):>5} steps: loss {run.final_loss:6.2f}"
        lines.append(f"  {size:>3} a step, rate {rate:<5g}{took}")
    _stop(
        7,
        "Mini-batches: ten times over the data, shuffled, the last batch partial",
        *lines,
        "  More steps for the same reading; each follows some of the rows, and jitters.",
    )


def _closed_form(points: Dataset) -> None:
    x, y = points.X[:, 0], points.y
    slope = jnp.mean((x - x.mean()) * (y - y.mean())) / jnp.mean((x - x.mean()) ** 2)
    line, exact = solve_line(x, y), solve(points).params
    _stop(
        8,
        "The exact answer, from means",
        f"  slope = cov(x, y) / var(x) = {slope:.4f}",
        f"  intercept = mean(y) - slope * mean(x) = {jnp.mean(y) - slope * jnp.mean(x):.4f}",
        f"  solve_line: {line.weights[0]:.4f}, {line.bias:.4f}; "
        f"solve (any number of features): {exact.weights[0]:.4f}, {exact.bias:.4f}",
    )


def _page(path: Path, points: Dataset, begin: Params, runs: list[Fit]) -> None:
    try:
        from matplotlib.figure import Figure

        from linreg_jax import plotting
    except ImportError:
        _stop(9, 'A page of pictures: pip install ".[plot]", and come again')
        return
    figure = Figure(figsize=(11.0, 8.6), layout="constrained")
    axes = figure.subplots(2, 2)
    plotting.plot_fit(runs[0].params, points, ax=axes[0, 0])
    plotting.plot_losses(runs, loss_name="mse", ax=axes[0, 1])
    plotting.plot_surface(mse, points, runs, ax=axes[1, 0])
    exploding = fit(
        mse, begin, points, learning_rate=_EXPLODING, num_steps=_STEPS, record_params=True
    )
    labels = ["learning rate 0.1", f"learning rate {_EXPLODING:g}: leaves"]
    plotting.plot_surface(mse, points, [runs[0], exploding], labels=labels, ax=axes[1, 1])
    plotting.save_picture(figure, path)
    _stop(9, f"A page of pictures: {path}")
