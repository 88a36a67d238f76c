"""The shape of the package: functions annotated and short, modules that hold one idea."""

import ast
import pathlib
import statistics

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "linreg_jax"
SOURCES = {
    path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
}
LONGEST_FUNCTION = 40  # lines, apart from its docstring
LONGEST_MODULE = 300  # lines, unless its first one says why
MEDIAN_MODULE = 150
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> list[Function]:
    """Every function, methods and nested ones too."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, Function)]


def is_annotated(function: Function) -> bool:
    """Whether its result and all arguments but `self` and `cls` carry a type."""
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    if function.name == "__init__":  # which returns None
        return all(one.annotation is not None for one in arguments[1:])
    arguments += [extra for extra in (given.vararg, given.kwarg) if extra is not None]
    if arguments and arguments[0].arg in ("self", "cls"):
        arguments = arguments[1:]
    return function.returns is not None and all(one.annotation is not None for one in arguments)


def length(function: Function) -> int:
    """Lines of its body, apart from the docstring."""
    body = function.body[ast.get_docstring(function) is not None :]
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def says_why_it_is_long(source: str) -> bool:
    """Whether the first line of the docstring holds the word "long" and a reason."""
    docstring = ast.get_docstring(ast.parse(source)) or ""
    return ", long because " in docstring.split("\n\n")[0]


def as_lines(found: list[str]) -> str:
    return "\n".join([f"{len(found)} in all:", *found])


def test_every_function_is_annotated() -> None:
    assert sum(len(functions(source)) for source in SOURCES.values()) > 400
    found = [
        f"{name}:{function.lineno} {function.name}"
        for name, source in SOURCES.items()
        for function in functions(source)
        if not is_annotated(function)
    ]
    assert not found, as_lines(found)


def test_no_function_is_long() -> None:
    lengths = [
        (length(function), f"{name}:{function.lineno} {function.name}")
        for name, source in SOURCES.items()
        for function in functions(source)
    ]
    found = [f"{lines} {place}" for lines, place in sorted(lengths, reverse=True)]
    found = [line for line in found if int(line.split()[0]) > LONGEST_FUNCTION]
    assert not found, as_lines(found)


def test_modules_hold_one_idea() -> None:
    lines = {name: len(source.splitlines()) for name, source in SOURCES.items()}
    found = [
        f"{number} {name}"
        for name, number in lines.items()
        if number > LONGEST_MODULE and not says_why_it_is_long(SOURCES[name])
    ]
    assert not found, as_lines(found)
    median = statistics.median(lines.values())
    assert median <= MEDIAN_MODULE, f"half of the modules have {median} lines or more"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a: int) -> int: ...", True),
        ("def f(a: int): ...", False),
        ("def f(a) -> int: ...", False),
        ("def f(*, a) -> int: ...", False),
        ("def f(*a, **b: int) -> int: ...", False),
        ("async def f(a) -> int: ...", False),
        ("class A:\n    def f(self, a: int) -> int: ...", True),
        ("class A:\n    def f(self): ...", False),
    ],
)
def test_what_is_not_annotated_is_found(source: str, expected: bool) -> None:
    assert [is_annotated(function) for function in functions(source)] == [expected]


def test_lines_are_counted_without_the_docstring() -> None:
    (function,) = functions('def f():\n    """One.\n\n    Two.\n    """\n    a = 1\n    return a\n')
    assert length(function) == 2


@pytest.mark.parametrize(
    ("docstring", "expected"), [("The table, long because it is one.", True), ("A table.", False)]
)
def test_a_reason_is_read(docstring: str, expected: bool) -> None:
    assert says_why_it_is_long(f'"""{docstring}"""') is expected
