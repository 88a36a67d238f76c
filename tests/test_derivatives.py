"""Derivatives of the exact answers, forward and in reverse, beside central differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linreg_jax import Dataset, Params, half_sse, mse, ridge, solve, trajectory
from tests.support import flat, make_problem, relative_error

CASES = [
    # k, intercept, weighted, strength
    (None, True, False, None),
    (2, True, True, 0.7),
    (None, False, True, None),
    (2, False, False, 0.7),
]


def numbers(tree):
    """All numbers of a pytree as one vector."""
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def differences(function, arguments):
    """Central differences of a vector function, in the shapes of `jax.jacrev`."""
    step, result = 1e-5, []
    for i, argument in enumerate(arguments):
        argument = np.asarray(argument)
        columns = []
        for place in np.ndindex(argument.shape):
            ends = []
            for sign in (1, -1):
                moved = argument.copy()
                moved[place] += sign * step
                ends.append(function(*arguments[:i], jnp.asarray(moved), *arguments[i + 1 :]))
            columns.append((ends[0] - ends[1]) / (2 * step))
        result.append(jnp.stack(columns, axis=-1).reshape(-1, *argument.shape))
    return tuple(result)


def assert_derivatives(function, arguments, tolerance):
    places = tuple(range(len(arguments)))
    reverse = jax.jit(jax.jacrev(function, places))(*arguments)
    forward = jax.jit(jax.jacfwd(function, places))(*arguments)
    expected = differences(jax.jit(function), arguments)
    for one, other, wanted in zip(reverse, forward, expected, strict=True):
        assert np.abs(flat(wanted)).max() > 0
        assert relative_error(one, other) < 1e-11  # rounding, times the condition number
        assert relative_error(one, wanted) < tolerance


@pytest.mark.parametrize(("k", "intercept", "weighted", "strength"), CASES)
def test_solve(k, intercept, weighted, strength, x64):
    _, data = make_problem(1, n=12, d=3, k=k, dtype="float64")
    arguments = [data.X + 2, data.y]
    arguments += [jnp.linspace(0.5, 2, 12)] if weighted else []
    arguments += [] if strength is None else [jnp.array(strength)]

    def answer(X, y, *rest):
        weight = rest[0] if weighted else None
        loss = mse if strength is None else mse + ridge(rest[-1])
        found = solve(Dataset(X, y, weight), loss, intercept=intercept)
        return numbers((found.params, found.value))

    assert_derivatives(answer, arguments, 1e-8)  # of differences with a step of 1e-5


@pytest.mark.slow
def test_solve_to_second_order(x64):
    _, data = make_problem(2, n=8, d=2, dtype="float64")

    def slope(X):
        return numbers(jax.grad(lambda X: solve(Dataset(X, data.y)).params.weights[0])(X))

    assert_derivatives(slope, [data.X], 1e-7)  # of differences of a derivative


@pytest.mark.slow
def test_a_minimum_of_many(x64):
    _, data = make_problem(3, n=12, d=2, dtype="float64")
    X = jnp.concatenate([data.X, data.X[:, :1]], axis=1)  # rank 2 of 3

    def weights(X, y):
        return solve(Dataset(X, y)).params.weights

    by_X, by_y = jax.jacrev(weights, (0, 1))(X, data.y)
    assert np.isnan(by_X).all()
    wanted = differences(functools.partial(weights, X), [data.y])[0]
    assert relative_error(by_y, wanted) < 1e-8
    assert relative_error(jax.jacfwd(weights, 1)(X, data.y), by_y) < 1e-12
    # Ridge makes it unique.
    ridged = jax.grad(lambda X: solve(Dataset(X, data.y), mse + ridge(0.1)).value)(X)
    assert np.isfinite(ridged).all()


@pytest.mark.slow
def test_solve_in_float32_and_mapped_over():
    _, data = make_problem(4, n=30, d=3)
    X = data.X + 1e4  # the slope's derivatives do not depend on where X lies

    def weights(X, y):
        return solve(Dataset(X, y)).params.weights

    far, near = (jax.jacrev(weights, 1)(x, data.y) for x in (X, X - 1e4))
    assert relative_error(far, near) < 1e-5
    strengths = jnp.array([0.1, 1.0, 10.0])
    slope = jax.grad(lambda s: solve(data, mse + ridge(s)).value)
    assert relative_error(jax.vmap(slope)(strengths), [slope(s) for s in strengths]) < 1e-5
    # The envelope: what the least loss gains from the strength is the penalty.
    found = solve(data, mse + ridge(1.0)).params.weights
    assert relative_error(slope(1.0), jnp.sum(found**2)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("k", "intercept", "weighted", "strength"), CASES)
def test_trajectory(k, intercept, weighted, strength, x64):
    n = 12 if intercept else 2  # more examples than features, and fewer
    params, data = make_problem(5, n=n, d=3, k=k, intercept=intercept, dtype="float64")
    loss = mse if strength is None else half_sse + ridge(strength)
    rates = jnp.array([0.05, 0.1]) / (1 if strength is None else n)
    momentum = jnp.array(0.3 if weighted else 0.0)
    weight = jnp.linspace(0.5, 2, n)
    steps = jnp.array([1, 6])

    def answer(X, y, weight, rates, momentum, weights, *bias):
        start = Params(weights, *bias) if intercept else Params(weights, None)
        data = Dataset(X, y, weight if weighted else None)
        path = trajectory(loss, start, data, learning_rate=rates, steps=steps, momentum=momentum)
        return numbers(path)

    def by_loop(X, y, weight, rates, momentum, weights, *bias):
        start = Params(weights, *bias) if intercept else Params(weights, None)
        data = Dataset(X, y, weight if weighted else None)

        def at_rate(rate):
            params, velocity, found = start, jax.tree.map(jnp.zeros_like, start), []
            for step in range(1, 7):
                gradient = jax.grad(loss)(params, data)
                velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, gradient)
                params = jax.tree.map(lambda p, v: p - rate * v, params, velocity)
                if step in steps.tolist():
                    found.append((params, loss(params, data)))
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)

        return numbers(jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(at_rate, rates)))

    arguments = [data.X, data.y, weight, rates, momentum, params.weights]
    arguments += [params.bias] if intercept else []
    places = tuple(range(len(arguments)))
    assert relative_error(answer(*arguments), by_loop(*arguments)) < 1e-11
    expected = jax.jit(jax.jacfwd(by_loop, places))(*arguments)
    for mode in (jax.jacrev, jax.jacfwd):
        found = jax.jit(mode(answer, places))(*arguments)
        for one, wanted in zip(found, expected, strict=True):
            assert relative_error(one, wanted) < 1e-11  # rounding of 6 steps


def test_trajectory_with_equal_curvatures(x64):
    X = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])  # X'X is 4 times identity
    y, start = jnp.array([1.0, 2.0, 3.0, 5.0]), Params(jnp.zeros(2), jnp.array(0.0))

    def answer(X):
        return numbers(trajectory(mse, start, Dataset(X, y), learning_rate=0.1, steps=7))

    assert_derivatives(answer, [X], 1e-8)


@pytest.mark.slow
def test_second_derivatives_of_a_trajectory():
    _, data = make_problem(6, n=8, d=2)

    def last(weights, X):
        start = Params(weights, jnp.array(0.0))
        return trajectory(mse, start, data._replace(X=X), learning_rate=0.1, steps=5).losses

    assert np.isfinite(jax.hessian(last)(jnp.zeros(2), data.X)).all()
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        jax.hessian(last, 1)(jnp.zeros(2), data.X)
