"""Losses: a penalty rho of each residual, its derivative psi by hand, averaged or summed.

With r = prediction - target, s the weight of an example and k targets an example::

    mean   value = sum_i s_i sum_k rho(r_ik) / sum_i s_i
    sum    value = sum_i s_i sum_k rho(r_ik)

| name                       | rho(r)                            | psi(r)                      |
|----------------------------|-----------------------------------|-----------------------------|
| `mse`, `sse`               | r²                                | 2r                          |
| `half_mse`, `half_sse`     | r²/2                              | r                           |
| `mae`                      | abs(r)                            | sign(r)                     |
| `huber(delta)`             | r²/2, a line beyond ±delta        | clip(r, -delta, delta)      |
| `quantile(level)`          | (1-level) r above, -level r below | 1-level above, -level below |
| `log_cosh()`               | log cosh r                        | tanh r                      |
| `epsilon_insensitive(eps)` | max(abs(r) - eps, 0)              | sign(r) outside the tube    |

`sse` and `half_sse` sum, the others average. On a kink psi is the subgradient of least norm, 0 for
every loss here, and each rho is written so that automatic differentiation gives exactly that.

Penalties are added: `mse + ridge(0.1) + lasso(0.01)`. They act on the weights, never on the bias,
and are added to the loss as they stand, whatever it is divided by.
"""

import dataclasses
import functools
import re
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import Array

from linreg_jax._kernels import per_example, placed, sum_of_examples
from linreg_jax._pytrees import Pytree, as_function, as_pytree
from linreg_jax._validation import (
    is_not_negative,
    is_positive,
    scalar_setting,
    several_by_vmap,
    shape_text,
    shown,
)
from linreg_jax.dataset import Dataset, check_dataset, is_compressed, mean_divisor
from linreg_jax.model import Params, check_params, residuals
from linreg_jax.penalties import Penalty, lasso, ridge


@dataclasses.dataclass(frozen=True)
class Loss(Pytree):
    """What every loss is: a function `(params, data) -> scalar` that knows its own derivative.

    Attributes:
      reduction: "mean" or "sum" over the examples; targets are summed.
      penalties: what `+ ridge(...)` and `+ lasso(...)` added.
      pieces: of what rho is made between its kinks. "quadratic" where it is one parabola (or line)
        at most, so that finite differences are exact at any step that meets no kink; "smooth" where
        it is not.
      scalars: the fields that hold one number each, to be mapped over by `jax.vmap` where there are
        several.

    Example:
      A loss of your own is a frozen dataclass that gives `rho` and `psi` (elementwise, in the units
      of the residual). As every `Loss` it is a pytree already (do not register it again),
      whose fields can be traced:

      >>> @dataclasses.dataclass(frozen=True)
      ... class Cauchy(Loss):
      ...     scale: float = 1.0
      ...
      ...     def rho(self, r):
      ...         return self.scale**2 / 2 * jnp.log1p((r / self.scale) ** 2)
      ...
      ...     def psi(self, r):
      ...         return r / (1 + (r / self.scale) ** 2)
      >>> data = Dataset(X=jnp.array([[1.0]]), y=jnp.array([0.0]))
      >>> value, gradient = gradients.vectorized(Cauchy())(Params(jnp.array([1.0]), None), data)
      >>> float(gradient.weights[0])
      0.5
    """

    _: dataclasses.KW_ONLY
    reduction: Literal["mean", "sum"] = dataclasses.field(default="mean", metadata={"static": True})
    penalties: tuple[Penalty, ...] = ()

    pieces: ClassVar[Literal["quadratic", "smooth"]] = "smooth"
    scalars: ClassVar[tuple[str, ...]] = ()

    def rho(self, r):
        """What one residual r costs; elementwise, any shape."""
        raise TypeError(f"{type(self).__name__} must define rho and psi")

    def psi(self, r):
        """The derivative of rho, by hand; elementwise, any shape."""
        raise TypeError(f"{type(self).__name__} must define rho and psi")

    @property
    def kinks(self) -> tuple:
        """The residuals where rho or its derivative is not smooth."""
        return ()

    @property
    def curvature(self) -> float | None:
        """The second derivative of rho where it is one constant (squared losses), else None."""
        return None

    @property
    def name(self) -> str:
        """The loss as it is written in a call, `huber(1.0)`, without its penalties."""
        settings = [
            f"{getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if field.name not in ("reduction", "penalties")
        ]
        if self.reduction != "mean":
            settings.append(f"reduction={self.reduction!r}")
        written = re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()
        return f"{written}({', '.join(settings)})"

    def __str__(self):
        return " + ".join([self.name, *map(str, self.penalties)])

    def __add__(self, penalty):
        if penalty is ridge or penalty is lasso:
            name = penalty.__name__
            raise TypeError(f"{name} makes a penalty: call it with a strength, {name}(0.1)")
        if not isinstance(penalty, Penalty):
            return NotImplemented
        return dataclasses.replace(self, penalties=(*self.penalties, penalty))

    @property
    def smooth_part(self) -> "Loss":
        """The loss without the penalties that are trained by their `prox`."""
        return dataclasses.replace(self, penalties=tuple(p for p in self.penalties if p.is_smooth))

    @property
    def proximal_penalties(self) -> tuple[Penalty, ...]:
        """The penalties that are not smooth, such as a lasso."""
        return tuple(p for p in self.penalties if not p.is_smooth)

    def penalty(self, params):
        """[] what the penalties add; 0.0 without any."""
        return sum((penalty(params.weights) for penalty in self.penalties), 0.0)

    def penalty_gradient(self, params):
        """[d] or [d, k] the derivative of `penalty`, by hand; 0.0 without any penalty."""
        return sum((penalty.gradient(params.weights) for penalty in self.penalties), 0.0)

    def __call__(self, params: Params, data: Dataset) -> Array:
        """The loss.

        Args:
          params: `Params`; weights [d] or [d, k].
          data: a `Dataset`; X [n, d], y [n] or [n, k].

        Returns:
          [] the value, in the units of rho.

        Raises:
          TypeError, ValueError: as `residuals` and `example_weights` say.
        """
        check_dataset(data)
        check_params(params, data.X, data.y)
        value: Array = _value(placed(as_pytree(self)), params, data)
        return value


