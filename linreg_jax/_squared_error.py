"""The squared error, whose rho is one parabola."""

import dataclasses

from linreg_jax._loss import Loss
from linreg_jax._typing import Array, Float


@dataclasses.dataclass(frozen=True)
class SquaredError(Loss):
    """The squared error in its four customary scalings: `mse`, `half_mse`, `sse` and `half_sse`.

    rho(r) = scale r² and psi(r) = 2 scale r. With n the sum of the weights s and r the residuals::

        name      value            gradient of the weights   of the bias
        mse       Σ s r² / n       2 Xᵀ(s r) / n             2 Σ s r / n
        half_mse  Σ s r² / 2n      Xᵀ(s r) / n               Σ s r / n
        sse       Σ s r²           2 Xᵀ(s r)                 2 Σ s r
        half_sse  Σ s r² / 2       Xᵀ(s r)                   Σ s r

    All have the same minimum; a learning rate for one suits another after it is scaled the other
    way.

    Elsewhere: `torch.nn.MSELoss()` and `optax.squared_error(...).mean()` are `mse`, with the same
    learning rate; `optax.l2_loss(...).mean()`, the "1/2m" cost of courses and scikit-learn's
    `Lasso` and `SGDRegressor` are `half_mse`; `torch.nn.MSELoss(reduction="sum")` and
    scikit-learn's `Ridge` are `sse`.

    Attributes:
      scale: what multiplies r².
      reduction: "mean" or "sum" over the examples.
      penalties: what `+ ridge(...)` and `+ lasso(...)` added.

    Example:
      >>> data = Dataset(X=jnp.array([[0.0], [2.0], [4.0]]), y=jnp.array([30.0, 40.0, 50.0]))
      >>> params = Params(jnp.array([1.0]), jnp.array(0.0))
      >>> float(half_sse(params, data)), jax.grad(half_sse)(params, data).weights.tolist()
      (2230.0, [-260.0])
      >>> [f"{loss(params, data):.2f}" for loss in (mse, half_mse, sse)]
      ['1486.67', '743.33', '4460.00']
    """

    scale: float = dataclasses.field(default=1.0, metadata={"static": True})

    is_quadratic = True

    def rho(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.scale * r * r

    def psi(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        return 2 * self.scale * r

    @property
    def curvature_bound(self) -> float:
        return 2 * self.scale

    def _scaled(self, factor: float | Array) -> Loss:
        if not isinstance(factor, float):  # a scale that is part of the program cannot be traced
            return super()._scaled(factor)
        return dataclasses.replace(self, scale=factor * self.scale)

    @property
    def name(self) -> str:
        scaled = {1.0: "", 0.5: "half_"}.get(self.scale, f"{self.scale} * ")
        return scaled + {"mean": "mse", "sum": "sse"}[self.reduction]
