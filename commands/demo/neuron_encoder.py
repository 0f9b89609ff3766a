"""The demo of the kind `neuron_encoder`: every copy of the model on every virtual NeuronCore, all in parallel."""

import json
import time

import httpx

from commands import neuron_top
from commands.demo.encoder import AMAZON, QUESTION
from commands.demo.steps import DemoError
from commands.load_test_tables import progress
from commands.load_test_tables import show as show_load_test
from commands.output import console
from load_tests.closed_loop import Request, Target, client, invoke
from load_tests.deployed import DeployedWorkload
from load_tests.gates import ErrorGate, LostGate
from load_tests.kinds.neuron_encoder import copy_paths
from load_tests.launch import LoadTestError, run
from load_tests.machine import machine
from load_tests.neuron_metrics import CoreReading, activity, read_cores
from load_tests.payloads import encoder
from load_tests.plan import HttpTarget, Plan
from local_aws.account import ROOT, LocalAccount
from stacks.settings.hosting import ONLY_VARIANT
from stacks.settings.neuron_encoder import NeuronEncoder

USERS_OF_A_COPY = 2
_WARM_UP_SECONDS = 3.0
_RESULTS = ROOT / "build" / "demo"


def show(workload: DeployedWorkload[NeuronEncoder], seconds: float, account: LocalAccount) -> None:
    """Ask and drive every SageMaker endpoint with virtual NeuronCores; raises DemoError for any failed request."""
    for key, endpoint in workload.settings.endpoints.items():
        if endpoint.virtual_cores is not None:
            _show(workload, key, endpoint.virtual_cores, seconds, account)


def _show(
    workload: DeployedWorkload[NeuronEncoder], key: str, cores: int, seconds: float, account: LocalAccount
) -> None:
    endpoint, name = workload.settings.endpoints[key], workload.endpoint_name(key)
    url = _server(account, name)
    paths = copy_paths(range(cores), endpoint.copies_per_core)
    _ask(name, url, paths)
    plan = Plan(
        workload=workload.name,
        endpoint=name,
        variant=ONLY_VARIANT,
        instance_type=endpoint.instance_type,
        location="local",
        machine=machine(),
        target=HttpTarget(urls=(url,), paths=paths),
        feed="",
        client="fast",
        level=USERS_OF_A_COPY * len(paths),
        spawn_rate=100,
        warm_up=_WARM_UP_SECONDS,
        seconds=seconds,
        gates=(ErrorGate(limit=0), LostGate(limit=0)),
    )
    before, since = _cores(url), time.monotonic()
    try:
        with progress(plan) as on_event:
            found = run(plan, encoder.requests(), _RESULTS / workload.name / name, on_event)
    except LoadTestError as error:
        raise DemoError(str(error)) from error
    after, until = _cores(url), time.monotonic()
    wide = console(130)
    wide.print()
    wide.print(f"{cores} virtual NeuronCores ({endpoint.device}), {USERS_OF_A_COPY} users of each copy:")
    show_load_test(found, wide)
    wide.print(neuron_top.table([(url, each) for each in activity(before, after, until - since)]))
    wide.print(
        f"busy: share of the time, from {_WARM_UP_SECONDS:g} s before the measurement on, that a virtual core ran "
        "batches, on this machine's\nprocessors. The published server kept NeuronCores 11 to 16 % busy; `python -m "
        "benchmarks.neuron_encoder` compares\nwith it at an accelerator's speed"
    )
    if not found.passed:
        raise DemoError("; ".join(gate.found for gate in found.gates if not gate.passed))


def _server(account: LocalAccount, name: str) -> str:
    try:
        return neuron_top.local_servers(account, name)[0]
    except LookupError as error:
        raise DemoError(str(error)) from error


def _ask(name: str, url: str, paths: tuple[str, ...]) -> None:
    """One question through InvokeEndpoint and to every copy, which must agree."""
    body = json.dumps({"question": QUESTION, "context": AMAZON}).encode()
    whole = json.loads(
        invoke(client(), Target(name, ONLY_VARIANT), Request(body=body, content_type="application/json"))
    )
    print(f"\n{QUESTION}\n  {name}: {whole['answer']}  (score {whole['score']:.2f})")
    for path in paths:
        response = httpx.post(
            url + path, content=body, headers={"content-type": "application/json"}, timeout=60, trust_env=False
        )
        if response.status_code != 200 or response.json()["answer"] != whole["answer"]:
            raise DemoError(f"{path} of {name} answered {response.status_code}: {response.text[:200]}")
    print(f"  the same from {', '.join(paths)}")


def _cores(url: str) -> dict[str, CoreReading]:
    return read_cores(httpx.get(f"{url}/metrics", timeout=60, trust_env=False).text)
