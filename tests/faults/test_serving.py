"""Faults of replicas, disks, memory, S3 and archives, while requests go on; the endpoints are made once."""

import contextlib
import functools
import hashlib
import json
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from containers.serving.contract import ARCHIVE_HASH_VARIABLE, MANIFEST_FILE, MANIFEST_HASH_VARIABLE
from containers.tabular.features import FEATURES, MODEL_FILE
from load_tests.closed_loop import Request, Target
from local_aws.account import ACCOUNT_ID, S3_URL_VARIABLE, LocalAccount
from tests.faults import endpoints
from tests.faults.endpoints import BUCKET, VARIANT, Model
from tests.faults.load import ANSWERED, REFUSED, Ask, Load, Measured
from tests.faults.slow_store import SlowStore
from tests.local_account import running_account, runtime, wait_until
from tools import tiny_models

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

Report = Callable[[Measured], None]
STATES = ("CA", "NY", "TX", "FL", "OH", "WA")
ROW = ",".join(str(number) for number in range(len(FEATURES))).encode()


@pytest.fixture(scope="module")
def store() -> Iterator[SlowStore]:
    made = SlowStore()
    yield made
    made.close()


@pytest.fixture(scope="module")
def slow_account(state: Path, store: SlowStore) -> Iterator[LocalAccount]:
    """A local account whose hosting process has its models through the store."""
    with running_account(state, **{S3_URL_VARIABLE: store.url}) as running:
        store.behind = running.endpoint_url
        yield running


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    """An archive of each state."""
    return {state: endpoints.packed({MODEL_FILE: model}) for state, model in tiny_models.churn_models(STATES).items()}


@pytest.fixture(scope="module", autouse=True)
def made(slow_account: LocalAccount, state: Path, folder: Path, models: dict[str, bytes]) -> None:
    """The endpoints `steady` and `pair` of the tiny server, `models` of tabular, and `masks` of saved_model."""
    del slow_account
    endpoints.save_images(state, folder)
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    tiny = endpoints.put("tiny/model.tar.gz", endpoints.packed({"name.txt": b"tiny"}))
    for name, archive in models.items():
        endpoints.put(f"churn/{name}.tar.gz", archive)
    tiny_models.save_unet(folder / "unet")
    unet = endpoints.put("unet/model.tar.gz", endpoints.packed_folder(folder / "unet"))
    endpoints.create("steady", Model("tiny", tiny))
    endpoints.create("pair", Model("tiny", tiny), instances=2)
    endpoints.create("models", Model("tabular", f"s3://{BUCKET}/churn/", multi_model=True))
    endpoints.create("masks", Model("saved_model", unet))
    endpoints.wait_in_service("steady", "pair", "models", "masks")


def asking(endpoint: str) -> Ask:
    """The tiny server."""
    return Ask(Target(endpoint, VARIANT), Request(body=b"{}", content_type="application/json"), b"tiny")


def asking_model(state: str, right: bytes | None = None) -> Ask:
    """A state's model, whose answer of now is the right one unless it is given."""
    target, request = (
        Target("models", VARIANT),
        Request(body=ROW, content_type="text/csv", target_model=f"{state}.tar.gz"),
    )
    if right is None:
        answer = runtime().invoke_endpoint(
            EndpointName="models", Body=ROW, ContentType="text/csv", TargetModel=f"{state}.tar.gz"
        )
        right = answer["Body"].read()
    return Ask(target, request, right)


def at(endpoint: str) -> Callable[[Ask], bool]:
    return lambda ask: ask.target.endpoint == endpoint


def outcomes(load: Load, where: Callable[[Ask], bool], since: float = 0.0) -> set[str]:
    return {f"{met.outcome} {met.code}" if met.outcome == REFUSED else met.outcome for met in load.since(since, where)}


def test_a_killed_replica_costs_its_own_requests_at_the_most_and_is_replaced(report: Report) -> None:
    """Its requests are answered, or refused as ModelError 502; another endpoint's never notice; two are there again."""
    with Load([asking("pair"), asking("steady")], 60) as load:
        victim = endpoints.replicas("pair")[0]["pid"]
        began = time.monotonic()
        endpoints.kill_tree(victim)
        recovery = load.right_again(
            began, lambda: victim not in (pids := [r["pid"] for r in endpoints.replicas("pair")]) and len(pids) == 2
        )
    assert outcomes(load, at("pair")) <= {ANSWERED, "refused ModelError 502"}
    assert outcomes(load, at("steady")) == {ANSWERED}
    assert "died" in endpoints.notes("pair")
    report(load.account("one of two replicas killed", recovery))


