"""What a container takes for its memory limit, and what of it models may have."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containers.serving.errors import StartupError
from containers.serving.memory import LIMIT_VARIABLE, memory_limit_bytes, resident_bytes
from containers.serving.multi_model import MemoryBudget, budget_in
from containers.tabular import __main__ as command

MEMINFO = "MemTotal:       16384000 kB\nMemFree:         1234567 kB\n"
MACHINE = 16384000 * 1024


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)


def limit(folder: Path, **files: str) -> int:
    (folder / "memory").mkdir()
    (folder / "meminfo").write_text(MEMINFO)
    for name, text in {"v1": "memory/memory.limit_in_bytes", "v2": "memory.max"}.items():
        if name in files:
            (folder / text).write_text(files[name])
    return memory_limit_bytes(folder, folder / "meminfo")


def test_the_limit_of_a_version_2_cgroup_counts(tmp_path: Path) -> None:
    assert limit(tmp_path, v2="4294967296\n") == 2**32


def test_the_limit_of_a_version_1_cgroup_counts(tmp_path: Path) -> None:
    assert limit(tmp_path, v1="2147483648\n") == 2**31


@pytest.mark.parametrize(
    "files", [{}, {"v2": "max\n"}, {"v1": "9223372036854771712\n"}, {"v2": ""}, {"v2": "max\n", "v1": "max\n"}]
)
def test_without_a_limit_the_machines_memory_counts(tmp_path: Path, files: dict[str, str]) -> None:
    assert limit(tmp_path, **files) == MACHINE


def test_a_cgroup_larger_than_the_machine_does_not_count(tmp_path: Path) -> None:
    assert limit(tmp_path, v2=f"{MACHINE * 2}\n") == MACHINE


@pytest.mark.parametrize(("given", "expected"), [("1073741824", 2**30), (str(2**33), 2**32), ("", 2**32)])
def test_the_variable_can_lower_the_limit_and_never_raise_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, expected: int
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, given)
    assert limit(tmp_path, v2="4294967296\n") == expected


@pytest.mark.parametrize("given", ["4GiB", "-1", "0", "1.5e9", "unlimited"])
def test_a_variable_that_is_no_number_of_bytes_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, given)
    with pytest.raises(StartupError, match=rf"{LIMIT_VARIABLE} is '{given}': it must be a number of bytes above 0"):
        limit(tmp_path)


def test_a_machine_that_does_not_tell_its_memory_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemFree: 1 kB\n")
    with pytest.raises(OSError, match="meminfo has no MemTotal"):
        memory_limit_bytes(tmp_path, tmp_path / "meminfo")


def test_the_resident_memory_is_the_second_number_in_pages(tmp_path: Path) -> None:
    (tmp_path / "statm").write_text("9999 1000 50 1 0 700 0\n")
    assert resident_bytes(tmp_path / "statm") % 1000 == 0
    assert 2**20 < resident_bytes() < 2**40


def test_models_may_have_the_limit_without_the_headroom_and_what_the_process_uses_itself() -> None:
    assert MemoryBudget(limit_bytes=1000, base_bytes=300).model_bytes == 600
    assert MemoryBudget(limit_bytes=1000, base_bytes=300, headroom=0.5).model_bytes == 200
    assert MemoryBudget(limit_bytes=1000, base_bytes=950).model_bytes == -50


def test_the_budget_of_this_process_takes_off_what_it_uses_now() -> None:
    budget = budget_in(2**40, 7)
    assert (budget.limit_bytes, budget.reservation_bytes) == (2**40, 7)
    assert 2**20 < budget.base_bytes < 2**40


@settings(derandomize=True, max_examples=100)
@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_model_counts_its_size_and_never_less_than_the_reservation(size: int, reservation: int) -> None:
    cost = MemoryBudget(limit_bytes=2**40, base_bytes=0, reservation_bytes=reservation).cost(size)
    assert cost >= size
    assert cost >= reservation
    assert cost in (size, reservation)


@pytest.mark.parametrize("given", ["-1", "1e6", "64MiB", " "])
def test_a_reservation_that_is_no_number_of_bytes_stops_the_start(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(command.RESERVATION_VARIABLE, given)
    with pytest.raises(StartupError, match=f"MODEL_MEMORY_RESERVATION_BYTES is '{given}': it must be a number of byte"):
        command._create()


def test_a_container_too_small_for_any_model_starts_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "1000")
    command._create()
    assert "no model fits: 0 of 1000 bytes are available for models" in caplog.text
