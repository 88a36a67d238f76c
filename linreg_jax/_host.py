"""The same algebra by NumPy, where there are so few numbers that compiling would take longest.

Functions of arrays that take their operations from `namespace_of` and their loops from here are
traced by JAX where they are given its arrays, and computed at once where they are given NumPy's. A
program that XLA compiles in a second NumPy runs in milliseconds, and in the same dtype.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from linreg_jax._kernels import beside, platform_of
from linreg_jax._typing import AnyArray
from linreg_jax._validation import is_traced

# Of so many numbers NumPy makes a least-squares fit in 2 to 8 ms (in 30 to 50 where there are as
# many features as examples); XLA compiles it for 0.6 to 1.5 s and then takes a fifth to a tenth.
_FEW = 2**13

_State = TypeVar("_State")


def is_on_host(array: Any) -> bool:
    """Whether an array or number is NumPy's."""
    return isinstance(array, np.ndarray | np.generic)


def namespace_of(array: Any) -> Any:
    """`numpy` for an array of NumPy's, `jax.numpy` for any other."""
    return np if is_on_host(array) else jnp


def computed(
    function: Callable[..., _State],
    *arguments: Any,
    size: float,
    static_argnums: tuple[int, ...] = (),
    or_nan: bool = False,
) -> _State:
    """What a function returns: of few numbers by NumPy, else in one compiled program.

    JAX computes it where there are many numbers, they are traced or differentiated, lie on several
    devices or on an accelerator, some are so small that XLA takes them for 0, or what NumPy finds
    is NaN (where a debugger would look).

    Args:
      function: of pytrees of arrays and settings, all in terms of `namespace_of`.
      arguments: what it takes.
      size: how many numbers it computes with; `math.inf` for what NumPy cannot.
      static_argnums: which arguments are settings of the program, as for `jax.jit`.
      or_nan: whether some of what is found may be NaN.
    """
    found = _by_numpy(function, arguments, size, or_nan)
    return _program(function, static_argnums)(*arguments) if found is None else found


@functools.cache
def _program(function: Callable[..., Any], static_argnums: tuple[int, ...]) -> Callable[..., Any]:
    return jax.jit(function, static_argnums=static_argnums)


def _by_numpy(
    function: Callable[..., _State], arguments: tuple[Any, ...], size: float, or_nan: bool
) -> _State | None:
    """What it makes of NumPy's arrays in place of JAX's, as arrays of JAX; None: it cannot."""
    leaves = jax.tree.leaves(arguments)
    if size > _FEW or not all(map(_can_be_read, leaves)):
        return None
    host = jax.tree.map(lambda leaf: np.asarray(leaf) if _is_jax(leaf) else leaf, arguments)
    if any(map(_has_subnormal_numbers, jax.tree.leaves(host))):
        return None
    try:
        with np.errstate(all="ignore"):
            found = function(*host)
    except np.linalg.LinAlgError:  # of what is not finite
        return None
    if not or_nan and any(np.isnan(leaf).any() for leaf in jax.tree.leaves(found)):
        return None
    arrays = list(filter(_is_jax, leaves))
    return beside(found, next((array for array in arrays if array.committed), arrays[0]))


def _is_jax(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array)


def _can_be_read(leaf: Any) -> bool:
    if not _is_jax(leaf):
        return not isinstance(leaf, np.ndarray)  # whose dtype may be another than JAX would take
    if is_traced(leaf) or not leaf.is_fully_addressable:
        return False
    return platform_of(leaf) == "cpu" and len(leaf.devices()) == 1


def _has_subnormal_numbers(array: Any) -> bool:
    if not is_on_host(array) or not np.issubdtype(array.dtype, np.floating):
        return False
    size = np.abs(array)
    return bool(((size > 0) & (size < np.finfo(array.dtype).tiny)).any())


def held(tree: _State) -> _State:
    """`lax.stop_gradient`, of which NumPy has no need."""
    return lax.stop_gradient(tree) if any(map(_is_jax, jax.tree.leaves(tree))) else tree


def while_loop(
    more: Callable[[_State], Any], body: Callable[[_State], _State], state: _State, like: AnyArray
) -> _State:
    """`lax.while_loop`, a plain one where `like` is NumPy's."""
    if not is_on_host(like):
        return lax.while_loop(more, body, state)
    while more(state):
        state = body(state)
    return state


def fori_loop(
    count: int, body: Callable[[Any, _State], _State], state: _State, like: AnyArray
) -> _State:
    """`lax.fori_loop` from 0, a plain one where `like` is NumPy's."""
    if not is_on_host(like):
        return lax.fori_loop(0, count, body, state)
    for i in range(count):
        state = body(i, state)
    return state


def vmap(function: Callable[..., Any], like: AnyArray) -> Callable[..., Any]:
    """`jax.vmap` of a function of arrays to one array, a loop where `like` is NumPy's."""
    if not is_on_host(like):
        return jax.vmap(function)
    return lambda *arrays: np.stack([function(*each) for each in zip(*arrays, strict=True)])


def column_at(matrix: AnyArray, index: Any) -> AnyArray:
    """[n, 1] the column of a matrix [n, m] at an index, which a loop may count."""
    if is_on_host(matrix):
        return matrix[:, index : index + 1]
    return lax.dynamic_slice_in_dim(matrix, index, 1, axis=1)


def reduced_precision(x: AnyArray, digits: int) -> AnyArray:
    """x rounded to so many binary digits behind the first, half to even."""
    xp, info = namespace_of(x), jnp.finfo(x.dtype)
    if not is_on_host(x):
        return lax.reduce_precision(x, info.nexp, digits)
    drop = info.nmant - digits
    bits = x.view(f"u{x.dtype.itemsize}")
    half = (bits >> drop & 1) + ((1 << drop - 1) - 1)
    return xp.where(xp.isnan(x), x, (bits + half >> drop << drop).view(x.dtype))
