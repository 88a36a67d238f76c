"""A loss with one way to its gradient: what `gradients` makes, and `fit` takes."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from linreg_jax._kernels import placed
from linreg_jax._loss import Loss
from linreg_jax._pytrees import Pytree, as_function, as_pytree
from linreg_jax._typing import Array, Float
from linreg_jax._validation import shown
from linreg_jax.dataset import Dataset, check_dataset
from linreg_jax.model import Params, check_params

Found = tuple[Float[Array, ""], Params]
LossFunction = Callable[[Params, Dataset], Array]
ValueAndGradient = Callable[[Params, Dataset], Found]


@dataclasses.dataclass(frozen=True, eq=False)
class LossGradient(Pytree):
    """The value and gradient of a loss by one of the ways of `gradients`.

    It is a pytree, as its loss is: hyper-parameters may be traced, and equal losses compile once.

    Attributes:
      way: `(loss, params, data, *settings) -> (value, gradient)`.
      loss: what it is the gradient of.
      settings: what else the way takes.
    """

    way: Callable[..., Found] = dataclasses.field(metadata={"static": True})
    loss: LossFunction
    settings: tuple[int | None, ...] = dataclasses.field(default=(), metadata={"static": True})

    def __call__(self, params: Params, data: Dataset) -> Found:
        if not isinstance(self.loss, Loss):
            return self.way(self.loss, params, data, *self.settings)
        check_dataset(data)
        check_params(params, data.X, data.y)
        return _call(self.way, placed(as_pytree(self.loss)), params, data, self.settings)


@functools.partial(jax.jit, static_argnums=(0, 4), inline=True)
def _call(
    way: Callable[..., Found],
    argument: Any,
    params: Params,
    data: Dataset,
    settings: tuple[int | None, ...],
) -> Found:
    return way(as_function(argument), params, data, *settings)


def require_loss(loss: LossFunction, way: str) -> Loss:
    """The loss, or TypeError where it has no `rho` and `psi` for `way` to work with."""
    if not isinstance(loss, Loss):
        raise TypeError(
            f"{way} needs a loss with rho and psi, a Loss, got {shown(loss)}: pass one of this "
            "package or a subclass of Loss; autodiff takes any function of (params, data)"
        )
    return loss