def test_all_replicas_killed_at_once_are_refusals_until_they_are_back(report: Report) -> None:
    """Meanwhile requests are told to try again: ModelNotReady, or ModelError of a container that is gone."""
    with Load([asking("pair"), asking("steady")], 60) as load:
        victims = [replica["pid"] for replica in endpoints.replicas("pair")]
        began = time.monotonic()
        for victim in victims:
            endpoints.kill_tree(victim)
        recovery = load.right_again(
            began, lambda: len([r for r in endpoints.replicas("pair") if r["pid"] not in victims]) == 2
        )
    assert outcomes(load, at("pair")) <= {
        ANSWERED, "refused ModelError 502", "refused ModelError 503", "refused ModelNotReadyException",
    }  # fmt: skip
    assert outcomes(load, at("steady")) == {ANSWERED}
    report(load.account("both replicas killed", recovery))


def replaced(victim: int) -> bool:
    """Whether another process than that serves `models`."""
    return [replica["pid"] for replica in endpoints.replicas("models")] not in ([], [victim])


@pytest.mark.parametrize("times", [3])
def test_a_multi_model_replica_that_is_killed_loads_its_models_again(report: Report, times: int) -> None:
    """Whatever was in work is answered or refused; the models' answers are the same as before."""
    with Load([asking_model("CA"), asking_model("NY"), asking("steady")], 60) as load:
        recoveries = []
        for _ in range(times):
            (victim,) = [replica["pid"] for replica in endpoints.replicas("models")]
            began = time.monotonic()
            endpoints.kill_tree(victim)
            recoveries.append(load.right_again(began, functools.partial(replaced, victim)))
    assert outcomes(load, at("models")) <= {
        ANSWERED, "refused ModelError 502", "refused ModelError 503", "refused ModelNotReadyException",
    }  # fmt: skip
    assert outcomes(load, at("steady")) == {ANSWERED}
    report(load.account(f"multi-model replica killed, {times} times", max(recoveries)))


@pytest.fixture
def report(measured: Report) -> Report:
    return measured


def test_a_disk_that_takes_nothing_more_fails_what_writes_and_nothing_else(state: Path, report: Report) -> None:
    """Loaded models answer on; a new one and a new endpoint are refused with the reason; a killed replica comes back
    when there is room again, and what was decided meanwhile is on the disk then."""
    hosting = endpoints.hosting_pid(state)
    _, hard = resource.prlimit(hosting, resource.RLIMIT_FSIZE)
    with Load([asking_model("CA"), asking("pair"), asking("steady")], 60) as load:
        began = time.monotonic()
        resource.prlimit(hosting, resource.RLIMIT_FSIZE, (0, hard))
        try:
            with pytest.raises(Exception, match=r"ServiceUnavailable.*the disk could not store"):
                asking_model("TX")
            endpoints.create(
                "late", Model("tiny", endpoints.put("late/model.tar.gz", endpoints.packed({"name.txt": b"late"})))
            )
            wait_until(lambda: _described("late")["EndpointStatus"] == "Failed", 30, "the failure")
            assert "File too large" in _described("late")["FailureReason"]
            victim = endpoints.replicas("pair")[0]["pid"]
            endpoints.kill_tree(victim)
            wait_until(lambda: "could not be started" in endpoints.notes("pair"), 30, "the note")
        finally:
            resource.prlimit(hosting, resource.RLIMIT_FSIZE, (hard, hard))
        freed = time.monotonic()
        recovery = load.right_again(freed, lambda: len(endpoints.replicas("pair")) == 2)
        asking_model("TX")
    assert outcomes(load, at("models")) == {ANSWERED}
    assert outcomes(load, at("steady")) == {ANSWERED}
    assert outcomes(load, at("pair")) <= {ANSWERED, "refused ModelError 502"}
    assert time.monotonic() > began
    wait_until(lambda: '"late"' in (state / "hosting.json").read_text(), 30, "the records on the disk")
    boto3.client("sagemaker").delete_endpoint(EndpointName="late")
    report(load.account("disk full, then free", recovery))


def _described(endpoint: str) -> Any:
    return boto3.client("sagemaker").describe_endpoint(EndpointName=endpoint)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"this machine mounts nothing for this user: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_models_that_do_not_all_fit_on_the_disk_take_turns_there(
    state: Path, models: dict[str, bytes], report: Report
) -> None:
    """As on SageMaker, unused models make room: every one of six is answered on a disk that holds three."""
    rights = [asking_model(name) for name in STATES]
    replica = restart_models()
    unpacked = sum(len(body) for body in models.values())
    with small_disk(state / "replicas" / replica / "opt/ml/models", f"{4 * unpacked // 1024}k"):
        with Load([*rights, asking("steady")], 20) as load:
            began = time.monotonic()
            load.all_right(3 * len(STATES), at("models"))
        assert outcomes(load, lambda _ask: True) == {ANSWERED}
        report(load.account("six models on a disk for three", time.monotonic() - began))
    restart_models()


