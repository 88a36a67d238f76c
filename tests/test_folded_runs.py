"""Runs of `fit` that fold their rows, beside the same runs on every row."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from linreg_jax import (
    Dataset,
    Fit,
    Loss,
    Params,
    Status,
    TrainState,
    epsilon_insensitive,
    fit,
    gradients,
    huber,
    init_params,
    lasso,
    load,
    mae,
    mse,
    quantile,
    ridge,
    save,
)


def make(n: int = 480, d: int = 3, *, targets: tuple[int, ...] = (), seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ (np.eye(d) + 0.3)
    noise = rng.standard_t(3, size=(n, *targets))
    return Dataset(jnp.asarray(X), jnp.asarray(X @ rng.normal(size=(d, *targets)) + 1 + noise))


def run(
    loss: Loss,
    data: Dataset,
    *,
    fold: bool,
    steps: int = 400,
    start: TrainState | None = None,
    **options: object,
) -> Fit:
    options = {"learning_rate": 0.05, "num_steps": steps, **options}
    begin = init_params(data) if start is None else start
    return fit(loss, begin, data, fold=fold, **options)


def momentum(rate: float) -> optax.GradientTransformation:
    return optax.sgd(rate, momentum=0.8)


def falling(step: jax.Array) -> jax.Array:
    """A rate that falls, or steps across kinks would swing for ever and nothing could settle."""
    return 0.3 * 0.98**step


LOSSES = [huber(1.35), mae, quantile(0.8), epsilon_insensitive(0.5), 2 * huber(0.5) + ridge(0.1)]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("optimizer", [optax.sgd, momentum, optax.adam])
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_every_step_is_that_of_all_rows(loss: Loss, optimizer: object) -> None:
    data = make()
    options = {"optimizer": optimizer, "learning_rate": falling, "record_params": True}
    folded, plain = (run(loss, data, fold=fold, **options) for fold in (True, False))
    assert bool(folded.state.anchors[0].is_folded)
    np.testing.assert_allclose(folded.path.weights, plain.path.weights, rtol=0, atol=1e-9)
    np.testing.assert_allclose(folded.losses, plain.losses, rtol=1e-10)
    np.testing.assert_allclose(folded.gradient_norms, plain.gradient_norms, rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "kind", ["weights", "targets", "no intercept", "bias column", "wide", "repeated rows"]
)
def test_data_of_every_kind(kind: str) -> None:
    data = make(targets=(2,) if kind == "targets" else (), d=60 if kind == "wide" else 3, n=48)
    rng = np.random.default_rng(1)
    start = init_params(data, intercept=kind != "no intercept")
    if kind == "weights":
        weights = jnp.asarray(rng.integers(0, 3, 48) * 1.0)
        data = data._replace(sample_weight=weights)
    if kind == "repeated rows":  # more of them than a level keeps, so that it keeps none
        data = jax.tree.map(lambda column: jnp.repeat(column[:6], 8, axis=0), data)
    if kind == "bias column":
        data = data._replace(bias_column=jnp.asarray(rng.uniform(0.5, 2, 48)))
    folded, plain = (
        fit(huber(0.5), start, data, learning_rate=falling, num_steps=400, fold=fold)
        for fold in (True, False)
    )
    assert bool(folded.state.anchors[0].is_folded)
    np.testing.assert_allclose(folded.losses, plain.losses, rtol=1e-10)
    for ours, theirs in zip(*map(jax.tree.leaves, (folded.params, plain.params)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "first"), [(huber(1.35), 40), (mae, 137)], ids=str)
def test_a_run_in_two_parts_is_the_run_in_one(loss: Loss, first: int, tmp_path: Path) -> None:
    data = make()
    options = {"optimizer": momentum, "learning_rate": falling, "average_from": 3}
    whole = run(loss, data, fold=True, **options)
    assert bool(whole.state.anchors[0].is_folded)
    one = run(loss, data, fold=True, steps=first, **options)
    save(one.state, tmp_path / "state.npz")
    state = load(tmp_path / "state.npz")
    two = run(loss, data, fold=True, start=state, steps=400 - first, **options)
    assert np.array_equal(whole.losses, np.concatenate([one.losses, two.losses]))
    assert all(
        np.array_equal(ours, theirs)
        for ours, theirs in zip(*map(jax.tree.leaves, (whole.state, two.state)), strict=True)
    )


@pytest.mark.slow
def test_a_watched_run_is_the_silent_one() -> None:
    data, looks = make(), []
    silent = run(huber(1.35), data, fold=True)
    watched = run(huber(1.35), data, fold=True, progress=looks.append)
    assert looks
    assert np.array_equal(silent.losses, watched.losses)


def test_the_anchor_moves_on_with_the_parameters() -> None:
    """Steps so small that a fold lasts a while, and so many that none lasts until the end."""
    data, options = make(), {"learning_rate": 4e-4}
    folded = [run(huber(1.35), data, fold=True, steps=steps, **options) for steps in (200, 400)]
    assert all(bool(found.state.anchors[0].is_folded) for found in folded)
    early, late = (int(found.state.anchors[0].step) for found in folded)
    assert 0 < early < late
    plain = run(huber(1.35), data, fold=False, **options)
    np.testing.assert_allclose(folded[1].losses, plain.losses, rtol=2e-6)


def test_a_run_ends_where_the_run_on_all_rows_does() -> None:
    data = make()
    folded, plain = (
        run(huber(1.35), data, fold=fold, tolerance=1e-3, record_every=3) for fold in (True, False)
    )
    assert int(folded.status) == int(plain.status) == Status.CONVERGED
    assert abs(int(folded.num_steps) - int(plain.num_steps)) <= 1
    assert folded.losses.shape == plain.losses.shape
    recorded = int(plain.num_steps) // 3
    np.testing.assert_allclose(folded.losses[:recorded], plain.losses[:recorded], rtol=1e-5)


def test_a_run_that_explodes_says_so() -> None:
    data = make()
    loss = 2 * huber(1e30)
    folded, plain = (run(loss, data, fold=fold, learning_rate=50.0) for fold in (True, False))
    assert int(folded.status) == int(plain.status) == Status.DIVERGED
    assert int(folded.num_steps) == int(plain.num_steps)


def test_a_lasso_is_trained_by_its_prox() -> None:
    data = make()
    folded, plain = (
        run(huber(1.35) + lasso(0.3), data, fold=fold, steps=300) for fold in (True, False)
    )
    np.testing.assert_allclose(folded.params.weights, plain.params.weights, rtol=0, atol=1e-5)
    np.testing.assert_allclose(folded.losses, plain.losses, rtol=1e-5)


@pytest.mark.slow
def test_mapped_runs_fold_each_where_it_is() -> None:
    data, rates = make(), jnp.array([0.05, 0.3, 0.01])

    def mapped(fold: bool) -> Fit:
        def at(rate: jax.Array) -> Fit:
            return run(huber(1.35), data, fold=fold, steps=200, learning_rate=rate)

        return jax.vmap(at)(rates)

    folded, plain = mapped(True), mapped(False)
    assert list(map(bool, folded.state.anchors[0].is_folded)) == [True, True, False]
    np.testing.assert_allclose(folded.losses, plain.losses, rtol=2e-6)


@pytest.mark.slow
def test_small_data_and_traced_calls_are_not_folded() -> None:
    data = make()
    start = init_params(data)
    assert run(mae, data, fold=False).state.anchors is None
    assert fit(mae, start, data, learning_rate=0.1, num_steps=3).state.anchors is None
    large = Dataset(jnp.ones((2**19, 4)), jnp.ones(2**19))
    at = init_params(large)
    assert fit(mae, at, large, learning_rate=0.1, num_steps=3).state.anchors is not None
    assert fit(mse, at, large, learning_rate=0.1, num_steps=3).state.anchors is None

    def traced(rate: jax.Array) -> Fit:
        return fit(mae, at, large, learning_rate=rate, num_steps=3)

    assert jax.eval_shape(traced, jnp.float32(0.1)).state.anchors is None


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (mse, {}, "has no kinks, and compress=True is for it"),
        (mae, {"batch_size": 8, "key": jax.random.key(0)}, "mini-batches are drawn"),
        (mae, {"optimizer": optax.lbfgs}, "a line search looks at the loss beyond"),
        (mae, {"gradient": gradients.finite_difference(mae)}, "only the ways autodiff"),
    ],
)
def test_what_cannot_be_folded_is_refused(
    loss: Loss, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^fold=True, but rows cannot be folded: .*{message}"):
        run(loss, make(), fold=True, **options)


def test_anchors_of_other_parameters_are_refused() -> None:
    data = make()
    state = run(huber(1.35), data, fold=True).state
    anchor = state.anchors[0]._replace(params=Params(jnp.zeros(2), jnp.zeros(())))
    with pytest.raises(ValueError, match=r"^the state's anchors holds parameters of other shapes"):
        run(huber(1.35), data, fold=True, start=state._replace(anchors=(anchor, anchor)))


def test_a_fold_that_is_no_answer_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^fold must be True, False or None, got 8"):
        fit(mae, Params(jnp.zeros(3), None), make(), learning_rate=1.0, num_steps=1, fold=8)
