"""The pages say what the code says, and every alarm, setting and link in them is there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from stacks.constructs.endpoint_alarms import RUNBOOK, alarm_names, endpoint_alarm_name
from stacks.settings.base import Settings
from stacks.settings.hosting import EndpointAlarms
from stacks.settings.kinds import KINDS
from tools.documentation import PAGES, ROOT, SCHEMA, models, packages, rendered, schema, table, typed

ALL_PAGES = sorted(PAGES.glob("*.md"))


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", ALL_PAGES, ids=lambda path: path.stem)
def test_a_page_is_what_the_code_says(path: Path) -> None:
    assert path.read_text() == rendered(path.read_text()), "run scripts/docs"


@pytest.mark.parametrize("path", [*ALL_PAGES, ROOT / "README.md"], ids=lambda path: path.stem)
def test_every_link_within_the_project_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", path.read_text()):
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


def test_every_alarm_has_its_chapter_in_the_runbook() -> None:
    kinds = {name.removeprefix("e-v-") for name in alarm_names("e", ["v"], multi_model=True)}
    assert kinds == {"latency", "server-errors", "loading-wait"}
    assert kinds | {endpoint_alarm_name("e").removeprefix("e-")} <= anchors(ROOT / RUNBOOK)


def test_every_kind_has_a_page_with_its_settings() -> None:
    for workload in KINDS:
        text = (PAGES / f"{workload}.md").read_text()
        assert "## Limits" in text and "## How it was measured" in text
        assert f"<!-- settings {''.join(part.capitalize() for part in workload.split('_'))} -->" in text


@pytest.mark.parametrize(("name", "model"), models().items(), ids=models())
def test_every_setting_has_a_description_of_its_own(name: str, model: type[BaseModel]) -> None:
    del name
    assert [field for field, info in model.model_fields.items() if not info.description] == []


@pytest.mark.parametrize("path", sorted((ROOT / "deployments").glob("*.yaml")), ids=lambda path: path.stem)
def test_editors_can_complete_and_validate_a_shipped_deployment(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    validator = Draft202012Validator(json.loads(SCHEMA.read_text()))
    assert [error.message for error in validator.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize(
    "content",
    [
        {"environment": "dev", "workloads": {"qa": {"kind": "encodr"}}},
        {"environment": "dev", "wrokloads": {}},
        {"environment": "dev", "workloads": {"qa": {"kind": "tabular", "endpoints": {"e": {"instance_count": 0}}}}},
    ],
)
def test_the_schema_marks_what_synth_would_refuse(content: dict[str, Any]) -> None:
    assert not Draft202012Validator(json.loads(SCHEMA.read_text())).is_valid(content)


def test_the_schema_is_what_the_code_says() -> None:
    assert SCHEMA.read_text() == schema(), "run scripts/docs"


def test_a_table_has_bounds_choices_defaults_and_required_settings() -> None:
    class Example(Settings):
        """Words."""

        one: int = 1
        """Of two | three."""
        name: str
        other: EndpointAlarms | None = None
        alarms: EndpointAlarms = EndpointAlarms()
        seed: int = Field(default=0, le=2**31 - 1)

    assert table(Example).splitlines()[2:] == [
        "| `one` | integer | `1` | Of two \\| three |",
        "| `name` | string | required |  |",
        "| `other` | `EndpointAlarms` | none |  |",
        "| `alarms` | `EndpointAlarms` | [defaults of `EndpointAlarms`](settings.md#endpointalarms) |  |",
        "| `seed` | integer, up to 2147483647 | `0` |  |",
    ]
    assert typed(dict[str, int]) == "map of name to integer"


def test_the_picture_of_packages_is_made_from_imports() -> None:
    lines = packages().splitlines()
    assert "  app --> stacks" in lines
    assert not any(line.startswith(("  containers --> stacks", "  model_build --> stacks")) for line in lines)
    assert not any("-> tests" in line or "-> benchmarks" in line for line in lines)


def test_every_marked_table_names_settings_that_there_are() -> None:
    for path in ALL_PAGES:
        for name in re.findall(r"^<!-- settings (\w+) -->$", path.read_text(), re.MULTILINE):
            assert name in models(), f"{path.name} names {name}"


def test_every_test_that_a_page_names_is_there() -> None:
    written = "\n".join(path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py")))
    named = {name for path in ALL_PAGES for name in re.findall(r"`(test_[a-z0-9]+_\w+)`", path.read_text())}
    assert [name for name in sorted(named) if f"def {name}(" not in written] == []


def test_every_file_that_the_security_page_names_is_there() -> None:
    text = (PAGES / "security.md").read_text()
    for row in re.findall(r"^\| .+ \| (.+) \| .+ \|$", text, re.MULTILINE)[2:]:
        for number, place in enumerate(re.findall(r"`([^`]+)`", row)):
            found = [ROOT / place, ROOT / "stacks/constructs" / place]
            assert any(path.exists() for path in (found if number else found[:1])), place
