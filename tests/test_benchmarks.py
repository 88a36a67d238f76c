import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import command, machine, numpy_by_hand, pytorch, scikit_learn
from benchmarks.compiling import seconds_compiling
from benchmarks.harness import Case, Competitor, Missing, Row, Settings, disagreement, measure
from benchmarks.plot import draw
from benchmarks.problems import (
    RATE,
    Problem,
    descent,
    least_squares,
    make_problem,
    squared_error_descent,
)
from benchmarks.report import case_table, heading, ratio_table, verdict, write_json
from benchmarks.scenarios import SCENARIOS, Scenario
from tests.reference import value_and_gradient
from tests.support import make_problem as make_ours

TINY = Settings("tiny", threads=2, bandwidth=2e10, device_bandwidth=2e10)


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_at_tiny_size(name, capsys):
    rows = command.run(SCENARIOS[name], TINY)
    kinds = {row.kind for row in rows}
    assert "run" in kinds
    assert "disagrees" not in kinds
    for title in {row.case for row in rows}:
        names = [row.name for row in rows if row.case == title and row.kind != "compile"]
        assert len(set(names)) == len(names), "samples are kept by name"
    for row in rows:
        if row.kind == "run":
            assert 0 < row.low <= row.median <= row.high
        if row.error is not None:
            assert row.error <= row.tolerance
        if row.name == row.baseline and row.kind == "run":
            assert row.ratio == 1
    printed = capsys.readouterr().out
    assert SCENARIOS[name].what in printed
    assert max(map(len, printed.splitlines())) <= 100


def test_scenarios_have_the_competitors_that_they_promise():
    peers = [pytorch.torch, scikit_learn.linear_model]
    expected = {
        "full_batch": ["NumPy by hand", "NumPy on its own Gram matrix", "JAX steps from Python"]
        + ["fit(compress=False)", "fit", "trajectory"],
        "robust": ["NumPy by hand", "fit, autodiff", "fit, vectorized", "fit, one_pass"]
        + ["fit, one_pass, rows over cores"],
        "mini_batch": ["NumPy by hand", "JAX steps, jax.random.permutation", "fit"],
        "sweep": ["NumPy by hand", "NumPy by hand, rates as columns", "vmap of fit", "trajectory"],
        "gradients": ["NumPy by hand", "autodiff", "vectorized", "one_pass", "by_loops"],
    }
    for name, promised in expected.items():
        present = [c.name for c in next(SCENARIOS[name].cases(TINY)).competitors]
        assert set(promised) <= set(present)
        if None not in peers and name != "sweep":
            assert any("PyTorch" in name for name in present)


@pytest.mark.parametrize("name", ["full_batch", "robust", "mini_batch", "accuracy", "gradients"])
def test_missing_peers_are_named(name, monkeypatch):
    monkeypatch.setattr(pytorch, "torch", None)
    monkeypatch.setattr(scikit_learn, "linear_model", None)
    competitors = next(SCENARIOS[name].cases(TINY)).competitors
    missing = {c.name.split(",")[0]: c.why for c in competitors if isinstance(c, Missing)}
    expected = {"mini_batch": {"PyTorch", "scikit-learn"}, "accuracy": {"scikit-learn"}}
    assert missing.keys() == expected.get(name, {"PyTorch"})
    assert all("pip install" in why for why in missing.values())


# What a hand-written loop gets wrong; each must be caught, and none of them timed.
MUTANTS = {
    "forgets the bias": {"bias_rate": 0.0},
    "divides by n + 1": {"divisor": 1},
    "forgets the 2": {"factor": 1.0},
    "a rate off by 0.1 %": {"factor": 2.002},
    "records the loss after the step": {"late": True},
    "one step too few": {"steps_less": 1},
    "one example left out": {"skipped": 1},
}