def test_a_copy_that_takes_more_memory_than_it_has_is_killed_and_replaced_alone(report: Report) -> None:
    """The kernel of an instance would kill it too. The other copy and the other endpoints answer on."""
    sagemaker = boto3.client("sagemaker")
    variant: Any = {"VariantName": VARIANT, "InstanceType": "ml.c5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(
        EndpointConfigName="copies",
        ProductionVariants=[variant],
        ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/any",
    )
    sagemaker.create_endpoint(EndpointName="copies", EndpointConfigName="copies")
    endpoints.wait_in_service("copies")
    sagemaker.create_inference_component(
        InferenceComponentName="copy",
        EndpointName="copies",
        VariantName=VARIANT,
        Specification={
            "Container": {"Image": endpoints.image_uri("tiny"), "ArtifactUrl": f"s3://{BUCKET}/tiny/model.tar.gz"},
            "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 256, "NumberOfCpuCoresRequired": 0.5},
        },
        RuntimeConfig={"CopyCount": 2},
    )
    wait_until(lambda: len(endpoints.replicas("copies")) == 2, 30, "the copies")
    before = {replica["pid"] for replica in endpoints.replicas("copies")}
    copies = Ask(Target("copies", VARIANT, "copy"), Request(body=b"{}", content_type="application/json"), b"tiny")
    hog = Ask(copies.target, Request(body=b"hog", content_type="application/json"), b"never")
    with Load([copies, asking("steady")], 60) as load:
        began = time.monotonic()
        with pytest.raises(Exception, match=r"ModelError.*502"):
            runtime().invoke_endpoint(EndpointName="copies", InferenceComponentName="copy", Body=hog.request.body)
        recovery = load.right_again(
            began,
            lambda: len(now := {r["pid"] for r in endpoints.replicas("copies")}) == 2 and len(now & before) == 1,
        )
    assert outcomes(load, at("copies")) <= {ANSWERED, "refused ModelError 502"}
    assert outcomes(load, at("steady")) == {ANSWERED}
    assert "MiB of memory and has 256 MiB" in endpoints.notes("copies")
    report(load.account("memory exhausted in one of two copies", recovery))
    sagemaker.delete_inference_component(InferenceComponentName="copy")
    wait_until(lambda: not sagemaker.list_inference_components()["InferenceComponents"], 30, "the copies' end")
    sagemaker.delete_endpoint(EndpointName="copies")


def _failed(endpoint: str) -> bool:
    return bool(_described(endpoint)["EndpointStatus"] == "Failed")


def restart_models() -> str:
    """Has the replica of `models` started anew, so that every model's next request is a load; gives its id."""
    (victim,) = endpoints.replicas("models")
    endpoints.kill_tree(victim["pid"])
    wait_until(lambda: [r["id"] for r in endpoints.replicas("models")] not in ([], [victim["id"]]), 30, "the restart")
    return str(endpoints.replicas("models")[0]["id"])


@pytest.mark.parametrize(
    ("mode", "delay", "refused"),
    [
        ("whole", 2.0, set()),
        ("fails", 0.0, {"refused ServiceUnavailable"}),
        ("cut", 0.0, {"refused ServiceUnavailable"}),
    ],
    ids=["slow", "failing", "cut off"],
)
def test_an_s3_that_is_slow_or_fails_delays_or_refuses_only_the_models_to_be_loaded(
    store: SlowStore, report: Report, mode: str, delay: float, refused: set[str]
) -> None:
    """Loaded models answer on; the others' requests wait, or are told to try again, and are answered afterwards."""
    wanted = asking_model("OH")
    restart_models()
    loaded = asking_model("CA")
    with store.fault("OH", mode, delay), Load([loaded, asking("steady"), wanted], 30, settle=False) as load:
        wait_until(lambda: len(load.since(0.0, lambda ask: ask is wanted)) >= 5, 60, "requests that met it")
        store.mend()
        recovery = load.right_again(time.monotonic(), lambda: True)
    assert outcomes(load, lambda ask: ask is not wanted) == {ANSWERED}
    assert outcomes(load, lambda ask: ask is wanted) == {ANSWERED} | refused
    report(load.account(f"S3 {'slow' if delay else mode} while a model loads", recovery))


