"""The pages say what the code says, and every alarm, setting and link in them is there."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from stacks.constructs.endpoint_alarms import RUNBOOK, alarm_names, endpoint_alarm_name
from stacks.documentation import PAGES, ROOT, meanings, models, packages, rendered, table, typed
from stacks.hosting_settings import EndpointAlarms
from stacks.scaling_settings import Scaling

ALL_PAGES = sorted(PAGES.glob("*.md"))
WORKLOADS = ("encoder", "tabular", "saved_model", "neuron_encoder")


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


def test_every_workload_has_a_page_with_its_settings() -> None:
    for workload in WORKLOADS:
        text = (PAGES / f"{workload}.md").read_text()
        assert "## Limits" in text and "## How it was measured" in text
        assert f"<!-- settings {''.join(part.capitalize() for part in workload.split('_'))} -->" in text


def test_a_fields_meaning_is_what_the_docstring_says_of_it() -> None:
    assert meanings(EndpointAlarms) == {
        "p99_model_latency_ms": "P99 of ModelLatency over one minute",
        "server_errors": "5XX answers in one minute",
        "model_loading_wait_ms": "average ModelLoadingWaitTime over one minute, of multi-model endpoints",
    }


def test_fields_that_are_told_together_share_their_meaning() -> None:
    found = meanings(Scaling)
    assert found["target_invocations_per_instance"] == found["target_invocations_per_copy"]
    assert found["target_invocations_per_copy"].startswith("invocations per minute that one should get")


def test_a_table_has_bounds_choices_defaults_and_what_is_needed() -> None:
    class Example(BaseModel):
        """Words.

        one: of two | three.
        """

        one: int = 1
        name: str
        other: EndpointAlarms | None = None

    assert table(Example).splitlines()[2:] == [
        "| `one` | whole number | `1` | of two \\| three |",
        "| `name` | text | needed |  |",
        "| `other` | `EndpointAlarms` | none |  |",
    ]
    assert typed(dict[str, int]) == "names to whole number"


def test_the_picture_of_packages_is_made_from_imports() -> None:
    lines = packages().splitlines()
    assert "  app --> stacks" in lines
    assert not any(line.startswith(("  containers --> stacks", "  model_build --> stacks")) for line in lines)
    assert not any("-> tests" in line or "-> benchmarks" in line for line in lines)


def test_every_marked_table_names_settings_that_there_are() -> None:
    for path in ALL_PAGES:
        for name in re.findall(r"<!-- settings (\w+) -->", path.read_text()):
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
