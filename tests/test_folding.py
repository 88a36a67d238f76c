"""Folded losses against the losses themselves, and no settled row across a kink, in float64."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linreg_jax import (
    Dataset,
    Folded,
    Loss,
    Params,
    as_dataset,
    compress,
    epsilon_insensitive,
    fold,
    gradients,
    half_mse,
    huber,
    lasso,
    log_cosh,
    mae,
    mse,
    quantile,
    ridge,
)
from tests.support import flat, make_problem, relative_error


@dataclasses.dataclass(frozen=True)
class Hat(Loss):
    """A parabola near 0 and a constant far from it, whose kinks a caller states."""

    edge: float = 1.5
    is_piecewise_quadratic = True

    def rho(self, r: jax.Array) -> jax.Array:
        return jnp.where(jnp.abs(r) < self.edge, r * r, self.edge**2)

    def psi(self, r: jax.Array) -> jax.Array:
        return jnp.where(jnp.abs(r) < self.edge, 2 * r, 0)

    @property
    def kinks(self) -> tuple[float, ...]:
        return (-self.edge, self.edge)


LOSSES = {
    "mae": mae,
    "huber": huber(1.35),
    "quantile": quantile(0.9),
    "epsilon_insensitive": epsilon_insensitive(0.3),
    "scaled": 3.0 * huber(0.7) + ridge(0.2) + lasso(0.01),
    "sum": dataclasses.replace(mae, reduction="sum") + ridge(1.0),
    "own": Hat(),
    "squared": half_mse + ridge(0.1),
}
# Sums of hundreds of terms, rounded one by one, beside the sum of the terms' sizes.
TOLERANCE = 2e-6

# Few shapes, as each compiles anew; many numbers.
problems = st.builds(
    lambda shape, seed, far: {**shape, "seed": seed, "far": far},
    shape=st.sampled_from(
        [
            {"n": 300, "d": 5, "k": None, "weighted": True, "intercept": True, "most": 30},
            {"n": 40, "d": 5, "k": 3, "weighted": False, "intercept": False, "most": 9},
        ]
    ),
    seed=st.integers(0, 2**31),
    far=st.sampled_from([0.0, 1e3]),
)


def drawn(problem: dict, dtype: str) -> tuple[Params, Dataset, int, np.random.Generator]:
    """The anchor, data with heavy tails and features of several sizes, and rows to keep."""
    shape = {key: problem[key] for key in ("n", "d", "k", "weighted", "intercept")}
    scales = 10.0 ** np.linspace(-2, 1, problem["d"])
    params, data = make_problem(problem["seed"], dtype=dtype, scales=scales, **shape)
    rng = np.random.default_rng(problem["seed"])
    noise = jnp.asarray(rng.standard_t(2, data.y.shape).astype(dtype))
    return params, data._replace(y=data.y + noise + problem["far"]), problem["most"], rng


def moved(rng: np.random.Generator, params: Params, length: float) -> Params:
    """Parameters so far away that each target moves by `length`, in a random direction."""
    parts = [rng.normal(size=np.shape(leaf)) for leaf in jax.tree.leaves(params)]
    targets = params.weights.shape[1:]
    size = np.sqrt(sum(np.sum(part.reshape(-1, *targets) ** 2, axis=0) for part in parts))
    leaves = [
        jnp.asarray(np.asarray(leaf) + length * part / size, leaf.dtype)
        for leaf, part in zip(jax.tree.leaves(params), parts, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def pieces(loss: Loss, params: Params, data: Dataset) -> np.ndarray:
    """[n, k] the piece that each residual lies on, by NumPy in float64."""
    X, y = np.asarray(data.X, np.float64), np.asarray(data.y, np.float64)
    bias = 0.0 if params.bias is None else np.asarray(params.bias, np.float64)
    r = X @ np.asarray(params.weights, np.float64) + bias - y
    kinks = np.sort(np.asarray([float(kink) for kink in loss.kinks]))
    return np.searchsorted(kinks, r.reshape(len(X), -1))


def crossed(loss: Loss, folded: Folded, params: Params, data: Dataset) -> int:
    """How many examples that count have changed their piece and are not among the kept ones."""
    changed = (pieces(loss, folded.anchor, data) != pieces(loss, params, data)).any(axis=1)
    if data.sample_weight is not None:
        changed &= np.asarray(data.sample_weight) > 0
    kept = {tuple(row) for row in np.asarray(folded.kept.X)[: int(folded.num_kept)]}
    return sum(tuple(row) not in kept for row in np.asarray(data.X)[changed])


def error(loss: Loss, folded: Folded, params: Params, data: Dataset) -> float:
    """The error of the folded value and gradient, beside the sum of the sizes of their terms."""
    found = value_and_gradient(folded, params)
    exact = gradients.vectorized(loss)(params, data)
    # What is added up: rho of each residual, and psi times each feature, without their signs.
    theta, y = jax.tree.map(jnp.abs, (params, data.y))
    X = jnp.abs(data.X)
    largest = data._replace(X=X, y=-y)
    value, gradient = gradients.vectorized(loss)(theta, largest)
    size = max(float(jnp.abs(leaf).max()) for leaf in (value, *jax.tree.leaves(gradient)))
    return np.abs(flat(found) - flat(exact)).max() / size


@jax.jit
def value_and_gradient(folded: Folded, params: Params) -> tuple[jax.Array, Params]:
    return folded.value_and_gradient(params)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
@given(problem=problems)
def test_within_the_radius_nothing_is_lost(name: str, problem: dict) -> None:
    loss = LOSSES[name]
    anchor, data, most, rng = drawn(problem, "float32")
    folded = fold(loss, anchor, data, num_rows=most)
    assert int(folded.num_kept) <= most
    radius = min(float(folded.radius), 10.0)
    for share in (0.0, 0.5, 0.999):
        params = moved(rng, anchor, share * radius)
        if folded.distance(params) <= folded.radius:  # a tiny move is rounded
            assert crossed(loss, folded, params, data) == 0
            assert error(loss, folded, params, data) < TOLERANCE


def heavy_tailed() -> tuple[Params, Dataset]:
    params, data = make_problem(3, n=400, d=5, weighted=True)
    noise = np.random.default_rng(4).standard_t(2, 400).astype("f4")
    return params, data._replace(y=data.y + noise)


def three_times_the_radius(folded: Folded) -> Folded:
    return folded._replace(radius=3 * folded.radius)


def a_row_forgotten(folded: Folded) -> Folded:
    weights = folded.kept.sample_weight.at[1].set(0)
    return folded._replace(kept=folded.kept._replace(sample_weight=weights))


def a_steeper_quadratic(folded: Folded) -> Folded:
    gradient = 1.001 * folded.quadratic.gradient
    return folded._replace(quadratic=folded.quadratic._replace(gradient=gradient))


def no_curvature(folded: Folded) -> Folded:
    hessian = 0 * folded.quadratic.hessian
    return folded._replace(quadratic=folded.quadratic._replace(hessian=hessian))


def another_anchor(folded: Folded) -> Folded:
    anchor = folded.quadratic.anchor + 0.01
    return folded._replace(quadratic=folded.quadratic._replace(anchor=anchor))


@pytest.mark.parametrize(
    "mutant",
    [
        three_times_the_radius,
        a_row_forgotten,
        a_steeper_quadratic,
        no_curvature,
        another_anchor,
    ],
)
def test_the_checks_catch_mutants(mutant: Callable[[Folded], Folded]) -> None:
    anchor, data = heavy_tailed()
    loss, rng = huber(1.35), np.random.default_rng(0)
    folded = fold(loss, anchor, data)
    params = [moved(rng, anchor, 0.99 * float(folded.radius)) for _ in range(20)]
    assert max(error(loss, folded, p, data) for p in params) < TOLERANCE
    wrong = mutant(folded)
    params = [moved(rng, anchor, 0.99 * float(wrong.radius)) for _ in range(20)]
    assert not max(error(loss, wrong, p, data) for p in params) < TOLERANCE  # NaN is caught too


def test_rows_across_a_kink_are_counted() -> None:
    anchor, data = heavy_tailed()
    folded = fold(mae, anchor, data)
    rng, radius = np.random.default_rng(0), float(folded.radius)
    near, far = ([moved(rng, anchor, t * radius) for _ in range(20)] for t in (0.99, 3.0))
    assert sum(crossed(mae, folded, params, data) for params in near) == 0
    assert sum(crossed(mae, folded, params, data) for params in far) > 0


def test_float64_keeps_its_digits(x64: None) -> None:
    params, data = make_problem(5, n=5000, d=3, dtype="float64")  # a Gram matrix in two blocks
    folded = fold(huber(1.0), params, data)
    near = moved(np.random.default_rng(0), params, 0.9 * float(folded.radius))
    assert error(huber(1.0), folded, near, data) < 1e-14
    assert folded.radius.dtype == jnp.float64


def test_the_radius_is_nearly_the_largest() -> None:
    params, data = make_problem(7, n=300, d=4)
    folded = fold(mae, params, data, num_rows=40)
    X = np.column_stack([np.asarray(data.X, float), np.ones(300)])
    r = X[:, :4] @ np.asarray(params.weights, float) + float(params.bias) - np.asarray(data.y)
    ratio = np.sort(np.abs(r) / np.linalg.norm(X, axis=1))
    assert ratio[39] * (1 - 1 / 100) < folded.radius <= ratio[40]


def test_squared_losses_settle_for_good() -> None:
    params, data = make_problem(0)
    folded = fold(mse, params, data)
    assert int(folded.num_kept) == 0
    assert np.isinf(folded.radius)
    far = moved(np.random.default_rng(0), params, 3.0)
    assert error(mse, folded, far, data) < TOLERANCE
    assert error(mse, fold(mse, params, compress(data)), far, data) < TOLERANCE


def test_beyond_the_radius_it_is_nan() -> None:
    params, data = make_problem(0)
    folded = fold(mae, params, data)
    far = moved(np.random.default_rng(0), params, 1.01 * float(folded.radius))
    assert np.isnan(flat(folded.value_and_gradient(far))).all()


def test_all_on_a_kink_leaves_no_radius() -> None:
    data = as_dataset(np.ones((20, 1)), np.zeros(20))
    params = Params(jnp.zeros(1), None)
    folded = fold(mae, params, data)
    assert float(folded.radius) == 0.0
    assert float(folded.value_and_gradient(params)[0]) == 0.0


def test_it_is_mapped_over_anchors_and_settings() -> None:
    params, data = make_problem(0)
    anchors = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)

    def both(delta: jax.Array, anchor: Params) -> tuple[jax.Array, Params]:
        return fold(huber(delta), anchor, data).value_and_gradient(anchor)

    mapped = jax.jit(jax.vmap(both))(jnp.array([1.0, 2.0]), anchors)
    for i, delta in enumerate((1.0, 2.0)):
        anchor = jax.tree.map(lambda leaf, i=i: leaf[i], anchors)
        exact = gradients.vectorized(huber(delta))(anchor, data)
        one = jax.tree.map(lambda leaf, i=i: leaf[i], mapped)
        assert relative_error(one, exact) < TOLERANCE


@dataclasses.dataclass(frozen=True)
class Odd(Loss):
    is_piecewise_quadratic = True

    def __call__(self, params: Params, data: Dataset) -> jax.Array:
        return jnp.sum(params.weights)


@pytest.mark.parametrize(
    ("error", "message", "loss", "settings"),
    [
        (ValueError, "parabolas and lines", log_cosh(), {}),
        (TypeError, "rho and psi", lambda params, data: 0.0, {}),
        (ValueError, "__call__ of its own", Odd(), {}),
        (ValueError, "num_rows must be at most 50", mae, {"num_rows": 51}),
        (ValueError, "num_rows must be", mae, {"num_rows": 0}),
        (TypeError, "num_rows must be", mae, {"num_rows": 2.5}),
    ],
)
def test_what_does_not_fit_is_refused(
    error: type[Exception], message: str, loss: Loss, settings: dict
) -> None:
    params, data = make_problem(0)
    with pytest.raises(error, match=message):
        fold(loss, params, data, **settings)


def test_a_bias_that_was_not_folded_is_refused() -> None:
    params, data = make_problem(0)
    folded = fold(mae, params, data)
    with pytest.raises(ValueError, match="the anchor has a bias and the params has none"):
        folded.value_and_gradient(params._replace(bias=None))