def test_a_corrupt_archive_of_one_model_is_refused_and_replaced_and_the_others_answer_on(
    models: dict[str, bytes], report: Report
) -> None:
    """A flipped byte is found by the archive's checksum; a loaded model goes on; a good upload is served at once."""
    flipped = bytearray(models["FL"])
    flipped[len(flipped) // 2] ^= 0xFF
    wanted = asking_model("FL")
    restart_models()
    loaded = asking_model("CA")
    endpoints.put("churn/FL.tar.gz", bytes(flipped))
    endpoints.put("churn/CA.tar.gz", bytes(flipped))
    with Load([loaded, asking("steady"), wanted], 30, settle=False) as load:
        wait_until(lambda: len(load.since(0.0, lambda ask: ask is wanted)) >= 5, 60, "requests that met it")
        began = time.monotonic()
        endpoints.put("churn/FL.tar.gz", models["FL"])
        endpoints.put("churn/CA.tar.gz", models["CA"])
        recovery = load.right_again(began, lambda: True)
    assert outcomes(load, lambda ask: ask is not wanted) == {ANSWERED}
    assert outcomes(load, lambda ask: ask is wanted) == {ANSWERED, "refused ValidationError"}
    report(load.account("one model's archive corrupt in S3", recovery))


def test_an_update_to_an_archive_whose_sha256_does_not_match_leaves_the_old_version_serving(
    folder: Path, report: Report
) -> None:
    """The manifest in the archive tells the container; the endpoint says so, and not one request notices."""
    files = {path.name: path.read_bytes() for path in (folder / "unet").iterdir()}
    weights = bytearray(files["model.bin"] or b"\0")
    weights[0] ^= 0xFF
    corrupt = endpoints.put("unet-corrupt/model.tar.gz", endpoints.packed({**files, "model.bin": bytes(weights)}))
    endpoints.create_model("corrupt", Model("saved_model", corrupt))
    endpoints.create_config("corrupt", 1)
    picture = endpoints.picture()
    asked: Any = {"EndpointName": "masks", "ContentType": "image/png", "Accept": "image/png", "Body": picture}
    right = runtime().invoke_endpoint(**asked)["Body"].read()
    masks = Ask(Target("masks", VARIANT), Request(body=picture, content_type="image/png", accept="image/png"), right)
    with Load([masks, asking("steady")], 30) as load:
        began = time.monotonic()
        boto3.client("sagemaker").update_endpoint(EndpointName="masks", EndpointConfigName="corrupt")
        recovery = load.right_again(began, lambda: _described("masks")["EndpointStatus"] == "InService")
    assert outcomes(load, lambda _ask: True) == {ANSWERED}
    described = _described("masks")
    assert "model.bin is corrupt: sha256" in described["FailureReason"]
    assert described["EndpointConfigName"] == "masks"
    report(load.account("update to an archive with a wrong sha256", recovery))


def test_a_swapped_artifact_is_refused_by_hosting_and_by_the_container_in_one_line(folder: Path) -> None:
    """Whoever can write the key can fix the hashes inside the archive, but not those that the deployment passes."""
    files = {path.name: path.read_bytes() for path in sorted((folder / "unet").iterdir())}
    honest = endpoints.packed(files)
    reported = {
        ARCHIVE_HASH_VARIABLE: hashlib.sha256(honest).hexdigest(),
        MANIFEST_HASH_VARIABLE: hashlib.sha256(files[MANIFEST_FILE]).hexdigest(),
    }
    weights = files["model.bin"][:-1] + bytes([files["model.bin"][-1] ^ 0xFF])
    manifest = json.loads(files[MANIFEST_FILE])
    consistent = {**manifest, "files": {**manifest["files"], "model.bin": hashlib.sha256(weights).hexdigest()}}
    swapped = {**files, "model.bin": weights, MANIFEST_FILE: json.dumps(consistent).encode()}
    empty = {**files, "model.bin": weights, MANIFEST_FILE: json.dumps({**manifest, "files": {}}).encode()}
    by_container = {MANIFEST_HASH_VARIABLE: reported[MANIFEST_HASH_VARIABLE]}
    cases: tuple[tuple[str, dict[str, bytes], dict[str, str], str], ...] = (
        ("archive", swapped, reported, "is not the archive that was built: sha256"),
        ("library", swapped, by_container, "manifest.json is not the one that was built: sha256"),
        ("unlisted", empty, by_container, "manifest.json is not the one that was built: sha256"),
        ("nothing", empty, {}, "manifest.json lists no files"),
    )
    for name, content, environment, _ in cases:
        data = endpoints.put(f"swapped-{name}/model.tar.gz", endpoints.packed(content))
        endpoints.create(f"swapped-{name}", Model("saved_model", data, environment=environment))
    for name, _, _, reason in cases:
        wait_until(functools.partial(_failed, f"swapped-{name}"), 60, "the refusal")
        described = _described(f"swapped-{name}")["FailureReason"]
        assert reason in described
        assert "Traceback" not in described
        boto3.client("sagemaker").delete_endpoint(EndpointName=f"swapped-{name}")
