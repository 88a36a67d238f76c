"""What is written as it is because of XLA: products with a tall X, sums over examples, transfers.

Behind each product and sum is one line of arithmetic, and the rest of the package reads as it. That
each is right is tested by `tests/test_kernels.py`. What each gains was measured against that line,
in alternation (float32, two CPU cores, medians of ratios, jax 0.10.1 and 0.12.0.1); no test holds
the speeds. On GPUs and TPUs nothing was measured, and each is that line: `tests/test_lowering.py`.

`transposed_product`: sᵀX in place of Xᵀs, and in blocks of rows
    sᵀX is 1.1 (102,400 × 10) to 5.8 times (1,024,000 × 10) as fast as Xᵀs. Blocks make it 1.9 to
    2.3 times as fast again at 32 and 100 features; with 10 features 0.9 to 1.3 times.
`product`: blocks of rows
    No faster by itself (0.9 to 1.05 times): its derivative is then a transposed product in blocks.
`product`, `transposed_product`: two blocks where X is small
    A batched product is not fused with what it multiplies: with 0.10.1 a step of `fit` on 256 × 100
    takes half as long; with 0.12 as long.
`product` with one feature: a multiplication
    No faster in a loop over 100 to 4,096 examples (0.98 to 1.03 times).
`Narrow`: multiplications and a sum in place of products
    In mini-batches only: `_training/layout.py` has the figures.
`sum_of_examples`, `broadcast`: sums in columns
    The sum is 1.2 to 2.6 times as fast at 100 to 4,096 examples, but 0.8 times at 4,096 on 0.12.
`matmul`: precision "highest"
    GPUs may round float32 factors to TF32 and TPUs to bfloat16. On a CPU no cost was seen.
`placed`: host numbers as they are
    A call of a compiled function takes a sixth of the time that it takes with `jax.device_put`.
    That a transfer guard passes is tested by `tests/test_debugging.py`.
"""

import dataclasses
import functools
import math
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType
from jax.typing import ArrayLike, DTypeLike

from linreg_jax._pytrees import Pytree
from linreg_jax._typing import AnyArray, Array, Float

_Numbers = TypeVar("_Numbers", Array, np.ndarray)
_BLOCK_NUMBERS = 2**17  # of X in a block of rows: half a megabyte of float32, which a cache holds
_FEWEST_ROWS = 32
_FUSED_ROWS = 2**12  # vectors of at most 16 kB are computed anew for every feature, fused
_MOST_COLUMNS = 64
_FEWEST_COLUMNS = 8
_MANY = 2**14  # more examples are added up by all cores anyway


@dataclasses.dataclass(frozen=True)
class Columns(Pytree):
    """X [n, d] laid out by columns, to stand in a `Dataset` for as long as a program runs.

    For full batches on a CPU: `_training/layout.py` says where, and what it gains.

    Attributes:
      transposed: [d, n], Xᵀ.
    """

    transposed: Float[Array, " d n"]

    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d), as of X."""
        d, n = self.transposed.shape
        return n, d

    @property
    def dtype(self) -> np.dtype:
        """Of the numbers."""
        return np.dtype(self.transposed.dtype)


@dataclasses.dataclass(frozen=True)
class Narrow(Pytree):
    """X [m, d] of few features, multiplied number by number, for as long as a program runs.

    For mini-batches on a CPU: `_training/layout.py` says which, and what it gains.

    Attributes:
      rows: [m, d], X.
    """

    rows: Float[Array, " m d"]

    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """(m, d), as of X."""
        m, d = self.rows.shape
        return m, d

    @property
    def dtype(self) -> np.dtype:
        """Of the numbers."""
        return np.dtype(self.rows.dtype)


Features = Float[Array, " n d"] | Columns | Narrow


def placed(tree: Any) -> Any:
    """The host numbers of a pytree as device arrays, where implicit transfers are watched.

    Under `jax.transfer_guard`, set to find the arrays of a caller that lie on the host, the numbers
    of this package are no finding: there they are transferred explicitly.
    """
    if getattr(jax.config, "jax_transfer_guard_host_to_device", None) in (None, "allow"):
        return tree
    return jax.tree.map(
        lambda leaf: leaf if isinstance(leaf, jax.Array) else jax.device_put(leaf), tree
    )


def beside(tree: Any, like: Array) -> Any:
    """A pytree of NumPy's arrays on the one device of `like`, bound to it only where that is."""
    if like.committed:
        return jax.device_put(tree, like.sharding)
    with jax.default_device(next(iter(like.devices()))):
        return jax.device_put(tree)


def on_device(value: ArrayLike, dtype: DTypeLike) -> Array:
    """A number or array of a dtype on the device; one of the host's is transferred explicitly."""
    if isinstance(value, Array):
        return value.astype(dtype)
    return jax.device_put(np.asarray(value, dtype))


def matmul(a: AnyArray | np.ndarray, b: AnyArray | np.ndarray) -> AnyArray:
    """`a @ b`, with float32 products computed in float32 on every device; NumPy's of its arrays.

    To ask for less, wrap the call in `jax.default_matmul_precision("default")` (or `"bfloat16"`).
    """
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a @ b
    chosen = getattr(jax.config, "jax_default_matmul_precision", None)
    return jnp.matmul(a, b, precision="highest" if chosen is None else None)


def devices_of(array: Array | np.ndarray | Columns | Narrow) -> int:
    """How many devices the rows of an array may be divided over.

    While tracing, an array's mesh is known, and not how the array lies on it.
    """
    if isinstance(array, Columns | Narrow):
        return 1
    mesh = jax.typeof(array).sharding.mesh
    axes = zip(mesh.axis_sizes, mesh.axis_types, strict=True)
    return math.prod(size for size, kind in axes if kind == AxisType.Auto)


