"""The loss over two parameters, as numbers to draw."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from linreg_jax._training.result import Fit, Status
from linreg_jax._typing import Array, Float
from linreg_jax.compression import compress
from linreg_jax.dataset import Dataset, bias_multipliers, check_dataset
from linreg_jax.exact import solve
from linreg_jax.losses import Loss
from linreg_jax.model import Params

_NUM_LEVELS = 12
_WORK = 2e9  # products; what the grid is made coarser for, where examples are many
_MARGIN = 0.15  # of the window beyond what it must show, on each side

LossFunction = Callable[[Params, Dataset], Array]

Over = tuple[int | str, int | str]
"""Two parameters, each the number of a feature or "bias"."""

Limits = tuple[tuple[float, float], tuple[float, float]]
"""The ends of the horizontal axis, and of the vertical one."""

Point = Float[np.ndarray, "2"]
Path = Float[np.ndarray, "m 2"]
Evaluate = Callable[[Path], Float[np.ndarray, " m"]]
"""Points [m, 2] -> the loss at each."""


class Surface(NamedTuple):
    """A loss over a window of two parameters, the others held where it is least.

    Attributes:
      over: the two parameters, each the number of a feature or "bias".
      x, y: [m] values of the first and of the second.
      excess: [m, m] the loss above `value`, at x[j], y[i].
      minimum: where it is least, (x, y).
      value: the loss there.
      levels: for contours, evenly spaced in their logarithm.
    """

    over: Over
    x: Float[np.ndarray, " m"]
    y: Float[np.ndarray, " m"]
    excess: Float[np.ndarray, "m m"]
    minimum: tuple[float, float]
    value: float
    levels: Float[np.ndarray, " levels"]


def is_squared(loss: LossFunction) -> TypeGuard[Loss]:
    """Whether `solve` finds the minimum of the loss."""
    return isinstance(loss, Loss) and loss.is_quadratic_in_params


def walked(fit: Fit, over: Over) -> Float[np.ndarray, "m 2"]:
    """[m, 2] where a fit was in the two parameters, its last iterate included.

    Raises:
      ValueError: the parameters were not recorded, or the fit is many in one.
    """
    if np.ndim(fit.status) > 0:
        raise ValueError(
            f"a mapped fit is {np.size(fit.status)} runs: pass them one by one, "
            "*(jax.tree.map(lambda leaf: leaf[i], fits) for i in range(len(fits.status)))"
        )
    if fit.path is None:
        raise ValueError("the fit recorded no parameters: pass record_params=True to fit")
    path = np.stack([np.asarray(coordinate(fit.path, which), float) for which in over], axis=-1)
    last = np.stack([np.asarray(coordinate(fit.state.params, which), float) for which in over])
    return np.concatenate([path[np.isfinite(path).all(axis=1)], last[None, :]])


def coordinate(params: Params, which: int | str) -> Float[Array, "..."]:
    """One parameter of one `Params`, or of a path of them [m]."""
    if which != "bias":
        return params.weights[..., which]
    if params.bias is None:
        raise ValueError("the fit has no bias: pass two features as over")
    return params.bias


def make_surface(
    loss: LossFunction,
    data: Dataset,
    fits: Sequence[Fit] = (),
    over: Sequence[int | str] | None = None,
    limits: Limits | None = None,
) -> Surface:
    """The surface that the paths of some fits are drawn on.

    Everything is computed in float64, whatever the data is in: near the minimum the loss differs
    from its least value by less than float32 can tell.

    Args:
      loss: any loss `(params, data) -> scalar`.
      data: a `Dataset` with one target.
      fits: with recorded parameters; the window holds their paths.
      over: two parameters, each the number of a feature or "bias"; None: the slope and the
        intercept of a line, the first two features' weights otherwise.
      limits: of the window; None: as far as the paths go, but for those that explode.

    Raises:
      ValueError: several targets; parameters that are not there; a model of one parameter; limits
        that are not two pairs, the lower one first.
    """
    check_dataset(data)
    if data.y.ndim != 1:
        raise ValueError(
            f"y has shape {list(data.y.shape)}: a surface is of one target, y [n]; take one column"
        )
    intercept = all(fit.params.bias is not None for fit in fits)
    over = _checked_over(over, data.X.shape[1], intercept)
    limits = None if limits is None else _checked_limits(limits)
    paths = [walked(fit, over) for fit in fits]
    exploded = [int(fit.status) in (Status.DIVERGED, Status.INCREASED) for fit in fits]
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), data)
        if is_squared(loss):
            wide = compress(wide) if data.total_weight is None else wide
            centre = solve(wide, loss, intercept=intercept).params
        else:
            centre = _lowest(loss, wide, fits, intercept)
        values = _evaluator(loss, wide, centre, over)
        middle = np.array([float(coordinate(centre, which)) for which in over])
        if not is_squared(loss):
            middle = _descend(values, middle, wide, over)
        low, high = _window(middle, paths, exploded) if limits is None else np.transpose(limits)
        side = int(np.clip(math.sqrt(_WORK / wide.X.size), 41, 201))
        x, y = np.linspace(low[0], high[0], side), np.linspace(low[1], high[1], side)
        grid = np.stack(np.meshgrid(x, y), axis=-1)
        at_grid = values(grid.reshape(-1, 2)).reshape(side, side)
        cell = (high - low) / (side - 1)
        near = values(middle + np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]]) * cell)
    excess = np.maximum(at_grid - near[0], 0)
    # Below what half a cell of the grid rises, contours would show the grid and not the loss.
    top = excess.max() if excess.max() > 0 else 1.0
    floor = np.clip(near[1:].max() - near[0], 1e-6 * top, 0.1 * top)
    levels = np.geomspace(floor, top, _NUM_LEVELS)
    return Surface(over, x, y, excess, (middle[0], middle[1]), float(near[0]), levels)


def _checked_over(over: Sequence[int | str] | None, d: int, intercept: bool) -> Over:
    known = [*range(d), *(["bias"] if intercept else [])]
    if len(known) < 2:
        raise ValueError("a surface needs two parameters, and one feature without a bias has one")
    if over is None:
        return (0, "bias") if d == 1 else (0, 1)
    chosen = tuple(over)
    if len(chosen) != 2 or chosen[0] == chosen[1] or any(which not in known for which in chosen):
        bias = ' or "bias"' if intercept else ""
        raise ValueError(
            f"over must be two different parameters, features 0 to {d - 1}{bias}, got {chosen}"
        )
    return chosen[0], chosen[1]


def _checked_limits(limits: Limits) -> Limits:
    ends = np.asarray(limits, float)
    if ends.shape != (2, 2) or not np.isfinite(ends).all() or not (ends[:, 0] < ends[:, 1]).all():
        raise ValueError(
            f"limits must be ((left, right), (bottom, top)), the lower end first, got {limits}"
        )
    return limits


def _lowest(loss: LossFunction, data: Dataset, fits: Sequence[Fit], intercept: bool) -> Params:
    """The best parameters known of a loss without a formula: a fit's, or the least squares."""
    known = [jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), fit.params) for fit in fits]
    known.append(solve(data, intercept=intercept).params)
    return min(known, key=lambda params: float(jnp.nan_to_num(loss(params, data), nan=jnp.inf)))


