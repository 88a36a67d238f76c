"""Many devices and many processes: each device holds some rows, and computes with those alone.

Rows lie in equal parts on the axis "data" of a mesh of devices, parameters whole on each. Every
function of this package takes such data as it is. In a step of `fit` each device computes the loss
and the gradient of its own rows, and one all-reduce of as many numbers adds them up.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from linreg_jax._padding import pad
from linreg_jax._sharding.processes import gather_metadata, join_in_time
from linreg_jax._sharding.shards import DATA_AXIS
from linreg_jax._typing import Array
from linreg_jax._validation import is_positive, positive_integer, scalar_setting, shown
from linreg_jax.dataset import Dataset, check_dataset, is_compressed

_ADDRESS = re.compile(r"([^:]+|\[.+\]):\d+")  # a host or [IPv6], and a port


def shard(data: Dataset, mesh: Mesh | None = None, *, num_shards: int | None = None) -> Dataset:
    """The same examples with their rows laid over devices, in equal parts.

    Zero-weight rows are added at the end where the parts would not be equal, so that every loss of
    this package, its gradients and its fits stay what they were, up to rounding.

    Mini-batches are shuffled within each shard, and every shard gives a step as many rows, so that
    no row leaves its device: `fit`'s `batch_size` must be a multiple of the number of shards. There
    is one shard on each device, or more where `num_shards` says so; with the same `num_shards` the
    mini-batches are the same on any number of devices that divides it, one included.

    Squared losses are trained on `compress(data)`, where `fit` finds that it pays: it adds up
    (d + 1 + k)² numbers over the devices once, and then every device takes all the steps by itself.

    Args:
      data: a `Dataset` of n rows; in several processes the same in each (`shard_from_process` takes
        different ones).
      mesh: a `jax.sharding.Mesh` with an axis "data"; None: all devices, in a row. Along other axes
        the rows are repeated.
      num_shards: in how many equal parts to cut the rows, a multiple of the devices; None: as many
        as there are devices. Give `fit` the same number.

    Returns:
      A `Dataset` of n rows, rounded up to a multiple of `num_shards`.

    Raises:
      TypeError: not a `Dataset`, or not a mesh.
      ValueError: a mesh without an axis "data"; more shards or devices than rows; shards that the
        devices do not divide; compressed data.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> sharded = shard(data, jax.make_mesh((1,), ("data",)), num_shards=2)
      >>> sharded.sample_weight.tolist(), float(mse(init_params(data), sharded))
      ([1.0, 1.0, 1.0, 0.0], 1666.66...)
    """
    check_dataset(data)
    if is_compressed(data):
        raise ValueError(
            "data is compressed: its few rows are worked on by every device; shard the original "
            "before compress(data), or lay these out with replicate(data)"
        )
    mesh = _data_mesh(mesh)
    n = data.X.shape[0]
    missing = -n % _checked_shards(num_shards, mesh, n)
    if missing:
        data = pad(data, missing)
    by_rows, whole = NamedSharding(mesh, P(DATA_AXIS)), NamedSharding(mesh, P())
    sharded: Dataset = jax.tree.map(
        lambda array: jax.device_put(array, by_rows if array.ndim else whole), data
    )
    return sharded


def replicate(params: Any, mesh: Mesh | None = None) -> Any:
    """The same arrays whole on every device, where data laid out by `shard` needs them.

    `fit` places new parameters by itself; those that were computed on one device, as a state that
    was loaded there, are placed by this.

    Args:
      params: `Params`, a `TrainState` or any other pytree of arrays.
      mesh: as for `shard`.

    Returns:
      The pytree, on every device of the mesh.

    Raises:
      TypeError, ValueError: as `shard` says of the mesh.

    Example:
      >>> params = replicate(Params(jnp.array([5.0]), jnp.array(30.0)))
      >>> params.weights.sharding.is_fully_replicated
      True
    """
    return jax.device_put(params, NamedSharding(_data_mesh(mesh), P()))


def _data_mesh(mesh: Mesh | None) -> Mesh:
    """The mesh with every axis left to the compiler; all devices where it is None."""
    if mesh is None:
        # Processes one after the other, so that each one's rows stay together.
        devices = sorted(_all_devices(), key=lambda device: (device.process_index, device.id))
        mesh = Mesh(np.array(devices), (DATA_AXIS,))
    if not isinstance(mesh, Mesh):
        raise TypeError(
            f"mesh must be a jax.sharding.Mesh, got {type(mesh).__name__}: "
            f'jax.make_mesh((2,), ("{DATA_AXIS}",)) makes one of two devices'
        )
    if DATA_AXIS not in mesh.axis_names:
        raise ValueError(
            f'mesh must have an axis "{DATA_AXIS}", over which the rows are laid, got axes '
            f'{list(mesh.axis_names)}: jax.make_mesh((2,), ("{DATA_AXIS}",)) has one'
        )
    automatic = (AxisType.Auto,) * len(mesh.axis_names)
    return Mesh(mesh.devices, mesh.axis_names, axis_types=automatic)


def _all_devices() -> list[jax.Device]:
    """All devices of the kind that `jax.default_device` names, if it does."""
    chosen = getattr(jax.config, "jax_default_device", None)  # the attribute is set at run time
    return jax.devices(getattr(chosen, "platform", chosen))


def _checked_shards(num_shards: int | None, mesh: Mesh, n: int | None = None) -> int:
    """How many shards to cut n rows in; of any number of rows where n is None."""
    devices = mesh.shape[DATA_AXIS]
    num_shards = positive_integer("num_shards", devices if num_shards is None else num_shards)
    if num_shards % devices:
        raise ValueError(
            f"num_shards must be a multiple of the {devices} devices, got {num_shards}: pass "
            f"{-(-num_shards // devices) * devices}, or a mesh of fewer devices"
        )
    if n is not None and num_shards > n:
        raise ValueError(
            f"{n} rows cannot be cut into {num_shards} shards over {devices} devices: pass more "
            f'rows, or a mesh of fewer devices, jax.make_mesh(({min(n, devices)},), ("data",))'
        )
    return num_shards


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    local_device_ids: int | Sequence[int] | None = None,
    timeout: float = 300,
    heartbeat_timeout: int = 100,
) -> None:
    """Joins the processes of one job, so that `jax.devices()` are the devices of all of them.

    `jax.distributed.initialize` with two limits of time. Call it in every process, before anything
    else touches a device. Under Slurm, Open MPI, Kubernetes or on a TPU it needs no arguments.

    What a job does when one of its processes is gone:

    - it never came: TimeoutError here, after `timeout` seconds;
    - it was killed: the others raise `jax.errors.JaxRuntimeError` out of what they are computing as
      soon as the connection breaks, and JAX ends them, whatever they do about it, within
      `heartbeat_timeout` seconds;
    - it hangs: JAX ends the others after `heartbeat_timeout` seconds, with what it knows on stderr.

    JAX ends a process by a fatal error, exit status 134. A new job resumes from the last state that
    was saved: `fit(loss, load(path), ...)`.

    Args:
      coordinator_address: "address:port" of process 0, the same in every process.
      num_processes: how many there are.
      process_id: which of them this is, from 0.
      local_device_ids: which devices of the machine are this process's; None: all, or those that
        the cluster gives it.
      timeout: seconds to wait for all processes to join.
      heartbeat_timeout: seconds without a sign of life after which a process counts as lost.

    Raises:
      TimeoutError: a process did not join in time.
      ValueError: an address without a port; arguments are missing, and no cluster that gives them
        was recognised.
      RuntimeError: called twice, or after something was computed.

    Example:
      A program that runs as two processes, one with `main(0)` and one with `main(1)`:

      >>> def main(process_id):
      ...     initialize("127.0.0.1:9911", num_processes=2, process_id=process_id)
      ...     data = shard_from_process(*rows_of(process_id))
      ...     return fit(mse, init_params(data), data, learning_rate=0.1, num_steps=100)
    """
    if coordinator_address is not None and not _ADDRESS.fullmatch(str(coordinator_address)):
        raise ValueError(
            f'coordinator_address must be "address:port", got {shown(coordinator_address)}: add a '
            f'free port of process 0, "{coordinator_address}:9911" for instance'
        )
    rule = "a number of seconds, more than 0"
    seconds = float(scalar_setting("timeout", timeout, rule, is_positive))
    heartbeat_timeout = positive_integer("heartbeat_timeout", heartbeat_timeout)
    join_in_time(
        seconds,
        coordinator_address,
        num_processes,
        process_id,
        local_device_ids,
        heartbeat_timeout,
    )


def shard_from_process(
    X_local: Any,
    y_local: Any,
    sample_weight_local: Any = None,
    mesh: Mesh | None = None,
    *,
    num_shards: int | None = None,
) -> Dataset:
    """One data set from the rows that each process has, laid over the devices of all.

    Every process calls it with its own rows, in any number; they stay on its devices. Where a
    process has fewer rows than another, zero-weight rows are added, so that every device holds as
    many. Before anything else the processes exchange what they have, so that what one of them
    cannot accept is an error in each.

    Args:
      X_local: [n_local, d] this process's examples; n_local may differ, d may not.
      y_local: [n_local] or [n_local, k] their targets.
      sample_weight_local: [n_local] their weights; None: 1 each.
      mesh: as for `shard`, of devices of every process.
      num_shards: as for `shard`.

    Returns:
      A `Dataset` of all rows: `sample_weight` is None if none was given and no row was added.

    Raises:
      TypeError, ValueError: in every process, what `as_dataset` finds wrong in one of them;
        processes that differ in features, targets, dtype or shards, naming both.

    Example:
      >>> mesh = jax.make_mesh((1,), ("data",))
      >>> data = shard_from_process([[0.0], [2.0]], [30.0, 40.0], mesh=mesh)
      >>> data.X.shape, data.sample_weight
      ((2, 1), None)
    """
    mesh = _data_mesh(mesh)
    num_shards = _checked_shards(num_shards, mesh)
    rows = NamedSharding(mesh, P(DATA_AXIS))
    parts = mesh.shape[DATA_AXIS]
    places = rows.addressable_devices_indices_map((parts,)).values()
    shards = num_shards // parts * len({str(place) for place in places})
    local, processes = gather_metadata(
        X_local, y_local, sample_weight_local, own_shards=shards, all_shards=num_shards
    )
    shard_rows = max(-(-process.num_rows // process.num_shards) for process in processes)
    is_weighted = any(
        process.is_weighted or process.num_rows < shard_rows * process.num_shards
        for process in processes
    )
    if is_weighted and local.sample_weight is None:
        local = local._replace(sample_weight=jnp.ones(local.X.shape[0], local.X.dtype))

    def on_own_devices(array: Array) -> Array:
        own = np.asarray(array)
        missing = shard_rows * shards - own.shape[0]
        own = np.pad(own, [(0, missing), *[(0, 0)] * (own.ndim - 1)])
        shape = (shard_rows * num_shards, *own.shape[1:])
        return jax.make_array_from_process_local_data(rows, own, shape)

    data: Dataset = jax.tree.map(on_own_devices, local)
    return data