def descend_by_hand(
    problem, num_steps, *, factor=2.0, bias_rate=1.0, divisor=0, late=False, steps_less=0, skipped=0
):
    X, y = problem.X[skipped:], problem.y[skipped:]
    n = len(y) + divisor
    weights, bias, losses = np.zeros(X.shape[1], X.dtype), 0.0, []
    for _ in range(num_steps - steps_less):
        r = X @ weights + bias - y
        losses.append(r @ r / n)
        weights = weights - RATE * factor / n * (r @ X)
        bias = bias - bias_rate * RATE * factor / n * r.sum()
        if late:
            r = X @ weights + bias - y
            losses[-1] = r @ r / n
    losses += [losses[-1]] * steps_less
    return {"params": np.append(weights, bias), "losses": np.array(losses)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_agreement_catches_each_mutant_and_no_right_way(dtype):
    problem = make_problem(2_000, 5, dtype)
    num_steps, calls = 100, []

    def competitor(name, mistakes):
        def run():
            calls.append(name)
            return descend_by_hand(problem, num_steps, **mistakes)

        return Competitor(name, run)

    competitors = [competitor(name, mistakes) for name, mistakes in MUTANTS.items()]
    right = competitor("NumPy by hand", {})
    settings = Settings("tiny", dtype)
    expected = squared_error_descent(problem, num_steps)
    case = Case("mutants", [right, *competitors], expected, settings.tolerance)
    kinds = {row.name: row.kind for row in measure("a test", case, settings)}
    assert kinds == {"NumPy by hand": "run"} | dict.fromkeys(MUTANTS, "disagrees")
    assert all(calls.count(name) == 1 for name in MUTANTS)


def test_disagreement():
    right = {"params": np.array([1.0, -4.0]), "losses": np.array([8.0])}
    assert disagreement(right, right) == 0
    off = {"params": np.array([1.0, -4.0]), "losses": np.array([6.0])}
    assert disagreement(off, right) == 0.25
    assert disagreement({"params": right["params"]}, right) == np.inf
    assert disagreement({"params": np.array([1.0, np.nan])}, {"params": right["params"]}) == np.inf
    assert disagreement({"params": np.array([1.0])}, {"params": right["params"]}) == np.inf
    assert disagreement({"zero": np.array([0.5])}, {"zero": np.array([0.0])}) == 0.5


@pytest.mark.parametrize("n", [7, 100])
def test_references_agree_with_each_other(n):
    problem = make_problem(n, 3, "float64")
    rules = np.square, lambda r: 2 * r
    by_steps = descent(problem, *rules, [slice(None)] * 50, RATE)
    by_normal_equations = squared_error_descent(problem, 50)
    assert disagreement(by_normal_equations, by_steps) < 1e-13  # 50 steps in another order
    far = squared_error_descent(problem, 20_000)["params"]
    assert disagreement({"params": far}, least_squares(problem)) < 1e-12  # the minimum, to rounding


def test_reference_takes_the_gradient_of_loops():
    params, data = make_ours(0, n=12, d=3)
    zeros = params._replace(weights=jnp.zeros(3), bias=jnp.zeros(()))
    value, weights, bias = value_and_gradient("mae", zeros, data)
    problem = Problem(np.asarray(data.X), np.asarray(data.y))
    one_step = descent(problem, np.abs, np.sign, [slice(None)], 0.5)
    expected = {"params": -0.5 * np.append(weights, bias), "losses": np.array([value])}
    assert disagreement(one_step, expected) < 1e-14  # the same 12 numbers added in another order


@pytest.mark.parametrize("block_rows", [1, 40, 1000])
def test_numpy_in_blocks_is_numpy(block_rows):
    problem = make_problem(100, 3, "float64")
    penalty = numpy_by_hand.huber(1.0)
    whole = numpy_by_hand.full_batch(problem, penalty, 20, RATE)
    block_bytes = block_rows * 3 * 8
    parts = numpy_by_hand.full_batch_in_blocks(problem, penalty, 20, RATE, block_bytes=block_bytes)
    assert disagreement(parts, whole) < 1e-14  # sums in another order


def clocked(name, seconds, log):
    """A competitor of a process of its own: it says how long it took, and has no result."""

    def run():
        log.append(name)
        return seconds, None

    return Competitor(name, run, answer=None, times_itself=True)


def test_turns_alternate_and_ratios_are_of_medians():
    log: list[str] = []
    # A turn is 10 ms when quick: 10 calls of "fast", one of the others.
    competitors = [clocked("slow", 0.08, log), clocked("fast", 0.001, log)]
    case = Case("a case", competitors, {}, 0.0, baseline="slow")
    slow, fast = measure("a test", case, Settings("quick"))
    assert (slow.median, fast.median) == (0.08, pytest.approx(0.001))
    turns = [name for i, name in enumerate(log) if i == 0 or log[i - 1] != name]
    assert turns[:6] == ["slow", "fast", "slow", "fast", "slow", "fast"]
    assert log.count("fast") == 2 + 10 * fast.rounds  # to compare, and to see how long it takes
    assert 3 <= slow.rounds <= 7
    assert slow.rounds == fast.rounds
    assert slow.ratio is None, "there is no result to compare, so no ratio"


def row(name="fit", case="1,000,000 × 32", **changes):
    times = {"median": 0.0123, "low": 0.012, "high": 0.015, "rounds": 5, "ratio": 2.0}
    others = {"error": 1e-7, "tolerance": 1e-5, "reads": 1.28e8, "share": 0.5}
    filled = Row("full_batch", case, name, "run", ours=True, baseline="NumPy by hand")
    return filled._replace(**times, **others)._replace(**changes)


def test_ratio_is_to_the_baseline_or_to_the_row_above():
    def competitor(name):
        return Competitor(name, lambda: np.dot(np.ones(9), np.ones(9)), lambda _: {})

    competitors = [competitor("one"), competitor("two"), Missing("three", "pip install three")]
    one, two, three = measure("a test", Case("c", competitors, {}, 0.0, "one"), TINY)
    assert one.ratio == 1
    assert two.ratio == one.median / two.median
    assert (three.kind, three.note, three.median) == ("missing", "pip install three", None)
    one, two, _ = measure("a test", Case("c", competitors, {}, 0.0, ""), TINY)
    assert one.ratio is None
    assert two.ratio == two.median / one.median


def test_what_a_first_call_compiled_is_a_row():
    compiled = jax.jit(lambda x: jnp.sin(x) * 3 + 17)
    case = Case("c", [Competitor("new", lambda: compiled(1.0), lambda _: {})], {}, 0.0)
    first = measure("a test", case, TINY)
    again = measure("a test", case, TINY)
    assert [row.kind for row in first] == ["run", "compile"]
    assert first[1].median > 0
    assert [row.kind for row in again] == ["run"]


def test_seconds_compiling_counts_nested_tracing_once():
    inner = jax.jit(lambda x: x * 5 - 3)
    outer = jax.jit(lambda x: inner(x) + inner(x + 1))
    seconds, result = seconds_compiling(lambda: outer(2.0))
    assert float(result) == 19
    assert seconds_compiling(lambda: outer(2.0))[0] == 0 < seconds


def test_table():
    rows = [
        row("NumPy by hand", ours=False, ratio=1.0),
        row(kind="compile", median=0.5, low=None),
        row("PyTorch", kind="missing", note="PyTorch is not installed: pip install torch"),
        row("a name that is much longer than its column is wide", ratio=1234.0, share=1.25),
    ]
    lines = case_table(rows).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == "1,000,000 × 32"
    words = [" ".join(line.split()) for line in lines]
    assert words[2] == "NumPy by hand 12.3 ms 12.0 – 15.0 1.00 10.4 GB/s 50% 1e-07"
    assert words[3] == "compiling, once 500 ms"
    assert words[4] == "PyTorch PyTorch is not installed: pip install torch"
    assert "1,234" in lines[5]
    assert "125%" in lines[5]


def test_ratio_table_and_verdict():
    small, large = "100 × 1", "1,048,576 × 32"
    rows = [
        row("NumPy by hand", small, ours=False, ratio=1.0),
        row("fit", small, ratio=20.0),
        row("NumPy by hand", large, ours=False, ratio=1.0),
        row("fit", large, ratio=0.5),
        row("PyTorch", large, ours=False, ratio=0.25),
    ]
    lines = ratio_table(rows).splitlines()
    assert lines[0] == "times faster than NumPy by hand"
    assert lines[1].split() == ["100×1", "1.05M×32"]
    assert lines[3].split() == ["fit", "20.0", "0.500"]
    assert lines[4].split() == ["PyTorch", "–", "0.250"]
    assert ratio_table(rows[:2]) == ""
    said = " ".join(verdict(rows).split())
    assert said == (
        "Fastest: fit (100×1 × 20.0); NumPy by hand (1.05M×32 × 1.00). "
        "Ours that are slower than NumPy by hand: fit (1.05M×32 × 0.500)."
    )
    assert verdict([row(ratio=None)]) == ""
    others = [row("NumPy", "10 × 2", baseline="NumPy"), row("fit", "20 × 2", baseline="SciPy")]
    assert ratio_table(others).startswith("times faster than the row that says 1\n")
    assert "slower than the row that says 1: none" in " ".join(verdict(others).split())


def facts(settings=TINY):
    return machine.about(settings, ["--quick"])


def test_json_is_written_in_one_stroke(tmp_path: Path) -> None:
    path, about = tmp_path / "rows.json", facts()  # once: it holds the time
    write_json(path, about, [row()])
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["rows"] == [row()._asdict()]
    keys = {"date", "command", "commit", "cpu", "cores", "device", "threads", "dtype", "versions"}
    assert keys | {"read_bandwidth"} <= written["about"].keys()
    assert written["about"]["versions"]["jax"] == jax.__version__
    write_json(path, about, [row(kind="disagrees", error=float("inf"))])
    assert json.loads(path.read_text(encoding="utf-8"))["rows"][0]["error"] is None
    write_json(path, about, [row()])
    with pytest.raises(TypeError):
        write_json(path, {"not": object()}, [])
    assert json.loads(path.read_text(encoding="utf-8")) == written
    assert list(tmp_path.iterdir()) == [path]


def test_heading_fits_and_names_the_machine():
    text = heading(facts())
    assert max(map(len, text.splitlines())) <= 100
    assert jax.__version__ in text
    assert "float32" in text


def test_bandwidth_is_measured():
    assert machine.read_bandwidth(2, num_bytes=2**16, rounds=2) > 1e6
    assert machine.device_bandwidth(num_bytes=2**16, rounds=2) > 1e6


@pytest.fixture
def one_scenario(monkeypatch):
    """The command with one scenario, "small", of two competitors; the second may be made wrong."""

    def install(answer):
        competitors = [
            Competitor("NumPy by hand", lambda: {"value": np.ones(1)}),
            Competitor("the other", lambda: {"value": answer}),
        ]
        case = Case("a case", competitors, {"value": np.ones(1)}, 1e-6)
        scenarios = {"small": Scenario("small", "Very little", lambda settings: iter([case]))}
        monkeypatch.setattr(command, "SCENARIOS", scenarios)
        monkeypatch.setattr(command, "read_bandwidth", lambda threads: 1e10)

    return install


def test_command_prints_and_writes(one_scenario, tmp_path, capsys):
    one_scenario(np.ones(1))
    path = tmp_path / "rows.json"
    assert command.main(["--quick", "--only", "small", "--json", str(path)]) == 0
    assert "small: Very little" in capsys.readouterr().out
    assert [r["name"] for r in json.loads(path.read_text())["rows"]] == [
        "NumPy by hand",
        "the other",
    ]


def test_command_writes_each_case_before_it_prints(one_scenario, tmp_path, monkeypatch):
    one_scenario(np.ones(1))
    path = tmp_path / "rows.json"

    def broken(rows):
        raise BrokenPipeError  # as where the table is read by `head`

    monkeypatch.setattr(command, "case_table", broken)
    with pytest.raises(BrokenPipeError):
        command.main(["--quick", "--only", "small", "--json", str(path)])
    assert len(json.loads(path.read_text())["rows"]) == 2


def test_command_fails_where_a_competitor_disagrees(one_scenario, capsys):
    one_scenario(np.full(1, 1.001))
    assert command.main(["--quick"]) == 1
    assert "the other" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only", "nothing"], "invalid choice"),
        (["--json", "no/such/folder/rows.json"], "there is no folder"),
        (["--plot", "no/such/folder/ratios.png"], "there is no folder"),
        (["--json", "both.png", "--plot", "./both.png"], "must be different files, got both.png"),
    ],
)
def test_command_refuses(flags, message, capsys):
    with pytest.raises(SystemExit):
        command.main(flags)
    assert message in capsys.readouterr().err


def test_plot_without_matplotlib_is_refused_before_anything_is_timed(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        command.main(["--plot", "ratios.png"])
    assert 'pip install ".[plot]"' in capsys.readouterr().err


def test_plot_draws_what_has_a_ratio_to_a_baseline(tmp_path):
    path = tmp_path / "ratios.png"
    draw(path, facts(), [row(), row("NumPy by hand", ratio=1.0), row(kind="missing", ratio=None)])
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(path, facts(), [row(baseline="")])
