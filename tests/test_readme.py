"""The README's examples run, and its two commands are where the release check looks for them."""

import doctest
import pathlib
import re

README = pathlib.Path(__file__).parents[1] / "README.md"


def test_examples_run():
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    examples = "\n".join(re.findall(r"```pycon\n(.*?)```", README.read_text("utf-8"), re.DOTALL))
    test = doctest.DocTestParser().get_doctest(examples, {}, "README.md", str(README), 0)
    assert len(test.examples) > 10
    assert doctest.DocTestRunner(optionflags=options).run(test).failed == 0


def test_there_are_two_commands():
    commands = re.findall(r"^python3 -m venv .*$", README.read_text("utf-8"), re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("-m linreg_jax")
    assert commands[1].endswith("-m pytest")


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text("utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
