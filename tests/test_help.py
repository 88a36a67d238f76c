"""What `help` says of an object is its own text, and whole."""

import dataclasses
import inspect
import pydoc

import pytest

from linreg_jax import (
    Status,
    adaptive,
    epsilon_insensitive,
    half_mse,
    half_sse,
    huber,
    invscaling,
    lasso,
    log_cosh,
    mae,
    mse,
    quantile,
    ridge,
    sse,
)

# What help has to say of each: its name and its derivative, or formula.
SAID = [
    (mse, "mse       Σ s r² / n       2 Xᵀ(s r) / n"),
    (half_mse, "half_mse  Σ s r² / 2n      Xᵀ(s r) / n"),
    (sse, "sse       Σ s r²           2 Xᵀ(s r)"),
    (half_sse, "half_sse  Σ s r² / 2       Xᵀ(s r)"),
    (mae, "psi(r) = sign(r), 0 at 0"),
    (huber(1.0), "psi(r) = r clipped"),
    (quantile(0.5), "1 - level above, -level below, 0 at 0"),
    (log_cosh(), "psi(r) = tanh r"),
    (epsilon_insensitive(0.1), "psi(r) = sign(r) outside the tube"),
    (ridge(0.1), "gradient 2 strength w"),
    (lasso(0.1), "gradient strength sign(w)"),
    (invscaling(0.1), "initial_rate / (step + 1)^power"),
    (adaptive(), "steps shrink where the loss stands still"),
]


@pytest.mark.parametrize(("thing", "said"), SAID, ids=[str(thing)[:20] for thing, _ in SAID])
def test_help_of_an_object_tells_its_formula(thing, said):
    text = pydoc.plain(pydoc.render_doc(thing))
    assert said in text
    assert "see `" not in inspect.getdoc(type(thing))
    attributes = inspect.getdoc(type(thing)).split("Attributes:")[1]
    for field in dataclasses.fields(thing):
        assert f"{field.name}:" in attributes


def test_help_of_a_status_lists_what_a_run_may_end_as():
    told = inspect.getdoc(Status).split("Attributes:")[1]
    for status in Status:
        assert f"{status.name}: " in told


@pytest.mark.parametrize(
    "loss", [mse, mae, huber(1.0), quantile(0.5), log_cosh(), epsilon_insensitive(0.1)], ids=str
)
def test_help_of_a_loss_has_its_gradient_its_names_elsewhere_and_an_example(loss):
    told = inspect.getdoc(type(loss))
    for part in ("gradient of the weights", "Elsewhere: ", "Example:", ">>> "):
        assert part in told
    assert any(package in told for package in ("torch", "optax", "scikit-learn"))
