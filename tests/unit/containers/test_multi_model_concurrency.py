"""Multi-model calls at the same time: loads, invocations and unloads neither block nor break one another."""

import asyncio
from pathlib import Path

import httpx
import pytest

from containers.serving import multi_model
from containers.serving.app import Answer, Invocation
from containers.serving.multi_model import MemoryBudget, ModelLoadError
from tests.unit.containers.multi_model_client import Echo, Gate, ask, container, echo, error, load, names, talk, unload


def test_a_full_queue_is_a_503_with_retry_after_and_loses_nothing() -> None:
    gate = Gate()

    class Slow(Echo):
        def invoke(self, invocation: Invocation) -> Answer:
            gate.stop()
            return super().invoke(invocation)

    async def scenario(client: httpx.AsyncClient) -> None:
        await load(client, "ohio")
        waiting = [asyncio.create_task(ask(client, "ohio", body)) for body in (b"1", b"2")]
        await gate.reached()
        refused = await ask(client, "ohio")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert error(refused)["message"] == "2 requests are waiting; try again later"
        assert (await client.get("/ping")).status_code == 200
        gate.opened.set()
        assert [answer.content for answer in await asyncio.gather(*waiting)] == [b"ohio: 1", b"ohio: 2"]
        assert (await ask(client, "ohio")).status_code == 200

    talk(container(lambda _folder: Slow("ohio"), queue_capacity=2), scenario)


def test_one_model_loaded_twice_at_once_is_read_once_and_gives_one_200_and_one_409() -> None:
    gate, reads = Gate(), []

    def slow(folder: Path) -> Echo:
        reads.append(folder)
        gate.stop()
        return echo(folder)

    async def scenario(client: httpx.AsyncClient) -> list[int]:
        both = [asyncio.create_task(load(client, "ohio")) for _ in range(2)]
        await gate.reached()
        gate.opened.set()
        return [answer.status_code for answer in await asyncio.gather(*both)]

    assert sorted(talk(container(slow), scenario)) == [200, 409]
    assert len(reads) == 1


def test_a_second_load_of_a_model_whose_first_failed_tries_for_itself() -> None:
    gate = Gate()
    tries = iter([ModelLoadError("half an archive"), None])

    def fails_once(folder: Path) -> Echo:
        failure = next(tries)
        gate.stop()
        if failure:
            raise failure
        return echo(folder)

    async def scenario(client: httpx.AsyncClient) -> list[int]:
        both = [asyncio.create_task(load(client, "ohio")) for _ in range(2)]
        await gate.reached()
        gate.opened.set()
        return [answer.status_code for answer in await asyncio.gather(*both)]

    assert sorted(talk(container(fails_once), scenario)) == [200, 400]


def test_loading_delays_neither_ping_nor_the_list_nor_models_that_are_there() -> None:
    gate = Gate()

    def slow(folder: Path) -> Echo:
        if folder.parent.name != "ohio":
            gate.stop()
        return echo(folder)

    async def scenario(client: httpx.AsyncClient) -> None:
        await load(client, "ohio")
        coming = [asyncio.create_task(load(client, name)) for name in ("utah", "iowa", "maine", "texas")]
        await gate.reached()
        await gate.reached()
        assert (await client.get("/ping")).status_code == 200
        assert [(await ask(client, "ohio", b"?" * size)).status_code for size in (0, 1, 100_000)] == [200] * 3
        assert await names(client) == ["ohio"]
        assert (await client.get("/models/utah")).status_code == 404
        assert (await ask(client, "utah")).status_code == 404
        assert (await unload(client, "utah")).status_code == 404
        gate.opened.set()
        assert [answer.status_code for answer in await asyncio.gather(*coming)] == [200] * 4
        assert await names(client) == ["iowa", "maine", "ohio", "texas", "utah"]

    talk(container(slow), scenario)


def test_a_slow_disk_under_a_new_archive_delays_no_model_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()

    def slow_disk(folder: Path) -> int:
        if folder.parent.name != "ohio":
            gate.stop()
        return 0

    monkeypatch.setattr(multi_model, "_size_on_disk", slow_disk)

    async def scenario(client: httpx.AsyncClient) -> None:
        await load(client, "ohio")
        coming = asyncio.create_task(load(client, "utah"))
        await gate.reached()
        assert (await ask(client, "ohio")).status_code == 200
        gate.opened.set()
        assert (await coming).status_code == 200

    talk(container(), scenario)


def test_a_model_unloaded_while_it_answers_finishes_its_answer() -> None:
    gate = Gate()

    class Slow(Echo):
        def invoke(self, invocation: Invocation) -> Answer:
            gate.stop()
            return super().invoke(invocation)

    async def scenario(client: httpx.AsyncClient) -> None:
        await load(client, "ohio")
        answer = asyncio.create_task(ask(client, "ohio", b"churn?"))
        await gate.reached()
        assert (await unload(client, "ohio")).status_code == 200
        assert (await ask(client, "ohio")).status_code == 404
        gate.opened.set()
        assert ((await answer).status_code, (await answer).content) == (200, b"ohio: churn?")

    talk(container(lambda _folder: Slow("ohio")), scenario)


def test_of_two_loads_at_once_that_do_not_fit_together_one_is_a_507() -> None:
    gate = Gate()

    def slow(folder: Path) -> Echo:
        gate.stop()
        return echo(folder)

    async def scenario(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(load(client, "ohio"))
        await gate.reached()
        second = await load(client, "utah")
        assert second.status_code == 507
        gate.opened.set()
        assert (await first).status_code == 200
        assert await names(client) == ["ohio"]

    one_fits = MemoryBudget(limit_bytes=2**50, base_bytes=0, reservation_bytes=2**49)
    talk(container(slow, one_fits), scenario)


def test_of_two_loads_that_turn_out_larger_than_their_files_one_is_a_507() -> None:
    gate = Gate()

    def slow(folder: Path) -> Echo:
        gate.stop()
        return Echo(folder.parent.name, size_bytes=2**49)

    async def scenario(client: httpx.AsyncClient) -> list[int]:
        both = [asyncio.create_task(load(client, name)) for name in ("ohio", "utah")]
        await gate.reached()
        await gate.reached()
        gate.opened.set()
        return [answer.status_code for answer in await asyncio.gather(*both)]

    assert sorted(talk(container(slow), scenario)) == [200, 507]
