"""Strict flags for the whole suite, before anything runs on a device."""

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """The test once in each dtype; float64 with x64 on, float32 with it off, as users run."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture
def x64():
    """The test with x64 on."""
    with jax.enable_x64(True):
        yield
