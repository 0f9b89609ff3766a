"""What a build finds in its cache is used only as an earlier build recorded it, and made anew otherwise."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from model_build.build_cache import main, record, tree_hash, verify

ROOT = Path(__file__).parents[3]
WORKLOADS = ("encoder", "neuron_encoder", "tabular", "saved_model")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with an environment, whose python is a link, and a finished step."""
    (tmp_path / "cache/venvs/churn-1/bin").mkdir(parents=True)
    (tmp_path / "cache/venvs/churn-1/bin/python").symlink_to("/usr/bin/python3")
    (tmp_path / "cache/venvs/churn-1/module.py").write_text("VALUE = 1\n")
    (tmp_path / "cache/venvs/churn-1.lock").touch()
    (tmp_path / "cache/steps/train-1").mkdir(parents=True)
    (tmp_path / "cache/steps/train-1/model").write_text("weights")
    return tmp_path / "cache"


def test_what_was_recorded_is_kept(cache: Path) -> None:
    before = record(cache)
    assert set(before) == {"venvs/churn-1", "steps/train-1"}
    assert verify(cache, before) == []
    assert (cache / "venvs/churn-1/module.py").exists()


@pytest.mark.parametrize("change", ["content", "extra file", "executable", "link", "missing file"])
def test_what_was_changed_is_made_anew_and_the_rest_is_kept(cache: Path, change: str) -> None:
    before = record(cache)
    module = cache / "venvs/churn-1/module.py"
    match change:
        case "content":
            module.write_text("import os; os.system('id')\n")
        case "extra file":
            (cache / "venvs/churn-1/sitecustomize.py").write_text("")
        case "executable":
            module.chmod(0o755)
        case "link":
            (cache / "venvs/churn-1/bin/python").unlink()
            (cache / "venvs/churn-1/bin/python").symlink_to("/tmp/evil")
        case "missing file":
            module.unlink()
    assert verify(cache, before) == [
        "cache: venvs/churn-1 was deleted and will be rebuilt: its hash differs from the recorded one"
    ]
    assert not (cache / "venvs/churn-1").exists()
    assert (cache / "steps/train-1/model").exists()


def test_without_a_record_nothing_is_used(cache: Path) -> None:
    assert len(verify(cache, {})) == 2
    assert record(cache) == {}


def test_a_planted_link_is_removed_and_not_followed(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").touch()
    (cache / "steps/train-2").symlink_to(tmp_path / "outside")
    verify(cache, record(cache))
    assert not (cache / "steps/train-2").is_symlink()
    assert (tmp_path / "outside/file").exists()
    (cache / "venvs").rename(cache / "moved")
    (cache / "venvs").symlink_to(cache / "moved")
    with pytest.raises(OSError, match="is a symbolic link"):
        verify(cache, {})


def test_a_pipe_is_no_file_to_wait_for(cache: Path) -> None:
    before = record(cache)
    os.mkfifo(cache / "steps/train-1/pipe")
    with pytest.raises(OSError, match="not a file"):
        tree_hash(cache / "steps/train-1")
    assert len(verify(cache, before)) == 1


def fake_aws(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An AWS CLI whose `s3 cp` reads and writes one file."""
    (folder / "bin").mkdir()
    stored = folder / "stored"
    script = f'#!/bin/sh\nif [ "$5" = - ]; then cat {stored}; else cat > {stored}; fi\n'
    (folder / "bin/aws").write_text(script)
    (folder / "bin/aws").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    return stored


def test_a_record_goes_to_s3_and_the_next_build_reads_it(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = fake_aws(tmp_path, monkeypatch)
    url = "s3://bucket/tabular/build-cache.json"
    assert main(["record", str(cache), url]) == 0
    assert json.loads(stored.read_text()) == record(cache)
    assert main(["verify", str(cache), url]) == 0
    assert capsys.readouterr().out == ""
    stored.write_text("damaged")
    assert main(["verify", str(cache), url]) == 0
    assert capsys.readouterr().out.count("will be rebuilt: no build recorded it") == 2


@pytest.mark.parametrize("arguments", [[], ["verify"], ["delete", "/tmp", "s3://b/k"]])
def test_other_words_are_refused(arguments: list[str]) -> None:
    assert main(arguments) == 2


@pytest.mark.parametrize("workload", WORKLOADS)
def test_every_build_verifies_its_cache_before_it_uses_it_and_records_it_at_its_end(workload: str) -> None:
    lines = (ROOT / "model_build" / workload / "codebuild.sh").read_text().splitlines()
    verified, recorded = (f'build_cache {step} "$cache"' for step in ("verify", "record"))
    assert lines[-1] == recorded
    assert lines.index(verified) < next(number for number, line in enumerate(lines) if "$venv" in line)


def test_a_local_accounts_cache_is_left_as_it_is(cache: Path) -> None:
    script = f"source model_build/package_index.sh; build_cache verify {cache}"
    kept = {"PATH": os.environ["PATH"], "CODEBUILD_BUILD_ID": "x", "INFERENCE_BUILD_CACHE": str(cache)}
    subprocess.run(["bash", "-euc", script], cwd=ROOT, env=kept, check=True, timeout=60)
    assert (cache / "venvs/churn-1").exists()
