"""scripts/images: what it refuses, what it stages, and how it tells of a violation."""

from pathlib import Path

import pytest

from local_aws.podman import engine
from local_aws.podman.base_image import BaseImage
from local_aws.podman.build import Built
from local_aws.podman.engine import Podman
from tools.images import __main__ as command
from tools.images import serving
from tools.images.catalog import IMAGES
from tools.images.run import Report


def test_an_image_that_there_is_not_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        command.main(["bert"])
    assert raised.value.code == 2
    assert "available: encoder, saved_model, tabular, neuron_encoder, load_test" in capsys.readouterr().err


def test_without_an_engine_it_ends_with_2_and_installs_nothing_that_it_may_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine, "missing", lambda: ["podman", "runc"])
    assert command.main(["--no-install"]) == 2
    assert "missing packages: podman, runc; install them, or omit --no-install" in capsys.readouterr().err


@pytest.mark.parametrize(("wrong", "code"), [([], 0), (["it runs as user 0, not as 10001"], 1)])
def test_a_violation_is_told_by_its_image_and_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, wrong: list[str], code: int
) -> None:
    def examined(*_arguments: object, **_options: object) -> Report:
        return Report(
            "tabular", 1.0, Built("id", "sha256:1", 199_000_000, 5), 67_000_000, 119, serving.Outcome(wrong=wrong)
        )

    podman = Podman("podman", tmp_path)
    monkeypatch.setattr(command, "prepared", lambda _base, **_options: (podman, BaseImage("x", "a substitute for it")))
    monkeypatch.setattr(command, "examine", examined)
    assert command.main(["tabular", "--output", str(tmp_path)]) == code
    told = capsys.readouterr()
    assert "base image: x (a substitute for it)" in told.out
    assert all(f"error: tabular: {each}" in told.err for each in wrong)


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_a_staged_context_holds_what_the_dockerfile_copies_and_nothing_compiled(name: str, tmp_path: Path) -> None:
    dockerfile = IMAGES[name].stage(tmp_path)
    copied = [line.split()[1:-1] for line in dockerfile.read_text().splitlines() if line.startswith("COPY ")]
    sources = [each for line in copied if not line[0].startswith("--from") for each in line if "$" not in each]
    assert sources
    assert all(any(tmp_path.glob(source)) for source in sources)
    assert not list(tmp_path.rglob("*.pyc"))


def test_a_process_that_keeps_rights_is_a_violation_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    status = (
        "Uid:\t0\t0\t0\t0\nCapInh:\t0\nCapPrm:\t1f\nCapEff:\t1f\nCapBnd:\t0\nCapAmb:\t0\nNoNewPrivs:\t0\nSeccomp:\t0\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda _: status)
    outcome = serving.Outcome()
    serving.check_rights(1, outcome)
    assert [each.partition(",")[0] for each in outcome.wrong] == [
        "it runs as user 0",
        "it has capabilities: CapPrm",
        "it may gain privileges by executing a file",
        "its system calls are not filtered",
    ]
