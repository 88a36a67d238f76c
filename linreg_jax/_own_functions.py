"""A caller's own loss or gradient, which is only ever given plain examples.

It cannot know about compressed rows or about padding. Where weights are unavoidable (weighted data,
a partial last mini-batch), it is first held to what a weight of 0 means: an example left out.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from linreg_jax import gradients
from linreg_jax._pytrees import as_function, as_pytree
from linreg_jax._validation import is_traced, shape_text, shown
from linreg_jax.dataset import Dataset
from linreg_jax.gradients import LossFunction, LossGradient, ValueAndGradient
from linreg_jax.losses import Loss
from linreg_jax.model import Params

_FACTORIES = (
    gradients.autodiff,
    gradients.vectorized,
    gradients.one_pass,
    gradients.by_loops,
    gradients.finite_difference,
)
# Far beyond rounding, far below what an example too many changes in the probe.
_TOLERANCE = 1e-2


def is_own_loss(loss: LossFunction) -> bool:
    """Whether a loss is a function of the caller's, not a `Loss` with this package's call."""
    return not isinstance(loss, Loss) or type(loss).__call__ is not Loss.__call__


def is_own_gradient(gradient: ValueAndGradient) -> bool:
    """Whether a gradient is a function of the caller's."""
    return not isinstance(gradient, LossGradient) or is_own_loss(gradient.loss)


def checked_gradient(gradient: ValueAndGradient | None, loss: LossFunction) -> ValueAndGradient:
    """A drop-in for `jax.value_and_grad(loss)`; `autodiff(loss)` for None.

    Raises:
      TypeError: not a function, or one that makes a gradient of a loss.
      ValueError: the gradient of another loss.
    """
    if gradient is None:
        return gradients.autodiff(loss)
    for factory in (*_FACTORIES, jax.value_and_grad):
        if gradient is factory:
            name = factory.__name__
            raise TypeError(f"gradient is {name}, which makes a gradient: call it, {name}(loss)")
    if not callable(gradient):
        raise TypeError(
            f"gradient must be a function (params, data) -> (value, gradient), got "
            f"{shown(gradient)}: pass gradients.vectorized(loss), or a function of your own"
        )
    if isinstance(gradient, LossGradient):
        if not _same_loss(gradient.loss, loss):
            raise ValueError(
                f"gradient is that of {gradient.loss}, but loss is {loss}: pass that of the loss"
            )
        return LossGradient(gradient.way, loss, gradient.settings)
    return gradient


def _same_loss(one: LossFunction, other: LossFunction) -> bool:
    """Whether two losses are equal, as far as their values are known."""
    ours, theirs = as_pytree(one), as_pytree(other)
    expected: object = jax.tree.structure(ours)
    if jax.tree.structure(theirs) != expected:
        return False
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return all(is_traced(a) or is_traced(b) or bool(np.all(a == b)) for a, b in pairs)


def call_gradient(
    gradient: ValueAndGradient, params: Params, data: Dataset
) -> tuple[Array, Params]:
    """`gradient(params, data)`, refused where it is not shaped as `jax.value_and_grad`'s.

    Raises:
      TypeError: a function that cannot be traced, where it is; not a pair of a value and a gradient
        that is a pytree as params.
      ValueError: a value that is not [], or a gradient of other shapes than params.
    """
    try:
        given = gradient(params, data)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        raise TypeError(
            "gradient(params, data) asks for values, which are unknown while it is compiled: write "
            "it in jax.numpy (check_gradients takes one in NumPy too)"
        ) from error
    fix = "return (value, gradient) as jax.value_and_grad(loss) does, gradient shaped as params"
    if type(given) is not tuple or len(given) != 2:
        got = f"{len(given)} items" if type(given) is tuple else f"{type(given).__name__} alone"
        raise TypeError(f"gradient(params, data) gave {got}: {fix}")
    value, derivative = given
    expected: object = jax.tree.structure(params)
    if jax.tree.structure(derivative) != expected:
        raise TypeError(
            f"the gradient that gradient(params, data) gave is {shown(derivative)}, which is not "
            f"{type(params).__name__} with the fields that params has: {fix}"
        )
    if jnp.shape(value) != ():
        raise ValueError(f"the value has shape {shape_text(jnp.shape(value))}, not []: {fix}")
    for (path, ours), theirs in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(derivative), strict=True
    ):
        if jnp.shape(ours) != jnp.shape(theirs):
            name = jax.tree_util.keystr(path).lstrip(".")
            raise ValueError(
                f"the gradient of {name} has shape {shape_text(jnp.shape(theirs))}, but {name} is "
                f"{shape_text(jnp.shape(ours))}: {fix}"
            )
    return given


