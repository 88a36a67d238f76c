"""The map of the package names every module once, and no import leads against it or in a circle."""

import ast
import graphlib
import pathlib
import re
from collections.abc import Callable, Iterator

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "linreg_jax"
MAP = PACKAGE / "README.md"

# (importer, imported): why a module may import from a section further down the map.
UPWARD: dict[tuple[str, str], str] = {}
# The same between packages, where a circle would close.
AROUND: dict[tuple[str, str], str] = {}


def modules() -> dict[str, pathlib.Path]:
    """Every module by its path without suffix, but for packages that hold a docstring alone."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).with_suffix("").as_posix()
        if not (name.endswith("/__init__") and name.startswith("_")):
            found[name] = path
    return found


MODULES = modules()


def sections() -> list[list[str]]:
    """The modules in each section of the map, from the bottom up."""
    the_map = MAP.read_text("utf-8").split("# A map of the package\n")[1]
    parts = re.split(r"^## .*$", the_map, flags=re.MULTILINE)[1:]
    return [re.findall(r"^- \[[^]]*\]\(([^)]*)\.py\): ", part, re.MULTILINE) for part in parts]


def nodes_run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: no bodies of functions, nothing for type checkers."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        children: list[ast.AST] = list(node.orelse)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        children = []
    else:
        yield node
        children = list(ast.iter_child_nodes(node))
    for child in children:
        yield from nodes_run_on_import(child)


def imports_of(
    path: pathlib.Path, walk: Callable[[ast.AST], Iterator[ast.AST]] = ast.walk
) -> set[str]:
    """The modules of the package that a module imports."""
    found = set()
    for node in walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {module for name in names if (module := module_of(name)) is not None}
    return found


def module_of(name: str) -> str | None:
    """The module that a dotted name lies in, None where it is another package's."""
    parts = name.split(".")
    if parts[0] != "linreg_jax":
        return None
    for end in range(len(parts), 1, -1):
        place = "/".join(parts[1:end])
        for module in (place, f"{place}/__init__"):
            if module in MODULES:
                return module
    return "__init__"


def package_of(module: str) -> str:
    return module.split("/")[0]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The names along a circle in a graph, or none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def edges_between_packages() -> set[tuple[str, str]]:
    pairs = {
        (package_of(name), package_of(other))
        for name, path in MODULES.items()
        for other in imports_of(path, nodes_run_on_import)
    }
    return {(one, other) for one, other in pairs if one != other}


def graph_of(edges: set[tuple[str, str]]) -> dict[str, set[str]]:
    return {one: {b for a, b in edges if a == one} for one, _ in edges}


def test_the_map_names_each_module_once() -> None:
    named = [name for section in sections() for name in section]
    assert len(sections()) == 5  # four layers, and what they stand on
    assert sorted(named) == sorted(MODULES)


def test_private_packages_hold_a_docstring_alone() -> None:
    for path in PACKAGE.rglob("_*/__init__.py"):
        (docstring,) = ast.parse(path.read_text("utf-8")).body
        assert isinstance(docstring, ast.Expr), path


def test_modules_do_not_import_in_a_circle() -> None:
    graph = {name: imports_of(path, nodes_run_on_import) for name, path in MODULES.items()}
    assert sum(map(len, graph.values())) > 200
    assert circle(graph) == []


def test_packages_do_not_import_in_a_circle() -> None:
    edges = edges_between_packages()
    assert circle(graph_of(edges - set(AROUND))) == []
    for exception in AROUND:
        others = edges - (set(AROUND) - {exception})
        assert circle(graph_of(others)) != [], f"{exception} closes no circle any more"


def test_imports_follow_the_map() -> None:
    level = {name: number for number, section in enumerate(sections()) for name in section}
    against = {
        (name, other)
        for name, path in MODULES.items()
        for other in imports_of(path)
        if name != "__init__" and level[other] > level[name]
    }
    assert against == set(UPWARD)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from linreg_jax._algebra import path, linalg", {"_algebra/path", "_algebra/linalg"}),
        ("from linreg_jax.losses import mse", {"losses"}),
        ("import linreg_jax.data", {"data/__init__"}),
        ("from linreg_jax import fit, gradients", {"__init__", "gradients"}),
        ("import jax.numpy, optax", set()),
        ("def f():\n    from linreg_jax import exact", set()),
        ("if TYPE_CHECKING:\n    from linreg_jax import exact", set()),
        ("try:\n    from linreg_jax import exact\nexcept ImportError:\n    pass", {"exact"}),
    ],
)
def test_imports_are_found(source: str, expected: set[str], tmp_path: pathlib.Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(source)
    assert imports_of(path, nodes_run_on_import) == expected


def test_a_circle_is_found() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
