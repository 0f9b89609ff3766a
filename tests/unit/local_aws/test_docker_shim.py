"""The docker shim lays out images, and says plainly what it does not do."""

from pathlib import Path

import pytest

from containers.serving.contract import REQUIREMENTS_LABEL
from local_aws import docker_shim
from local_aws.account import CACHE_VARIABLE, ROOT, STATE_VARIABLE
from local_aws.docker_shim import UnsupportedError, main
from local_aws.hosting.images import find
from model_build.owned_folders import claim

URI = "000000000000.dkr.ecr.us-east-1.amazonaws.com/assets:abc"
DOCKERFILE = f"""ARG BASE_IMAGE=python:3.11-slim
FROM ${{BASE_IMAGE}} AS build
COPY requirements*.txt /tmp/
RUN compile everything
FROM ${{BASE_IMAGE}}
LABEL other=1 \\
      {REQUIREMENTS_LABEL}="requirements.txt"
ENV GREETING=hello \\
    COUNT=2
WORKDIR /opt/program
COPY --from=build /opt/venv /opt/venv
COPY app.py app/main.py
COPY lib app/lib
USER 10001
ENTRYPOINT ["python", "-m", "app.main"]
CMD ["serve"]
"""


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(docker_shim, "environment", lambda cache, name, _requirements, *_options: cache / name)
    claim(tmp_path / "state")
    (tmp_path / "state/images").mkdir()
    folder = tmp_path / "context"
    (folder / "lib").mkdir(parents=True)
    for name in ("app.py", "lib/part.py"):
        (folder / name).write_text(name)
    for name in ("requirements.txt", "requirements-fast.txt", "requirements-small.txt"):
        (folder / name).write_text("pip==1\n")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    return folder


def test_a_build_argument_chooses_what_the_dockerfile_names(
    context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[Path] = []

    def make(cache: Path, name: str, requirements: Path, *_options: str) -> Path:
        chosen.append(requirements)
        return cache / name

    monkeypatch.setattr(
        docker_shim,
        "environment",
        make,
    )
    text = DOCKERFILE.replace("\nLABEL", "\nARG ENGINE=fast\nLABEL").replace(
        '"requirements.txt"', '"requirements-${ENGINE}.txt"'
    )
    (context / "Dockerfile").write_text(text)
    assert main(["build", "--tag", "default", str(context)]) == 0
    assert main(["build", "--tag", "other", "--build-arg", "ENGINE=small", str(context)]) == 0
    assert [path.name for path in chosen] == ["requirements-fast.txt", "requirements-small.txt"]
    images = [find(tmp_path / "state", tag) for tag in ("default", "other")]
    assert images[0] is not None and images[1] is not None
    assert images[0].rootfs != images[1].rootfs


def test_the_last_stage_is_laid_out_and_found_by_its_ecr_uri(context: Path, tmp_path: Path) -> None:
    assert main(["build", "--tag", "local", "--platform", "linux/amd64", str(context)]) == 0
    assert main(["tag", "local", URI]) == 0
    image = find(tmp_path / "state", URI)
    assert image is not None
    assert image.entrypoint == ("python", "-m", "app.main")
    assert image.environment == {"GREETING": "hello", "COUNT": "2"}
    program = Path(image.rootfs) / "opt/program/app"
    assert (program / "main.py").read_text() == "app.py"
    assert (program / "lib/part.py").read_text() == "lib/part.py"


def test_what_requirements_include_must_be_copied_too(context: Path) -> None:
    (context / "requirements.txt").write_text("-r requirements-fast.txt\npip==1\n")
    assert main(["build", "--tag", "all", str(context)]) == 0
    (context / "Dockerfile").write_text(DOCKERFILE.replace("COPY requirements*.txt", "COPY requirements.txt"))
    with pytest.raises(UnsupportedError, match=r"it installs requirements-fast\.txt"):
        main(["build", "--tag", "one", str(context)])


@pytest.mark.parametrize(
    ("image", "argument", "below"),
    [
        *(("encoder", f"ENGINE={engine}", "containers") for engine in ("vnni", "openvino", "onnxruntime", "ipex")),
        *(("neuron_encoder", f"DEVICE={device}", "containers") for device in ("cpu", "neuron")),
        ("tabular", "NONE=", "containers"),
        ("saved_model", "NONE=", "containers"),
        ("load_test", "NONE=", "."),
    ],
)
def test_every_image_of_this_project_has_what_it_installs(context: Path, image: str, argument: str, below: str) -> None:
    del context
    dockerfile = ROOT / "containers" / image / "Dockerfile"
    assert main(["build", "--tag", "it", "--build-arg", argument, "--file", str(dockerfile), str(ROOT / below)]) == 0


def test_inspect_tells_whether_an_image_is_there(context: Path) -> None:
    assert main(["inspect", "local"]) == 1
    main(["build", "--tag", "local", str(context)])
    assert main(["inspect", "local"]) == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("USER 10001", "RUN touch /here", "RUN in its last stage, .* `inference local up --engine podman`"),
        ("COPY app.py", "COPY missing.py", "missing.py is not in the build context"),
        (REQUIREMENTS_LABEL, "unknown.label", "has no LABEL .* --engine podman"),
    ],
)
def test_what_it_cannot_do_is_an_error_that_says_so(context: Path, old: str, new: str, message: str) -> None:
    (context / "Dockerfile").write_text(DOCKERFILE.replace(old, new))
    with pytest.raises(UnsupportedError, match=message):
        main(["build", "--tag", "local", str(context)])


@pytest.mark.usefixtures("context")
@pytest.mark.parametrize("arguments", [["run", "x"], ["push", "elsewhere/x:1"], ["tag", "none", URI]])
def test_other_commands_are_refused(arguments: list[str]) -> None:
    with pytest.raises(UnsupportedError):
        main(arguments)
