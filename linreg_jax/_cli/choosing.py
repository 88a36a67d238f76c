"""A loss with its penalties, and the strength of one of them chosen by cross-validation."""

import math
from argparse import Namespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from linreg_jax._cli.strengths import Strengths, given
from linreg_jax._minimum.requirements import require_solvable
from linreg_jax._typing import Float
from linreg_jax.cross_validation import CrossValidation, cross_validate
from linreg_jax.dataset import Dataset
from linreg_jax.gradients import vectorized
from linreg_jax.losses import Loss
from linreg_jax.model import Params
from linreg_jax.penalties import lasso, ridge

_NUMBER = 50
_LEAST_LASSO = 1e-3  # of the strength that leaves no weight
_RIDGES = 1e2, 1e-4  # of the strength that halves a weight, or nearly
_HALVINGS = 100


class Choice(NamedTuple):
    """A strength that was chosen.

    Attributes:
      penalty: its name, as on the command line.
      num_folds: parts that the rows were dealt into.
      found: the `CrossValidation`.
    """

    penalty: str
    num_folds: int
    found: CrossValidation

    @property
    def is_at_an_end(self) -> bool:
        """Whether a strength beyond those tried may be better."""
        strengths = np.asarray(self.found.strengths)
        return bool(self.found.best_strength in (strengths.min(), strengths.max()))


def penalized(arguments: Namespace, data: Dataset) -> tuple[Loss, Choice | None]:
    """The loss that the arguments ask for, and how its strength was chosen; None: it was given.

    Raises:
      ValueError: as `given` says; more folds than rows; a loss whose minimum `solve` does not find.
    """
    loss: Loss = arguments.loss
    open_ = None
    for name, strengths in given(arguments).items():
        if strengths.is_open:
            open_ = name, strengths
        else:
            loss = _with(loss, name, strengths.values[0], strengths.share)
    if open_ is None:
        return loss, None
    n, num_folds = data.X.shape[0], arguments.cross_validate
    if num_folds > n:
        raise ValueError(
            f"--cross-validate must be at most the {n} rows to train on, got {num_folds}"
        )
    name, strengths = open_
    require_solvable(_with(loss, name, 1.0, strengths.share), "--cross-validate")
    found = cross_validate(
        data,
        lambda strength: _with(loss, name, strength, strengths.share),
        strengths.values or _strengths(loss, name, strengths, data),
        num_folds,
        key=jax.random.fold_in(jax.random.key(arguments.seed), 1),  # another deal than the split's
    )
    best = float(found.best_strength)
    return _with(loss, name, best, strengths.share), Choice(name, num_folds, found)


def _with(loss: Loss, name: str, strength: ArrayLike, share: float) -> Loss:
    """The loss with a penalty; an elastic net is that of scikit-learn's ElasticNet."""
    if name == "elastic":
        return loss + lasso(share * strength) + ridge((1 - share) / 2 * strength)
    return loss + (ridge if name == "ridge" else lasso)(strength)


def _strengths(
    loss: Loss, name: str, strengths: Strengths, data: Dataset
) -> Float[np.ndarray, " m"]:
    """[m] falling, from so much that next to nothing is left of the weights to next to nothing."""
    slope = _steepest_without_weights(loss, data)
    if name != "ridge":
        return slope / strengths.share * np.geomspace(1, _LEAST_LASSO, _NUMBER)
    # The weights are about as large as the targets, in units of the feature.
    sizes = (float(np.sqrt(np.mean(np.square(column)))) for column in map(np.asarray, data[:2]))
    of_X, of_y = (size if size > 0 else 1.0 for size in sizes)
    return slope * of_X / of_y * np.geomspace(*_RIDGES, _NUMBER)


def _steepest_without_weights(loss: Loss, data: Dataset) -> float:
    """The largest derivative by a weight where all are 0 and the bias is the best constant."""
    y = np.asarray(data.y)
    low, high = float(y.min()), float(y.max())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        rises = float(np.sum(loss.psi(middle - data.y))) > 0
        low, high = (low, middle) if rises else (middle, high)
    constant = Params(jnp.zeros_like(data.X[0]), jnp.asarray((low + high) / 2, y.dtype))
    _, gradient = vectorized(loss.smooth_part)(constant, data)
    steepest = float(np.max(np.abs(gradient.weights)))
    return steepest if steepest > 0 and math.isfinite(steepest) else 1.0


def as_json(choice: Choice) -> dict[str, Any]:
    """What `--json` says of it."""
    found = choice.found
    lists = ("strengths", "mean", "standard_error", "scores")
    return {
        "penalty": choice.penalty,
        "folds": choice.num_folds,
        "best": float(found.best_strength),
        "one_standard_error": float(found.one_standard_error_strength),
        **{name: _finite(np.asarray(getattr(found, name), float).tolist()) for name in lists},
    }


def _finite(values: Any) -> Any:
    if isinstance(values, list):
        return [_finite(value) for value in values]
    return values if math.isfinite(values) else None


def as_lines(report: dict[str, Any], width: int) -> list[str]:
    """The two choices, from what `as_json` made."""
    head = (report["penalty"], "held-out loss", "std. error")
    lines = [f"{'':{width}}" + "".join(f"{text:>15}" for text in head)]
    for name, key in (("best", "best"), ("within 1 s.e.", "one_standard_error")):
        place = report["strengths"].index(report[key])
        cells = (report[key], report["mean"][place], report["standard_error"][place])
        shown = ("–" if cell is None else f"{cell:.5g}" for cell in cells)
        lines.append(f"{name:{width}}" + "".join(f"{text:>15}" for text in shown))
    of = f"the best of {len(report['strengths'])} strengths is fitted, {report['folds']} folds"
    return [*lines, of]
