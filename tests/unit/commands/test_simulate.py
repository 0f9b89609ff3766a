"""`inference simulate` from a shell, without an account."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commands.main import app


def simulate(output: Path, *arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["simulate", *arguments, "--output", str(output)])
    return done.exit_code, done.stdout, done.stderr


INT8 = ("encoder", "--variant", "int8", "--hours", "1")


def test_a_flash_crowd_leaves_figures_and_a_plot(tmp_path: Path) -> None:
    code, told, _ = simulate(tmp_path, *INT8, "--traffic", "flash_crowd", "--low", "10", "--peak", "60")
    assert code == 0
    assert "$ per million responses" in told
    found = json.loads((tmp_path / "simulation.json").read_text())
    assert found["profile"]["place"] == "published"
    # Half of the published 25.56 queries a second, per minute.
    assert found["scaling"]["target_invocations_per_instance"] == pytest.approx(25.56 * 0.5 * 60)
    assert found["actions"][0]["after"] > found["actions"][0]["before"]
    assert (tmp_path / "simulation.png").read_bytes().startswith(b"\x89PNG")


def test_scaling_can_be_that_of_a_deployment(tmp_path: Path) -> None:
    code, *_ = simulate(tmp_path, *INT8, "--deployment", "prod", "--mode", "aggregated")
    assert code == 0
    found = json.loads((tmp_path / "simulation.json").read_text())
    assert found["scaling"]["target_invocations_per_instance"] == 1075
    assert found["mode"] == "aggregated"


def test_a_trace_and_measured_profiles_are_read_from_files(tmp_path: Path) -> None:
    trace, profiles = tmp_path / "trace.csv", tmp_path / "profiles.json"
    trace.write_text("seconds,rate\n0,5\n600,20\n1200,20\n")
    profile = {
        "workload": "mine", "variant": "v", "instance_type": "ml.c6i.large", "quantiles_ms": [[0.5, 20]],
        "concurrency": 1, "max_rate_per_instance": 45, "place": "local", "machine": "m", "date": "2026-11-21",
        "source": "s",
    }  # fmt: skip
    profiles.write_text(json.dumps({"profiles": [profile]}))
    code, told, _ = simulate(tmp_path / "out", "mine", "--measured", str(profiles), "--traffic", str(trace))
    assert code == 0
    assert "v on ml.c6i.large (local), trace" in " ".join(told.split())


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("nope",), "workload is 'nope'"),
        (("encoder",), "3 profiles match: choose one by --variant and --instance-type"),
        (
            (*INT8, "--traffic", "nope"),
            "traffic is 'nope': give constant, diurnal, flash_crowd, failover, or an existing CSV",
        ),
        ((*INT8, "--low", "9", "--peak", "1"), "low is 9 and peak 1: swap them"),
        ((*INT8, "--metric", "cpu"), "metric is 'cpu'"),
        ((*INT8, "--mode", "fast"), "mode is 'fast'"),
        ((*INT8, "--routing", "best"), "routing is 'best'"),
        ((*INT8, "--minimum", "5", "--maximum", "2"), "minimum is 5 and maximum 2"),
        ((*INT8, "--deployment", "prod", "--endpoint", "x"), "endpoint is 'x': choose one with scaling"),
        ((*INT8, "--region", "mars-1"), "prices for ml.c6i.2xlarge in mars-1"),
        ((*INT8, "--measured", "nope.json"), "nope.json cannot be read"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(tmp_path: Path, arguments: tuple[str, ...], part: str) -> None:
    code, _, told = simulate(tmp_path, *arguments)
    assert code == 1
    assert part in told
    assert "Traceback" not in told
