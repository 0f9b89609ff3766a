"""Podman's command lines, its configuration, its base image, and what is said where there is none."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commands.main import app
from local_aws import docker_shim
from local_aws.account import CACHE_VARIABLE, ENGINE_VARIABLE, STATE_VARIABLE, LocalAccount
from local_aws.hosting import images, launch, model_data, models
from local_aws.hosting.images import Image
from local_aws.podman import base_image, engine, sbom
from local_aws.podman.base_image import OFFICIAL, SUBSTITUTE, BaseImage
from local_aws.podman.build import Built, build
from local_aws.podman.engine import EngineError, Podman
from local_aws.podman.run import Container, Mount
from local_aws.processes import birth
from model_build.owned_folders import ACCOUNT, claim

CONTAINER = Container(
    name="one",
    image="abc",
    command=("serve",),
    memory_bytes=1 << 30,
    cpus=1.5,
    environment={"A": "b c"},
    mounts=(Mount(Path("/models/x"), "/opt/ml/model"),),
    labels={"who": "me"},
    pid_file=Path("/tmp/pid"),
)
DIGEST = f"sha256:{'1' * 64}"
FAKE = """#!/bin/sh
echo "$@" >> "$HOME/calls"
case "$1 $2" in
  "image exists") grep -qx "$3" "$HOME/store" ;;
  "image inspect") case "$4" in *RepoDigests*) cat "$HOME/digests" ;; *) echo "id7 DIGEST 1000000 5" ;; esac ;;
  pull*) echo "no such host" >&2; exit 125 ;;
  "ps --all") echo "c1 c2" ;;
  *) [ ! -e "$HOME/fail" ] || { seq 30 >&2; exit 3; } ;;