@functools.partial(jax.jit, inline=True)
def _value(argument: Any, params: Params, data: Dataset) -> Array:
    loss, r = as_function(argument), residuals(params, data)
    weighted = per_example(example_weights(loss, data), r) * loss.rho(r)
    return jnp.sum(sum_of_examples(weighted)) + loss.penalty(params)


def example_weights(loss: Loss, data: Dataset) -> Array:
    """What multiplies each example's rho in the loss: its weight over what a mean divides by.

    Args:
      loss: a loss of this package.
      data: a `Dataset`.

    Returns:
      [n], or [] where all are equal. Examples of zero weight in all get 0, not 0/0; weights whose
      sum over- or underflows give NaN.

    Raises:
      ValueError: the data is compressed and the loss is not squared; a setting of the loss or of a
        penalty is an array to map over, and was not mapped over.
    """
    for part, names in [(loss, loss.scalars), *((p, ("strength",)) for p in loss.penalties)]:
        for name in names:
            shape = jnp.shape(getattr(part, name))
            if shape:
                raise ValueError(
                    f"{name} has shape {shape_text(shape)}: one loss takes one number; "
                    f"{several_by_vmap(name)}"
                )
    if is_compressed(data) and loss.curvature is None:
        raise ValueError(
            f"data is compressed: its rows stand for others with the same squared loss only, and "
            f"{loss} is not squared; pass the original data"
        )
    if loss.reduction == "sum":
        one = jnp.ones((), data.X.dtype)
        return one if data.sample_weight is None else data.sample_weight
    total = mean_divisor(data)
    total = jnp.where(total == 0, 1, total)
    return 1 / total if data.sample_weight is None else data.sample_weight / total


@dataclasses.dataclass(frozen=True)
class SquaredError(Loss):
    """The squared error in its four customary scalings: `mse`, `half_mse`, `sse` and `half_sse`.

    rho(r) = scale r² and psi(r) = 2 scale r. With s the weight of an example, 1 where there are no
    weights, n their sum and r = X weights + bias - y::

        name      value            gradient of the weights   of the bias
        mse       Σ s r² / n       2 Xᵀ(s r) / n             2 Σ s r / n
        half_mse  Σ s r² / 2n      Xᵀ(s r) / n               Σ s r / n
        sse       Σ s r²           2 Xᵀ(s r)                 2 Σ s r
        half_sse  Σ s r² / 2       Xᵀ(s r)                   Σ s r

    `mse` is `torch.nn.MSELoss()`, `sse` the same with reduction="sum", and `half_mse` the "1/2m"
    cost of many courses. All have the same minimum; a learning rate for one suits another only
    after it is scaled the other way.

    Attributes:
      scale: what multiplies r².
      reduction: "mean" or "sum" over the examples.
      penalties: what `+ ridge(...)` and `+ lasso(...)` added.
    """

    scale: float = dataclasses.field(default=1.0, metadata={"static": True})

    pieces: ClassVar[Literal["quadratic", "smooth"]] = "quadratic"

    def rho(self, r):
        return self.scale * r * r

    def psi(self, r):
        return 2 * self.scale * r

    @property
    def curvature(self):
        return 2 * self.scale

    @property
    def name(self):
        scaled = {1.0: "", 0.5: "half_"}.get(self.scale, f"{self.scale} ")
        return scaled + {"mean": "mse", "sum": "sse"}[self.reduction]


