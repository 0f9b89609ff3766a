"""A container refuses what it cannot serve, with one line, and counts its cores by its own limits."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from containers.serving.contract import MANIFEST_FILE
from containers.serving.cpu import available_cores, instruction_sets
from containers.serving.errors import StartupError
from containers.serving.manifest import EngineVersion, Manifest, check_engine, load_manifest, sha256


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "schema_version": 1,
        "workload": "encoder",
        "precision": "int8",
        "recipe": {},
        "source": "test",
        "engine": EngineVersion(name="openvino", version="1.0"),
        "built_with": {},
        "inputs": (),
        "instruction_sets_any_of": (),
        "calibration": None,
        "accuracy": None,
        "files": {},
    }
    return Manifest(**{**values, **changes})


def test_a_manifest_survives_its_file(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    written = manifest(files={"model.bin": sha256(tmp_path / "model.bin")})
    (tmp_path / MANIFEST_FILE).write_bytes(written.to_json())
    assert load_manifest(tmp_path, "encoder") == written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 9}, "schema_version 9"),
        ({"workload": "tabular"}, "for workload 'tabular'"),
        ({"instruction_sets_any_of": ("avx1024_magic",)}, "needs one of the instruction sets avx1024_magic"),
        ({"files": {"model.bin": "0" * 64}}, "model.bin is corrupt"),
        ({"files": {"other.bin": "0" * 64}}, "other.bin is missing"),
    ],
)
def test_an_artifact_that_cannot_be_served_is_refused_with_one_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    (tmp_path / MANIFEST_FILE).write_bytes(manifest(**changes).to_json())
    with pytest.raises(StartupError, match=message) as raised:
        load_manifest(tmp_path, "encoder")
    assert "\n" not in str(raised.value)


def test_a_missing_or_unknown_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"no manifest\.json"):
        load_manifest(tmp_path, "encoder")
    (tmp_path / MANIFEST_FILE).write_bytes(msgspec.json.encode({"schema_version": 1, "colour": "red"}))
    with pytest.raises(StartupError, match="is not valid"):
        load_manifest(tmp_path, "encoder")


def test_another_engine_or_version_is_refused() -> None:
    check_engine(manifest(), "openvino", "1.0")
    with pytest.raises(StartupError, match=r"built for openvino 1\.0, this image has openvino 2\.0"):
        check_engine(manifest(), "openvino", "2.0")


@pytest.mark.parametrize(
    ("cpu_max", "cores"), [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1), ("150000 100000", 1)]
)
def test_cores_come_from_the_cgroup_quota(tmp_path: Path, cpu_max: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(cpu_max)
    assert available_cores(tmp_path) == (cores or len(os.sched_getaffinity(0)))


def test_the_first_cgroup_version_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("100000")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    assert available_cores(tmp_path) == 1


def test_an_isa_cap_hides_the_instruction_sets_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags : fpu avx2 avx512f avx512_vnni avx512_bf16\n")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    instruction_sets.cache_clear()
    assert instruction_sets(cpuinfo) == {"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    instruction_sets.cache_clear()
    assert instruction_sets(cpuinfo) == {"avx2", "avx512f"}
    instruction_sets.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "message"),
    [
        (["train"], {}, 2, "this image is run as `IMAGE serve`"),
        (["serve"], {}, 1, "cannot serve: no manifest.json"),
    ],
)
def test_the_image_stops_with_an_honest_exit_code(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], code: int, message: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "containers.encoder", *arguments],
        env={**os.environ, "SAGEMAKER_BASE_DIR": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
