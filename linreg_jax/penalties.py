"""Penalties on the weights, added to a loss: `mse + ridge(0.1) + lasso(0.01)`.

They act on the weights, never on the bias, and are added to the loss as they stand, whatever it is
divided by.

| name              | rho(w) | psi(w)  |
|-------------------|--------|---------|
| `ridge(strength)` | w²     | 2w      |
| `lasso(strength)` | abs(w) | sign(w) |
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from linreg_jax._pytrees import Pytree
from linreg_jax._validation import is_not_negative, scalar_setting


@dataclasses.dataclass(frozen=True)
class Penalty(Pytree):
    """strength Σ rho(w) over the weights. Added to a loss; `ridge` and `lasso` make one.

    A subclass gives `rho` and `psi`, elementwise functions, and `name`.

    Attributes:
      strength: what multiplies the sum, at least 0.
    """

    strength: float | Array
    name: ClassVar[str] = "penalty"
    is_smooth: ClassVar[bool] = True

    def rho(self, w):
        """What one weight w costs, before `strength`; any shape."""
        raise TypeError(f"{type(self).__name__} must define rho and psi")

    def psi(self, w):
        """The derivative of rho, by hand; any shape."""
        raise TypeError(f"{type(self).__name__} must define rho and psi")

    def prox(self, w: Array, step: Array) -> Array:
        """The v that makes step strength rho(v) + (v - w)²/2 least, elementwise.

        What a step of training does for a penalty that is not smooth; see `Penalty.is_smooth`.
        """
        raise TypeError(f"{type(self).__name__} is not smooth and must define prox")

    def __call__(self, weights: Array) -> Array:
        """[] the penalty of weights [d] or [d, k]."""
        return self.strength * jnp.sum(self.rho(weights))

    def gradient(self, weights: Array) -> Array:
        """[d] or [d, k] the derivative by hand, shaped as the weights."""
        return self.strength * self.psi(weights)

    def __str__(self):
        return f"{self.name}({self.strength})"


@dataclasses.dataclass(frozen=True)
class Ridge(Penalty):
    """The squared (L2) penalty, `ridge(strength)`: strength Σ w², gradient 2 strength w.

    Attributes:
      strength: what multiplies the sum, at least 0.
    """

    name: ClassVar[str] = "ridge"

    def rho(self, w):
        return w * w

    def psi(self, w):
        return 2 * w


@dataclasses.dataclass(frozen=True)
class Lasso(Penalty):
    """The absolute (L1) penalty, `lasso(strength)`: strength Σ abs(w), gradient strength sign(w).

    Attributes:
      strength: what multiplies the sum, at least 0.
    """

    name: ClassVar[str] = "lasso"
    is_smooth: ClassVar[bool] = False

    def rho(self, w):
        return w * jnp.sign(w)  # jax.grad(jnp.abs) is 1 at 0, this one is 0

    def psi(self, w):
        return jnp.sign(w)

    def prox(self, w: Array, step: Array) -> Array:
        # Each weight moved towards 0 by step strength, and stopped there.
        return jnp.sign(w) * jnp.maximum(jnp.abs(w) - step * self.strength, 0)


def ridge(strength: float | Array) -> Ridge:
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


def lasso(strength: float | Array) -> Lasso:
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
