"""The platform's half of multi-model hosting: which models a replica has loaded, and how they get there."""

import asyncio
import contextlib
import hashlib
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import aiohttp

from local_aws.hosting.artifacts import (
    AbsentError,
    DiskError,
    DiskFullError,
    ModelDataError,
    StoreUnavailableError,
    current,
    fetch,
    s3_client,
    waiting_for_store,
)
from local_aws.hosting.errors import ApiError
from local_aws.hosting.s3_urls import S3Location
from model_build.owned_folders import remove_within

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


READY_SECONDS = 50.0
"""Longest wait of a request for its model. Clients usually time out after 60 s, and must get the error before that."""
_GIVEN_UP = 8
"""Most loaded models to unload for one that does not fit on the disk, since something else may have filled it."""
_Result = TypeVar("_Result")
_threads = ThreadPoolExecutor(16, thread_name_prefix="models")


class ModelMetrics(Protocol):
    """Recorder of SageMaker's metrics on a multi-model endpoint's models."""

    def model_cache(self, *, hit: bool) -> None:
        """Record whether a request found its model loaded."""

    def model_time(self, metric: str, seconds: float) -> None:
        """Record ModelLoadingWaitTime, ModelDownloadingTime, ModelLoadingTime or ModelUnloadingTime."""


class ModelNotLoadableError(Exception):
    """The container refused to load a model; status and text are its response."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class ModelCache:
    """Models that one replica's container has loaded, least recently used first.

    owned: a folder that this project created. folder: where archives are extracted, below `owned`. seen_at: `folder` as
    the container sees it; None if it is the same.
    """

    def __init__(
        self,
        client: aiohttp.ClientSession,
        owned: Path,
        folder: Path,
        prefix: str,
        max_bytes: int,
        seen_at: Path | None = None,
    ) -> None:
        location = S3Location.parse(prefix)
        self._bucket, self._prefix = location.bucket, location.key
        self._client, self._folder, self._max_bytes = client, folder, max_bytes
        self._owned = owned
        self._seen_at = seen_at or folder
        self._s3: S3Client = s3_client()
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._on_disk: dict[str, str] = {}
        self._users: Counter[str] = Counter()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._room = asyncio.Lock()
        self._short_of_room: set[str] = set()
        self._unloading = asyncio.Lock()
        self._released = asyncio.Event()

    @property
    def loaded(self) -> int:
        """Number of models in the container."""
        return len(self._loaded)

    def has(self, target: str) -> bool:
        """Return whether a model is in the container."""
        return target in self._loaded

    @contextlib.asynccontextmanager
    async def use(self, target: str, metrics: ModelMetrics) -> AsyncIterator[str]:
        """Load a model if it is missing, keep it loaded until the block ends, and yield its name in the container.

        Raises ApiError for an object that is not a model, ModelNotLoadableError for one that the container refuses.
        """
        # Count the user before looking the model up, so no other request can unload it in between.
        self._users[target] += 1
        try:
            metrics.model_cache(hit=target in self._loaded)
            if target not in self._loaded:
                began = time.perf_counter()
                await self._loaded_within(target, metrics)
                metrics.model_time("ModelLoadingWaitTime", time.perf_counter() - began)
            if target in self._loaded:
                self._loaded.move_to_end(target)
            yield _name(target)
        finally:
            self._users[target] -= 1
            if not self._users[target]:
                del self._users[target]
                self._drop_lock(target)
            self._released.set()

    async def _loaded_within(self, target: str, metrics: ModelMetrics) -> None:
        """Wait for a model to load; the load continues for later requests if this one times out."""
        load = self._loads.get(target)
        if load is None:
            load = self._loads[target] = asyncio.create_task(self._load_once(target, metrics))
        done, _ = await asyncio.wait({load}, timeout=READY_SECONDS)
        if not done:
            raise ApiError(
                "ModelNotReadyException",
                f"model {target[:100]} is still being downloaded or loaded after {READY_SECONDS:g} s; try again",
                429,
            )
        load.result()

    async def _load_once(self, target: str, metrics: ModelMetrics) -> None:
        try:
            async with self._locks[target]:
                if target not in self._loaded:
                    await self._load(target, metrics)
        finally:
            del self._loads[target]
            self._drop_lock(target)

    def close(self) -> None:
        """Cancel loads in progress."""
        for load in self._loads.values():
            load.cancel()

    def forget(self, target: str) -> None:
        """Record that the container has lost a model."""
        self._loaded.pop(target, None)

    async def _load(self, target: str, metrics: ModelMetrics) -> None:
        name = _name(target)
        folder = self._folder / name / "model"
        await self._download(target, folder, metrics)
        began = time.perf_counter()
        headers = {"X-Amzn-SageMaker-Target-Model": target}
        while True:
            async with self._client.post(
                "/models", json={"model_name": name, "url": str(self._seen_at / name / "model")}, headers=headers
            ) as response:
                text = (await response.read()).decode(errors="replace")
            if response.status != 507 or not await self._unload_one(metrics):
                break
        if response.status not in (200, 409):
            raise ModelNotLoadableError(response.status, text)
        metrics.model_time("ModelLoadingTime", time.perf_counter() - began)
        self._loaded[target] = None

    async def _download(self, target: str, folder: Path, metrics: ModelMetrics) -> None:
        """Fetch the archive unless the copy on disk is the one in S3."""
        began = time.perf_counter()
        key = self._key(target)
        try:
            tag = await _off_loop(waiting_for_store, current, self._s3, self._bucket, key)
            if self._on_disk.get(target) != tag:
                # If the download fails, the deleted copy must not count as current once S3 has its version again.
                self._on_disk.pop(target, None)
                await _off_loop(remove_within, self._owned, folder)
                self._on_disk[target] = await self._fetch(target, folder, metrics)
        except (StoreUnavailableError, DiskError) as error:
            raise ApiError("ServiceUnavailable", str(error), 503) from error
        except AbsentError as error:
            raise ApiError(
                "ValidationError",
                f"Failed to download model data(bucket: {self._bucket}, key: {key}). Please ensure that there is "
                "an object located at the URL and that the role passed to CreateModel has permissions to download "
                f"the model. ({error})",
            ) from error
        except ModelDataError as error:
            raise ApiError("ValidationError", str(error)) from error
        metrics.model_time("ModelDownloadingTime", time.perf_counter() - began)

    async def _fetch(self, target: str, folder: Path, metrics: ModelMetrics) -> str:
        """Download an archive and return its ETag; free disk space if the disk is full."""
        arguments = (waiting_for_store, fetch, self._s3, self._bucket, self._key(target), folder, self._max_bytes)
        with contextlib.suppress(DiskFullError):
            return await _off_loop(*arguments)
        self._short_of_room.add(target)
        try:
            # One at a time, so that no other download takes the space that one frees.
            async with self._room:
                given_up = 0
                while True:
                    try:
                        return await _off_loop(*arguments)
                    except DiskFullError:
                        if await self._delete_unused():
                            continue
                        if given_up < _GIVEN_UP and await self._unload_one(metrics, from_disk=True):
                            given_up += 1
                            continue
                        others = [load for name, load in self._loads.items() if name not in self._short_of_room]
                        if not others:
                            raise
                        await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._short_of_room.discard(target)

    async def _delete_unused(self) -> bool:
        """Delete a model that is only on disk, as SageMaker does when the disk is full; return False if none is."""
        used = {*self._loaded, *self._users, *self._loads}
        victim = next((target for target in self._on_disk if target not in used), None)
        if victim is not None:
            await self._delete(victim)
        return victim is not None

    async def _delete(self, target: str) -> None:
        self._on_disk.pop(target, None)
        await _off_loop(remove_within, self._owned, self._folder / _name(target))

    def _key(self, target: str) -> str:
        return self._prefix + target.lstrip("/")

    async def _unload_one(self, metrics: ModelMetrics, *, from_disk: bool = False) -> bool:
        """Unload the least recently used model without requests in flight; return False if there is none to unload.

        from_disk: whether to delete it from disk too.
        """
        async with self._unloading:
            while True:
                victim = next((name for name in self._loaded if not self._users[name]), None)
                if victim is not None:
                    break
                if not self._loaded:
                    return False
                self._released.clear()
                await self._released.wait()
            began = time.perf_counter()
            # A request for this model must wait until it is gone; otherwise it would find it loaded.
            async with self._locks[victim]:
                del self._loaded[victim]
                async with self._client.delete(f"/models/{_name(victim)}") as response:
                    await response.read()
                if from_disk:
                    await self._delete(victim)
            self._drop_lock(victim)
            metrics.model_time("ModelUnloadingTime", time.perf_counter() - began)
            return True

    def _drop_lock(self, target: str) -> None:
        """Drop an unused lock, because model names come from clients and are unlimited in number."""
        if target not in self._loaded and target not in self._users and not self._locks[target].locked():
            del self._locks[target]


async def _off_loop(function: Callable[..., _Result], *arguments: object) -> _Result:
    """Run a blocking S3 or disk call on a separate thread pool, so a slow S3 delays nothing else."""
    return await asyncio.get_running_loop().run_in_executor(_threads, function, *arguments)


def _name(target: str) -> str:
    """Return SageMaker's name of a model for the container: a hash, so any key gives a valid name."""
    return hashlib.sha256(target.encode()).hexdigest()[:32]
