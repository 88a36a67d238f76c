"""Few numbers are computed by NumPy, and as the compiled programs compute them."""

import fractions
import functools
import itertools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from linreg_jax import (
    Dataset,
    Loss,
    SolutionStatus,
    as_dataset,
    compress,
    diagnose,
    huber,
    infer,
    init_params,
    mse,
    ridge,
    solve,
    sse,
    standardize,
    trajectory,
)
from linreg_jax import _host as host
from linreg_jax._arithmetic.double_word import sum_pairs
from linreg_jax.dataset import is_compressed
from tests.support import relative_error
from tests.test_first_call import programs_compiled

WEIGHTED = [0.0, 0.5, 3.0, 1.0, 2.0, 0.0, 1.5] * 4


def _dataset(**changes: Any) -> Dataset:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(28, 3)), rng.normal(size=28)
    given = {"X": X, "y": y, "sample_weight": None} | {
        name: change(X, y) if callable(change) else change for name, change in changes.items()
    }
    return as_dataset(given["X"], given["y"], given["sample_weight"])


DATA: dict[str, Callable[[], Dataset]] = {
    "plain": _dataset,
    "weighted": lambda: _dataset(sample_weight=np.array(WEIGHTED)),
    "tiny weights": lambda: _dataset(sample_weight=np.array(WEIGHTED) * 1e-30),
    "targets": lambda: _dataset(y=lambda X, y: np.stack([y, X[:, 0] + y**2], axis=1)),
    "collinear": lambda: _dataset(X=lambda X, y: np.column_stack([X, X[:, 0] - 2 * X[:, 1]])),
    "constant": lambda: _dataset(X=lambda X, y: np.column_stack([X, np.full(28, 7.0)])),
    "far from zero": lambda: _dataset(X=lambda X, y: X + 2.0**24),
    "scaled": lambda: _dataset(X=lambda X, y: X * np.array([1e-6, 1.0, 1e6])),
    "wide": lambda: _dataset(X=lambda X, y: np.random.default_rng(1).normal(size=(28, 40))),
    "blocks": lambda: as_dataset(*np.split(np.random.default_rng(2).normal(size=(300, 4)), [3], 1)),
    "one row": lambda: as_dataset([[2.0, 1.0]], [3.0]),
    "compressed": lambda: jax.jit(compress)(_dataset()),
}

# A call, how closely its two answers agree in float64 (the condition number is up to 1e13 where
# features are badly scaled), and whether it takes compressed rows.
CALLS: dict[str, tuple[Callable[[Loss, Dataset, bool], Any], float]] = {
    "solve": (lambda loss, data, bias: solve(data, loss, intercept=bias)[:2], 1e-12),
    "solve, factors": (lambda loss, data, bias: solve(data, loss, intercept=bias)[3:], 1e-12),
    "diagnose": (
        lambda loss, data, bias: diagnose(data, loss, intercept=bias)._replace(
            loss=None, overflow_size=None
        ),
        1e-9,
    ),
    "infer": (lambda loss, data, bias: _known(infer(data, loss, intercept=bias)), 1e-9),
}


def _known(found: Any) -> Any:
    """What was found, with 0 for NaN, whose places must be the same ones."""
    return jax.tree.map(lambda a: (jnp.where(jnp.isnan(a), 0, a), jnp.isnan(a)), found)


@pytest.mark.parametrize("loss", [mse, sse + ridge(0.3)], ids=["mse", "ridge"])
@pytest.mark.parametrize(
    ("kind", "bias"),
    # Features far from 0 are nearly collinear where no bias takes their means.
    [case for case in itertools.product(DATA, [True, False]) if case != ("far from zero", False)],
)
def test_the_same_as_compiled(x64: None, kind: str, loss: Loss, bias: bool) -> None:
    data = DATA[kind]()
    for name, (call, bound) in CALLS.items():
        if name == "infer" and kind in ("one row", "wide"):
            continue  # no residual degrees of freedom, and statistics that are nearly all rounding
        compiled = jax.jit(call, static_argnums=2)(loss, data, bias)
        found = call(loss, data, bias)
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(compiled), strict=True):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
            largest = np.abs(np.where(np.isfinite(theirs), theirs, 0)).max()
            atol = bound * largest + 1e-15  # what rounding leaves of an exact 0
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("loss", [mse, 0.5 * sse + ridge(0.3)], ids=["mse", "ridge"])
@pytest.mark.parametrize("kind", DATA)
def test_dtypes_and_shapes_are_those_of_jax(dtype: str, kind: str, loss: Loss) -> None:
    """NumPy makes float64 of integers beside float32; where x64 is on, nothing would round it."""
    with jax.enable_x64(True):
        data = jax.tree.map(lambda leaf: leaf.astype(dtype), DATA[kind]())
        if kind == "tiny weights":  # in float32 their sum is not to be divided by
            data = data._replace(sample_weight=data.sample_weight * 1e10)
        others = {
            "hc3": lambda loss, data, bias: infer(data, loss, intercept=bias, covariance="hc3"),
            "standardize": lambda loss, data, bias: standardize(data, center=bias),
            "compress": lambda loss, data, bias: compress(data, method="qr"),
            "steps": lambda loss, data, bias: diagnose(data, loss, intercept=bias).steps_to(0.1),
            "trajectory": lambda loss, data, bias: trajectory(
                loss, init_params(data), data, learning_rate=0.1, steps=[0, 9]
            ),
        }
        for call in [*(call for call, _ in CALLS.values()), *others.values()]:
            for bias in (True, False):
                if is_compressed(data) and call is others["hc3"]:
                    continue  # its rows are no examples
                expected = jax.eval_shape(functools.partial(call, bias=bias), loss, data)
                chex.assert_trees_all_equal_shapes_and_dtypes(call(loss, data, bias), expected)


