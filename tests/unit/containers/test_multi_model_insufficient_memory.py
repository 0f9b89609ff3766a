"""A model that does not fit into the memory budget is a 507, which asks SageMaker to unload another."""

from pathlib import Path

import httpx
import pytest

from containers.serving import multi_model
from containers.serving.multi_model import MemoryBudget, ModelLoadError
from tests.unit.containers.multi_model_client import Echo, ask, container, echo, error, load, names, talk, unload


def test_a_loader_that_finds_no_memory_is_a_507_so_that_sagemaker_unloads_and_asks_again() -> None:
    def exhausts(folder: Path) -> Echo:
        if folder.parent.name == "large":
            raise MemoryError
        return echo(folder)

    async def scenario(client: httpx.AsyncClient) -> None:
        await load(client, "good")
        refused = await load(client, "large")
        assert refused.status_code == 507
        assert error(refused)["code"] == "insufficient_memory"
        assert error(refused)["message"].endswith("least recently used: good")
        assert (await ask(client, "good")).status_code == 200

    talk(container(exhausts), scenario)


TWO_FIT = MemoryBudget(limit_bytes=2**50, base_bytes=0, reservation_bytes=2**48 + 2**47)
"""Room for two models and not for three, whatever this process itself uses."""


def test_a_model_that_does_not_fit_is_a_507_that_names_counts_and_whom_to_unload() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        assert [(await load(client, name)).status_code for name in ("ohio", "utah")] == [200, 200]
        await ask(client, "ohio")
        refused = await load(client, "iowa")
        assert refused.status_code == 507
        assert error(refused)["code"] == "insufficient_memory"
        free = TWO_FIT.model_bytes - 2 * TWO_FIT.reservation_bytes
        assert error(refused)["message"] == (
            f"the model counts {TWO_FIT.reservation_bytes} bytes, {free} of {2**50} are free; least recently used: utah"
        )
        assert await names(client) == ["ohio", "utah"]

    talk(container(budget=TWO_FIT), scenario)


def test_a_model_that_did_not_fit_fits_after_another_is_unloaded() -> None:
    async def scenario(client: httpx.AsyncClient) -> list[int]:
        calls = [load(client, "ohio"), load(client, "utah"), load(client, "iowa"), unload(client, "ohio")]
        statuses = [(await call).status_code for call in calls]
        return [*statuses, (await load(client, "iowa")).status_code, (await ask(client, "iowa")).status_code]

    assert talk(container(budget=TWO_FIT), scenario) == [200, 200, 507, 200, 200, 200]


def test_memory_that_a_refused_or_broken_load_held_is_free_again() -> None:
    def breaks(folder: Path) -> Echo:
        match folder.parent.name:
            case "broken":
                raise RuntimeError
            case "damaged":
                raise ModelLoadError("damaged")
            case "larger than its file":
                return Echo("", size_bytes=2**50)
        return echo(folder)

    async def scenario(client: httpx.AsyncClient) -> None:
        for name, status in (("broken", 500), ("damaged", 400), ("larger than its file", 507)):
            assert [(await load(client, name)).status_code for _ in range(5)] == [status] * 5
        assert [(await load(client, name)).status_code for name in ("ohio", "utah", "iowa")] == [200, 200, 507]

    talk(container(breaks, TWO_FIT), scenario)


def test_a_first_model_that_never_fits_is_told_to_take_a_larger_instance() -> None:
    response = talk(container(budget=MemoryBudget(limit_bytes=100, base_bytes=95)), lambda client: load(client, "ohio"))
    assert response.status_code == 507
    assert error(response)["message"].endswith("no model is loaded, use a larger instance")


def test_an_archive_larger_than_the_memory_is_refused_by_its_size_on_disk_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"x" * 1001)

    def never(folder: Path) -> Echo:
        raise AssertionError(folder)

    budget = MemoryBudget(limit_bytes=1000, base_bytes=0, headroom=0)
    response = talk(container(never, budget), lambda client: load(client, "ohio", str(tmp_path)))
    assert response.status_code == 507
    assert "counts 1001 bytes" in error(response)["message"]


def test_memory_that_requests_have_taken_is_not_given_to_models(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = 0
    monkeypatch.setattr(multi_model, "resident_bytes", lambda: resident)

    async def scenario(client: httpx.AsyncClient) -> list[int]:
        nonlocal resident
        statuses = [(await load(client, "ohio")).status_code]
        resident = 960
        statuses.append((await load(client, "utah")).status_code)
        resident = 0
        return [*statuses, (await load(client, "utah")).status_code]

    budget = MemoryBudget(limit_bytes=1000, base_bytes=0, reservation_bytes=10)
    assert talk(container(budget=budget), scenario) == [200, 507, 200]


def test_the_first_model_is_loaded_however_much_the_process_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_model, "resident_bytes", lambda: 2**60)
    budget = MemoryBudget(limit_bytes=1000, base_bytes=0, reservation_bytes=10)
    assert talk(container(budget=budget), lambda client: load(client, "ohio")).status_code == 200