def platform_of(array: Array | np.ndarray | Columns | Narrow) -> str:
    """Where an array lies, "cpu", "gpu" or "tpu"; while tracing, the default device's platform."""
    if isinstance(array, jax.Array) and not isinstance(array, jax.core.Tracer):
        return next(iter(array.devices())).platform
    chosen = getattr(jax.config, "jax_default_device", None)
    return getattr(chosen, "platform", None) or jax.default_backend()


def product(X: Features, weights: Float[Array, " d *k"]) -> Float[Array, " n *k"]:
    """X @ weights."""
    if isinstance(X, Columns):
        return matmul(weights.T, X.transposed).T
    if isinstance(X, Narrow):
        return jnp.sum(X.rows * weights[None, :], axis=1)
    n, k = X.shape[0], weights.shape[1:]
    if weights.shape == (1,):
        return X[:, 0] * broadcast(weights[0], X)
    rows = _rows_in_block(X)
    if rows == n or 4 * weights[0].size > rows:  # or the repeated weights would cost more than X
        return matmul(X, weights)
    blocks = n // rows
    repeated = jnp.broadcast_to(weights.T, (blocks, *weights.T.shape))
    # As wᵀXᵀ, whose derivative is sᵀX: one transposed product for each block, and a sum over them.
    transposed = jnp.swapaxes(X.reshape(blocks, rows, -1), 1, 2)
    products = matmul(repeated.reshape(blocks, -1, X.shape[1]), transposed)
    return jnp.swapaxes(products, 1, 2).reshape(n, *k)


def transposed_product(X: Features, s: Float[Array, " n *k"]) -> Float[Array, " d *k"]:
    """Xᵀ @ s."""
    if isinstance(X, Columns):
        return matmul(X.transposed, s)
    if isinstance(X, Narrow):
        return jnp.sum(s[:, None] * X.rows, axis=0)
    n, k = X.shape[0], s.shape[1:]
    rows = _rows_in_block(X)
    if rows == n or 4 * s[0].size > rows:
        return matmul(s.T, X).T
    s_blocks = jnp.swapaxes(s.reshape(n // rows, rows, -1), 1, 2)
    products = matmul(s_blocks, X.reshape(n // rows, rows, -1))
    return jnp.sum(products, axis=0).T.reshape(-1, *k)


def _rows_in_block(X: Float[Array, " n d"]) -> int:
    """`rows_in_block` on a CPU, n elsewhere, where blocks were never measured."""
    return rows_in_block(*X.shape, devices_of(X)) if platform_of(X) == "cpu" else X.shape[0]


@functools.cache
def rows_in_block(n: int, d: int, devices: int = 1) -> int:
    """How many rows of X [n, d] a block has: the most that a cache holds, as a divisor of n.

    Blocks are views of X: a ragged last one would make XLA copy all of it. None lies on two of the
    devices. A small X is halved, or left as it is where it cannot be; n where no divisor will do.
    """
    most = max(_BLOCK_NUMBERS // d, _FEWEST_ROWS)
    on_one_device = n // math.gcd(n, devices)
    if n <= 2 * most:
        can_be_halved = 2 * _FEWEST_ROWS <= n <= _FUSED_ROWS and n % 2 == 0 and devices == 1
        return n // 2 if can_be_halved else n
    rows = _largest_divisor(on_one_device, most)
    return rows if rows >= _FEWEST_ROWS else n


def rows_to_add(n: int, d: int) -> int:
    """How many rows would let X [n, d] be cut in blocks; 0 where it is small or can be as it is."""
    can_be_cut = rows_in_block(n, d) < n
    return 0 if can_be_cut or n <= 2 * max(_BLOCK_NUMBERS // d, _FEWEST_ROWS) else -n % 256


@functools.cache
def _largest_divisor(n: int, most: int) -> int:
    return next(divisor for divisor in range(min(n, most), 0, -1) if n % divisor == 0)


def sum_of_examples(values: Float[Array, " n *k"]) -> Float[Array, " *k"]:
    """Σ values over the examples, `jnp.sum(values, axis=0)`."""
    columns = 1 if values.ndim > 1 else _columns(values.shape[0], values)
    if columns < _FEWEST_COLUMNS:
        return jnp.sum(values, axis=0)
    partial_sums = jnp.sum(values.reshape(-1, columns), axis=0)
    return jnp.sum(lax.optimization_barrier(partial_sums))  # or XLA makes one sum of the two


def broadcast(number: Float[Array, " *k"], X: Features) -> Float[Array, " n *k"]:
    """A number, or one for each target, for each row of X. Its derivative is a sum in columns."""
    n = X.shape[0]
    columns = 1 if number.ndim > 0 else _columns(n, X)
    if columns < _FEWEST_COLUMNS:
        return jnp.broadcast_to(number, (n, *number.shape))
    side_by_side = lax.optimization_barrier(jnp.broadcast_to(number, columns))
    return jnp.broadcast_to(side_by_side, (n // columns, columns)).reshape(n)


def _columns(n: int, like: Array | Columns | Narrow) -> int:
    """How many columns n examples are summed in, so that each row of them lies on one device."""
    most = min(_MOST_COLUMNS, n // 4)  # the columns of a row are added up one by one
    if n > _MANY or most == 0 or platform_of(like) != "cpu":
        return 1
    return _largest_divisor(n // math.gcd(n, devices_of(like)), most)


def per_example(values: _Numbers, like: Array | np.ndarray) -> _Numbers:
    """`values` [n] (or []) shaped to multiply `like` [n] or [n, k] example by example."""
    return values[:, None] if values.ndim == 1 and like.ndim == 2 else values