@pytest.mark.parametrize("kind", DATA)
def test_the_same_rows_stand_for_all(x64: None, kind: str) -> None:
    data = DATA[kind]()
    found, compiled = (
        jnp.column_stack([small.bias_column, small.X, small.y])
        for small in (compress(data, method="qr"), jax.jit(compress)(data))
    )
    assert found.shape == compiled.shape
    assert relative_error(found.T @ found, compiled.T @ compiled) < 1e-14


@pytest.mark.parametrize("kind", ["plain", "weighted", "targets", "collinear"])
def test_the_same_path(x64: None, kind: str) -> None:
    data = DATA[kind]()
    for loss in (mse, sse + ridge(0.3)):
        for start in (init_params(data, jax.random.key(0)), init_params(data)._replace(bias=None)):
            call = functools.partial(
                trajectory,
                loss,
                learning_rate=jnp.array([0.01, 1.0]),
                steps=jnp.array([0, 3, 100]),
                momentum=0.2,
            )
            assert relative_error(call(start, data).params, jax.jit(call)(start, data).params) < (
                1e-12
            )


@pytest.mark.parametrize(
    "call",
    [
        solve,
        lambda data: solve(data, sse + ridge(0.1), intercept=False),
        compress,
        diagnose,
        lambda data: diagnose(data, huber(1.0)),
        infer,
        lambda data: infer(data, covariance="hc3"),
        lambda data: trajectory(mse, init_params(data), data, learning_rate=0.1, steps=10),
    ],
    ids=["solve", "ridge", "compress", "diagnose", "huber", "infer", "hc3", "trajectory"],
)
def test_few_numbers_need_no_compiler(call: Callable[[Dataset], Any]) -> None:
    data = jax.block_until_ready(_dataset())
    assert programs_compiled(lambda: call(data)) == 0


def test_many_numbers_are_compiled_for() -> None:
    X = np.random.default_rng(0).normal(size=(host._FEW // 4, 4)).astype("float32")
    data = jax.block_until_ready(as_dataset(X, X[:, 0]))
    assert programs_compiled(lambda: solve(data)) == 1


def test_what_is_traced_is_compiled() -> None:
    data = _dataset()
    by_target = jax.grad(lambda y: solve(data._replace(y=y)).value)(data.y)
    assert by_target.shape == data.y.shape
    several = jax.vmap(lambda y: solve(data._replace(y=y)).params)(jnp.stack([data.y] * 2))
    assert several.weights.shape == (2, 3)


def test_nothing_finite_is_left_to_jax_and_its_debugger() -> None:
    data = _dataset()
    broken = data._replace(y=data.y.at[3].set(jnp.nan))
    assert solve(broken).status == SolutionStatus.NOT_FINITE
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        solve(broken)


def test_answers_lie_where_the_data_lie() -> None:
    last = jax.devices()[-1]
    found = solve(jax.device_put(_dataset(), last))
    assert {device for leaf in jax.tree.leaves(found) for device in leaf.devices()} == {last}
    assert all(leaf.committed for leaf in jax.tree.leaves(found))


def test_answers_are_bound_to_no_device_where_the_data_are_not() -> None:
    """Or they could not meet arrays of another device, as a compiled program's answers can."""
    elsewhere = jax.device_put(jnp.ones(3), jax.devices()[-1])
    assert (solve(_dataset()).params.weights * elsewhere).shape == (3,)
    with jax.default_device(jax.devices()[-1]):
        data = _dataset()
    found = solve(data).params.weights
    assert found.devices() == data.X.devices()
    assert not found.committed


def test_numpy_arrays_of_a_dataset_made_by_hand_keep_to_the_dtype_of_jax() -> None:
    data = Dataset(np.array([[0.0], [2.0], [4.0]]), np.array([30.0, 40.0, 50.0]))
    assert solve(data).params.weights.dtype == jnp.float32


def test_an_exact_fit_has_converged() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        X, y = rng.normal(size=(5, 9)), rng.normal(size=5)
        data = as_dataset(X.astype("float32"), y.astype("float32"), rng.uniform(0.5, 2, 5))
        assert solve(data, intercept=False).status == SolutionStatus.CONVERGED
        jitted = jax.jit(solve, static_argnames="intercept")(data, intercept=False)
        assert jitted.status == SolutionStatus.CONVERGED


def test_digits_are_rounded_as_by_xla(dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=4096) * 10.0 ** rng.integers(-30, 30, 4096)).astype(dtype)
    info = np.finfo(dtype)
    halves = 1 + np.arange(1, 64) * info.eps * 2 ** (info.nmant // 2 - 2)
    x = np.concatenate(
        [x, halves.astype(dtype), np.array([0, -0.0, np.inf, -np.inf, np.nan], dtype)]
    )
    for digits in (0, info.nmant // 2, info.nmant - 1):
        found = host.reduced_precision(x, digits)
        assert np.array_equal(found, lax.reduce_precision(x, info.nexp, digits), equal_nan=True)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_pairs_are_added_in_twice_the_digits(size: int) -> None:
    rng = np.random.default_rng(size)
    high = (rng.normal(size=size) * 10.0 ** rng.integers(-8, 8, size)).astype("float32")
    low = high * np.float32(2**-25)
    found = sum_pairs((high, low), axis=0)
    exact = sum(map(fractions.Fraction, [*high.tolist(), *low.tolist()]), fractions.Fraction(0))
    error = abs(sum(map(fractions.Fraction, map(float, found))) - exact)
    assert error <= fractions.Fraction(float(np.abs(high).sum())) * size * 2**-46
