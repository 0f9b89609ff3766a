"""neuron_encoder in the local account: two virtual NeuronCores with two copies of the model each, in this order."""

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from botocore.exceptions import ClientError

from commands.demo.encoder import AMAZON, QUESTION
from load_tests.gates import ErrorGate, LostGate
from load_tests.kinds.neuron_encoder import copy_paths
from load_tests.launch import run
from load_tests.neuron_metrics import read_cores
from load_tests.payloads import encoder
from load_tests.plan import HttpTarget, Plan
from load_tests.report.model import Report
from load_tests.result import LoadResult
from local_aws.account import LocalAccount
from local_aws.processes import free_port
from tests.local_account import (
    assert_every_metric_on_the_dashboards_was_measured,
    assert_nothing_is_deployed,
    bring_up,
    destroy,
    endpoint_status,
    inference,
    runtime,
    wait_until,
)

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]
ENDPOINT = "e2e-neuron-encoder-virtual"
ITEM = {"question": QUESTION, "context": AMAZON}
PAIRS = [(core, model) for core in (0, 1) for model in (0, 1)]


def deployment_file(folder: Path) -> Path:
    path = folder / "e2e.yaml"
    neuron = {
        "models": {
            "minilm_demo": {"source": {"kind": "demo"}, "target": "cpu", "lengths": [128, 256], "batches": [1, 4]}
        },
        "endpoints": {
            "virtual": {
                "hosting": "sagemaker",
                "model": "minilm_demo",
                "instance_type": "ml.c6i.xlarge",
                "device": "cpu",
                "virtual_cores": 2,
                "copies_per_core": 2,
            }
        },
    }
    path.write_text(
        yaml.safe_dump({"environment": "e2e", "workloads": {"neuron_encoder": {"kind": "neuron_encoder", **neuron}}})
    )
    return path


@pytest.fixture(scope="module", autouse=True)
def deployed(account: LocalAccount, folder: Path) -> Iterator[None]:  # noqa: ARG001 - needs a running account
    bring_up(deployment_file(folder))
    yield


def replica() -> dict[str, Any]:
    """The one replica, as the hosting process tells of it."""
    ((found,),) = [variant["replicas"] for status in endpoint_status() for variant in status["variants"]]
    return dict(found)


def server() -> str:
    return f"http://127.0.0.1:{replica()['port']}"


def ask(core: int, model: int, body: Any) -> Any:
    path = f"/predictions_neuron_core_{core}/model_{model}"
    answer = httpx.post(server() + path, json=body, timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def invoke(body: Any) -> Any:
    answer = runtime().invoke_endpoint(
        EndpointName=ENDPOINT,
        ContentType="application/json",
        Body=body if isinstance(body, bytes) else json.dumps(body),
    )
    return json.loads(answer["Body"].read())


def test_the_endpoint_and_every_core_and_copy_find_the_same_answer() -> None:
    answer = invoke(ITEM)
    assert "Amazonia" in answer["answer"] or "Amazon Jungle" in answer["answer"]
    for core, model in PAIRS:
        found = ask(core, model, ITEM)
        assert found["answer"] == answer["answer"]
        assert found["score"] == pytest.approx(answer["score"], abs=1e-3)


def test_many_questions_at_once_get_the_answers_that_each_gets_alone() -> None:
    items = [json.loads(request.body) for request in encoder.requests()[:12]]
    alone = [invoke(item) for item in items]
    together = invoke(items)
    assert [found["answer"] for found in together] == [found["answer"] for found in alone]
    assert [found["score"] for found in together] == pytest.approx([found["score"] for found in alone], abs=1e-3)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"{", "not JSON"),
        (b"[]", "empty"),
        (b'{"question": "Where?"}', "context"),
        (b'{"question": 5, "context": "There."}', "question"),
    ],
)
def test_a_fault_of_the_client_is_a_400_and_the_server_goes_on(body: bytes, part: str) -> None:
    with pytest.raises(ClientError) as refused:
        invoke(body)
    error: dict[str, Any] = dict(refused.value.response)
    assert error["OriginalStatusCode"] == 400
    assert part in error["OriginalMessage"]
    assert invoke(ITEM)["answer"]


def test_the_terminal_shows_both_cores_and_what_they_answered(state: Path) -> None:
    before = read_cores(httpx.get(f"{server()}/metrics", timeout=20, trust_env=False).text)
    for core, model in PAIRS:
        ask(core, model, ITEM)
    after = read_cores(httpx.get(f"{server()}/metrics", timeout=20, trust_env=False).text)
    assert {core: after[core].answered - before[core].answered for core in after} == {"0": 2, "1": 2}
    assert all(after[core].busy_seconds > before[core].busy_seconds for core in after)
    shown = inference(state, "neuron", "top", "--looks", "1", "--interval", "0.2")
    assert shown.returncode == 0, shown.stderr
    assert "2 NeuronCore groups" in shown.stdout


def drive(folder: Path, *urls: str) -> LoadResult:
    """The published client, as Locust's users: every core and copy of every server, for some seconds."""
    plan = Plan(
        workload="neuron_encoder",
        endpoint=ENDPOINT,
        location="local",
        machine="test",
        target=HttpTarget(urls=urls, paths=copy_paths((0, 1), 2)),
        feed="",
        client="fast",
        level=4 * len(urls),
        spawn_rate=100,
        warm_up=1,
        seconds=4,
        gates=(ErrorGate(limit=0), LostGate(limit=0)),
    )
    return run(plan, encoder.requests(), folder)


