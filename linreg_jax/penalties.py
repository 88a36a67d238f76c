"""Penalties on the weights, added to a loss: `mse + ridge(0.1) + lasso(0.01)`.

They act on the weights, never on the bias, and are added to the loss as they stand, whatever it is
divided by.

| name              | rho(w) | psi(w)  |
|-------------------|--------|---------|
| `ridge(strength)` | w²     | 2w      |
| `lasso(strength)` | abs(w) | sign(w) |
"""

import dataclasses

import jax.numpy as jnp
from jax.typing import ArrayLike

from linreg_jax._pytrees import Pytree
from linreg_jax._typing import AnyArray, Array, Float
from linreg_jax._validation import is_not_negative, is_positive, scalar_setting


@dataclasses.dataclass(frozen=True)
class Penalty(Pytree):
    """strength Σ rho(w) over the weights. Added to a loss; `ridge` and `lasso` make one.

    A subclass gives `rho` and `psi`, elementwise functions, and states what it is. One that is not
    smooth gives `prox`, by which it is trained.

    Attributes:
      strength: what multiplies the sum, at least 0.

    Example:
      Weights that are not negative:

      >>> class NotNegative(Penalty):
      ...     is_smooth = False
      ...
      ...     def rho(self, w):
      ...         return jnp.where(w < 0, jnp.inf, 0)
      ...
      ...     def psi(self, w):
      ...         return jnp.zeros_like(w)
      ...
      ...     def prox(self, w, step):
      ...         return jnp.maximum(w, 0)
      >>> data = as_dataset([[-1.0], [0.0], [1.0]], [3.0, 2.0, 1.0])
      >>> loss, start = mse + NotNegative(1.0), init_params(data)
      >>> result = fit(loss, start, data, learning_rate="auto", num_steps=100)
      >>> result.params
      Params(weights=Array([0.], dtype=float32), bias=Array(2., dtype=float32))
    """

    strength: float | Array

    def rho(self, w: Float[AnyArray, "..."]) -> Float[AnyArray, "..."]:
        """What one weight w costs, before `strength`; any shape."""
        raise TypeError(f"{type(self).__name__} must define rho and psi")

    def psi(self, w: Float[AnyArray, "..."]) -> Float[AnyArray, "..."]:
        """The derivative of rho, by hand; any shape."""
        raise TypeError(f"{type(self).__name__} must define rho and psi")

    def prox(self, w: Float[Array, "..."], step: Float[Array, ""]) -> Float[Array, "..."]:
        """The v that makes step strength rho(v) + (v - w)²/2 least, elementwise.

        What a step of training does after the optimizer's update, for a penalty that is not smooth;
        `step` is the learning rate.
        """
        raise TypeError(f"{type(self).__name__} is not smooth and must define prox")

    # What a penalty is. A subclass states what differs, as a property or attribute of the class.

    @property
    def is_smooth(self) -> bool:
        """Whether psi has no jumps, so that descent follows it. Else training takes `prox`."""
        return True

    @property
    def is_quadratic(self) -> bool:
        """Whether strength rho(w) is curvature_bound w² / 2."""
        return False

    @property
    def is_absolute(self) -> bool:
        """Whether rho(w) is abs(w)."""
        return False

    @property
    def is_piecewise_quadratic(self) -> bool:
        """Whether rho is a parabola or a line between any two `kinks`."""
        return self.is_quadratic

    @property
    def kinks(self) -> tuple[float | Array, ...]:
        """The weights where rho or its derivative is not smooth."""
        return ()

    @property
    def curvature_bound(self) -> float | Array | None:
        """What the slope of strength psi nowhere exceeds in size; None: unknown, or no bound."""
        return None

    @property
    def name(self) -> str:
        """What makes it, `ridge`."""
        return type(self).__name__.lower()

    def __call__(self, weights: Float[AnyArray, " d *k"]) -> Float[AnyArray, ""]:
        """[] the penalty of weights [d] or [d, k]."""
        return self.strength * self.rho(weights).sum()

    def gradient(self, weights: Float[Array, " d *k"]) -> Float[Array, " d *k"]:
        """[d] or [d, k] the derivative by hand, shaped as the weights."""
        return self.strength * self.psi(weights)

    def __str__(self) -> str:
        return f"{self.name}({self.strength})"

    def __mul__(self, factor: ArrayLike) -> "Penalty":
        rule = "a finite number more than 0"
        factor = scalar_setting("scale", factor, rule, is_positive)
        return dataclasses.replace(self, strength=factor * self.strength)

    __rmul__ = __mul__

    def __add__(self, other: object) -> object:
        if not isinstance(other, Penalty):
            return NotImplemented  # a loss adds what stands before it too
        raise TypeError(
            f"{self} and {other} are penalties of a loss: add them to it one by one, "
            f"mse + {self} + {other}"
        )


