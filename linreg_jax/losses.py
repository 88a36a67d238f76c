"""The table of losses, long because the help of each one is whole by itself.

Each is a penalty rho of every residual, with its derivative psi by hand:

| name                       | rho(r)                            | psi(r)                      |
|----------------------------|-----------------------------------|-----------------------------|
| `mse`, `sse`               | r²                                | 2r                          |
| `half_mse`, `half_sse`     | r²/2                              | r                           |
| `mae`                      | abs(r)                            | sign(r)                     |
| `huber(delta)`             | r²/2, a line beyond ±delta        | clip(r, -delta, delta)      |
| `quantile(level)`          | (1-level) r above, -level r below | 1-level above, -level below |
| `log_cosh()`               | log cosh r                        | tanh r                      |
| `epsilon_insensitive(eps)` | max(abs(r) - eps, 0)              | sign(r) outside the tube    |

With s the weight of an example the value is Σ s rho(r) / Σ s and the gradient of the weights
Xᵀ(s psi(r)) / Σ s; `sse` and `half_sse` do not divide. On a kink psi is the subgradient of least
norm, 0 for every loss here, and each rho is written so that automatic differentiation gives just
that. Another loss is a class such as these.

Losses are scaled and penalized by arithmetic: `0.5 * mse + ridge(0.1) + lasso(0.01)`. Penalties act
on the weights, never on the bias, and are added to the loss as they stand, whatever it is divided
by. A setting that is traced and out of its range makes the loss NaN.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax.typing import ArrayLike

from linreg_jax._loss import Loss
from linreg_jax._squared_error import SquaredError
from linreg_jax._typing import Array, Float
from linreg_jax._validation import (
    is_between_0_and_1,
    is_not_negative,
    is_positive,
    scalar_setting,
    shown,
)


@dataclasses.dataclass(frozen=True)
class AbsoluteError(Loss):
    """The absolute error, `mae`: Σ s abs(r) / Σ s, whose minimiser is the median.

    rho(r) = abs(r) and psi(r) = sign(r), 0 at 0, where automatic differentiation gives 0 too. The
    gradient of the weights is Xᵀ(s sign(r)) / Σ s, that of the bias Σ s sign(r) / Σ s.

    Elsewhere: `torch.nn.L1Loss()`; twice what scikit-learn's `QuantileRegressor(quantile=0.5)`
    minimises, which is `quantile(0.5)`; optax has none.

    Attributes:
      reduction: "mean" or "sum" over the examples.
      penalties: what `+ ridge(...)` and `+ lasso(...)` added.

    Example:
      >>> data = Dataset(X=jnp.array([[0.0], [2.0], [4.0]]), y=jnp.array([30.0, 40.0, 50.0]))
      >>> params = Params(jnp.array([1.0]), jnp.array(0.0))
      >>> float(mae(params, data)), jax.grad(mae)(params, data).weights.tolist()
      (38.0, [-2.0])
    """

    is_piecewise_quadratic = True
    is_piecewise_linear = True
    is_convex = True
    kinks = (0.0,)

    def rho(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        return r * jnp.sign(r)  # jax.grad(jnp.abs) is 1 at 0, this one is 0

    def psi(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.sign(r)

    @property
    def name(self) -> str:
        return "mae" if self.reduction == "mean" else "mae(reduction='sum')"


@dataclasses.dataclass(frozen=True)
class Huber(Loss):
    """The Huber loss, `huber(delta)`: squared near the target, linear far from it; the mean.

    rho(r) = r²/2 where abs(r) ≤ delta, delta (abs(r) - delta/2) beyond; psi(r) = r clipped to
    [-delta, delta].

    The gradient of the weights is Xᵀ(s psi(r)) / Σ s, that of the bias Σ s psi(r) / Σ s.

    Elsewhere: `torch.nn.HuberLoss(delta=delta)`, `optax.huber_loss(..., delta=delta).mean()`; delta
    times `torch.nn.SmoothL1Loss(beta=delta)`. scikit-learn's `HuberRegressor(epsilon=e)` has delta
    = e times a scale that it estimates, and adds `ridge` (its alpha) to a sum.

    Attributes:
      delta: where the parabola becomes a line, in the units of the targets.
      reduction: "mean" or "sum" over the examples.
      penalties: what `+ ridge(...)` and `+ lasso(...)` added.

    Example:
      >>> data = Dataset(X=jnp.array([[1.0], [2.0]]), y=jnp.array([0.0, 6.0]))
      >>> params = Params(jnp.array([2.0]), jnp.array(0.0))  # residuals 2, -2
      >>> float(huber(1.0)(params, data)), jax.grad(huber(1.0))(params, data).weights.tolist()
      (1.5, [-0.5])
    """

    delta: float | Array = 1.0

    scalars: ClassVar[tuple[str, ...]] = ("delta",)
    is_piecewise_quadratic = True
    is_convex = True
    curvature_bound = 1.0

    def rho(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        # r²/2                        where abs(r) <= delta
        # delta (abs(r) - delta/2)    elsewhere
        # With c = clip(r) both are c (r - c/2), which cannot overflow before the loss does.
        c = self.psi(r)
        return c * (r - c / 2)

    def psi(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.clip(r, -self.delta, self.delta)

    @property
    def kinks(self) -> tuple[float | Array, ...]:
        return (-self.delta, self.delta)


@dataclasses.dataclass(frozen=True)
class Quantile(Loss):
    """The pinball loss, `quantile(level)`, whose minimiser is a quantile; the mean.

    rho(r) = (1 - level) r where the prediction is too high, -level r where it is too low; psi(r) =
    1 - level above, -level below, 0 at 0.

    The gradient of the weights is Xᵀ(s psi(r)) / Σ s, that of the bias Σ s psi(r) / Σ s.

    Elsewhere: scikit-learn's `QuantileRegressor(quantile=level, alpha=a)` minimises this plus
    `lasso(a)`, `mean_pinball_loss(..., alpha=level)` is its value; torch and optax have none.

    Attributes:
      level: the share of targets that should lie below the prediction.
      reduction: "mean" or "sum" over the examples.
      penalties: what `+ ridge(...)` and `+ lasso(...)` added.

    Example:
      >>> data = Dataset(X=jnp.array([[1.0], [2.0]]), y=jnp.array([0.0, 6.0]))
      >>> params = Params(jnp.array([2.0]), jnp.array(0.0))  # residuals 2, -2
      >>> loss = quantile(0.75)
      >>> float(loss(params, data)), jax.grad(loss)(params, data).weights.tolist()
      (1.0, [-0.625])
    """

    level: float | Array = 0.5

    scalars: ClassVar[tuple[str, ...]] = ("level",)
    is_piecewise_quadratic = True
    is_piecewise_linear = True
    is_convex = True
    kinks = (0.0,)

    def rho(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        return r * self.psi(r)

    def psi(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        # 1 - level    where the prediction is too high, r > 0
        # -level       where it is too low, r < 0
        # 0            where it is exact
        slope = jnp.where(r > 0, 1 - self.level, -self.level)
        return jnp.where(r == 0, 0, slope).astype(r.dtype)


@dataclasses.dataclass(frozen=True)
class LogCosh(Loss):
    """The loss `log_cosh()`: r²/2 near 0, abs(r) - log 2 far out, smooth everywhere; the mean.

    rho(r) = log cosh r and psi(r) = tanh r.

    The gradient of the weights is Xᵀ(s tanh r) / Σ s, that of the bias Σ s tanh(r) / Σ s.

    Elsewhere: `optax.log_cosh(...).mean()`; torch and scikit-learn have none.

    Attributes:
      reduction: "mean" or "sum" over the examples.
      penalties: what `+ ridge(...)` and `+ lasso(...)` added.

    Example:
      >>> data = Dataset(X=jnp.array([[1.0], [2.0]]), y=jnp.array([0.0, 6.0]))
      >>> params = Params(jnp.array([2.0]), jnp.array(0.0))  # residuals 2, -2
      >>> value, gradient = jax.value_and_grad(log_cosh())(params, data)
      >>> f"{value:.4f}", f"{gradient.weights[0]:.4f}"  # log cosh 2, -tanh(2) / 2
      ('1.3250', '-0.4820')
    """

    is_convex = True
    curvature_bound = 1.0

    def rho(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        # log(1 + 2 sinh²(r/2))                  where abs(r) < 1: keeps its digits near 0
        # abs(r) + log(1 + exp(-2 abs(r))) - log 2   elsewhere: cannot overflow
        # The branch that is not taken sees a harmless number, so that its gradient is finite.
        near = jnp.abs(r) < 1
        half = jnp.sinh(jnp.where(near, r, 0) / 2)
        far = jnp.where(near, 1, jnp.abs(r))
        return jnp.where(
            near, jnp.log1p(2 * half * half), far + jnp.log1p(jnp.exp(-2 * far)) - jnp.log(2.0)
        )

    def psi(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.tanh(r)


@dataclasses.dataclass(frozen=True)
class EpsilonInsensitive(Loss):
    """The loss of support vector regression, `epsilon_insensitive(epsilon)`; the mean.

    rho(r) = max(abs(r) - epsilon, 0); psi(r) = sign(r) outside the tube, 0 inside and on its edge.

    The gradient of the weights is Xᵀ(s psi(r)) / Σ s, that of the bias Σ s psi(r) / Σ s.

    Elsewhere: scikit-learn's `SGDRegressor(loss="epsilon_insensitive", epsilon=epsilon, alpha=a)`
    minimises this and `ridge(a / 2)`; torch and optax have none.

    Attributes:
      epsilon: half the width of the tube that costs nothing, in the units of the targets.
      reduction: "mean" or "sum" over the examples.
      penalties: what `+ ridge(...)` and `+ lasso(...)` added.

    Example:
      >>> data = Dataset(X=jnp.array([[1.0], [2.0]]), y=jnp.array([0.0, 6.0]))
      >>> params = Params(jnp.array([2.0]), jnp.array(0.0))  # residuals 2, -2
      >>> loss = epsilon_insensitive(0.5)
      >>> float(loss(params, data)), jax.grad(loss)(params, data).weights.tolist()
      (1.5, [-0.5])
    """

    epsilon: float | Array = 0.1

    scalars: ClassVar[tuple[str, ...]] = ("epsilon",)
    is_piecewise_quadratic = True
    is_piecewise_linear = True
    is_convex = True

    def rho(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        outside = self.psi(r)
        return outside * (r - self.epsilon * outside)

    def psi(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        inside = 0 * self.epsilon  # or NaN, where epsilon is
        return jnp.where(jnp.abs(r) > self.epsilon, jnp.sign(r), inside).astype(r.dtype)

    @property
    def kinks(self) -> tuple[float | Array, ...]:
        return (-self.epsilon, self.epsilon)


mse = SquaredError()
"""Mean squared error, Σ s r² / Σ s: `torch.nn.MSELoss()`. Gradient 2 Xᵀr / n."""
half_mse = SquaredError(scale=0.5)
"""Half the mean squared error, the "1/2m" cost of many courses. Gradient Xᵀr / n."""
sse = SquaredError(reduction="sum")
"""Sum of squared errors, Σ s r²: `torch.nn.MSELoss(reduction="sum")`. Gradient 2 Xᵀr."""
half_sse = SquaredError(scale=0.5, reduction="sum")
"""Half the sum of squared errors. Gradient Xᵀr."""
mae = AbsoluteError()
"""Mean absolute error, Σ s abs(r) / Σ s. Gradient Xᵀ sign(r) / n, with sign(0) = 0."""


def huber(delta: ArrayLike = 1.0) -> Huber:
    """Squared near the target, linear far from it; the mean over the examples.

    r²/2 where abs(r) ≤ delta, delta (abs(r) - delta/2) beyond, as `torch.nn.HuberLoss`. Source:
    Huber 1964, Annals of Mathematical Statistics 35. The derivative is r clipped to [-delta,
    delta]; `help(huber(1.0))` has the gradient, and what scikit-learn and optax call it.

    Args:
      delta: where the parabola ends, in the units of the targets; more than 0. May be traced.

    Raises:
      ValueError: delta is 0, negative or not finite.

    Example:
      >>> huber(1.0).rho(jnp.array([0.5, 3.0])).tolist()
      [0.125, 2.5]
    """
    return Huber(scalar_setting("delta", delta, "a finite number more than 0", is_positive))


def quantile(level: ArrayLike = 0.5) -> Quantile:
    """The pinball loss, whose minimiser is a quantile; the mean over the examples.

    (1 - level) r where the prediction is too high, -level r where it is too low. Source: Koenker
    and Bassett 1978, Econometrica 46. The derivative is 1 - level or -level, 0 at 0;
    `help(quantile(0.5))` has the gradient, and what scikit-learn calls it.

    Args:
      level: the share of targets that should lie below, between 0 and 1. May be traced.

    Raises:
      ValueError: level is not strictly between 0 and 1.

    Example:
      >>> quantile(0.75).rho(jnp.array([-4.0, 4.0])).tolist()
      [3.0, 1.0]
    """
    rule = "a number strictly between 0 and 1"
    return Quantile(scalar_setting("level", level, rule, is_between_0_and_1))


def log_cosh() -> LogCosh:
    """log cosh r, smooth everywhere: r²/2 near 0, abs(r) - log 2 far out; the mean.

    The derivative is tanh r; `help(log_cosh())` has the gradient, and what optax calls it.

    Example:
      >>> log_cosh().rho(jnp.array([0.0, 100.0])).round(4).tolist()
      [0.0, 99.3069...]
    """
    return LogCosh()


def epsilon_insensitive(epsilon: ArrayLike = 0.1) -> EpsilonInsensitive:
    """max(abs(r) - epsilon, 0), the loss of support vector regression; the mean over the examples.

    The derivative is sign(r) outside the tube, 0 inside; `help(epsilon_insensitive(0.1))` has the
    gradient, and what scikit-learn calls it.

    Args:
      epsilon: half the width of the tube, in the units of the targets; at least 0. May be traced.

    Raises:
      ValueError: epsilon is negative or not finite.

    Example:
      >>> epsilon_insensitive(0.5).rho(jnp.array([-0.25, 2.0])).tolist()
      [-0.0, 1.5]
    """
    rule = "a finite number, at least 0"
    return EpsilonInsensitive(scalar_setting("epsilon", epsilon, rule, is_not_negative))


def check_loss(loss: object) -> None:
    """Raises TypeError where a loss is no function of parameters and data."""
    if not callable(loss):
        raise TypeError(f"loss must be a function (params, data) -> scalar, got {shown(loss)}")
    if any(loss is make for make in (huber, quantile, log_cosh, epsilon_insensitive)):
        name = getattr(loss, "__name__", "")
        raise TypeError(f"loss is {name}, which makes a loss: call it, {name}()")
