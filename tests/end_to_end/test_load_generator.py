"""The load generator against a server of known behavior: one request after another, and stalls at known times."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from load_tests.closed_loop import Request
from load_tests.gates import ErrorGate, LostGate, RateGate
from load_tests.launch import LoadTestError, run
from load_tests.plan import HttpTarget, Plan, SageMakerTarget
from load_tests.result import LoadResult
from load_tests.shapes import Steps
from local_aws.account import ROOT

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]
PATHS = ("/predictions_neuron_core_0/model_0", "/predictions_neuron_core_1/model_0")
REQUESTS = [Request(body=b"{}", content_type="application/json")]


@contextmanager
def server(*options: str) -> Iterator[str]:
    """The stub in a process of its own; its URL."""
    with subprocess.Popen(
        [sys.executable, "-m", "load_tests.stub", *options], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        finally:
            process.terminate()


def plan(url: str, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "workload": "neuron_encoder",
        "endpoint": "stub",
        "location": "local",
        "machine": "a machine",
        "target": HttpTarget(urls=(url,), paths=PATHS),
        "feed": "",
        "level": 2,
        "spawn_rate": 100,
        "warm_up": 1,
        "seconds": 4,
        "timeout": 10,
        "gates": (ErrorGate(limit=0.001), LostGate(limit=0), RateGate(limit=0.99)),
    }
    return Plan(**{**values, **changes})


def measured(
    folder: Path, made: Plan, on_event: Callable[[Mapping[str, Any]], object] = lambda _event: None
) -> LoadResult:
    return run(made, REQUESTS, folder, on_event)


def p99(result: LoadResult) -> float:
    found = result.total.percentile(99.0)
    assert found is not None
    return found.value_ms


STALL = ("--service", "0.001", "--every", "2", "--stall", "0.5")


def test_an_open_loop_shows_a_stall_that_a_closed_loop_does_not(tmp_path: Path) -> None:
    with server(*STALL) as url:
        closed = measured(tmp_path / "closed", plan(url))
        opened = measured(tmp_path / "open", plan(url, mode="open", level=100))
    # A quarter of the time the server stalls, and so a quarter of what arrives waits, half a second at the longest.
    # Two users wait once for each stall, beside the hundreds of requests that they send between two.
    assert p99(opened) > 250
    assert p99(closed) < p99(opened) / 4
    assert closed.total.max_ms > 250
    assert closed.total.answered > 100


def test_a_rate_is_met_within_one_percent_and_split_over_workers(tmp_path: Path) -> None:
    with server() as url:
        result = measured(tmp_path, plan(url, mode="open", level=200, workers=2))
    assert result.reached.scheduled == 800
    assert result.reached.share == pytest.approx(1, abs=0.01) or result.saturation.saturated
    assert result.total.answered == pytest.approx(800, abs=8)
    # Arrivals take the places in turn.
    first, second = (each.answered for each in result.names)
    assert first == pytest.approx(second, abs=8)


def test_beyond_what_the_server_can_do_the_client_says_that_it_is_saturated(tmp_path: Path) -> None:
    with server("--service", "0.02") as url:
        result = measured(tmp_path, plan(url, mode="open", level=200, max_in_flight=20))
    # It answers fifty a second.
    assert result.total.answered_per_second == pytest.approx(50, rel=0.2)
    assert result.reached.unsent > 400
    assert result.saturation.saturated
    assert any("arrivals were not sent" in reason for reason in result.saturation.reasons)
    assert (result.passed, [each.gate.kind for each in result.gates if not each.passed]) == (False, ["rate"])


def test_users_rise_in_steps_and_each_stays_with_one_place(tmp_path: Path) -> None:
    with server("--service", "0.001") as url:
        result = measured(tmp_path, plan(url, level=8, shape=Steps(count=2), pause=(0.05, 0.05), workers=2))
    assert (result.reached.users_wanted, result.reached.users_reached) == (8, 8)
    first, second = (each.answered for each in result.names)
    assert first == pytest.approx(second, rel=0.25)
    levels = [second.level for second in result.series if second.measured]
    assert (levels[0], levels[3]) == (4, 8)
    assert result.passed, result.gates


def test_a_place_that_refuses_fails_the_test(tmp_path: Path) -> None:
    with server("--refuse", "core_1") as url:
        result = measured(tmp_path, plan(url, seconds=2))
    assert not result.passed
    assert [(each.name, each.answered > 0, set(each.failures)) for each in result.names] == [
        (PATHS[0], True, set()),
        (PATHS[1], False, {"HTTP 503"}),
    ]


def test_a_dead_port_fails_the_test(tmp_path: Path) -> None:
    with server() as url:
        dead = url
    result = measured(tmp_path, plan(dead, seconds=1))
    assert not result.passed
    assert result.total.answered == 0
    assert set(result.total.failures) == {"ConnectionRefusedError"}


def test_a_test_of_so_many_requests_measures_exactly_these(tmp_path: Path) -> None:
    with server("--service", "0.001") as url:
        result = measured(tmp_path, plan(url, level=4, workers=2, requests=501, seconds=60))
    assert result.total.answered == 501
    assert result.measured_seconds < 30


def test_a_worker_that_is_killed_fails_the_test(tmp_path: Path) -> None:
    def kill(event: Mapping[str, Any]) -> None:
        if event["event"] != "second" or event["second"] != 1:
            return
        workers = [child for child in psutil.Process().children(recursive=True) if child.cmdline()[-1:] == ["worker"]]
        assert len(workers) == 2
        os.kill(workers[0].pid, signal.SIGKILL)

    with server("--service", "0.001") as url:
        result = measured(tmp_path, plan(url, workers=2), kill)
    assert (result.workers_lost, result.passed) == (1, False)
    assert result.total.answered > 0
    assert [each.gate.kind for each in result.gates if not each.passed] == ["lost"]


@pytest.mark.parametrize("client", ["boto3", "fast"])
def test_both_clients_speak_invoke_endpoint(client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    target = SageMakerTarget(endpoint="stub", variant="AllTraffic")
    with server("--service", "0.001") as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url)
        result = measured(tmp_path, plan(url, target=target, client=client, seconds=2))
    assert result.passed, result.gates
    assert (result.client, [each.name for each in result.names]) == (client, ["stub"])


def test_a_worker_that_cannot_begin_ends_the_test_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    target = SageMakerTarget(endpoint="stub", variant="AllTraffic")
    with pytest.raises(LoadTestError, match="no AWS credentials: set AWS_PROFILE"):
        measured(tmp_path, plan("http://127.0.0.1:1", target=target, client="fast"))


def test_a_plan_of_another_version_is_told_with_what_helps(tmp_path: Path) -> None:
    written = {**plan("http://127.0.0.1:1").model_dump(mode="json"), "invented_later": 1}
    (tmp_path / "plan.json").write_text(json.dumps(written))
    done = subprocess.run(
        [sys.executable, "-m", "load_tests.swarm", "master"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "LOAD_TEST_PLAN": str(tmp_path / "plan.json")},
    )  # fmt: skip
    assert done.returncode == 2
    assert "the plan cannot be read: invented_later: Extra inputs are not permitted." in done.stderr
    assert "deploy the LoadTestStack again" in done.stderr