@dataclasses.dataclass(frozen=True)
class Ridge(Penalty):
    """The squared (L2) penalty, `ridge(strength)`: strength Σ w², gradient 2 strength w.

    Attributes:
      strength: what multiplies the sum, at least 0.
    """

    is_quadratic = True

    @property
    def curvature_bound(self) -> float | Array:
        return 2 * self.strength

    def rho(self, w: Float[AnyArray, "..."]) -> Float[AnyArray, "..."]:
        return w * w

    def psi(self, w: Float[AnyArray, "..."]) -> Float[AnyArray, "..."]:
        return 2 * w


@dataclasses.dataclass(frozen=True)
class Lasso(Penalty):
    """The absolute (L1) penalty, `lasso(strength)`: strength Σ abs(w), gradient strength sign(w).

    Attributes:
      strength: what multiplies the sum, at least 0.
    """

    is_smooth = False
    is_absolute = True
    is_piecewise_quadratic = True
    kinks = (0.0,)

    def rho(self, w: Float[AnyArray, "..."]) -> Float[AnyArray, "..."]:
        return w * jnp.sign(w)  # jax.grad(jnp.abs) is 1 at 0, this one is 0

    def psi(self, w: Float[AnyArray, "..."]) -> Float[AnyArray, "..."]:
        return jnp.sign(w)

    def prox(self, w: Float[Array, "..."], step: Float[Array, ""]) -> Float[Array, "..."]:
        # Each weight moved towards 0 by step strength, and stopped there.
        return jnp.sign(w) * jnp.maximum(jnp.abs(w) - step * self.strength, 0)


def ridge(strength: ArrayLike) -> Ridge:
    """The squared (L2) penalty to add to a loss: strength Σ w², gradient 2 strength w.

    `sse + ridge(alpha)` is scikit-learn's Ridge(alpha) and `half_mse + ridge(alpha / 2)` its
    SGDRegressor(alpha=alpha).

    Args:
      strength: at least 0. May be traced.

    Raises:
      ValueError: strength is negative or not finite.

    Example:
      >>> data = Dataset(X=jnp.array([[1.0]]), y=jnp.array([0.0]))
      >>> float((mse + ridge(0.5))(Params(jnp.array([2.0]), None), data))
      6.0
    """
    rule = "a finite number, at least 0"
    return Ridge(scalar_setting("strength", strength, rule, is_not_negative))


def lasso(strength: ArrayLike) -> Lasso:
    """The absolute (L1) penalty to add to a loss: strength Σ abs(w), gradient strength sign(w).

    `half_mse + lasso(alpha)` is scikit-learn's Lasso(alpha).

    Args:
      strength: at least 0. May be traced.

    Raises:
      ValueError: strength is negative or not finite.

    Example:
      >>> data = Dataset(X=jnp.array([[1.0]]), y=jnp.array([0.0]))
      >>> float((mse + lasso(0.5))(Params(jnp.array([-2.0]), None), data))
      5.0
    """
    rule = "a finite number, at least 0"
    return Lasso(scalar_setting("strength", strength, rule, is_not_negative))
