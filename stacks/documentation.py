"""Writes what `docs/` says of the code from the code itself: tables of settings, and which package uses which.

`python -m stacks.documentation` replaces what stands between the marks `<!-- settings NAME -->` or `<!-- packages -->`
and `<!-- end -->` in every page; with `--check` it only says which pages differ, and exits with 1.
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from model_build.encoder import recipe as encoder
from model_build.neuron_encoder import recipe as neuron_encoder
from model_build.saved_model import recipe as saved_model
from model_build.tabular import recipe as tabular
from stacks import (
    guardrails,
    hosting_settings,
    neo,
    neuron_settings,
    pipeline_settings,
    scaling_settings,
    settings,
    tensorflow_serving,
)

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs"
PACKAGES = ("stacks", "dashboards", "model_build", "containers", "load_tests", "sizing", "local_aws")
_MODULES = (
    settings, guardrails, hosting_settings, scaling_settings, neuron_settings, neo, tensorflow_serving, encoder,
    neuron_encoder, tabular, saved_model, pipeline_settings,
)  # fmt: skip
_WORDS: Mapping[Any, str] = {int: "whole number", float: "number", str: "text", bool: "true or false"}
_MARK = re.compile(r"(<!-- (settings \w+|packages) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    differing = [path for path in sorted(PAGES.glob("*.md")) if path.read_text() != rendered(path.read_text())]
    if arguments == ["--check"]:
        for path in differing:
            print(f"docs/{path.name} is not what the code says: run scripts/docs", file=sys.stderr)
        return 1 if differing else 0
    for path in differing:
        path.write_text(rendered(path.read_text()))
        print(f"docs/{path.name} is written")
    return 0


def rendered(page: str) -> str:
    """A page with everything between its marks made anew; raises KeyError for settings that there are not, or twice."""

    def fresh(found: re.Match[str]) -> str:
        what = found[2]
        made = packages() if what == "packages" else table(models()[what.removeprefix("settings ")])
        return f"{found[1]}{made}\n{found[3]}"

    return _MARK.sub(fresh, page)


def models() -> Mapping[str, type[BaseModel]]:
    """Every model of settings by its name, without names that several models have."""
    found: dict[str, set[type[BaseModel]]] = {}
    for module in _MODULES:
        for name, kind in vars(module).items():
            if isinstance(kind, type) and issubclass(kind, BaseModel) and not name.startswith("_"):
                found.setdefault(name, set()).add(kind)
    return {name: kinds.pop() for name, kinds in found.items() if len(kinds) == 1}


def table(model: type[BaseModel]) -> str:
    """A model's fields as Markdown: name, type, default and the words of the docstring."""
    told = meanings(model)
    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        meaning = told.get(name, "").replace("|", "\\|")
        lines.append(
            f"| `{name}` | {_escaped(typed(field.annotation, field.metadata))} | {_default(field)} | {meaning} |"
        )
    return "\n".join(lines)


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """What the docstrings of a model and of its bases say of each field: `name, other: words.` up to the next name."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        text = kind.__doc__ if isinstance(kind, type) and issubclass(kind, BaseModel) else None
        names = "|".join(sorted(model.model_fields, key=len, reverse=True))
        if not text or not names:
            continue
        entry = re.compile(rf"(?:(?<=\s)|^)((?:{names})(?:,\s+(?:{names}))*):\s+")
        parts = entry.split(text)
        for named, words in zip(parts[1::2], parts[2::2], strict=True):
            for name in re.split(r",\s+", named):
                found[name] = " ".join(words.split()).rstrip(".")
    return found


def typed(annotation: Any, metadata: list[Any] | None = None) -> str:
    """A type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    bounds = "".join(f", {words}" for each in metadata or () if (words := _bound(each)))
    if origin is Annotated:
        return typed(arguments[0], list(arguments[1:]))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(typed(each) for each in arguments if each is not type(None))) + bounds
    if origin is dict:
        return f"names to {typed(arguments[1])}"
    if origin is tuple:
        return f"list of {typed(arguments[0])}{bounds}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"`{annotation.__name__}`"
    return _WORDS.get(annotation, str(annotation)) + bounds


def _bound(constraint: Any) -> str:
    for name, words in (("ge", "from {}"), ("gt", "above {}"), ("le", "up to {}"), ("lt", "below {}")):
        value = getattr(constraint, name, None)
        if value is not None:
            return words.format(f"{value:g}")
    return ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return "its own"
    if isinstance(value, tuple | list | dict):
        return ", ".join(map(str, value)) or "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def packages() -> str:
    """Which package imports which, as a Mermaid picture."""
    lines = ["```mermaid", "flowchart TD", "  app[app.py]"]
    lines += [f"  app --> {package}" for package in sorted(set(_imported((ROOT / "app.py").read_text())))]
    for package in PACKAGES:
        used = {other for path in sorted((ROOT / package).rglob("*.py")) for other in _imported(path.read_text())}
        lines += [f"  {package} --> {other}" for other in sorted(used - {package})]
    return "\n".join([*lines, "```"])


def _imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            package = (name or "").partition(".")[0]
            if package in PACKAGES:
                yield package


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
