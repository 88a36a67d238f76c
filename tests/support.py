"""What several test files need: one measure of error, and problems to solve."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from linreg_jax import Params, as_dataset


def flat(tree):
    """All numbers of a pytree in one float64 NumPy vector."""
    leaves = jax.tree.leaves(tree)
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in leaves])


def relative_error(actual, expected):
    """The largest difference between two pytrees, relative to the largest expected entry.

    An absolute difference where everything expected is 0. Not finite where either is not.
    """
    actual, expected = flat(actual), flat(expected)
    assert actual.shape == expected.shape
    largest = np.abs(expected).max()
    return np.abs(actual - expected).max() / (largest if largest > 0 else 1.0)


def every_three(*pairs):
    """Half of all combinations of pairs of settings: any three of four meet in every way."""
    combinations = itertools.product(*(enumerate(pair) for pair in pairs))
    return [
        tuple(setting for _, setting in chosen)
        for chosen in combinations
        if sum(place for place, _ in chosen) % 2 == 0
    ]


def make_problem(
    seed, *, n=50, d=4, k=None, weighted=False, intercept=True, dtype="float32", scales=None
):
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


def cut(data, sizes):
    """(X, y) or (X, y, sample_weight) in NumPy, of so many rows each."""
    columns = [np.asarray(column) for column in data[:3] if column is not None]
    ends = np.cumsum(sizes)
    return [tuple(c[e - s : e] for c in columns) for s, e in zip(sizes, ends, strict=True)]


def same_bits(a, b):
    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    return len(a) == len(b) and all(
        x.dtype == y.dtype and np.array_equal(x, y, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )
