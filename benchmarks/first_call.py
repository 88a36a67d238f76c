"""`python -m benchmarks.first_call WHOSE WHAT N D DTYPE`: the first call of a process, timed.

Prints its seconds, and where plain JAX has a counterpart, on the next line the numbers that it
returned, as JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.problems import RATE, Problem, make_problem
from linreg_jax import (
    as_dataset,
    check_gradients,
    diagnose,
    fit,
    init_params,
    mse,
    solve,
    trajectory,
)
from linreg_jax._typing import Array, Float

STEPS = 1_000

Theta = tuple[Float[Array, " d"], Float[Array, ""]]

# What is timed, of `params` and `data`; the arrays to wait for, and to compare where plain JAX has
# a counterpart.
OURS: dict[str, Callable[..., Any]] = {
    "mse": mse,
    "grad": jax.grad(mse),
    "fit": lambda params, data: fit(mse, params, data, learning_rate=RATE, num_steps=STEPS).params,
    "solve": lambda params, data: solve(data).params,
    "trajectory": lambda params, data: (
        trajectory(mse, params, data, learning_rate=RATE, steps=STEPS).params
    ),
    "diagnose": lambda params, data: diagnose(data),
    "check_gradients": lambda params, data: check_gradients(mse, params, data),
}


def _loss(theta: Theta, X: Float[Array, "n d"], y: Float[Array, " n"]) -> Float[Array, ""]:
    return jnp.mean((X @ theta[0] + theta[1] - y) ** 2)


def _descend(theta: Theta, X: Float[Array, "n d"], y: Float[Array, " n"]) -> Theta:
    optimizer = optax.sgd(RATE)

    def step(carry: tuple[Theta, Any], _: None) -> tuple[tuple[Theta, Any], Float[Array, ""]]:
        theta, state = carry
        value, gradient = jax.value_and_grad(_loss)(theta, X, y)
        updates, state = optimizer.update(gradient, state, theta)
        return (optax.apply_updates(theta, updates), state), value

    (theta, _), _ = jax.lax.scan(step, (theta, optimizer.init(theta)), length=STEPS)
    return theta


def _solve(theta: Theta, X: Float[Array, "n d"], y: Float[Array, " n"]) -> Float[Array, " d+1"]:
    return jnp.linalg.lstsq(jnp.column_stack([X, jnp.ones_like(y)]), y)[0]


PLAIN: dict[str, Callable[..., Any]] = {
    "mse": _loss,
    "grad": jax.grad(_loss),
    "fit": _descend,
    "solve": _solve,
}


def main(whose: str, what: str, n: int, d: int, dtype: str) -> None:
    """Makes the data, waits for them, and times one call.

    Args:
      whose: "ours", or "plain" for plain JAX in one `jit`.
      what: a name of `OURS` or `PLAIN`.
      n, d, dtype: of the data.
    """
    jax.config.update("jax_enable_x64", dtype == "float64")
    problem = make_problem(n, d, dtype)
    call, arguments = _ours(what, problem) if whose == "ours" else _plain(what, problem)
    jax.block_until_ready(arguments)
    begin = time.perf_counter()
    found = jax.block_until_ready(call(*arguments))
    print(time.perf_counter() - begin)
    if what in PLAIN:
        print(json.dumps(np.concatenate([*map(np.ravel, jax.tree.leaves(found))]).tolist()))


def _ours(what: str, problem: Problem) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    data = as_dataset(*problem)
    return OURS[what], (init_params(data), data)


def _plain(what: str, problem: Problem) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    X, y = map(jnp.asarray, problem)
    theta = jnp.zeros(X.shape[1], y.dtype), jnp.zeros((), y.dtype)
    return jax.jit(PLAIN[what]), (theta, X, y)


if __name__ == "__main__":
    whose, what, n, d, dtype = sys.argv[1:]
    main(whose, what, int(n), int(d), dtype)