def test_a_dead_port_is_a_failure_and_never_looks_fast(tmp_path: Path) -> None:
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        found = drive(tmp_path, server(), f"http://127.0.0.1:{dead.getsockname()[1]}")
    assert not found.passed
    alive, gone = ([each for each in found.names if each.name.startswith(url)] for url in (server(), "http"))
    assert all(each.answered and not each.failed for each in alive)
    silent = [each for each in gone if each not in alive]
    assert len(silent) == 4
    assert all(each.failed and not each.answered and not each.percentiles for each in silent)


def load(state: Path, folder: Path, *options: str) -> tuple[int, LoadResult]:
    """Exit code and result of a short load test through the real command line."""
    file = folder / "load.json"
    file.unlink(missing_ok=True)
    done = inference(
        state, "load-test", "neuron_encoder", "--deployment", str(folder / "e2e.yaml"), "--users", "4",
        "--duration", "2",
        "--warm-up", "1", "--json", str(file), *options,
    )  # fmt: skip
    assert file.exists(), done.stderr
    return done.returncode, LoadResult.read(file)


def test_load_on_every_core_and_copy_is_told_one_by_one(state: Path, folder: Path) -> None:
    code, result = load(state, folder, "--workers", "2")
    assert (code, result.passed, result.location) == (0, True, "local"), result.gates
    assert [each.name for each in result.names] == [
        f"/predictions_neuron_core_{core}/model_{model}" for core, model in PAIRS
    ]
    for each in result.names:
        p50, p99 = each.percentile(50), each.percentile(99)
        assert each.answered > 0 and each.failed == 0
        assert p50 is not None and p99 is not None and 0 < p50.value_ms <= p99.value_ms
    assert (result.endpoint, result.instance_type, result.reached.users_reached) == (ENDPOINT, "ml.c6i.xlarge", 4)


def test_load_through_sagemaker_or_on_a_port_where_nobody_listens(state: Path, folder: Path) -> None:
    code, result = load(state, folder, "--no-pairs")
    assert (code, [each.name for each in result.names]) == (0, [ENDPOINT])
    code, result = load(state, folder, "--host", f"http://127.0.0.1:{free_port()}")
    assert (code, result.total.answered, set(result.total.failures)) == (1, 0, {"ConnectionRefusedError"})


def test_a_core_whose_process_dies_comes_back_and_the_endpoint_answers_meanwhile() -> None:
    (first, *_) = psutil.Process(replica()["pid"]).children()
    first.kill()
    for _ in range(5):
        assert invoke(ITEM)["answer"]
    wait_until(lambda: httpx.get(f"{server()}/ping", timeout=20, trust_env=False).status_code == 200, 60, "readiness")
    for core, model in PAIRS:
        assert ask(core, model, ITEM)["answer"]


def report(state: Path, folder: Path, output: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    deployment = str(folder / "e2e.yaml")
    return inference(
        state, "report", "--deployment", deployment, "--output", str(output), "--state", str(state), *arguments
    )


def test_the_report_says_what_was_measured_where_and_when_and_what_became_worse(
    state: Path, folder: Path, tmp_path: Path
) -> None:
    done = report(state, folder, tmp_path, "--seconds", "2", "--rate", "20")
    assert done.returncode == 0, done.stderr
    made = Report.read(tmp_path / "report.json")
    (group,) = made.groups
    (candidate,) = group.candidates
    assert (made.location, group.chosen) == ("local", f"{ENDPOINT}/AllTraffic")
    assert candidate.alone is not None and candidate.busy is not None
    assert candidate.alone.samples > 0 and candidate.busy.users == 8
    assert group.sized[0].instances is not None and group.scaling is not None
    assert "emulated on CPU; not an Inferentia result" in (tmp_path / "report.html").read_text()
    assert f"### neuron_encoder: {ENDPOINT}/AllTraffic" in (tmp_path / "report.md").read_text()

    same = report(state, folder, tmp_path, "--no-measure", "--compare", str(tmp_path / "report.json"))
    assert same.returncode == 0, same.stdout + same.stderr
    faster = candidate.busy.model_copy(update={"rate": 2 * candidate.busy.rate})
    better = candidate.model_copy(update={"busy": faster})
    earlier = made.model_copy(update={"groups": (group.model_copy(update={"candidates": (better,)}),)})
    (tmp_path / "earlier.json").write_text(earlier.model_dump_json())
    worse = report(state, folder, tmp_path, "--no-measure", "--compare", str(tmp_path / "earlier.json"))
    assert worse.returncode == 1
    assert "worse" in worse.stdout

    unknown = report(state, folder, tmp_path, "encoder")
    assert unknown.returncode == 2
    assert "workload is 'encoder': choose from neuron_encoder" in unknown.stderr


def test_every_metric_on_the_dashboards_was_measured() -> None:
    assert_every_metric_on_the_dashboards_was_measured()


def test_destroy_leaves_nothing(folder: Path) -> None:
    done = destroy(folder / "e2e.yaml")
    assert done.returncode == 0, done.stderr
    assert_nothing_is_deployed()