def _evaluator(loss: LossFunction, data: Dataset, centre: Params, over: Over) -> Evaluate:
    """[m, 2] points -> [m] losses there."""

    def at(point: Float[Array, "2"]) -> Float[Array, ""]:
        params = centre
        for which, value in zip(over, point, strict=True):
            if which == "bias":
                params = params._replace(bias=value)
            else:
                params = params._replace(weights=params.weights.at[which].set(value))
        return loss(params, data)

    rows = max(1, int(4e6 / data.X.size))
    over_points = jax.jit(lambda points: lax.map(at, points, batch_size=rows))
    return lambda points: np.asarray(over_points(jnp.asarray(points)))


def _descend(values: Evaluate, middle: Point, data: Dataset, over: Over) -> Point:
    """The minimum of a convex loss in two parameters, by a grid that follows and shrinks.

    The grid's axes are such that a step along either moves the predictions as much, so that narrow
    valleys of the data are round to it.
    """
    columns = [np.asarray(bias_multipliers(data) if c == "bias" else data.X[:, c]) for c in over]
    C = np.stack(columns, axis=-1) / np.sqrt(len(columns[0]))
    axes = np.linalg.pinv(np.linalg.qr(C, mode="r")).T  # [2, 2]: a row moves predictions by 1
    steps = np.linspace(-1, 1, 9)
    offsets = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    reach = float(np.std(np.asarray(data.y))) or 1.0
    for _ in range(40):
        points = middle + reach * offsets @ axes
        best = np.argmin(values(points))
        middle = points[best]
        reach *= 0.6 if np.abs(offsets[best]).max() < 1 else 1.5
    return middle


def _spans(middle: Point, paths: Sequence[Path], exploded: Sequence[bool]) -> Point:
    """[2] how far to look from the minimum, at least, to see all the paths."""
    far = [np.zeros(2)]
    for path, explodes in zip(paths, exploded, strict=True):
        # An exploding path is shown as far as it starts out, and a bit.
        far.append(1.5 * np.abs(path[0] - middle) if explodes else np.abs(path - middle).max(0))
    spans = np.max(far, axis=0)
    return np.where(spans > 1e-9 * np.abs(middle), spans, np.maximum(np.abs(middle), 1))


def _window(middle: Point, paths: Sequence[Path], exploded: Sequence[bool]) -> tuple[Point, Point]:
    """`(low, high)`, [2] each: the paths and the minimum with a margin around them."""
    spans = _spans(middle, paths, exploded)
    low, high = middle - 0.4 * spans, middle + 0.4 * spans  # the other side of the valley
    for path in paths:
        seen = np.clip(path, middle - spans, middle + spans)
        low, high = np.minimum(low, seen.min(0)), np.maximum(high, seen.max(0))
    margin = _MARGIN * (high - low)
    return low - margin, high + margin
