"""Replicas that end are replaced, whoever notices it first, and one variant's trouble is no other's."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local_aws.hosting import fleet, memory
from local_aws.hosting.fleet import Fleet, VariantFleet
from local_aws.hosting.images import Image
from local_aws.hosting.replica import Replica, ReplicaFailedError, ReplicaSpec

IMAGE = Image("/", "/", ("true",), {}, "/")
SECONDS = 20


@dataclass
class Container:
    """A replica whose model says how its starts go: "fine", "broken", "odd", or "silent", which never ends."""

    state: Path
    spec: ReplicaSpec
    label: str
    id: str = field(default_factory=lambda: str(len(made)))
    pid: int = 1
    started: float = 0.0
    ready: bool = False
    in_flight: int = 0
    dead: bool = False
    killed: str = ""
    models: Any = None

    def __post_init__(self) -> None:
        made.append(self)

    @property
    def running(self) -> bool:
        return not self.dead

    @property
    def lost(self) -> bool:
        return self.dead

    def kill_over_limit(self) -> None:
        if self.killed:
            self.dead = True

    async def start(self, _timeout_seconds: float) -> None:
        match behavior[str(self.spec.model_dir)]:
            case "broken":
                raise ReplicaFailedError("the container ended with exit code 3")
            case "odd":
                raise ValueError("nobody thought of this")
            case "silent":
                await asyncio.sleep(3600)
        self.ready = True

    async def stop(self) -> None:
        self.ready = False

    def last_lines(self, _count: int = 3) -> str:
        return "its last line"


made: list[Container] = []
behavior: dict[str, str] = {}


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made.clear()
    behavior.clear()
    monkeypatch.setattr(fleet, "Replica", Container)
    monkeypatch.setattr(fleet, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(fleet, "_MEMORY_SECONDS", 0.01)
    yield


def variant(name: str, count: int = 2) -> VariantFleet:
    behavior[name] = "fine"
    return VariantFleet(name, ReplicaSpec(IMAGE, name, None, {}, "ml.c5.large"), count, 1.0, 10.0)


def of(name: str) -> list[Container]:
    return [each for each in made if each.spec.model_dir == name]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not true():
            await asyncio.sleep(0.005)


def test_a_dead_replica_that_a_request_noticed_first_is_replaced_too(tmp_path: Path) -> None:
    async def test() -> None:
        served = variant("a")
        running = Fleet("endpoint", tmp_path, [served], lambda: None)
        await running.start()
        of("a")[0].dead, of("a")[0].ready = True, False
        await until(lambda: len(served.ready) == 2)
        assert of("a")[0].id not in [replica.id for replica in served.replicas]
        assert served.restarts == 1
        assert "died: its last line" in served.note
        await running.stop()

    asyncio.run(test())


@pytest.mark.parametrize("trouble", ["broken", "odd", "silent"])
def test_a_variant_whose_replicas_do_not_start_keeps_no_other_from_its_own(tmp_path: Path, trouble: str) -> None:
    async def test() -> None:
        first, second = variant("first", 1), variant("second", 1)
        running = Fleet("endpoint", tmp_path, [first, second], lambda: None)
        await running.start()
        behavior["first"] = trouble
        for each in list(made):
            each.dead = True
        await until(lambda: len(second.ready) == 1 and len(of("first")) > 1)
        assert first.ready == []
        if trouble != "silent":
            behavior["first"] = "fine"
            await until(lambda: len(first.ready) == 1)
        await running.stop()
        assert first.replicas == second.replicas == []

    asyncio.run(test())


def test_a_replica_over_its_memory_is_replaced_and_the_note_says_why(tmp_path: Path) -> None:
    async def test() -> None:
        served = variant("a", 1)
        running = Fleet("endpoint", tmp_path, [served], lambda: None)
        await running.start()
        made[0].killed = "it used 300 MiB of memory and has 256 MiB"
        await until(lambda: served.restarts == 1 and len(served.ready) == 1)
        assert "was killed: it used 300 MiB of memory and has 256 MiB" in served.note
        await running.stop()

    asyncio.run(test())


def test_memory_counts_what_a_process_has_started() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    child = "held = bytearray(64 << 20); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script, child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert memory.used_bytes(process.pid, 1 << 40) > 64 << 20
        # Above the limit shared pages count once: no less than what one alone holds.
        assert 64 << 20 < memory.used_bytes(process.pid, 1) <= memory.used_bytes(process.pid, 1 << 40)
        process.communicate("\n")
    assert memory.used_bytes(process.pid, 1) == 0


def test_a_replica_whose_folder_cannot_be_made_has_failed_and_says_why(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "logs").mkdir()
        (tmp_path / "replicas").write_text("a file where a folder should be")
        replica = Replica(tmp_path, ReplicaSpec(IMAGE, "/none", None, {}, "ml.c5.large"), "endpoint/variant")
        with pytest.raises(ReplicaFailedError, match=r"the container could not be started: .*replicas"):
            await replica.start(1.0)
        await replica.stop()

    asyncio.run(test())


def test_the_routing_strategy_chooses_between_the_replicas(tmp_path: Path) -> None:
    async def main() -> None:
        served = variant("v")
        started = Fleet("e", tmp_path, [served], lambda: None)
        await started.start()
        idle, busy = served.replicas
        busy.in_flight = 5
        assert all(served.pick(None) is idle for _ in range(50))
        served.random = True
        assert {id(served.pick(None)) for _ in range(50)} == {id(idle), id(busy)}
        busy.in_flight = 0
        await started.stop()

    asyncio.run(main())