def check_own_functions(
    loss: LossFunction,
    gradient: ValueAndGradient,
    params: Params,
    data: Dataset,
    validation: Dataset | None,
    batch_size: int | None,
    num_shards: int,
) -> None:
    """Raises where a loss or gradient of the caller's cannot be given plain examples, see `fit`."""
    own: dict[str, LossFunction | ValueAndGradient] = {}
    if is_own_loss(loss):
        own["loss"] = loss
    if not isinstance(gradient, LossGradient):
        own["gradient"] = gradient
    if not own:
        return
    if "gradient" in own and isinstance(loss, Loss) and loss.proximal_penalties:
        raise ValueError(
            f"{loss} is trained by proximal steps, which need the gradient of its smooth part, "
            f"{loss.smooth_part}, by itself: pass one of linreg_jax.gradients, or no gradient"
        )
    check_plain(data)
    why = None
    if data.sample_weight is not None:
        why = "the data are weighted; pass data._replace(sample_weight=None) to do without"
    elif batch_size is not None and data.X.shape[0] % batch_size != 0:
        n = data.X.shape[0]
        divisor = next(b for b in range(batch_size, 0, -1) if n % b == 0 and b % num_shards == 0)
        why = (
            f"batch_size {batch_size} does not divide the {n} examples, and the last batch is "
            f"filled up with some of weight 0; pass one that does, such as {divisor}"
        )
    if validation is not None and "loss" in own:
        check_plain(validation, "validation")
        if validation.sample_weight is not None:
            why = why or "the validation data are weighted"
    if why is not None:
        for what, function in own.items():
            check_honours_weights(function, params, data, what, why)


def check_plain(data: Dataset, name: str = "data") -> None:
    """Raises ValueError where the rows are not examples that a caller's function can know."""
    if data.bias_column is not None or data.total_weight is not None:
        raise ValueError(
            f"{name} is compressed (it has a bias_column or a total_weight), which a loss or "
            "gradient of your own does not know about: pass the original examples"
        )


def check_honours_weights(
    function: LossFunction | ValueAndGradient, params: Params, data: Dataset, what: str, why: str
) -> None:
    """Raises ValueError where an example of weight 0 is not left out by a caller's function.

    Three examples, the last of weight 0, must give what the first two give.

    Args:
      function: a loss, or a drop-in for `jax.value_and_grad` of one.
      params, data: give the shapes and dtypes.
      what: "loss" or "gradient".
      why: where the weights come from and how to avoid them, the end of the message.
    """
    if _honours_weights(function, params, data):
        return
    raise ValueError(
        f"{what} does not honour data.sample_weight, where 0 leaves an example out "
        f"(a mean is Σ s rho(r) / Σ s), and weights are needed here: {why}"
    )


def _honours_weights(
    function: LossFunction | ValueAndGradient, params: Params, data: Dataset
) -> bool:
    dtype, d, targets = data.X.dtype, data.X.shape[1], data.y.shape[1:]

    def numbers(shape: tuple[int, ...], first: float, last: float) -> Array:
        values = np.linspace(first, last, int(np.prod(shape))).reshape(shape)
        return jnp.asarray(values.astype(dtype))

    with jax.ensure_compile_time_eval():
        # Positive numbers, so that a logarithm or a root of them is one too.
        probe = Params(
            numbers(params.weights.shape, 0.5 / d, 1 / d),
            None if params.bias is None else numbers(params.bias.shape, 0.4, 0.5),
        )
        rows = Dataset(numbers((3, d), 0.5, 1.5), numbers((3, *targets), 1.0, 9.0))
        weighted = rows._replace(sample_weight=jnp.asarray(np.asarray([1, 1, 0], dtype)))
        two = Dataset(rows.X[:2], rows.y[:2])
        found, expected = _both(as_pytree(function), probe, weighted, two)
    leaves = jax.tree.leaves((found, expected))
    if any(is_traced(leaf) for leaf in leaves):
        raise ValueError(
            "a loss or gradient of your own that holds traced values cannot be held to honouring "
            "sample_weight: pass a batch_size that divides the rows, and unweighted data"
        )
    found, expected = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (found, expected)
    )
    if found.shape != expected.shape:
        return True  # refused elsewhere, with what is wrong
    size = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    close = np.abs(found - expected) <= _TOLERANCE * size
    return bool(np.all(close | ~np.isfinite(expected)))


@jax.jit
def _both(function: Any, params: Params, one: Dataset, other: Dataset) -> tuple[Any, Any]:
    called = as_function(function)
    return called(params, one), called(params, other)
