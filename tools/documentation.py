"""Generate the parts of `docs/` and `deployments/` that follow from the code: tables, the import diagram, JSON schema.

`python -m tools.documentation` replaces the text between the marks `<!-- settings NAME -->`, `<!-- packages -->`,
`<!-- local-api -->` or `<!-- local-operations -->` and `<!-- end -->` in every page, and writes
`deployments/schema.json`. With `--check` it changes nothing, names the files that differ, and exits with 1.
"""

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from model_build.encoder import recipe as encoder_recipe
from model_build.neuron_encoder import recipe as neuron_encoder_recipe
from model_build.saved_model import recipe as saved_model_recipe
from model_build.tabular import recipe as tabular_recipe
from stacks.settings import (
    budget,
    deployment,
    encoder,
    endpoint,
    guardrails,
    hosting,
    load_test,
    model_build,
    neo,
    neuron_encoder,
    pipeline,
    saved_model,
    scaling,
    security,
    supply_chain,
    tabular,
    tensorflow_serving,
)
from tools import local_api

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs"
SCHEMA = ROOT / "deployments/schema.json"
PACKAGES = (
    "commands", "stacks", "dashboards", "model_build", "containers", "load_tests", "sizing", "local_aws",
)  # fmt: skip
_MODULES = (
    deployment, endpoint, encoder, tabular, saved_model, neuron_encoder, guardrails, hosting, scaling, budget,
    model_build, load_test, security, supply_chain, neo, tensorflow_serving, pipeline, encoder_recipe,
    neuron_encoder_recipe, saved_model_recipe, tabular_recipe,
)  # fmt: skip
_WORDS: Mapping[Any, str] = {int: "integer", float: "number", str: "string", bool: "boolean"}
_MARK = re.compile(
    r"(^<!-- (settings \w+|packages|local-api|local-operations) -->\n).*?(^<!-- end -->)", re.DOTALL | re.MULTILINE
)


def main(arguments: list[str]) -> int:
    """Return the exit code."""
    wanted = {path: rendered(path.read_text()) for path in sorted(PAGES.glob("*.md"))} | {SCHEMA: schema()}
    differing = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if arguments == ["--check"]:
        for path in differing:
            print(f"{path.relative_to(ROOT)} is out of date: run scripts/docs", file=sys.stderr)
        return 1 if differing else 0
    for path in differing:
        path.write_text(wanted[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


def schema() -> str:
    """Return the JSON schema of deployment files, with which editors complete and validate them."""
    content = {"$schema": "https://json-schema.org/draft/2020-12/schema", **deployment.Deployment.model_json_schema()}
    return json.dumps(content, indent=1) + "\n"


def rendered(page: str) -> str:
    """Return a page with everything between its marks generated anew; raises KeyError for unknown settings."""

    def fresh(found: re.Match[str]) -> str:
        what = found[2]
        made = _MADE[what]() if what in _MADE else table(models()[what.removeprefix("settings ")])
        return f"{found[1]}{made}\n{found[3]}"

    return _MARK.sub(fresh, page)


def models() -> Mapping[str, type[BaseModel]]:
    """Return every model of settings by its name, without names that several models have."""
    found: dict[str, set[type[BaseModel]]] = {}
    for module in _MODULES:
        for name, kind in vars(module).items():
            if isinstance(kind, type) and issubclass(kind, BaseModel) and not name.startswith("_"):
                found.setdefault(name, set()).add(kind)
    return {name: kinds.pop() for name, kinds in found.items() if len(kinds) == 1}


def table(model: type[BaseModel]) -> str:
    """Return a model's fields as a Markdown table: name, type, default and description."""
    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        meaning = " ".join((field.description or "").split()).rstrip(".").replace("|", "\\|")
        lines.append(
            f"| `{name}` | {_escaped(typed(field.annotation, field.metadata))} | {_default(field)} | {meaning} |"
        )
    return "\n".join(lines)


def typed(annotation: Any, metadata: list[Any] | None = None) -> str:
    """Return a type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    bounds = "".join(f", {words}" for each in metadata or () if (words := _bound(each)))
    if origin is Annotated:
        return typed(arguments[0], list(arguments[1:]))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(typed(each) for each in arguments if each is not type(None))) + bounds
    if origin is dict:
        return f"map of name to {typed(arguments[1])}"
    if origin is tuple:
        return f"list of {typed(arguments[0])}{bounds}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"`{annotation.__name__}`"
    return _WORDS.get(annotation, str(annotation)) + bounds


def _bound(constraint: Any) -> str:
    for name, words in (("ge", "from {}"), ("gt", "above {}"), ("le", "up to {}"), ("lt", "below {}")):
        value = getattr(constraint, name, None)
        if value is not None:
            return words.format(value if isinstance(value, int) else f"{value:g}")
    return ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        name = type(value).__name__
        return f"[defaults of `{name}`]({_links()[name]})" if name in _links() else f"defaults of `{name}`"
    if isinstance(value, tuple | list | dict):
        return ", ".join(map(str, value)) or "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


@cache
def _links() -> Mapping[str, str]:
    """Return the link to each type's table from a page, by the name of the type."""
    links, anchor = {}, ""
    for path in sorted(PAGES.glob("*.md")):
        for line in path.read_text().splitlines():
            if line.startswith("#"):
                heading = line.lstrip("#").strip().lower()
                anchor = re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")
            elif mark := re.fullmatch(r"<!-- settings (\w+) -->", line):
                links[mark[1]] = f"{path.name}#{anchor}"
    return links


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def packages() -> str:
    """Return which package imports which, as a Mermaid diagram."""
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


_MADE: Mapping[str, Callable[[], str]] = {
    "packages": packages,
    "local-api": local_api.members,
    "local-operations": local_api.operations,
}
"""What generates the text after a mark."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
