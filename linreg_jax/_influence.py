"""What single examples do to a fit: leverage, residuals without them, influence."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from linreg_jax._algebra.linalg import target_columns
from linreg_jax._algebra.quadratic import penalty_curvature
from linreg_jax._inference.arguments import check_minimum, checked_loss
from linreg_jax._inference.at_minimum import at_minimum
from linreg_jax._inference.deletion import Deletion, deletion, remaining
from linreg_jax._inference.fitted import Fitted, least_squares_fit
from linreg_jax._kernels import matmul, per_example, placed
from linreg_jax._loss import Loss, example_weights
from linreg_jax._minimum.requirements import is_solvable
from linreg_jax._typing import Array, Float
from linreg_jax._validation import flag
from linreg_jax.dataset import Dataset, bias_multipliers, check_dataset, is_compressed
from linreg_jax.exact import solve
from linreg_jax.losses import mse
from linreg_jax.model import Params, check_params, residuals


class Influence(NamedTuple):
    """What `influence` found of each example; the bias comes first in p coefficients.

    Attributes:
      residuals: [n] or [n, k] predictions less targets.
      leverages: [n] or [n, k], how much of its own prediction an example decides, 0 to 1.
      internally_studentized: [n] or [n, k] residuals over their standard error, σ sqrt(1 - h).
        These and the next two are of squared losses, NaN with others.
      externally_studentized: the same with σ from the others; t with a degree of freedom less.
      dffits: prediction less that without the example, in such standard errors.
      cooks_distance: [n] or [n, k] how far the coefficients move without it, (δᵀ XᵀSX δ) / (p σ²).
      dfbetas: [n, p] or [n, p, k] how far each moves, in standard errors without it.
      changes: [n, p] or [n, p, k] coefficients less those without the example.
      predictions: [n] or [n, k] of each example by the fit without it.
      press: [] or [k] Σ s (prediction without it - target)².
    """

    residuals: Float[Array, " n *k"]
    leverages: Float[Array, " n *k"]
    internally_studentized: Float[Array, " n *k"]
    externally_studentized: Float[Array, " n *k"]
    dffits: Float[Array, " n *k"]
    cooks_distance: Float[Array, " n *k"]
    dfbetas: Float[Array, " n p *k"]
    changes: Float[Array, " n p *k"]
    predictions: Float[Array, " n *k"]
    press: Float[Array, " *k"]


def influence(
    data: Dataset, loss: Loss = mse, *, params: Params | None = None, intercept: bool = True
) -> Influence:
    """What each example does to a fit, from the factor of all of them: no fit is repeated.

    With h the leverage of an example, s psi'(r) xᵀH⁻¹x, the fit without it is::

        theta - theta without it = -H⁻¹ x s psi(r) / (1 - h)

    exactly for squared losses, and as far as one step of Newton leads for other smooth ones. An
    example is a row, left out with all that it weighs; σ² is over the rows that have a weight, as
    statsmodels' WLS counts. Ridge stays as strong beside the sum as it is. Of losses that are not
    squared Cook's distances and dfbetas are in standard errors for errors that are alike.

    What an example alone determines has no value without it: NaN.

    Args:
      data: a `Dataset`; X [n, d], y [n] or [n, k]; not a compressed one.
      loss: a smooth one, with ridge penalties or none.
      params: where a loss that is not squared is least; None: found here.
      intercept: whether the model has a bias.

    Returns:
      An `Influence`.

    Raises:
      TypeError: not a `Dataset`, not a loss of this package, or an intercept that is no bool.
      ValueError: a loss whose derivative jumps, a lasso penalty, or compressed rows.

    Source: Cook 1977, Technometrics 19; Belsley, Kuh and Welsch 1980, Regression Diagnostics.

    Example:
      >>> data = as_dataset([[0.0], [1.0], [2.0], [6.0]], [1.0, 3.0, 4.0, 7.0])
      >>> found = influence(data)
      >>> [f"{h:.3f}" for h in found.leverages]
      ['0.494', '0.325', '0.253', '0.928']
      >>> int(found.cooks_distance.argmax())
      3
    """
    known, intercept = checked_influence(data, loss, params, intercept, "influence")
    _, at, _ = deletion_of(known, data, params, intercept)
    return _influence(at, data, known.is_quadratic, penalty_curvature(known) is not None)


def leverage(data: Dataset, *, intercept: bool = True) -> Float[Array, " n"]:
    """How much of its own prediction each example decides, s xᵀ(XᵀSX)⁻¹x.

    The diagonal of the hat matrix.

    Args:
      data: a `Dataset` of n rows.
      intercept: whether the model has a bias.

    Returns:
      [n], between 0 and 1; their sum is the number of coefficients that the data determine.

    Raises:
      TypeError, ValueError: as `influence`.

    Example:
      >>> data = as_dataset([[0.0], [1.0], [2.0], [6.0]], [1.0, 3.0, 4.0, 7.0])
      >>> [f"{h:.3f}" for h in leverage(data)]
      ['0.494', '0.325', '0.253', '0.928']
    """
    _, intercept = checked_influence(data, mse, None, intercept, "leverage")
    return deletion_of(mse, data, None, intercept)[1].leverages[:, 0]


def sensitivities(
    data: Dataset, loss: Loss = mse, *, params: Params | None = None, intercept: bool = True
) -> Float[Array, " n p *k"]:
    """How coefficients follow each example's weight, -H⁻¹ x psi(r): the infinitesimal jackknife.

    The derivative of the minimum of Σ s rho(r) and the ridge beside it. Σ of their squares, each
    times its weight, is the covariance "hc0" of `infer`. Where psi jumps (`mae`, `quantile`) the
    density of the residuals stands for psi' in H, as there: what the minimum follows on average.

    Args:
      data, params, intercept: as `influence`.
      loss: any of this package, or one of your own, with ridge penalties or none.

    Returns:
      [n, p] or [n, p, k], the bias first.

    Raises:
      TypeError, ValueError: as `influence`, but for losses whose derivative jumps; of those, params
        missing where `solve` does not minimise them.

    Source: Jaeckel 1972, Bell Laboratories memorandum; Hampel 1974, JASA 69.

    Example:
      >>> data = as_dataset([[0.0], [1.0], [2.0], [6.0]], [1.0, 3.0, 4.0, 7.0])
      >>> sensitivities(data).shape
      (4, 2)
    """
    known, intercept = checked_influence(
        data, loss, params, intercept, "sensitivities", may_jump=True
    )
    _, at, _ = deletion_of(known, data, params, intercept)
    return _sensitivities(at, data.y.ndim == 1)


@functools.partial(jax.jit, static_argnums=1)
def _sensitivities(at: Deletion, single: bool) -> Array:
    found = at.coefficients(-at.psi)
    return found[..., 0] if single else found


def example_gradients(loss: Loss, params: Params, data: Dataset) -> Float[Array, " n p *k"]:
    """The gradient of each example's part of the loss, by hand: s psi(r) x / total weight.

    Their sum is the gradient of the loss without its penalties.

    Args:
      loss: a loss of this package.
      params: `Params`; weights [d] or [d, k].
      data: a `Dataset`; X [n, d], y [n] or [n, k].

    Returns:
      [n, p] or [n, p, k], the bias first where there is one.

    Raises:
      TypeError, ValueError: as the loss itself.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> example_gradients(half_sse, Params(jnp.array([1.0]), jnp.array(0.0)), data).tolist()
      [[-30.0, -0.0], [-38.0, -76.0], [-46.0, -184.0]]
    """
    check_dataset(data)
    checked_loss(loss, "example_gradients")
    check_params(params, data.X, data.y)
    return _example_gradients(placed(loss), params, data)


@jax.jit
def _example_gradients(loss: Loss, params: Params, data: Dataset) -> Array:
    r = residuals(params, data)
    s = jnp.broadcast_to(example_weights(loss, data), data.X.shape[:1])
    score = per_example(s, r) * loss.psi(r)
    A = data.X
    if params.bias is not None:
        A = jnp.concatenate([bias_multipliers(data)[:, None], A], axis=1)
    return A[:, :, None] * score[:, None, :] if score.ndim == 2 else A * score[:, None]


def checked_influence(
    data: Dataset,
    loss: Loss,
    params: Params | None,
    intercept: bool,
    caller: str,
    *,
    may_jump: bool = False,
) -> tuple[Loss, bool]:
    """The loss and the intercept, as all of these take them; psi that jumps for some."""
    check_dataset(data)
    known = checked_loss(loss, caller)
    if not known.is_smooth and not may_jump:
        raise ValueError(
            f"{caller} needs a smooth loss, got {loss}, whose derivative jumps: without an example "
            "its minimum moves by jumps or not at all; of the losses that solve takes bootstrap "
            "draws what that amounts to, sensitivities says how it follows weights"
        )
    intercept = flag("intercept", intercept)
    if known.is_smooth or params is not None or not is_solvable(known):
        check_minimum(known, params, data, intercept=intercept, caller=caller)
    if is_compressed(data):
        raise ValueError(f"data is compressed, and {caller} needs every example: pass the original")
    return known, intercept


def deletion_of(
    loss: Loss, data: Dataset, params: Params | None, intercept: bool
) -> tuple[Fitted, Deletion, Float[Array, "p k"]]:
    """The least-squares fit below, the `Deletion`, and the coefficients with the bias first."""
    loss = placed(loss)
    if loss.is_quadratic:
        fit, found = least_squares_fit(loss, data, intercept=intercept), None
    else:
        fit = least_squares_fit(mse, data, intercept=intercept)
        if params is None and not loss.is_smooth:
            params = solve(data, loss, intercept=intercept).params
        found = at_minimum(loss, data, fit, params, intercept=intercept)
    at, theta = deletion(loss, data, fit, found, intercept=intercept)
    return fit, at, theta


@functools.partial(jax.jit, static_argnums=(2, 3))
def _influence(at: Deletion, data: Dataset, squared: bool, penalized: bool) -> Influence:
    s, r = at.s[:, None], at.r
    used = jnp.trace(at.gram) if penalized else jnp.round(jnp.trace(at.gram))
    degrees = jnp.sum((s > 0).astype(s.dtype)) - used
    left, per_left_out = remaining(at.leverages), at.per_left_out()
    variance = at.alike(degrees)[None, :]
    others = variance
    if squared:
        others = (variance * degrees - s * r * r / left) / (degrees - 1)
    moved = at.step * per_left_out[:, :, None]
    distance = jnp.sum(moved * matmul(moved, at.gram), axis=2) / (used * variance)
    changes = at.coefficients(-per_left_out)
    errors = jnp.sqrt(jnp.sum(at.J * at.J, axis=1))[None, :, None] * jnp.sqrt(others)[:, None, :]
    without = r + jnp.sum(moved * at.q[:, None, :], axis=2)
    unknown = jnp.full_like(r, jnp.nan)
    external = jnp.sqrt(s) * r / jnp.sqrt(others * left) if squared else unknown
    found = Influence(
        residuals=r,
        leverages=at.leverages,
        internally_studentized=(
            jnp.sqrt(s) * r / jnp.sqrt(variance * left) if squared else unknown
        ),
        externally_studentized=external,
        dffits=external * jnp.sqrt(at.leverages / left),
        cooks_distance=distance,
        dfbetas=changes / errors,
        changes=changes,
        predictions=target_columns(data.y) + without,
        press=jnp.sum(jnp.where(s > 0, s * without * without, 0), axis=0),
    )
    return jax.tree.map(lambda leaf: leaf[..., 0], found) if data.y.ndim == 1 else found
