"""Every optimizer of optax and optax.contrib trains, each found by looking into the package."""

import functools
import inspect

import jax
import numpy as np
import optax
import optax.contrib
import pytest

from linreg_jax import fit, init_params, mse
from tests.support import make_problem

_, DATA = make_problem(0, n=20, d=3)
START = init_params(DATA, jax.random.key(0), scale=1.0)  # not 0: some steps go by its norm


def optimizers_of(module):
    """Public functions that take a learning rate and return a gradient transformation, by name."""
    found = {}
    for name, function in sorted(vars(module).items()):
        if name.startswith(("_", "scale_by_")) or not inspect.isfunction(function):
            continue
        signature = inspect.signature(function)
        rates = [parameter for parameter in signature.parameters if "learning_rate" in parameter]
        if rates and "GradientTransformation" in str(signature.return_annotation):
            found[name] = (function, rates[0])
    return found


FOUND = optimizers_of(optax) | optimizers_of(optax.contrib)

# What some need besides a rate; one that is not named here is tried as it is.
ARGUMENTS = {
    "noisy_sgd": {"key": jax.random.key(0)},
    "schedule_free": {"base_optimizer": optax.sgd(0.1)},
}
# Rates of those that find their own step from a rate of 1, or take steps of 0.1 too far.
RATES = dict.fromkeys(["cocob", "dadapt_adamw", "prodigy", "adadelta", "momo"], 1.0)
RATES |= dict.fromkeys(["fromage", "optimistic_adam", "simplified_ademamix"], 0.01)

# What cannot train these parameters as they are, and what optax says of it.
REFUSED = {
    "sm3": (optax.sm3, "IndexError"),  # no axes in a bias that is one number
    "dpsgd": (lambda rate: optax.contrib.dpsgd(rate, 1.0, 0.0, 0), "batch dimension"),
}

WRAPPED = {
    "MultiSteps": lambda rate: optax.MultiSteps(optax.sgd(rate), every_k_schedule=2),
    "MultiSteps as a transformation": lambda rate: optax.MultiSteps(
        optax.adam(rate), every_k_schedule=3
    ).gradient_transformation(),
    "sam": lambda rate: optax.contrib.sam(optax.sgd(rate), optax.sgd(0.01)),
    "sam, opaque": lambda rate: optax.contrib.sam(
        optax.sgd(rate), optax.sgd(0.01), opaque_mode=True
    ),
    "mechanize": lambda rate: optax.contrib.mechanize(optax.sgd(rate)),
    "inject_hyperparams": lambda rate: optax.inject_hyperparams(optax.sgd)(learning_rate=rate),
    "apply_if_finite": lambda rate: optax.apply_if_finite(optax.sgd(rate), 3),
    "clipped": lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate)),
}


def test_optimizers_are_found():
    assert {"sgd", "adam", "lbfgs", "polyak_sgd", "muon", "prodigy"} <= set(FOUND)
    assert set(ARGUMENTS) | set(RATES) <= set(FOUND)


def assert_trains(optimizer, start=START, rate=0.1):
    result = fit(mse, start, DATA, learning_rate=rate, num_steps=60, optimizer=optimizer)
    assert float(mse(result.params, DATA)) < 0.99 * float(result.losses[0])
    assert np.isfinite(result.losses).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of optax, about its own aliases
@pytest.mark.parametrize("name", sorted(set(FOUND) - set(REFUSED)))
def test_every_optimizer_trains(name):
    function, rate = FOUND[name]
    given = functools.partial(function, **ARGUMENTS.get(name, {}))
    assert_trains(lambda value: given(**{rate: value}), rate=RATES.get(name, 0.1))


@pytest.mark.parametrize("optimizer", WRAPPED.values(), ids=list(WRAPPED))
def test_what_is_built_from_others_trains(optimizer):
    assert_trains(optimizer)


def test_sam_in_one_step_is_sam_in_two():
    """With a gradient function it takes both in one step; without one, each is a step."""
    adversary = optax.sgd(0.01)
    two = fit(
        mse,
        START,
        DATA,
        learning_rate=0.1,
        num_steps=20,
        optimizer=lambda rate: optax.contrib.sam(optax.sgd(rate), adversary),
    )
    one = fit(
        mse,
        START,
        DATA,
        learning_rate=0.1,
        num_steps=10,
        optimizer=lambda rate: optax.contrib.sam(optax.sgd(rate), adversary, opaque_mode=True),
    )
    np.testing.assert_allclose(one.params.weights, two.params.weights, rtol=1e-5)


def test_gradients_are_gathered_over_steps():
    gathered = fit(
        mse, START, DATA, learning_rate=0.1, num_steps=10, optimizer=WRAPPED["MultiSteps"]
    )
    plain = fit(mse, START, DATA, learning_rate=0.1, num_steps=5)
    np.testing.assert_allclose(gathered.params.weights, plain.params.weights, rtol=1e-5)
    again = fit(
        mse,
        gathered.state,
        DATA,
        learning_rate=0.1,
        num_steps=10,
        optimizer=WRAPPED["MultiSteps"],
    )
    assert float(again.losses[-1]) < float(gathered.losses[-1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("optimizer", "reason"), REFUSED.values(), ids=list(REFUSED))
def test_an_optimizer_that_fails_is_named(optimizer, reason):
    message = rf"optimizer \S+ failed on parameters .*'bias': '\[\]'.*{reason}.*intercept=False"
    with pytest.raises(ValueError, match=message):
        fit(mse, START, DATA, learning_rate=0.1, num_steps=3, optimizer=optimizer)


def test_sm3_trains_without_a_scalar_bias():
    assert_trains(optax.sm3, START._replace(bias=None))


@pytest.mark.parametrize("made", [np.zeros(1000), None, optax.sgd])
def test_what_makes_no_transformation_is_refused(made):
    with pytest.raises(TypeError, match=r"optimizer must be a factory, .* but .* made") as caught:
        fit(mse, START, DATA, learning_rate=0.1, num_steps=3, optimizer=lambda rate: made)
    assert len(str(caught.value)) < 300