@dataclasses.dataclass(frozen=True)
class AbsoluteError(Loss):
    """The absolute error, `mae`: Σ s abs(r) / Σ s, whose minimiser is the median.

    rho(r) = abs(r) and psi(r) = sign(r), 0 at 0, where automatic differentiation gives 0 too. The
    gradient of the weights is Xᵀ(s sign(r)) / Σ s and that of the bias Σ s sign(r) / Σ s, with s
    the weight of an example, 1 where there are no weights.

    Attributes:
      reduction: "mean" or "sum" over the examples.
      penalties: what `+ ridge(...)` and `+ lasso(...)` added.
    """

    pieces: ClassVar[Literal["quadratic", "smooth"]] = "quadratic"

    def rho(self, r):
        return r * jnp.sign(r)  # jax.grad(jnp.abs) is 1 at 0, this one is 0

    def psi(self, r):
        return jnp.sign(r)

    @property
    def kinks(self):
        return (0.0,)

    @property
    def name(self):
        return "mae" if self.reduction == "mean" else "mae(reduction='sum')"


@dataclasses.dataclass(frozen=True)
class Huber(Loss):
    """The Huber loss, `huber(delta)`: squared near the target, linear far from it; the mean.

    rho(r) = r²/2 where abs(r) ≤ delta, delta (abs(r) - delta/2) beyond; psi(r) = r clipped to
    [-delta, delta]. The gradient of the weights is Xᵀ(s psi(r)) / Σ s, with s the weight of an
    example. The scale is that of `optax.huber_loss` and `torch.nn.HuberLoss`.

    Attributes:
      delta: where the parabola becomes a line, in the units of the targets.
      reduction: "mean" or "sum" over the examples.
      penalties: what `+ ridge(...)` and `+ lasso(...)` added.
    """

    delta: float | Array = 1.0

    scalars: ClassVar[tuple[str, ...]] = ("delta",)
    pieces: ClassVar[Literal["quadratic", "smooth"]] = "quadratic"

    def rho(self, r):
        # r²/2                        where abs(r) <= delta
        # delta (abs(r) - delta/2)    elsewhere
        # With c = clip(r) both are c (r - c/2), which cannot overflow before the loss does.
        c = self.psi(r)
        return c * (r - c / 2)

    def psi(self, r):
        return jnp.clip(r, -self.delta, self.delta)

    @property
    def kinks(self):
        return (-self.delta, self.delta)


@dataclasses.dataclass(frozen=True)
class Quantile(Loss):
    """The pinball loss, `quantile(level)`, whose minimiser is a quantile; the mean.

    rho(r) = (1 - level) r where the prediction is too high, -level r where it is too low; psi(r) =
    1 - level above, -level below, 0 at 0. The gradient of the weights is Xᵀ(s psi(r)) / Σ s, with s
    the weight of an example.

    Attributes:
      level: the share of targets that should lie below the prediction.
      reduction: "mean" or "sum" over the examples.
      penalties: what `+ ridge(...)` and `+ lasso(...)` added.
    """

    level: float | Array = 0.5

    scalars: ClassVar[tuple[str, ...]] = ("level",)
    pieces: ClassVar[Literal["quadratic", "smooth"]] = "quadratic"

    def rho(self, r):
        return r * self.psi(r)

    def psi(self, r):
        # 1 - level    where the prediction is too high, r > 0
        # -level       where it is too low, r < 0
        # 0            where it is exact
        slope = jnp.where(r > 0, 1 - self.level, -self.level)
        return jnp.where(r == 0, 0, slope).astype(r.dtype)

    @property
    def kinks(self):
        return (0.0,)


@dataclasses.dataclass(frozen=True)
class LogCosh(Loss):
    """The loss `log_cosh()`: r²/2 near 0, abs(r) - log 2 far out, smooth everywhere; the mean.

    rho(r) = log cosh r and psi(r) = tanh r. The gradient of the weights is Xᵀ(s tanh r) / Σ s, with
    s the weight of an example.

    Attributes:
      reduction: "mean" or "sum" over the examples.
      penalties: what `+ ridge(...)` and `+ lasso(...)` added.
    """

    def rho(self, r):
        # log(1 + 2 sinh²(r/2))                  where abs(r) < 1: keeps its digits near 0
        # abs(r) + log(1 + exp(-2 abs(r))) - log 2   elsewhere: cannot overflow
        # The branch that is not taken sees a harmless number, so that its gradient is finite.
        near = jnp.abs(r) < 1
        half = jnp.sinh(jnp.where(near, r, 0) / 2)
        far = jnp.where(near, 1, jnp.abs(r))
        return jnp.where(
            near, jnp.log1p(2 * half * half), far + jnp.log1p(jnp.exp(-2 * far)) - jnp.log(2.0)
        )

    def psi(self, r):
        return jnp.tanh(r)


