"""Which examples a step sees: shuffled mini-batches."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P

from linreg_jax._kernels import platform_of
from linreg_jax._sharding.shards import DATA_AXIS, on_devices_of
from linreg_jax._training.gathering import gather_rows
from linreg_jax._typing import Int
from linreg_jax.dataset import Dataset
from linreg_jax.shuffling import shuffled_index

_GATHERED = 2**19  # numbers of X gathered at once: 2 MB of float32, shared out among the cores
_PIECE = 2**15  # the same where they are read by one core: 128 kB of float32
_HASHED = 2**12  # places of a random order found at once
_POSITIONS = 2**16  # examples in a period
_STEPS = 2**10  # of a period
_RECORDED = 2**19  # numbers of the parameters that a period may record

Carry = TypeVar("Carry")
Record = TypeVar("Record")


def batches_per_epoch(n: int, batch_size: int) -> int:
    """How many mini-batches hold n examples, the last one partial where they do not divide.

    Example:
      >>> batches_per_epoch(10, 4)
      3
    """
    return -(-n // batch_size)


def mini_batches(
    data: Dataset,
    key: Array,
    steps: Array,
    batch_size: int,
    *,
    num_shards: int = 1,
    mesh: Mesh | AbstractMesh | None = None,
) -> Dataset:
    """The examples of some steps: every epoch is a fresh order of all of them, cut into batches.

    Step s is batch s mod m of epoch s // m, with m = `batches_per_epoch(n, batch_size)`; the order
    of an epoch is `shuffled_index` with the epoch folded into the key. Every example comes once an
    epoch.

    Shards are equal parts of the rows, one after the other. Each is shuffled within itself and
    gives every batch batch_size / num_shards examples, so that none has to leave its device. What
    is folded into the key for shard i is epoch * num_shards + i: the batches depend on the number
    of shards, and not on that of devices.

    Args:
      data: a `Dataset` of n rows, not compressed.
      key: a JAX random key.
      steps: [t] integers, counted from 0 over all epochs.
      batch_size: rows in a batch, 1 to n.
      num_shards: a divisor of n and of batch_size.
      mesh: where the rows lie in equal parts, of one or more shards each, or None.

    Returns:
      A `Dataset` with a leading axis [t] everywhere, of batch_size rows each. The last batch of an
      epoch may be partial: it is padded with zero-weight rows, so that its mean is over what
      it holds.

    Example:
      >>> data = as_dataset([[0.0], [2.0], [4.0]], [30.0, 40.0, 50.0])
      >>> batches = mini_batches(data, jax.random.key(0), jnp.arange(2), 2)
      >>> batches.X.shape, batches.sample_weight.tolist()
      ((2, 2, 1), [[1.0, 1.0], [1.0, 0.0]])
    """
    n = data.X.shape[0]

    def of_some_shards(rows: Dataset, key: Array, steps: Array, first: Array | int) -> Dataset:
        """The parts of the batches that shards `first`, `first` + 1, ... give."""
        number = rows.X.shape[0] * num_shards // n
        by_shard = jax.tree.map(lambda a: a.reshape(number, -1, *a.shape[1:]), rows)
        shard = first + jnp.arange(number, dtype=steps.dtype)
        parts = jax.vmap(_from_one_shard, in_axes=(0, None, None, None, 0, None))(
            by_shard, key, steps, batch_size // num_shards, shard, num_shards
        )
        return jax.tree.map(
            lambda a: jnp.swapaxes(a, 0, 1).reshape(a.shape[1], -1, *a.shape[3:]), parts
        )

    if num_shards == 1:
        return _from_one_shard(data, key, steps, batch_size, 0, 1)
    if mesh is None:
        return of_some_shards(data, key, steps, 0)

    def of_this_device(rows: Dataset, key: Array, steps: Array) -> Dataset:
        first = lax.axis_index(DATA_AXIS) * (num_shards // mesh.shape[DATA_AXIS])
        return of_some_shards(rows, key, steps, first)

    is_rows, result = (True, False, False), P(None, DATA_AXIS)
    return on_devices_of(mesh, of_this_device, rows=is_rows, result=result)(data, key, steps)


def steps_in_period(batch_size: int, d: int) -> int:
    """At most how many steps of mini-batches a period has.

    So many that the order of their examples is worked out together, and that what they may record,
    d numbers each, stays small.
    """
    return max(min(_POSITIONS // batch_size, _STEPS, _RECORDED // d), 2)


def scan_batches(
    step: Callable[[Carry, Dataset], tuple[Carry, Record]],
    carry: Carry,
    data: Dataset,
    key: Array,
    first_step: Array,
    length: int,
    batch_size: int,
    *,
    grouped: Array | None = None,
    unroll: int = 1,
    num_shards: int = 1,
    mesh: Mesh | AbstractMesh | None = None,
) -> tuple[Carry, Record]:
    """`jax.lax.scan` of `step(carry, batch)` over the mini-batches of some steps in a row.

    They are those of `mini_batches`, which gathers where rows are sharded; elsewhere
    `gathering.gather_rows` does. They are gathered some at a time, in pieces that stay in a cache,
    and a batch that is a piece by itself is read where it was gathered. Where their number does not
    divide, the scan has a few steps more, on batches that come after.

    Args:
      step: `(carry, batch) -> (carry, record)`.
      carry: a pytree.
      data, key, batch_size, num_shards, mesh: as for `mini_batches`.
      first_step: [] integer, the first of the steps.
      length: how many.
      grouped: `in_groups(data.X)`, to gather from, where the data have one shard; or None.
      unroll: of the inner scan.

    Returns:
      The last carry, and the records with a leading axis of at least `length`.
    """
    n, d = data.X.shape
    on_cpu = num_shards == 1 and platform_of(data.X) == "cpu"
    fewest, most = (1, _PIECE) if on_cpu else (2, _GATHERED)
    pieces, size = _in_pieces(length, max(most // (batch_size * d), fewest))
    steps = first_step + jnp.arange(pieces * size, dtype=jnp.int32)
    # The order comes first, in an array: fused with the gather, XLA would compute it anew for every
    # number of a row.
    index = None if num_shards > 1 else _order(key, n, steps, batch_size)

    def take_step(carry: Carry, gathered: tuple[Dataset, Array]) -> tuple[Carry, Record]:
        batch, number = gathered
        return step(carry, _marked(batch, number, batch_size, n))

    def scan_piece(carry: Carry, piece: tuple[Array | None, Array]) -> tuple[Carry, Record]:
        index, steps = piece
        if index is None:
            batches = mini_batches(data, key, steps, batch_size, num_shards=num_shards, mesh=mesh)
            return lax.scan(step, carry, batches, unroll=min(unroll, size))
        rows = gather_rows(data, grouped, index.reshape(-1))
        if size == 1:
            return take_step(carry, (rows, steps[0]))
        batches = jax.tree.map(lambda part: part.reshape(size, batch_size, *part.shape[1:]), rows)
        return lax.scan(take_step, carry, (batches, steps), unroll=min(unroll, size))

    in_pieces = jax.tree.map(
        lambda part: part.reshape(pieces, size, *part.shape[1:]), (index, steps)
    )
    if pieces == 1 and size > 1:
        return scan_piece(carry, jax.tree.map(lambda part: part[0], in_pieces))
    carry, records = lax.scan(scan_piece, carry, in_pieces)
    if size > 1 or num_shards > 1:
        records = jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:]), records)
    return carry, records


def _in_pieces(length: int, most: int) -> tuple[int, int]:
    """The fewest pieces of at most so many steps, and the steps in each."""
    pieces = -(-length // most)
    return pieces, -(-length // pieces)


def _order(key: Array, n: int, steps: Array, batch_size: int) -> Int[Array, "t b"]:
    """[t, batch_size] the examples of some steps.

    Places beyond the end of an epoch repeat its last example; `_marked` gives them weight 0.
    """
    epochs, batches = jnp.divmod(steps, batches_per_epoch(n, batch_size))
    # Two turns at least: XLA makes no loop of one, and would fuse it with the gather that follows.
    size = min(max(_HASHED // batch_size, 1), -(-len(steps) // 2))
    turns = -(-len(steps) // size)

    def of_a_step(epoch: Array, batch: Array) -> Int[Array, " b"]:
        positions = batch * batch_size + jnp.arange(batch_size, dtype=batch.dtype)
        order = jax.random.fold_in(key, epoch)
        return shuffled_index(order, n, jnp.minimum(positions, n - 1))

    def in_turns(part: Array) -> Array:
        return jnp.pad(part, (0, turns * size - len(part))).reshape(turns, size)

    index = lax.map(lambda some: jax.vmap(of_a_step)(*some), (in_turns(epochs), in_turns(batches)))
    return index.reshape(-1, batch_size)[: len(steps)]


def _marked(batch: Dataset, step: Array, batch_size: int, n: int) -> Dataset:
    """The batch of a step, with weights of 0 for what the last of an epoch has too many.

    Where nothing else weighs the examples their number is the total weight, and no step adds it up;
    with a bias column too, that would mark the rows as compressed.
    """
    if n % batch_size == 0:
        return batch
    first = step % batches_per_epoch(n, batch_size) * batch_size
    held = (first + jnp.arange(batch_size, dtype=step.dtype) < n).astype(batch.X.dtype)
    if batch.sample_weight is not None:
        return batch._replace(sample_weight=held * batch.sample_weight)
    if batch.bias_column is not None:
        return batch._replace(sample_weight=held)
    number = jnp.minimum(n - first, batch_size).astype(batch.X.dtype)
    return batch._replace(sample_weight=held, total_weight=number)


def _from_one_shard(
    data: Dataset, key: Array, steps: Array, batch_size: int, shard: Array | int, num_shards: int
) -> Dataset:
    """What one shard of several gives to the batches of some steps; see `mini_batches`."""
    n = data.X.shape[0]
    epochs, batches = jnp.divmod(steps, batches_per_epoch(n, batch_size))
    within = jnp.arange(batch_size, dtype=batches.dtype)
    positions = batches[:, None] * batch_size + within[None, :]

    def examples_at(place: tuple[Array, Array]) -> Array:
        epoch, position = place
        order = jax.random.fold_in(key, epoch * num_shards + shard)
        return shuffled_index(order, n, jnp.minimum(position, n - 1))

    # A loop over the steps, and not one map of them all, because XLA would fuse that with what
    # follows and compute an example's index anew for every number of its row.
    index = lax.map(examples_at, (epochs, positions))

    def rows(column: Array) -> Array:
        # Every index is below n: saying so spares a test of each.
        return column.at[index].get(mode="promise_in_bounds")

    chosen: Dataset = jax.tree.map(rows, data)
    if n % batch_size == 0:
        return chosen
    held = (positions < n).astype(data.X.dtype)
    weight = held if chosen.sample_weight is None else held * chosen.sample_weight
    return chosen._replace(sample_weight=weight)
