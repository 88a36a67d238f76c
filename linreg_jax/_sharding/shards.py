"""Rows that lie on several devices, and work done where they lie.

The rows of a data set lie in equal parts on the axis "data" of a mesh, in the order of its devices.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from linreg_jax._kernels import Columns, Narrow
from linreg_jax._typing import Array, Float
from linreg_jax._validation import is_traced, positive_integer
from linreg_jax.dataset import Dataset, is_compressed, mean_divisor
from linreg_jax.gradients import LossGradient, ValueAndGradient
from linreg_jax.losses import Loss
from linreg_jax.model import Params

DATA_AXIS = "data"

Result = TypeVar("Result")


def mesh_of(data: Dataset) -> Mesh | AbstractMesh | None:
    """The mesh whose devices hold equal parts of the rows; None where none of them is divided.

    While tracing it is known which mesh the data lies on, and not how: its rows are then taken as
    divided where they can be, which is right wherever they lie.
    """
    X = data.X
    if is_compressed(data) or isinstance(X, Columns | Narrow):
        return None  # compressed, so few rows that every device works on all of them
    mesh = jax.typeof(X).sharding.mesh
    if isinstance(X, jax.Array) and not is_traced(X):
        if not isinstance(X.sharding, NamedSharding) or X.sharding.spec[:1] != (DATA_AXIS,):
            return None
        mesh = X.sharding.mesh
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    parts = mesh.shape[DATA_AXIS] if kinds.get(DATA_AXIS) == AxisType.Auto else 1
    return mesh if parts > 1 and X.shape[0] % parts == 0 else None


def checked_num_shards(num_shards: int | None, data: Dataset, batch_size: int) -> int:
    """In how many parts the rows are shuffled: as asked for, or one for each device that has some.

    Raises:
      TypeError, ValueError: not an integer of 1 or more, a number of shards that does not divide
        the rows, or their devices, or the mini-batches.
    """
    n, mesh = data.X.shape[0], mesh_of(data)
    num_devices = 1 if mesh is None else mesh.shape[DATA_AXIS]
    if num_shards is None:
        num_shards = num_devices
    num_shards = positive_integer("num_shards", num_shards, n, ", the rows of the data")
    if n % num_shards != 0 or num_shards % num_devices != 0:
        raise ValueError(
            f"num_shards must divide the {n} rows and be a multiple of the devices that hold them "
            f"({num_devices}), got {num_shards}: shard(data, num_shards={num_shards}) pads the rows"
        )
    if batch_size % num_shards != 0:
        below = batch_size // num_shards * num_shards
        nearest = f"{below} or {below + num_shards}" if below else f"{num_shards}"
        raise ValueError(
            f"batch_size must be a multiple of the {num_shards} shards, each of which gives as "
            f"many rows to a step, got {batch_size}: pass {nearest}, or num_shards"
        )
    return num_shards


def on_devices_of(
    mesh: Mesh | AbstractMesh,
    function: Callable[..., Result],
    *,
    rows: Sequence[bool],
    result: P,
) -> Callable[..., Result]:
    """`function` on each device of a mesh, of the rows that lie there.

    Args:
      mesh: as `mesh_of` gives it.
      function: called with this device's rows where `rows` says so and with whole arrays elsewhere.
      rows: a bool for each argument of the function, whether it is made of rows.
      result: `PartitionSpec` of what the function returns.
    """
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=tuple(P(DATA_AXIS) if divided else P() for divided in rows),
        out_specs=result,
        check_vma=False,  # a caller's function may start a loop with zeros of its own
    )


class _LocalSums(NamedTuple):
    """What one device adds to the sums of all.

    Attributes:
      value: [] Σ of rho times the weights.
      gradient: `Params`, its derivative.
      weight: [] Σ of the weights, where a mean divides by it; else None. Negative where there are
        weights and all are too small to be added up.
    """

    value: Float[Array, ""]
    gradient: Params
    weight: Float[Array, ""] | None


def summed_over_devices(
    gradient: ValueAndGradient, mesh: Mesh | AbstractMesh | None
) -> ValueAndGradient:
    """`gradient` of each device's rows, added up over the devices in one all-reduce.

    With s the weight of an example, 1 / c what a mean divides by (the number of rows n where the
    weights are to be summed first) and the sums those of all devices::

        value    = Σ c s rho(r) / Σ c s + penalties
        gradient = Σ c s psi(r) X / Σ c s + their derivative

    Args:
      gradient: one of `gradients`; how a caller's own function adds up over rows is not known, and
        is left to the compiler.
      mesh: the mesh that the data lies on, or None.
    """
    if mesh is None or not isinstance(gradient, LossGradient):
        return gradient
    loss = gradient.loss
    if not isinstance(loss, Loss):
        return gradient
    plain_sum = dataclasses.replace(loss, reduction="sum", penalties=())
    sums = dataclasses.replace(gradient, loss=plain_sum)

    def value_and_gradient(params: Params, data: Dataset) -> tuple[Float[Array, ""], Params]:
        is_mean = loss.reduction == "mean"
        sums_weights = is_mean and data.total_weight is None and data.sample_weight is not None
        on_each = on_devices_of(
            mesh,
            functools.partial(_sums_of_all, sums_weights=sums_weights),
            rows=(False, False, True, False),
            result=P(),
        )
        divisor = _first_divisor(data) if is_mean else jnp.ones((), data.X.dtype)
        value, grads, total = on_each(sums, params, data._replace(total_weight=None), divisor)
        if total is not None:
            total = jnp.where(total == 0, 1, jnp.where(total < 0, jnp.nan, total))
            value, grads = jax.tree.map(lambda summed: summed / total, (value, grads))
        weights = grads.weights + loss.penalty_gradient(params)
        return value + loss.penalty(params), grads._replace(weights=weights)

    return value_and_gradient


def _first_divisor(data: Dataset) -> Float[Array, ""]:
    """What weights are divided by before they are summed: sums overflow no sooner than means."""
    if data.total_weight is None:
        return jnp.asarray(data.X.shape[0], data.X.dtype)
    return jnp.where(data.total_weight > 0, data.total_weight, 1)


def _sums_of_all(
    sums: LossGradient,
    params: Params,
    rows: Dataset,
    divisor: Float[Array, ""],
    *,
    sums_weights: bool,
) -> _LocalSums:
    """The sums over all devices, on each of them, from one all-reduce."""
    weight = rows.sample_weight
    weight = jnp.ones(rows.X.shape[0], rows.X.dtype) if weight is None else weight
    weight = weight / divisor
    value, gradient = sums(params, rows._replace(sample_weight=weight))
    own = _LocalSums(value, gradient, _weight_sum(rows, weight) if sums_weights else None)
    numbers, as_they_were = ravel_pytree(own)
    return as_they_were(lax.psum(numbers, DATA_AXIS))


def _weight_sum(rows: Dataset, weight: Float[Array, " n"]) -> Float[Array, ""]:
    """[] the sum of this device's weights, divided as `weight` is, as `_LocalSums` holds it."""
    total, scaled = mean_divisor(rows), jnp.sum(weight)
    smallest = jnp.finfo(scaled.dtype).tiny
    lost = (scaled == 0) & (total != 0)
    return jnp.where(lost, -smallest, jnp.where(jnp.isnan(total), total, scaled))
