"""Every setting that a message or a page tells its reader to change is one that a deployment or pipeline file has."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from stacks.settings.deployment import Deployment
from stacks.settings.pipeline import Pipeline

ROOT = Path(__file__).parents[2]
ADVICE = re.compile(
    r"(?<!configure )\b(?:[Ss]et|[Rr]emove|[Rr]aise|[Ll]ower) `?([a-z]\w*(?:_\w+|\.\w+)+)`?(?=[\s:,;.)]|$)"
)
SPAN = re.compile(r"`([a-z]\w*(?:\.[a-z]\w*)*)(?:: [^`]*)?`")
PLACEHOLDER = "placeholder"
"""In place of what a message fills in, in its text or in a path."""


@cache
def models() -> frozenset[type[BaseModel]]:
    found: set[type[BaseModel]] = set()
    for root in (Deployment, Pipeline):
        found |= models_of(root)
        waiting = list(found)
        while waiting:
            for field in waiting.pop().model_fields.values():
                new = models_of(field.annotation) - found
                found |= new
                waiting += new
    return frozenset(found)


def models_of(annotation: Any) -> set[type[BaseModel]]:
    """The models in an annotation, in unions and containers, too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for argument in get_args(annotation) for model in models_of(argument)}


def is_setting(path: str) -> bool:
    """Whether a path of settings begins at any model, and each part is a setting of what the one before holds.

    The names of workloads, endpoints and the like are no settings, and are left out of paths or filled in.
    """
    reached = set(models())
    for part in (each for each in path.split(".") if each != PLACEHOLDER):
        fields = [model.model_fields[part] for model in reached if part in model.model_fields]
        if not fields:
            return False
        reached = {model for field in fields for model in models_of(field.annotation)}
    return True


def messages(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else PLACEHOLDER for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def advised() -> list[tuple[str, str]]:
    files = [path for folder in ("stacks", "model_build", "sizing") for path in sorted((ROOT / folder).rglob("*.py"))]
    return sorted(
        {
            (str(path.relative_to(ROOT)), found)
            for path in files
            for text in messages(path)
            for found in ADVICE.findall(text)
        }
    )


def named_on_pages() -> list[tuple[str, str]]:
    """Paths on pages that begin with a setting of a deployment file."""
    return sorted(
        {
            (page.name, found)
            for page in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
            for found in SPAN.findall(page.read_text())
            if "." in found and found.partition(".")[0] in Deployment.model_fields and not found.endswith(".py")
        }
    )


def test_a_path_is_a_setting_if_every_part_is_one_of_the_part_before() -> None:
    assert is_setting("guardrails.timeout_seconds") and is_setting("model_build.compute")
    assert not is_setting("guardrails.compute") and not is_setting("timeout_second")


@pytest.mark.parametrize(("where", "path"), advised())
def test_a_message_advises_settings_that_there_are(where: str, path: str) -> None:
    assert is_setting(path), f"{where} advises {path}"


@pytest.mark.parametrize(("where", "path"), named_on_pages())
def test_a_page_names_settings_that_there_are(where: str, path: str) -> None:
    assert is_setting(path), f"{where} names {path}"
