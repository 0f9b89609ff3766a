"""The report decides by cost among what is good enough, says why, and tells a regression from noise."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from load_tests.report.compare import compare, regressed
from load_tests.report.decide import decide
from load_tests.report.model import Build, Candidate, Group, Load, Quality, Report, ReportError, Scaling, SizedRow
from load_tests.report.render import html, markdown

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def load(rate: float = 100.0, p50: float = 10.0, p99: float = 20.0, **changes: Any) -> Load:
    values: dict[str, Any] = {
        "users": 8,
        "rate": rate,
        "p50_ms": p50,
        "p90_ms": (p50 + p99) / 2,
        "p99_ms": p99,
        "p99_low_ms": 0.95 * p99,
        "p99_high_ms": 1.05 * p99,
        "error_rate": 0.0,
        "samples": 5000,
        "saturated": (),
        "location": "local",
        "machine": "some processor, 2 cores",
        "started_at": NOON,
        "quantiles_ms": ((0.5, p50), (0.99, p99)),
    }
    return Load(**{**values, **changes})


def quality(kept: float | None = 1.0, *, passed: bool = True) -> Quality:
    value = 90.0 * (kept or 1)
    return Quality(metric="F1", value=value, reference=90.0, kept=kept, samples=160, passed=passed)


def candidate(name: str, rate: float = 100.0, usd: float | None = 0.4, **changes: Any) -> Candidate:
    values: dict[str, Any] = {
        "name": f"e/{name}",
        "label": name,
        "endpoint": "e",
        "variant": name,
        "what": f"engine {name}",
        "instance_type": "ml.c6i.2xlarge",
        "usd_per_hour": usd,
        "quality": quality(),
        "alone": load(),
        "busy": load(rate),
    }
    return Candidate(**{**values, **changes})


def test_the_cheapest_for_a_million_requests_is_chosen_and_the_others_told_why_not() -> None:
    found = decide([candidate("FP32", 100), candidate("INT8", 270, quality=quality(0.998))], 1000)
    assert found.chosen == "e/INT8"
    assert found.headline == (
        "engine INT8 on ml.c6i.2xlarge: 270 requests/s, $0.41 per million, F1 kept 99.8%; "
        "the next, FP32, costs 2.7 times as much"
    )
    assert [(judged.name, judged.chosen, judged.reason) for judged in found.judged] == [
        ("e/INT8", True, "the lowest cost per million requests; F1 kept 99.8%"),
        ("e/FP32", False, "costs 2.7 times as much: 2.7 times slower"),
    ]


def test_a_cheaper_instance_that_thrashes_loses_with_its_price_named() -> None:
    found = decide([candidate("small", 40, 0.2), candidate("large", 260, 0.4)], 1000)
    assert found.chosen == "e/large"
    assert found.judged[1].reason == "costs 3.2 times as much: 6.5 times slower, at 50% of the hourly price"


def test_the_dearer_and_faster_one_may_lose() -> None:
    found = decide([candidate("cpu", 100, 0.2), candidate("gpu", 150, 0.9)], 1000)
    assert found.judged[1].reason == "costs 3.0 times as much: though 1.5 times faster, at 450% of the hourly price"


def test_what_is_within_noise_is_called_so() -> None:
    found = decide([candidate("a", 100), candidate("b", 103)], 1000)
    assert found.judged[1].reason == "costs the same, within the noise of one run"
    assert "the next" not in found.headline


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quality": quality(0.98)}, "its F1 is 88.2, 98.0% of the reference's: below the limit of 99%"),
        ({"quality": quality(None, passed=False)}, "its F1 is 90: below the limit of 99%"),
        ({"busy": load(900, error_rate=0.02)}, "2.00% of its requests failed with 8 users"),
        ({"alone": load(p99=1200)}, "its P99 is 1200 ms with a single user: over 1000 ms"),
        ({"busy": None}, "it was not measured"),
        ({"busy": load(0.0)}, "it answered nothing"),
    ],
)
def test_what_is_not_good_enough_loses_however_cheap_it_is(changes: dict[str, Any], reason: str) -> None:
    found = decide([candidate("good", 10), candidate("bad", 900, **changes)], 1000)
    assert found.chosen == "e/good"
    assert found.judged[-1].reason == reason


def test_without_any_good_one_none_is_chosen() -> None:
    found = decide([candidate("bad", quality=quality(0.5))], 1000)
    assert (found.chosen, found.headline) == (None, "no candidate qualifies")


def test_without_a_price_the_fastest_is_chosen_and_no_money_is_named() -> None:
    found = decide([candidate("a", 50, None), candidate("b", 100, None)], 1000)
    assert found.chosen == "e/b"
    assert "$" not in found.headline
    assert found.judged[1].reason == "reaches 50% of the chosen candidate's rate"


def report(*candidates: Candidate, **changes: Any) -> Report:
    decision = decide(candidates, 1000)
    group = Group(
        workload="encoder",
        title="encoder, demo <model>",
        question="Which?",
        candidates=candidates,
        chosen=decision.chosen,
        headline=decision.headline,
        judged=decision.judged,
        caveats=("Measured here.",),
        rate=100,
        p99_ms=1000,
        sized=tuple(
            SizedRow(
                name=each.name,
                instances=2,
                p99_ms=30.0,
                target_invocations_per_instance=3000.0,
                utilization=0.4,
                usd_per_hour=0.8,
                reason="the minimum",
            )
            for each in candidates
        ),
        scaling=Scaling(
            traffic="a day",
            p99_ms=40.0,
            error_share=0.0,
            instance_hours=30.0,
            usd_per_day=12.0,
            usd_fixed=19.0,
            picture="<svg><title>day</title></svg>",
        ),
    )
    build = Build(workload="encoder", name="demo", source="words", engine="openvino", scores="F1 90 (n 160)")
    values: dict[str, Any] = {
        "deployment": "dev",
        "made_at": NOON,
        "location": "local",
        "machine": "some processor, 2 cores",
        "commit": "0123456789abcdef",
        "builds": (build,),
        "groups": (group,),
    }
    return Report(**{**values, **changes})


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "path", "use", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "use", "rect"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def test_the_page_is_whole_says_where_its_figures_are_from_and_needs_nothing_else() -> None:
    page = html(report(candidate("INT8", 270), candidate("FP32")))
    parsed = _Tags()
    parsed.feed(page)
    assert parsed.open == []
    words = " ".join(parsed.text)
    assert "Every figure is of the local account on this machine, not of AWS." in words
    assert "some processor, 2 cores" in words
    assert "encoder, demo <model>" in words, "text of settings is escaped"
    assert "5000" in words, "the number of samples"
    assert "2026-01-01 12:00:00" in words
    assert not re.search(r"""(src|href)\s*=\s*["']?https?://(?!www\.w3\.org)""", page)
    assert "$12.00" in words


