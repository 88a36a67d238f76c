"""Quantile regressions at many levels, each exact."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from linreg_jax._conversion import as_numeric
from linreg_jax._kernels import placed
from linreg_jax._typing import Array, Bool, Float, Int
from linreg_jax._validation import flag, is_traced, shape_text, shown
from linreg_jax.dataset import Dataset, check_dataset
from linreg_jax.exact import Solution, solve
from linreg_jax.losses import Loss, quantile
from linreg_jax.model import Params, residuals
from linreg_jax.penalties import Penalty

_ROUNDINGS = 100  # of what a prediction is made of, and of the targets: less is no crossing


class QuantilePath(NamedTuple):
    """Quantile regressions at levels that rise.

    Attributes:
      levels: [m] as they were given.
      params: `Params` at each, weights [m, d] and bias [m]; with several targets [m, d, k] and
        [m, k].
      value: [m] the least loss.
      gap: [m] how much larger than the least one it is at most, as `Solution` says it.
      unique: [m] whether no other parameters are as good.
      status: [m] int32, a `SolutionStatus` each.
      num_crossings: [m - 1] int32 the examples of which the prediction is lower at the next level,
        by more than rounding: quantiles of one distribution never are, fitted ones may be.
    """

    levels: Float[Array, " m"]
    params: Params
    value: Float[Array, " m"]
    gap: Float[Array, " m"]
    unique: Bool[Array, " m"]
    status: Int[Array, " m"]
    num_crossings: Int[Array, " m_less_1"]

    def at(self, level: ArrayLike) -> Params:
        """The parameters at levels of any shape [...], weights [..., d] and bias [...].

        Exact at the levels of the path; a line between two of them, along which predictions cross
        nowhere if they do not at its ends. NaN below the first level and above the last.

        Source: Neocleous and Portnoy 2008, Statistics and Probability Letters 78, for the line: on
        a grid that is fine enough it is as good an estimate as the minimum at the level itself.

        Example:
          >>> data = as_dataset([[0.0], [1.0], [2.0], [3.0]], [0.0, 3.0, 1.0, 7.0])
          >>> path = quantile_path(data, [0.3, 0.6])
          >>> f"{path.at(0.3).weights[0]:.2f}", f"{path.at(0.45).weights[0]:.2f}"
          ('0.50', '1.42')
        """
        return _interpolated(self, jnp.asarray(level, self.levels.dtype))


def quantile_path(
    data: Dataset,
    levels: Any,
    *,
    penalties: Sequence[Penalty] = (),
    intercept: bool = True,
) -> QuantilePath:
    """The minimum of `quantile(level)` at each of many levels, with what proves it.

    What `rq(y ~ x, tau = levels)` of R's quantreg gives, and `QuantReg.fit(q)` of statsmodels for
    each q. The levels are solved one after the other in one compiled program, which takes the
    memory of one `solve`. Each starts afresh: an interior point gains nothing from the minimum
    beside it.

    Lines of different levels may cross, and then a higher quantile is predicted to be lower than a
    lower one; `num_crossings` says at how many examples. Where the features have their means they
    never do, as long as there is an intercept and no penalty. Between neighbours they cross less
    where levels lie further apart.

    Args:
      data: a `Dataset`; X [n, d], y [n] or [n, k].
      levels: [m] rising, strictly between 0 and 1: `jnp.linspace(0.1, 0.9, 9)`.
      penalties: what is added to each loss, `[ridge(0.1)]`; those that `solve` takes.
      intercept: whether the model has a bias.

    Returns:
      A `QuantilePath`; `jax.vmap(predict, (0, None))(path.params, X)` are the predictions, [m, n].

    Raises:
      TypeError: not a `Dataset`, not penalties, or an intercept that is no bool.
      ValueError: levels that are not [m], not between 0 and 1 or do not rise; what `solve` refuses.

    Source: Koenker 2005, Quantile Regression, section 2.5 for the crossing.

    Example:
      Pay spreads with experience:

      >>> years = jnp.arange(1.0, 9.0)[:, None]
      >>> pay = jnp.array([2.0, 3.1, 2.9, 4.0, 6.2, 3.7, 8.1, 5.0])
      >>> path = quantile_path(as_dataset(years, pay), [0.3, 0.55, 0.8])
      >>> [f"{w:.2f}" for w in path.params.weights[:, 0]]
      ['0.43', '0.67', '1.00']
      >>> path.num_crossings.tolist()
      [0, 0]
    """
    check_dataset(data)
    if isinstance(penalties, Penalty):
        raise TypeError(f"penalties must be a sequence, got {penalties}: pass [{penalties}]")
    known = _checked_levels(levels, data)
    middle = placed(_penalized(0.5, penalties))
    return _quantile_path(middle, data, placed(known), flag("intercept", intercept))


def _penalized(level: ArrayLike, penalties: Sequence[Penalty]) -> Loss:
    loss: Loss = quantile(level)
    for penalty in penalties:
        loss = loss + penalty
    return loss


def _checked_levels(levels: Any, data: Dataset) -> Array:
    known = jnp.asarray(as_numeric("levels", levels), data.X.dtype)
    if known.ndim != 1 or known.size == 0:
        shape = shape_text(known.shape)
        raise ValueError(
            f"levels has shape {shape}: pass the [m] levels of a path, [0.1, 0.5, 0.9]"
        )
    if is_traced(known):
        return known
    if not bool(jnp.all((known > 0) & (known < 1))):
        raise ValueError(f"levels must be strictly between 0 and 1, got {shown(known)}")
    if not bool(jnp.all(known[1:] > known[:-1])):
        raise ValueError(
            f"levels must rise, each larger than the one before, got {shown(known)}: pass "
            "jnp.unique(levels)"
        )
    return known


@functools.partial(jax.jit, static_argnums=3)
def _quantile_path(middle: Loss, data: Dataset, levels: Array, intercept: bool) -> QuantilePath:
    def solved(level: Array) -> Solution:
        return solve(data, _penalized(level, middle.penalties), intercept=intercept)

    found = lax.map(solved, levels)
    return QuantilePath(
        levels=levels,
        params=found.params,
        value=found.value,
        gap=found.gap,
        unique=found.unique,
        status=found.status,
        num_crossings=_crossings(found.params, data),
    )


def _crossings(params: Params, data: Dataset) -> Int[Array, " m_less_1"]:
    """[m - 1] predictions that fall from one level to the next."""
    at_0 = data._replace(y=jnp.zeros_like(data.y))
    sizes = at_0._replace(X=jnp.abs(data.X))
    counts = jnp.ones_like(data.X[:, 0], bool)
    if data.sample_weight is not None:
        counts = data.sample_weight > 0
    few = _ROUNDINGS * jnp.finfo(data.X.dtype).eps
    y = jnp.where(counts.reshape((-1,) + (1,) * (data.y.ndim - 1)), jnp.abs(data.y), 0)
    largest = jnp.max(y, axis=0, keepdims=True)

    def between(pair: tuple[Params, Params]) -> Array:
        rise = residuals(jax.tree.map(jnp.subtract, pair[1], pair[0]), at_0)
        size = residuals(jax.tree.map(lambda a, b: jnp.abs(a) + jnp.abs(b), *pair), sizes)
        falls = (rise < -few * (size + largest)).reshape(counts.shape[0], -1)
        return jnp.sum(jnp.any(falls, axis=1) & counts, dtype=jnp.int32)

    lower = jax.tree.map(lambda leaf: leaf[:-1], params)
    upper = jax.tree.map(lambda leaf: leaf[1:], params)
    return lax.map(between, (lower, upper))


@jax.jit
def _interpolated(path: QuantilePath, level: Array) -> Params:
    levels, last = path.levels, path.levels.shape[0] - 1
    above = jnp.minimum(jnp.searchsorted(levels, level), last)
    below = jnp.maximum(above - 1, 0)
    width = levels[above] - levels[below]
    share = (level - levels[below]) / jnp.where(width > 0, width, 1)
    share = jnp.where((level < levels[0]) | (level > levels[last]), jnp.nan, share)

    def between(values: Array) -> Array:
        along = share.reshape(share.shape + (1,) * (values.ndim - 1))
        on_line = values[below] * (1 - along) + values[above] * along
        # Exactly what was found at a level, whatever NaN is beside it.
        return jnp.where(along == 1, values[above], on_line)

    return jax.tree.map(between, path.params)
