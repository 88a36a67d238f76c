"""Strict flags for the whole suite, before anything runs on a device."""

import importlib.util

import jax
import pytest

from linreg_jax.cli import main
from tests import command_line

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

PEERS = ("sklearn", "torch", "sympy", "statsmodels", "pyarrow")
missing_peers = [name for name in PEERS if importlib.util.find_spec(name) is None]
collect_ignore = ["peers"] if missing_peers else []


def pytest_report_header():
    if missing_peers:
        return (
            f"tests/peers not collected, missing {', '.join(missing_peers)}: pip install .[peers]"
        )
    return "tests/peers collected: every peer is installed"


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


def pytest_make_parametrize_id(config, val):
    """Functions by name, not by address: every process must give a test the same name."""
    return getattr(val, "__name__", None) if callable(val) else None


@pytest.fixture(scope="module")
def numbers():
    """`(X, y)` for the command line."""
    return command_line.make_numbers()


@pytest.fixture
def table(numbers, tmp_path):
    """The path of a CSV file of them. All tests fit as many rows, or each would compile anew."""
    return command_line.write(tmp_path / "table.csv", *numbers)


@pytest.fixture
def run(capsys):
    """Arguments -> `(code, out, err)` of the command line."""

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return run