def test_a_candidate_that_was_not_measured_is_a_row_of_dashes() -> None:
    page = html(report(candidate("INT8", 270), candidate("FP32", alone=None, busy=None)))
    assert "it was not measured" in page


def test_markdown_has_the_decision_first_and_a_row_for_each_candidate() -> None:
    text = markdown(report(candidate("INT8", 270), candidate("FP32")))
    assert "## Inference report: dev (local)" in text
    assert "### encoder, demo <model>: e/INT8" in text
    assert "| **e/INT8** | engine INT8 | ml.c6i.2xlarge | 270 | 10 | 20 | $0.41 | F1 90, kept 100.0% | 5000 |" in text
    assert "- Measured here." in text


def test_a_report_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    made = report(candidate("INT8", 270))
    (tmp_path / "report.json").write_text(made.model_dump_json())
    assert Report.read(tmp_path / "report.json") == made


@pytest.mark.parametrize("text", ["", "{}", '{"schema_version": 2}'])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ReportError, match="is not a report of version 1"):
        Report.read(tmp_path / "x.json")
    with pytest.raises(ReportError, match="cannot be read"):
        Report.read(tmp_path / "y.json")


def verdicts(before: Candidate, after: Candidate) -> dict[str, str]:
    return {each.figure: each.verdict for each in compare(report(before), report(after))}


def test_a_slower_candidate_is_a_regression_and_noise_is_none() -> None:
    before = candidate("INT8", 100)
    assert set(verdicts(before, candidate("INT8", 95)).values()) == {"same"}
    slower = verdicts(before, candidate("INT8", 80))
    assert (slower["requests/s"], slower["$ a million"], slower["P50 ms"]) == ("worse", "worse", "same")
    faster = compare(report(before), report(candidate("INT8", 150)))
    assert {each.figure: each.verdict for each in faster}["requests/s"] == "better"
    assert not regressed(faster)


def test_a_p99_is_worse_only_where_the_intervals_lie_apart() -> None:
    before = candidate("INT8", alone=load(p99=20))
    apart = candidate("INT8", alone=load(p99=30))
    overlapping = candidate("INT8", alone=load(p99=30, p99_low_ms=15.0))
    unknown = candidate("INT8", alone=load(p99=30, p99_high_ms=None))
    found = [verdicts(before, after)["P99 ms"] for after in (apart, overlapping, unknown)]
    assert found == ["worse", "same", "same"]


def test_lost_accuracy_failed_requests_and_a_missing_candidate_are_regressions() -> None:
    before = candidate("INT8", quality=quality(1.0))
    assert verdicts(before, candidate("INT8", quality=quality(0.992)))["F1 kept"] == "worse"
    assert verdicts(before, candidate("INT8", busy=load(error_rate=0.01)))["failed"] == "worse"
    gone = compare(report(before, candidate("FP32")), report(before))
    assert [(each.candidate, each.verdict) for each in gone if each.figure == "candidate"] == [("e/FP32", "gone")]
    assert regressed(gone)


def test_reports_of_two_machines_or_places_are_not_compared() -> None:
    here = report(candidate("INT8"))
    with pytest.raises(ReportError, match="local figures from different machines cannot show a regression"):
        compare(here, report(candidate("INT8"), machine="another"))
    with pytest.raises(ReportError, match="one report is local and the other aws"):
        compare(here, report(candidate("INT8"), location="aws"))
