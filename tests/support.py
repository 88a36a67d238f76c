"""What several test files need: one measure of error, and problems to solve."""

import itertools
from collections.abc import Sequence
from typing import TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax.typing import ArrayLike

from linreg_jax import Dataset, Params, as_dataset

Tree = TypeVar("Tree")


def flat(tree: object) -> np.ndarray:
    """All numbers of a pytree in one float64 NumPy vector."""
    leaves = jax.tree.leaves(tree)
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in leaves])


def relative_error(actual: object, expected: object) -> float:
    """The largest difference between two pytrees, relative to the largest expected entry.

    An absolute difference where everything expected is 0. Not finite where either is not.
    """
    found, wanted = flat(actual), flat(expected)
    assert found.shape == wanted.shape
    largest = np.abs(wanted).max()
    return np.abs(found - wanted).max() / (largest if largest > 0 else 1.0)


def assert_same_bits(actual: object, expected: object) -> None:
    """Two pytrees hold the same numbers in the same dtypes, a NaN being as any other."""
    chex.assert_trees_all_equal(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)


def on_the_host(tree: Tree) -> Tree:
    """NumPy arrays, which are cut and indexed without compiling anything."""
    return jax.tree.map(np.asarray, tree)


def joined(*histories: Tree) -> Tree:
    """The histories of several runs as that of one."""
    return jax.tree.map(lambda *parts: np.concatenate(parts), *histories)


def every_three(*pairs: Sequence[object]) -> list[tuple[object, ...]]:
    """Half of all combinations of pairs of settings: any three of four meet in every way."""
    combinations = itertools.product(*(enumerate(pair) for pair in pairs))
    return [
        tuple(setting for _, setting in chosen)
        for chosen in combinations
        if sum(place for place, _ in chosen) % 2 == 0
    ]


def make_problem(
    seed: int,
    *,
    n: int = 50,
    d: int = 4,
    k: int | None = None,
    weighted: bool = False,
    intercept: bool = True,
    dtype: str = "float32",
    scales: ArrayLike | None = None,
) -> tuple[Params, Dataset]:
    """A random `(params, data)`; residuals of every sign, and none on a kink.

    Args:
      seed: of NumPy's generator.
      n, d, k: examples, features, targets (None: y is [n]).
      weighted: whether examples weigh 0, 1 or 2 (the first one at least 1).
      intercept: whether the parameters have a bias.
      dtype: of every array.
      scales: [d] what each feature is multiplied by.
    """
    rng = np.random.default_rng(seed)
    targets = () if k is None else (k,)
    X = rng.normal(size=(n, d)) * (1.0 if scales is None else np.asarray(scales))
    y = X @ rng.normal(size=(d, *targets)) + 1.0 + rng.normal(size=(n, *targets))
    sample_weight = None
    if weighted:
        sample_weight = rng.integers(0, 3, n).astype(dtype)
        sample_weight[0] = max(sample_weight[0], 1)
    params = Params(
        jnp.asarray(rng.normal(size=(d, *targets)).astype(dtype)),
        jnp.asarray(rng.normal(size=targets), dtype) if intercept else None,
    )
    return params, as_dataset(X.astype(dtype), y.astype(dtype), sample_weight)


def gram(data: Dataset) -> np.ndarray:
    """All that a squared loss knows of the data, [b X y]ᵀ S [b X y], in float64."""
    X, y = np.asarray(data.X, np.float64), np.asarray(data.y, np.float64)
    n = len(X)
    b = np.ones(n) if data.bias_column is None else np.asarray(data.bias_column, np.float64)
    s = np.ones(n) if data.sample_weight is None else np.asarray(data.sample_weight, np.float64)
    rows = np.column_stack([b, X, y])
    return (rows.T * s) @ rows


def cut(data: Dataset, sizes: Sequence[int]) -> list[tuple[np.ndarray, ...]]:
    """(X, y) or (X, y, sample_weight) in NumPy, of so many rows each."""
    columns = [np.asarray(column) for column in data[:3] if column is not None]
    ends = np.cumsum(sizes)
    assert ends[-1] == len(columns[0])
    return [tuple(c[e - s : e] for c in columns) for s, e in zip(sizes, ends, strict=True)]


def cuts(total: int) -> st.SearchStrategy[list[int]]:
    """Sizes of pieces that a table of so many rows falls into, in order."""
    places = st.sets(st.integers(1, total - 1), max_size=6)
    return places.map(lambda found: np.diff([0, *sorted(found), total]).tolist())
