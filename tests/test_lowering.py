"""What is compiled for devices that are not here: it lowers, and in no form made for a CPU."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

import linreg_jax as lr
from linreg_jax import _kernels
from linreg_jax._training import batches, layout

N, D = 12_000, 40  # in blocks on a CPU
BATCH = 512
MODULES = (_kernels, batches, layout)


def data_and_start(n=N, d=D):
    X = jnp.zeros((n, d)).at[0].set(1.0)
    return lr.Params(jnp.zeros(d), jnp.zeros(())), lr.Dataset(X, X[:, 0])


def fit_of(loss, **settings):
    return lambda params, data: lr.fit(loss, params, data, learning_rate=0.1, **settings)


FUNCTIONS = {
    "value": lr.mse,
    "gradient": jax.grad(lr.huber(1.0)),
    "by hand": lr.gradients.vectorized(lr.mae),
    "predict": lambda params, data: lr.predict(params, data.X),
    "fit": fit_of(lr.mse, num_steps=3),
    "fit, every row": fit_of(lr.quantile(0.9), num_steps=3, optimizer=optax.adam),
    "mini-batches": fit_of(lr.mse, num_epochs=1, batch_size=BATCH, key=jax.random.key(0)),
    "compress": lambda params, data: lr.compress(data),
    "solve": lambda params, data: lr.solve(data),
    "diagnose": lambda params, data: lr.diagnose(data).largest_stable_rate,
}


def lowered(function, platform):
    """The text of a function lowered for a platform; the rows of the data are its argument."""
    params, data = data_and_start()
    exported = export.export(jax.jit(function), platforms=[platform])(params, data)
    return exported.mlir_module()


@pytest.fixture
def on_another_device(monkeypatch):
    """As where the default device is a GPU; what was traced for this one is forgotten."""
    jax.clear_caches()
    for module in MODULES:
        monkeypatch.setattr(module, "platform_of", lambda array: "gpu")
    yield
    jax.clear_caches()


def forms_for_a_cpu(text):
    """Products in blocks, X by columns, rows in groups or number by number: lines of the text."""
    in_blocks = r"dot_general.*batching_dims = \[0\].*tensor<\d+x\d+x40xf32>"
    by_columns = rf"dot_general.*\(tensor<{D}xf32>, tensor<{D}x{N}xf32>\)"
    in_groups = rf"gather.*tensor<{N}x\d+x\d+xf32>"
    by_numbers = rf"multiply.*tensor<{BATCH}x{D}xf32>"
    forms = re.compile("|".join([in_blocks, by_columns, in_groups, by_numbers]))
    return [line for line in text.splitlines() if forms.search(line)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_everything_lowers_for_every_device_and_plainly(name, on_another_device):
    for platform in ("cuda", "rocm", "tpu"):
        assert forms_for_a_cpu(lowered(FUNCTIONS[name], platform)) == []


@pytest.mark.parametrize("name", ["value", "gradient", "fit, every row", "mini-batches"])
def test_the_forms_for_a_cpu_are_seen_where_they_are(name):
    jax.clear_caches()
    found = " ".join(forms_for_a_cpu(lowered(FUNCTIONS[name], "cpu")))
    assert found
    if name == "mini-batches":
        assert "gather" in found
        assert "multiply" in found


def test_where_arrays_lie():
    assert _kernels.platform_of(jnp.zeros(2)) == _kernels.platform_of(np.zeros(2)) == "cpu"
    assert jax.jit(lambda x: x * len(_kernels.platform_of(x)))(jnp.ones(())) == 3