@dataclasses.dataclass(frozen=True)
class EpsilonInsensitive(Loss):
    """The loss of support vector regression, `epsilon_insensitive(epsilon)`; the mean.

    rho(r) = max(abs(r) - epsilon, 0); psi(r) = sign(r) outside the tube, 0 inside and on its edge.
    The gradient of the weights is Xᵀ(s psi(r)) / Σ s, with s the weight of an example.

    Attributes:
      epsilon: half the width of the tube that costs nothing, in the units of the targets.
      reduction: "mean" or "sum" over the examples.
      penalties: what `+ ridge(...)` and `+ lasso(...)` added.
    """

    epsilon: float | Array = 0.1

    scalars: ClassVar[tuple[str, ...]] = ("epsilon",)
    pieces: ClassVar[Literal["quadratic", "smooth"]] = "quadratic"

    def rho(self, r):
        outside = self.psi(r)
        return outside * (r - self.epsilon * outside)

    def psi(self, r):
        return jnp.where(jnp.abs(r) > self.epsilon, jnp.sign(r), 0).astype(r.dtype)

    @property
    def kinks(self):
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


def huber(delta: float | Array = 1.0) -> Huber:
    """Squared near the target, linear far from it.

    r²/2 where abs(r) ≤ delta, delta (abs(r) - delta/2) beyond; the mean over the examples. The
    scale is that of `optax.huber_loss` and `torch.nn.HuberLoss`. Source: Huber 1964, Annals of
    Mathematical Statistics 35.

    Args:
      delta: where the parabola becomes a line, in the units of the targets; more than 0. May be
        traced.

    Raises:
      ValueError: delta is 0, negative or not finite.

    Example:
      >>> huber(1.0).rho(jnp.array([0.5, 3.0])).tolist()
      [0.125, 2.5]
    """
    return Huber(delta=scalar_setting("delta", delta, "a finite number more than 0", is_positive))


def quantile(level: float | Array = 0.5) -> Quantile:
    """The pinball loss, whose minimiser is a quantile.

    (1 - level) r where the prediction is too high, -level r where it is too low; the mean over the
    examples. Source: Koenker and Bassett 1978, Econometrica 46.

    Args:
      level: the share of targets that should lie below the prediction, between 0 and 1. May be
        traced.

    Raises:
      ValueError: level is not strictly between 0 and 1.

    Example:
      >>> quantile(0.75).rho(jnp.array([-4.0, 4.0])).tolist()
      [3.0, 1.0]
    """
    rule = "a number strictly between 0 and 1"
    return Quantile(level=scalar_setting("level", level, rule, lambda v: 0 < v < 1))


def log_cosh() -> LogCosh:
    """log cosh r, smooth everywhere: r²/2 near 0, abs(r) - log 2 far out; the mean.

    Example:
      >>> log_cosh().rho(jnp.array([0.0, 100.0])).round(4).tolist()
      [0.0, 99.3069...]
    """
    return LogCosh()


def epsilon_insensitive(epsilon: float | Array = 0.1) -> EpsilonInsensitive:
    """max(abs(r) - epsilon, 0), the loss of support vector regression; the mean over the examples.

    Args:
      epsilon: half the width of the tube that costs nothing, in the units of the targets; at least
        0. May be traced.

    Raises:
      ValueError: epsilon is negative or not finite.

    Example:
      >>> epsilon_insensitive(0.5).rho(jnp.array([-0.25, 2.0])).tolist()
      [-0.0, 1.5]
    """
    rule = "a finite number, at least 0"
    return EpsilonInsensitive(epsilon=scalar_setting("epsilon", epsilon, rule, is_not_negative))


def check_loss(loss):
    """Raises TypeError where a loss is no function of parameters and data."""
    if not callable(loss):
        raise TypeError(f"loss must be a function (params, data) -> scalar, got {shown(loss)}")
    if any(loss is factory for factory in (huber, quantile, log_cosh, epsilon_insensitive)):
        raise TypeError(f"loss is {loss.__name__}, which makes a loss: call it, {loss.__name__}()")
