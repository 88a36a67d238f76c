"""`Loss`: a function that knows its own derivative, and what it is made of."""

import dataclasses
import operator
import re
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linreg_jax._arithmetic.division import divide, nonzero
from linreg_jax._host import namespace_of
from linreg_jax._kernels import per_example, placed, sum_of_examples
from linreg_jax._pytrees import Pytree, as_function, as_pytree
from linreg_jax._typing import AnyArray, Array, Float
from linreg_jax._validation import is_positive, scalar_setting, several_by_vmap, shape_text, shown
from linreg_jax.dataset import Dataset, check_dataset, is_compressed, mean_divisor
from linreg_jax.model import Params, check_params, residuals
from linreg_jax.penalties import Penalty, lasso, ridge


@dataclasses.dataclass(frozen=True)
class Loss(Pytree):
    """What every loss is: a function `(params, data) -> scalar` that knows its own derivative.

    A loss is scaled by a number, `0.5 * mse`, and penalties are added to it, `mse + ridge(0.1)`.

    Attributes:
      reduction: "mean" or "sum" over the examples; targets are summed.
      penalties: what `+ ridge(...)` and `+ lasso(...)` added.
      scalars: the fields that must hold one number each; several are mapped over by `jax.vmap`.

    Example:
      A loss of your own is a frozen dataclass that gives `rho` and `psi` (elementwise, in the units
      of the residual), and names in `scalars` those of its fields that are numbers. As every `Loss`
      it is a pytree already (do not register it again), whose fields can be traced. One that also
      states a bound on its curvature can be diagnosed, and trained at `learning_rate="auto"`:

      >>> @dataclasses.dataclass(frozen=True)
      ... class Cauchy(Loss):
      ...     scale: float = 1.0
      ...     scalars = ("scale",)
      ...     curvature_bound = 1.0
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
      >>> float(diagnose(data, Cauchy(), intercept=False).largest_stable_rate)
      2.0
    """

    _: dataclasses.KW_ONLY
    reduction: Literal["mean", "sum"] = dataclasses.field(default="mean", metadata={"static": True})
    penalties: tuple[Penalty, ...] = ()

    scalars: ClassVar[tuple[str, ...]] = ()
    __array_ufunc__: ClassVar[None] = None  # numpy.float64(0.5) * mse is left to __rmul__

    def rho(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """What one residual r costs; elementwise, any shape."""
        raise TypeError(f"{type(self).__name__} must define rho and psi")

    def psi(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """The derivative of rho, by hand; elementwise, any shape."""
        raise TypeError(f"{type(self).__name__} must define rho and psi")

    # What a loss is; a subclass states what differs, as a property or as an attribute of the class.
    @property
    def is_quadratic(self) -> bool:
        """Whether the loss is squared: rho(r) is curvature_bound r² / 2."""
        return False

    @property
    def is_piecewise_quadratic(self) -> bool:
        """Whether rho is a parabola or a line between any two `kinks`."""
        return self.is_quadratic

    @property
    def is_piecewise_linear(self) -> bool:
        """Whether rho is a line between any two `kinks`, and beyond them."""
        return False

    @property
    def is_convex(self) -> bool:
        """Whether psi is nondecreasing."""
        return self.is_quadratic

    @property
    def kinks(self) -> tuple[float | Array, ...]:
        """The residuals where rho or its derivative is not smooth."""
        return ()

    @property
    def curvature_bound(self) -> float | Array | None:
        """An upper bound of the size of psi's slope; None: unknown, or there is none."""
        return None

    @property
    def is_smooth(self) -> bool:
        """Whether psi has no jumps: its slope is bounded, or there are no kinks."""
        return self.curvature_bound is not None or not self.kinks

    @property
    def is_quadratic_in_params(self) -> bool:
        """Whether the whole loss is quadratic: rho is, and so is every penalty."""
        return self.is_quadratic and all(penalty.is_quadratic for penalty in self.penalties)

    @property
    def smooth_part(self) -> "Loss":
        """The loss without the penalties that are trained by their `prox`."""
        return dataclasses.replace(self, penalties=tuple(p for p in self.penalties if p.is_smooth))

    @property
    def proximal_penalties(self) -> tuple[Penalty, ...]:
        """The penalties that are not smooth, such as a lasso."""
        return tuple(p for p in self.penalties if not p.is_smooth)

    @property
    def settings(self) -> dict[str, float | Array]:
        """The numbers that make one loss differ from another of its kind, by name."""
        return {name: getattr(self, name) for name in self.scalars}

    def __call__(self, params: Params, data: Dataset) -> Float[Array, ""]:
        """The loss: Σ s rho(r) / Σ s over the examples, or Σ s rho(r), plus the penalties.

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

    def divisor(self, data: Dataset) -> Float[AnyArray, ""]:
        """[] what the weights are divided by, before the sum: their total for a mean, or 1."""
        if self.reduction == "mean":
            return mean_divisor(data)
        return namespace_of(data.X).ones((), data.X.dtype)

    def penalty(self, params: Params) -> Float[AnyArray, ""] | float:
        """[] what the penalties add; 0.0 without any."""
        return sum((penalty(params.weights) for penalty in self.penalties), 0.0)

    def penalty_gradient(self, params: Params) -> Float[Array, " d *k"] | float:
        """[d] or [d, k] the derivative of `penalty`, by hand; 0.0 without any penalty."""
        return sum((penalty.gradient(params.weights) for penalty in self.penalties), 0.0)

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

    def __str__(self) -> str:
        return " + ".join([self.name, *map(str, self.penalties)])

    def __add__(self, penalty: Penalty) -> "Loss":
        for make in (ridge, lasso):
            if penalty is make:
                name = make.__name__
                raise TypeError(f"{name} makes a penalty: call it with a strength, {name}(0.1)")
        if not isinstance(penalty, Penalty):
            raise TypeError(
                f"only penalties are added to a loss, as in {self.name} + ridge(0.1), got "
                f"{shown(penalty)}: for another sum write a function of (params, data)"
            )
        return dataclasses.replace(self, penalties=(*self.penalties, penalty))

    __radd__ = __add__

    def __mul__(self, factor: ArrayLike) -> "Loss":
        if type(self).__call__ is not Loss.__call__:
            raise TypeError(
                f"{type(self).__name__} has a __call__ of its own: multiply what it returns"
            )
        rule = "a finite number more than 0"
        factor = scalar_setting("scale", factor, rule, is_positive)
        penalties = tuple(factor * penalty for penalty in self.penalties)
        return dataclasses.replace(self._scaled(factor), penalties=penalties)

    __rmul__ = __mul__

    def _scaled(self, factor: float | Array) -> "Loss":
        """The loss with rho multiplied, whatever its penalties."""
        alone = dataclasses.replace(self, reduction="mean", penalties=())
        return ScaledLoss(alone, factor, reduction=self.reduction)


def _of_the_scaled(name: str) -> Any:
    """A property that a loss has whatever it is multiplied by."""
    return property(operator.attrgetter(f"loss.{name}"))


@dataclasses.dataclass(frozen=True)
class ScaledLoss(Loss):
    """A loss times a number, `0.5 * huber(1.0)`: scale rho(r), with the slope scale psi(r).

    Attributes:
      loss: what is scaled; its rho and psi count, and not its reduction.
      scale: what multiplies rho, more than 0.
      reduction: "mean" or "sum" over the examples.
      penalties: scaled already, that of `2 * (mse + ridge(0.1))` is `ridge(0.2)`.
    """

    loss: Loss
    scale: float | Array

    def rho(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        return (self.scale * self.loss.rho(r)).astype(r.dtype)

    def psi(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        return (self.scale * self.loss.psi(r)).astype(r.dtype)

    is_quadratic = _of_the_scaled("is_quadratic")
    is_piecewise_quadratic = _of_the_scaled("is_piecewise_quadratic")
    is_piecewise_linear = _of_the_scaled("is_piecewise_linear")
    is_convex = _of_the_scaled("is_convex")
    kinks = _of_the_scaled("kinks")

    @property
    def curvature_bound(self) -> float | Array | None:
        bound = self.loss.curvature_bound
        return None if bound is None else self.scale * bound

    @property
    def settings(self) -> dict[str, float | Array]:
        return {"scale": self.scale, **self.loss.settings}

    @property
    def name(self) -> str:
        return f"{self.scale} * {dataclasses.replace(self.loss, reduction=self.reduction).name}"

    def _scaled(self, factor: float | Array) -> Loss:
        return dataclasses.replace(self, scale=factor * self.scale)


@jax.jit
def _value(argument: Any, params: Params, data: Dataset) -> Float[Array, ""]:
    loss, r = as_function(argument), residuals(params, data)
    a = per_example(example_weights(loss, data), r)
    return jnp.sum(sum_of_examples(a * loss.rho(r))) + loss.penalty(params)


def example_weights(loss: Loss, data: Dataset) -> Float[Array, " n"] | Float[Array, ""]:
    """What multiplies each example's rho in the loss: its weight over what a mean divides by.

    Args:
      loss: a loss of this package.
      data: a `Dataset`.

    Returns:
      [n], or [] where all are equal. Where all weights are 0 it is 0, not 0/0; weights whose sum
      over- or underflows give NaN.

    Raises:
      ValueError: the data is compressed and the loss is not squared; a setting of the loss or of a
        penalty is an array to map over, and was not mapped over.
    """
    for settings in (loss.settings, *({"strength": p.strength} for p in loss.penalties)):
        for name, value in settings.items():
            if jnp.ndim(value) > 0:
                raise ValueError(
                    f"{name} has shape {shape_text(jnp.shape(value))}: one loss takes one number; "
                    f"{several_by_vmap(name)}"
                )
    if is_compressed(data) and not loss.is_quadratic:
        raise ValueError(
            f"data is compressed: its rows stand for others with the same squared loss only, and "
            f"{loss} is not squared; pass the original data"
        )
    s = jnp.ones((), data.X.dtype) if data.sample_weight is None else data.sample_weight
    return s / nonzero(loss.divisor(data))


def example_share(loss: Loss, data: Dataset) -> Float[AnyArray, ""]:
    """[] what multiplies sample_weight * rho(r) in the loss; 0 where all weights are 0."""
    return divide(1.0, loss.divisor(data))
