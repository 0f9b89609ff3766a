"""Every command, option, script and module that a message or a page names exists."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from commands.main import app
from tests.unit.test_layout import PACKAGES, ROOT

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/README.md", "tests/README.md")
    for path in ROOT.glob(pattern)
)
_CODE = re.compile(r"```[^\n]*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
_INFERENCE = re.compile(r"(?:^|[\s/\"'(])inference ((?:--?)?[a-z][^\n`;|&)\"']*)")
_SCRIPT = re.compile(r"(?:^|[\s\"'(`])scripts/([a-z][a-z_.-]*)(?=[\s\"'`),.:;]|$)")
_MODULE = re.compile(r"python3? (?:-W \w+ )?-m ([a-z_][\w.]*)")
_EXAMPLES = ("model_build.lookup", "containers.lookup", "venv", "benchmarks.KIND", "http.server")
"""Modules of the worked example, which is no part of the repository, and of Python."""


def root() -> TyperGroup:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def problem(words: list[str]) -> str | None:
    """What is wrong with the words after `inference`; None for a command that exists with its options."""
    command: TyperCommand | TyperGroup = root()
    options: list[str] = []
    for word in words:
        if word.startswith("--"):
            options.append(word.partition("=")[0])
        elif isinstance(command, TyperGroup) and not options:
            if word not in command.commands:
                return f"{command.name or 'inference'} has no command {word!r}"
            found = command.commands[word]
            assert isinstance(found, TyperCommand | TyperGroup)
            command = found
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
    return next((f"{command.name} has no option {each}" for each in options if each not in known), None)


def commands_in(text: str) -> Iterator[list[str]]:
    for match in _INFERENCE.finditer(text):
        words = [word.strip(".,:`)") for word in match[1].split()]
        # Placeholders and values may follow; a capital or a brace is one.
        yield [word for word in words if re.fullmatch(r"--[a-z][a-z-]*(=.*)?|[a-z][a-z-]*", word)]


def code_of(page: Path) -> Iterator[str]:
    for match in _CODE.finditer(page.read_text()):
        yield match[1] or match[2]


def literals_of(path: Path) -> Iterator[str]:
    """The text of every string, with a word in place of what is filled in later."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def in_messages() -> Iterator[tuple[str, str]]:
    for package in (*PACKAGES, "."):
        paths = ROOT.glob("*.py") if package == "." else (ROOT / package).rglob("*.py")
        for path in paths:
            for text in literals_of(path):
                yield str(path.relative_to(ROOT)), text


TEXTS = [(str(page.relative_to(ROOT)), code) for page in PAGES for code in code_of(page)] + list(in_messages())


def named_in_backticks(where: str, text: str) -> str:
    """Return the text that may name commands: all code of a page, but only the backticked parts of a message.

    Messages also use the word `inference` in prose.
    """
    return text if where.endswith(".md") else "\n".join(re.findall(r"`([^`]+)`", text))


def test_every_command_that_is_named_exists_with_its_options() -> None:
    named = [(where, words) for where, text in TEXTS for words in commands_in(named_in_backticks(where, text))]
    assert len(named) > 60
    wrong = {f"{where}: inference {' '.join(words)}": found for where, words in named if (found := problem(words))}
    assert wrong == {}


def test_every_script_that_is_named_is_there() -> None:
    named = [(where, name) for where, text in TEXTS for name in _SCRIPT.findall(text)]
    assert len(named) > 20
    assert [(where, name) for where, name in named if not (ROOT / "scripts" / name.rstrip(".")).exists()] == []


def test_every_module_that_is_run_by_name_is_there() -> None:
    named = {(where, name) for where, text in TEXTS for name in _MODULE.findall(text) if name not in _EXAMPLES}
    assert len(named) > 5
    own = [(where, name) for where, name in named if name.partition(".")[0] in PACKAGES]
    assert [(where, name) for where, name in own if importlib.util.find_spec(name) is None] == []


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["local", "up"], None),
        (["local", "up", "--engine"], None),
        (["local", "upp"], "local has no command 'upp'"),
        (["load-test", "qa", "--gates"], "load-test has no option --gates"),
    ],
)
def test_a_command_that_does_not_exist_is_found(words: list[str], found: str | None) -> None:
    assert problem(words) == found
