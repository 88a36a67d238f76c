"""How many programs the first call of a public function compiles, in a process that has none."""

from collections.abc import Callable
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import (
    Dataset,
    Params,
    compress,
    diagnose,
    fit,
    gradients,
    huber,
    infer,
    init_params,
    mse,
    predict,
    residuals,
    solve,
    solve_line,
    split,
    standardize,
    trajectory,
)

_COMPILED = "/jax/core/compile/backend_compile_duration"

# What is called, and the most programs it may compile.
CALLS: dict[str, tuple[Callable[[Params, Dataset, jax.Array], Any], int]] = {
    "mse": (lambda params, data, key: mse(params, data), 1),
    "huber": (lambda params, data, key: huber(1.0)(params, data), 1),
    # Forward, the 1 that the derivative starts from, and backward.
    "grad": (lambda params, data, key: jax.grad(mse)(params, data), 3),
    "vectorized": (lambda params, data, key: gradients.vectorized(mse)(params, data), 1),
    "autodiff": (lambda params, data, key: gradients.autodiff(mse)(params, data), 1),
    "predict": (lambda params, data, key: predict(params, data.X), 1),
    "residuals": (lambda params, data, key: residuals(params, data), 1),
    "init_params": (lambda params, data, key: init_params(data), 0),
    "init_params, random": (lambda params, data, key: init_params(data, key), 1),
    "standardize": (lambda params, data, key: standardize(data), 0),
    "split": (lambda params, data, key: split(data, key, 0.2), 1),
    "compress": (lambda params, data, key: compress(data), 0),
    "solve": (lambda params, data, key: solve(data), 0),
    "solve, huber": (lambda params, data, key: solve(data, huber(1.0)), 1),
    "solve_line": (lambda params, data, key: solve_line(np.arange(5.0), np.ones(5)), 0),
    "infer": (lambda params, data, key: infer(data), 0),
    "diagnose": (lambda params, data, key: diagnose(data), 0),
    "steps_to": (lambda params, data, key: diagnose(data).steps_to(0.01), 0),
    "trajectory": (
        lambda params, data, key: trajectory(mse, params, data, learning_rate=0.1, steps=9),
        0,
    ),
    "fit": (
        lambda params, data, key: fit(mse, params, data, learning_rate=0.1, num_steps=1_000),
        1,
    ),
    # The start, the steps and the end.
    "fit, watched": (
        lambda params, data, key: fit(
            mse, params, data, learning_rate=0.1, num_steps=5_000, progress=lambda seen: None
        ),
        3,
    ),
    "fit, auto": (
        lambda params, data, key: fit(mse, params, data, learning_rate="auto", num_steps=1_000),
        3,
    ),
}


def programs_compiled(call: Callable[[], Any]) -> int:
    """How many programs JAX compiles during a call, by its own account."""
    compiled: list[str] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILED:
            compiled.append(event)

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.block_until_ready(call())
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return len(compiled)


@pytest.fixture
def problem() -> tuple[Params, Dataset, jax.Array]:
    """`(params, data, key)`, on the device already."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100, 1)).astype("float32"), rng.normal(size=100).astype("float32")
    params = Params(jnp.zeros(1, "float32"), jnp.zeros((), "float32"))
    made = params, Dataset(jnp.asarray(X), jnp.asarray(y)), jax.random.key(0)
    return jax.block_until_ready(made)


@pytest.mark.parametrize("name", CALLS)
def test_a_first_call_compiles_few_programs(
    name: str, problem: tuple[Params, Dataset, jax.Array]
) -> None:
    call, most = CALLS[name]
    assert programs_compiled(lambda: call(*problem)) <= most


def test_programs_are_counted() -> None:
    row = jax.block_until_ready(jnp.ones(7))
    assert programs_compiled(lambda: jnp.sin(row) * jnp.cos(row)) == 3


def test_a_second_call_compiles_nothing(problem: tuple[Params, Dataset, jax.Array]) -> None:
    params, data, _ = problem
    compiled: list[str] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        compiled.append(event)

    for call in (lambda: predict(params, data.X), lambda: residuals(params, data)):
        jax.block_until_ready(call())
        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            jax.block_until_ready(call())
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)
    assert _COMPILED not in compiled
