"""Strict flags for the whole suite, before anything runs on a device."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

# XLA tells of every program that it loads from disk which features it would prefer.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# For the processes that tests start too: programs for as many devices are shared through the cache.
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import jax
import numpy as np
import pytest
from hypothesis import settings

from linreg_jax.cli import main
from tests import command_line

jax.config.update("jax_numpy_rank_promotion", "raise")

MOST_MAPS = 25_000  # of 65,530, beyond which a process is killed

# Large tables of cases, nearly all compiling: a plain run takes one case in so many, with the first
# and the last among them, and `pytest -m exhaustive` the others.
ONE_IN = {
    "test_host.py::test_the_same_as_compiled": 12,
    "test_host.py::test_dtypes_and_shapes_are_those_of_jax": 4,
    "test_host.py::test_the_same_path": 3,
    "test_benchmarks.py::test_scenario_at_tiny_size": 4,
    "test_inference.py::test_covariances": 14,
    "test_inference_scores.py::test_the_sandwich_by_hand_and_by_autodiff": 6,
    "test_inference_scores.py::test_losses_that_jump_are_minimised": 6,
    "test_inference_scores.py::test_covariances_in_numpy": 3,
    "test_exact_robust.py::test_the_minimum_is_proven": 3,
    "test_exact_robust.py::test_derivatives_of_the_value_and_of_the_parameters_of_a_smooth_loss": 4,
    "test_exact.py::test_it_is_the_shortest_minimiser": 3,
    "test_lasso_exact.py::test_awkward_problems_meet_the_conditions_and_prove_it": 2,
    "test_lasso_exact.py::test_a_path_agrees_with_solve_at_any_strength": 2,
    "test_cross_validation.py::test_scores_are_those_of_fits_without_a_fold": 2,
    "test_resampling.py::test_draws_are_fits": 6,
    "test_chunk_inference.py::test_as_all_rows": 4,
    "test_chunk_inference.py::test_smooth_losses": 4,
    "test_chunk_training.py::test_every_loss_takes_the_steps_of_a_loop_by_hand": 3,
    "test_training.py::test_two_parts_are_the_whole_bit_for_bit": 3,
    "test_training.py::test_follows_the_exact_path": 3,
    "test_optimizers.py::test_every_optimizer_trains": 3,
    "test_folded_runs.py::test_every_step_is_that_of_all_rows": 4,
    "test_folded_runs.py::test_data_of_every_kind": 3,
    "test_folded_runs.py::test_a_run_in_two_parts_is_the_run_in_one": 3,
    "test_folding.py::test_within_the_radius_nothing_is_lost": 4,
    "test_gradients.py::test_every_way_agrees_with_loops_in_numpy": 3,
    "test_one_pass.py::test_every_loss_agrees_with_loops_in_numpy": 3,
    "test_compilers.py::test_a_loss_at_many_parameters_is_right_at_each": 3,
    "test_compilers.py::test_gradients_of_the_rows_at_the_edges_are_right": 4,
    "test_far_from_zero.py::test_solve_finds_what_the_floats_hold": 3,
    "test_far_from_zero.py::test_only_equal_values_are_constant": 6,
    "test_compression.py::test_rank_deficient_data": 3,
    "test_compression.py::test_every_squared_loss_is_the_same_for_any_parameters": 3,
    "test_streaming.py::test_any_cut_gives_what_the_whole_gives": 3,
    "test_minibatch.py::test_every_way_to_gather_gives_the_same_batches": 3,
    "test_derivatives.py::test_trajectory": 2,
    "test_derivatives.py::test_solve": 2,
    "test_cli.py::test_every_way_to_train_comes_near_the_truth": 3,
    "test_sharding.py::test_fits_of_every_loss_are_those_of_one_device": 6,
}

# The files that take longest begin first, so that no process is left alone with one of them.
SLOWEST = {
    "test_exact_robust.py",
    "test_folded_runs.py",
    "test_lasso_exact.py",
    "test_inference_scores.py",
    "test_inference.py",
    "test_exact.py",
    "test_cli_outputs.py",
    "test_derivatives.py",
    "test_influence.py",
    "test_own_losses.py",
    "test_training.py",
    "test_sharding.py",
    "test_diagnosis.py",
    "test_cli.py",
    "test_processes.py",
    "test_minibatch.py",
    "test_cross_validation.py",
    "test_checking.py",
    "test_gradients.py",
    "test_chunk_inference.py",
    "test_compression.py",
    "test_far_from_zero.py",
}

settings.register_profile(
    "same every time", derandomize=True, deadline=None, max_examples=20, database=None
)
settings.load_profile("same every time")


def pytest_configure(config: pytest.Config) -> None:
    """Keeps compiled programs in `.pytest_cache`, so that a second run is quick.

    For the processes that tests start too, whose command line would keep its own at home.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:  # as it is where workers follow their controller
        return
    folder = str(config.cache.mkdir("compiled"))
    for name, value in {
        "jax_compilation_cache_dir": folder,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what a plain run leaves to `-m exhaustive`, and puts the slowest files first."""
    items.sort(key=lambda item: item.path.name not in SLOWEST)
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        cases.setdefault(item.nodeid.removeprefix("tests/").split("[")[0], []).append(item)
    for name, every in ONE_IN.items():
        for place, item in enumerate(cases.get(name, [])):
            if place % every and place + 1 < len(cases[name]):
                item.add_marker(pytest.mark.exhaustive)


@pytest.fixture(scope="module", autouse=True)
def programs_of_other_files_are_let_go() -> Iterator[None]:
    """After a file, where a process holds nearly as many compiled programs as Linux lets it map."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test once in each dtype; float64 with x64 on, float32 with it off, as users run."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture
def x64() -> Iterator[None]:
    """The test with x64 on."""
    with jax.enable_x64(True):
        yield


def pytest_make_parametrize_id(config: pytest.Config, val: object) -> str | None:
    """Functions by name, not by address: every process must give a test the same name."""
    return getattr(val, "__name__", None) if callable(val) else None


@pytest.fixture(autouse=True)
def checker_may_refuse_types(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under jaxtyping's checker, arguments of a wrong type are refused by it, before us.

    So is a name that is none of a `Literal`. Shapes and other values stay ours to refuse.
    """
    if not request.config.getoption("jaxtyping_packages", None):
        return
    from jaxtyping import TypeCheckError

    raises = pytest.raises
    messages = {
        TypeError: "^Type-check error whilst checking the parameters",
        ValueError: "Expected type: .*Literal",
    }

    def or_by_the_checker(
        expected: type[BaseException], match: str | None = None
    ) -> pytest.RaisesExc:
        if match is None or expected not in messages:
            return raises(expected, match=match)
        return raises((expected, TypeCheckError), match=f"{match}|{messages[expected]}")

    monkeypatch.setattr(pytest, "raises", or_by_the_checker)


@pytest.fixture(scope="module")
def numbers() -> tuple[np.ndarray, np.ndarray]:
    """`(X, y)` for the command line."""
    return command_line.make_numbers()


@pytest.fixture
def table(numbers: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> Path:
    """The path of a CSV file of them. All tests fit as many rows, or each would compile anew."""
    return command_line.write(tmp_path / "table.csv", *numbers)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str, str]]:
    """Arguments -> `(code, out, err)` of the command line."""

    def run(*arguments: object) -> tuple[object, str, str]:
        try:
            code: object = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return run
