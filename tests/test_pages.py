"""The pages' code runs and prints what they say; the two commands are where CI looks for them."""

import doctest
import math
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import command as benchmarks
from tests import command_line

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *(ROOT / name for name in ("linreg_jax/README.md", "linreg_jax/RECIPES.md"))]
PAGES.append(ROOT / "benchmarks/README.md")
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

DIGITS = 1e-3  # relative; what other versions of JAX and other processors round differently
LIMIT = 120  # seconds for two processes that take about 5 where nothing else runs


def blocks(page: Path, language: str) -> list[str]:
    """The code of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.M)


def transcripts(page: Path) -> list[tuple[str, str]]:
    """`(command, output)` of what a page shows of a terminal."""
    text = "".join(blocks(page, "console"))
    return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)


# The recipes compile for minutes: `-m exhaustive` runs them.
EXAMPLES = [
    pytest.param(name, marks=pytest.mark.exhaustive if name.endswith("RECIPES.md") else ())
    for name in NAMES
    if blocks(ROOT / name, "pycon")
]
TRANSCRIPTS = [shown for page in PAGES for shown in transcripts(page)]


def is_same(said: str, printed: str) -> bool:
    """Whether two words are equal, or numbers that differ by rounding; "..." stands for any."""
    if "..." in (said, printed) or said == printed:
        return True
    try:
        one, other = (float(word.strip("(),:").replace(",", "")) for word in (said, printed))
    except ValueError:
        return False
    return math.isclose(one, other, rel_tol=DIGITS, abs_tol=0)


def assert_printed(said: str, printed: str) -> None:
    """The output line by line; a line "..." stands for any that come before the next one."""
    lines = iter(printed.splitlines())
    may_skip = False
    for line in said.splitlines():
        if line == "...":
            may_skip = True
            continue
        for found in lines:
            words = line.split(), found.split()
            if len(words[0]) == len(words[1]) and all(map(is_same, *words)):
                break
            assert may_skip, f"said:    {line}\nprinted: {found}"
        else:
            pytest.fail(f"not printed: {line}\n{printed}")
        may_skip = False
    assert may_skip or not list(lines), f"prints more than is said:\n{printed}"


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a page one after the other, in a folder where they may write."""
    monkeypatch.chdir(tmp_path)
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    examples = "\n".join(blocks(ROOT / name, "pycon"))
    test = doctest.DocTestParser().get_doctest(examples, {}, name, name, 0)
    assert len(test.examples) > 10
    assert doctest.DocTestRunner(optionflags=options).run(test).failed == 0


@pytest.mark.parametrize("shown", TRANSCRIPTS, ids=lambda shown: " ".join(shown[0].split()[1:3]))
def test_commands_print_what_is_shown(shown, run, tmp_path, monkeypatch) -> None:
    """`linreg-jax ...` on the diabetes data, its output but for seconds and last digits."""
    monkeypatch.chdir(tmp_path)
    command_line.write_diabetes(tmp_path / "diabetes.csv")
    program, *arguments = shlex.split(shown[0])
    assert program == "linreg-jax"
    _, out, err = run(*arguments)
    assert_printed(shown[1], out + err)


@pytest.mark.slow
def test_the_script_of_two_processes_runs(tmp_path: Path) -> None:
    """`python train.py 0` and `python train.py 1`; the first prints the coefficients."""
    (script,) = blocks(ROOT / "linreg_jax/RECIPES.md", "python")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "train.py").write_text(script.replace("9911", str(port)), "utf-8")
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, "train.py", str(number)],
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in (0, 1)
    ]
    try:
        outputs = [process.communicate(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    (said,) = re.findall(r"# prints (.*)", script)
    assert outputs[0][0].splitlines()[-1] == said


def test_every_block_of_code_is_run_by_a_test_or_by_ci() -> None:
    for page in PAGES:
        languages = re.findall(r"^```(.*)$", page.read_text("utf-8"), re.MULTILINE)[::2]
        assert set(languages) <= {"pycon", "console", "python", "sh"}, page
        commands = "".join(blocks(page, "sh"))
        assert all(line.startswith("python3 -m venv ") for line in commands.splitlines()), page
    assert TRANSCRIPTS


def test_the_benchmarks_know_the_flags_that_are_named() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES)
    named = re.findall(r"-m benchmarks([^`\n]*)`", text)
    assert len(named) > 5
    for flags in named:
        benchmarks._parse(shlex.split(flags.replace("FILE", "file.json")))


def test_the_first_page_is_short_and_has_two_commands() -> None:
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= 200
    commands = re.findall(r"^python3 -m venv .*$", text, re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("-m linreg_jax")
    assert commands[1].endswith("-m pytest")


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\((?!http)([^)#]+)", page.read_text("utf-8"))
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []
    anchors = re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", page.read_text("utf-8"))
    for target, anchor in anchors:
        text = (page.parent / target if target else page).read_text("utf-8")
        titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert anchor in [re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles]


@pytest.mark.parametrize(
    ("said", "printed", "is_right"),
    [
        ("loss 1.0001\n", "loss 1.0002\n", True),
        ("loss 1.01\n", "loss 1.02\n", False),
        ("a\n", "a\nb\n", False),
        ("a\n...\n", "a\nb\n", True),
        ("...\nb\n", "a\nb\n", True),
        ("b\n", "a\nb\n", False),
        ("took ... s\n", "took 1.23 s\n", True),
        ("a\nb\n", "a\n", False),
    ],
)
def test_what_is_printed_is_compared(said: str, printed: str, is_right: bool) -> None:
    if is_right:
        assert_printed(said, printed)
        return
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        assert_printed(said, printed)