esac
""".replace("DIGEST", DIGEST)


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Podman:
    """A program that notes how it was called, with what its store holds in a file."""
    program = tmp_path / "bin/podman"
    program.parent.mkdir()
    program.write_text(FAKE)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    found = engine.find(tmp_path / "cache")
    assert found is not None
    for name in ("store", "digests", "calls"):
        (found.folder / name).write_text("")
    return found


def calls(podman: Podman) -> list[str]:
    return (podman.folder / "calls").read_text().splitlines()


def test_a_container_has_no_rights_and_no_place_to_write_but_tmp() -> None:
    arguments = CONTAINER.arguments()
    wanted = {"--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges"}
    assert wanted <= set(arguments)
    assert next(each for each in arguments if each.startswith("--tmpfs=")).startswith("--tmpfs=/tmp:rw,nosuid,nodev,")
    assert "--volume=/models/x:/opt/ml/model:ro" in arguments
    assert not any(each.startswith(("--privileged", "--cap-add", "--user", "--device")) for each in arguments)


def test_a_containers_memory_processors_and_processes_are_bounded() -> None:
    arguments = CONTAINER.arguments()
    assert {"--memory=1073741824b", "--memory-swap=1073741824b", "--cpus=1.5", "--pids-limit=1024"} <= set(arguments)
    assert "--stop-timeout=30" in arguments


def test_a_container_gets_what_it_was_given_and_nothing_of_this_machines_proxies() -> None:
    arguments = CONTAINER.arguments()
    assert {"--env=A=b c", "--label=who=me", "--pidfile=/tmp/pid", "--http-proxy=false", "--pull=never"} <= set(
        arguments
    )
    assert arguments[0] == "run"
    assert arguments[-2:] == ["abc", "serve"]


def test_a_replica_in_a_container_sees_its_model_where_sagemaker_puts_it(tmp_path: Path, podman: Podman) -> None:
    image = Image("", "/", (), {}, "", container="id7")
    folder = tmp_path / "state/replicas/r1"
    made = launch.as_container(
        podman, image, folder, "/models/x", {"SETTING": "1"}, {"KEY": "secret"}, port=8123,
        limits=launch.Limits(1 << 30, 1e6),
    )  # fmt: skip
    # Every user of the machine can read a command's arguments.
    assert "--env=KEY" in made.command
    assert "secret" not in " ".join(made.command)
    assert made.environment["KEY"] == "secret"
    assert made.container == "replica-r1"
    assert "--volume=/models/x:/opt/ml/model:ro" in made.command
    assert f"--label=sagemaker-inference-stacks.hosting={tmp_path / 'state'}" in made.command
    assert {"--env=SAGEMAKER_BIND_TO_PORT=8123", "--env=SAGEMAKER_BIND_TO_HOST=127.0.0.1", "--env=SETTING=1"} <= set(
        made.command
    )
    # Podman refuses more processors than there are.
    assert f"--cpus={os.cpu_count()}" in made.command


def test_a_multi_model_replica_sees_the_folder_that_archives_are_extracted_into(tmp_path: Path, podman: Podman) -> None:
    folder = tmp_path / "state/replicas/r1"
    made = launch.as_container(
        podman, Image("", "/", (), {}, "", container="id7"), folder, None, {}, {}, port=1, limits=launch.Limits(1, 1.0)
    )
    assert f"--volume={folder}/opt/ml/models:/opt/ml/models:ro" in made.command
    assert (folder / "opt/ml/models").is_dir()


def test_podman_is_called_with_a_configuration_and_a_store_of_its_own(podman: Podman) -> None:
    environment = podman.environment
    assert environment["CONTAINERS_CONF"].startswith(str(podman.folder))
    assert not {name for name in environment if name.startswith(("AWS_", "INFERENCE_"))}
    configuration = Path(environment["CONTAINERS_CONF"]).read_text()
    assert 'netns = "host"' in configuration
    assert f'graphroot = "{podman.folder}/storage"' in Path(environment["CONTAINERS_STORAGE_CONF"]).read_text()


def test_many_may_look_for_the_engine_at_once(podman: Podman) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: engine.find(podman.folder.parent), range(200)))
    assert set(found) == {podman}
    assert Path(podman.environment["CONTAINERS_CONF"]).read_text().startswith("[containers]")
    assert list((podman.folder / "tmp").iterdir()) == []


def test_a_failure_quotes_podmans_last_lines_and_exit_code(podman: Podman) -> None:
    (podman.folder / "fail").touch()
    with pytest.raises(EngineError, match=r"podman build ended with exit code 3: 19 \| .* \| 30$"):
        podman.call("build")


def test_an_accounts_containers_are_found_by_their_label_and_removed(podman: Podman) -> None:
    podman.remove_labelled("a=b")
    assert calls(podman) == ["ps --all --quiet --filter label=a=b", "rm --force --time 0 c1 c2"]


@pytest.mark.parametrize(
    ("given", "chosen"),
    [({}, "base:1"), ({"BASE_IMAGE": "python:3.11-slim"}, "base:1"), ({"BASE_IMAGE": "other:2"}, "other:2")],
)
def test_the_official_base_is_replaced_by_what_this_machine_has_and_no_other(
    podman: Podman, tmp_path: Path, given: dict[str, str], chosen: str
) -> None:
    built = build(podman, BaseImage("base:1"), tmp_path, tmp_path / "Dockerfile", "t:1", {"DEVICE": "cpu", **given})
    assert built == Built("id7", DIGEST, 1_000_000, 5)
    assert f"--build-arg=BASE_IMAGE={chosen} --build-arg=DEVICE=cpu --tag=t:1" in calls(podman)[0]
    assert "--pull=never" in calls(podman)[0]


def test_a_base_image_that_was_pulled_is_named_by_its_digest(podman: Podman) -> None:
    (podman.folder / "store").write_text(f"{OFFICIAL}\n{SUBSTITUTE}\n")
    (podman.folder / "digests").write_text(f"docker.io/library/python@{DIGEST}\n")
    assert base_image.prepare(podman, None, print) == BaseImage(f"docker.io/library/python@{DIGEST}")


def test_a_substitute_is_named_as_one(podman: Podman) -> None:
    (podman.folder / "store").write_text(f"{SUBSTITUTE}\n")
    base = base_image.prepare(podman, None, print)
    assert (base.name, base.note.partition(":")[0]) == (SUBSTITUTE, "a substitute for python")


def test_without_a_registry_and_without_a_substitute_one_is_made(
    podman: Podman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_image, "make_substitute", lambda _podman: BaseImage(SUBSTITUTE, "made"))
    told: list[str] = []
    assert base_image.prepare(podman, None, told.append).note == "made"
    assert "building a substitute" in told[-1]


def test_a_base_image_that_was_asked_for_is_never_replaced(podman: Podman) -> None:
    with pytest.raises(EngineError, match="podman pull ended with exit code 125: no such host"):
        base_image.prepare(podman, "python:3.11-slim@sha256:0", print)


def test_a_python_of_the_system_makes_no_substitute(podman: Podman, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.base_prefix", "/usr")
    with pytest.raises(EngineError, match="use --base-image"):
        base_image.make_substitute(podman)


@pytest.mark.parametrize(
    ("root", "apt", "message"),
    [(True, None, "there is no apt-get here"), (False, "/usr/bin/apt-get", "sudo apt-get install podman runc")],
)
def test_what_cannot_be_installed_is_said_with_what_to_do(root: bool, apt: str | None, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        engine.install(["podman", "runc"], root=root, apt=apt)


def test_missing_programs_are_named_by_their_packages() -> None:
    assert engine.missing(lambda name: None if name == "podman" else f"/usr/bin/{name}") == ["podman"]


def test_an_account_with_podman_is_refused_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("local_aws.lifecycle.environment", lambda *_arguments: tmp_path)
    place = ["--state", str(tmp_path / "state"), "--cache", str(tmp_path / "cache")]
    done = CliRunner().invoke(app, ["local", "up", "--engine", "podman", *place])
    assert done.exit_code == 2
    assert "podman is not installed: run scripts/images" in done.output
    assert not (tmp_path / "state").exists()


def test_a_running_account_keeps_its_engine(tmp_path: Path) -> None:
    own = os.getpid()
    claim(tmp_path, ACCOUNT)
    LocalAccount(str(tmp_path), str(tmp_path), 1, 2, own, birth(own), "").write()
    done = CliRunner().invoke(app, ["local", "up", "--engine", "podman", "--state", str(tmp_path)])
    assert done.exit_code == 2
    assert "runs with the engine process: `inference local down` first" in done.output


def test_the_cdks_docker_command_builds_by_podman_where_the_account_does(
    podman: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (podman.folder / "store").write_text(f"{SUBSTITUTE}\n")
    (tmp_path / "state/images").mkdir(parents=True)
    for name, value in (
        (STATE_VARIABLE, str(tmp_path / "state")),
        (CACHE_VARIABLE, str(tmp_path / "cache")),
        (ENGINE_VARIABLE, "podman"),
    ):
        monkeypatch.setenv(name, value)
    assert docker_shim.main(["build", "--tag", "asset", "--file", "x/Dockerfile", str(tmp_path)]) == 0
    image = images.find(tmp_path / "state", "asset")
    assert image is not None
    assert (image.container, image.digest) == ("id7", DIGEST)
    assert image.note.startswith("its base is a substitute for python:3.11-slim")


@pytest.fixture
def held() -> sbom.Contents:
    python = {"python": "3.11.7", "packages": [["numpy", "2.4.6"], ["Jinja2", "3.1.6"]]}
    return sbom.parse(["libc6\t2.36-9\tamd64", "tzdata\t2026a\tall", "debian"], python)


def test_a_bill_of_materials_lists_debians_and_pythons_packages_and_the_interpreter(held: sbom.Contents) -> None:
    document = json.loads(sbom.document("tabular", Built("id7", DIGEST, 1, 5), held))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["version"] == DIGEST
    assert {each["purl"] for each in document["components"]} == {
        "pkg:deb/debian/libc6@2.36-9?arch=amd64",
        "pkg:deb/debian/tzdata@2026a?arch=all",
        "pkg:pypi/jinja2@3.1.6",
        "pkg:pypi/numpy@2.4.6",
        "pkg:generic/python@3.11.7",
    }
    assert held.packages == 5


def test_an_image_that_lists_nothing_is_an_error_and_no_empty_bill() -> None:
    with pytest.raises(EngineError, match="0 Debian and 0 Python packages"):
        sbom.parse(["debian"], {"python": "3.11.7", "packages": []})


def test_what_podman_did_not_build_runs_as_a_process_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENGINE_VARIABLE, "podman")
    monkeypatch.setattr(model_data, "extracted", lambda _state, _url, _expected: tmp_path)
    (tmp_path / "images").mkdir()
    Image("/", "/", ("serve",), {}, "/", "a fake").save(tmp_path, "tiny:1")
    Image("", "/", (), {}, "", container="id7").save(tmp_path, "built:1")
    notes = {
        name: models.replica_spec(tmp_path, {"Image": name, "ModelDataUrl": "s3://b/k"}, "ml.c5.large").image.note
        for name in ("tiny:1", "built:1")
    }
    assert notes["tiny:1"] == "a fake; runs as a process, in no container: Podman did not build its image"
    assert notes["built:1"] == ""
