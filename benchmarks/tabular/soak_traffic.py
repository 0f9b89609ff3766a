"""Hours of requests in a closed loop, while models are added and replaced."""

import asyncio
import dataclasses
import itertools
import json
import os
import random
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from benchmarks.tabular.soak_account import SoakedEndpoint
from benchmarks.tabular.soak_answers import Catalogue, Content
from containers.tabular.features import archive_name
from load_tests.closed_loop import Request, client, invoke
from load_tests.payloads import tabular
from load_tests.signed_requests import Signer
from sizing.working_set import zipf

if TYPE_CHECKING:
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

SHIFTS = 10
"""Equal parts of the soak, each with a different order of popularity."""
ADDED, REPLACED = 20, 100
"""Number of models added, and of archives replaced, during the soak."""
BAD_SHARE = 0.01
"""Fraction of requests that are invalid on purpose, half of each kind."""
BOTO3_EVERY = 1000
"""One in this many requests goes through the AWS SDK."""
SIZES = ((0.80, 1, 1), (0.18, 2, 10), (0.02, 60, 120))
"""Fraction of the requests, and minimum and maximum rows of one; the container runs the largest on another thread."""
_GIVE_UP = 100
"""Number of failed requests that ends the soak; each may have taken a minute."""
_TIMEOUT_SECONDS = 70
"""InvokeEndpoint itself times out after 60 s."""
_EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Refusal:
    """The error expected for an invalid request: AWS's code, the HTTP status, and the container's status if any."""

    code: str
    status: int
    original_status: int | None


WRONG_LENGTH = Refusal("ModelError", 424, 400)
UNKNOWN_MODEL = Refusal("ValidationError", 400, None)


@dataclass(frozen=True, slots=True)
class _Question:
    name: str
    rows: tuple[int, ...]
    body: bytes
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes
    code: str = ""
    original_status: int | None = None


@dataclass(slots=True)
class Tally:
    """Outcome of the requests.

    seconds: durations of all requests with the expected response or refusal.
    rows: rows of the correct responses.
    wrong, failed: number of wrong responses and of failures, by what was wrong.
    refused: invalid requests that were refused as expected, by AWS's code.
    added, replaced: number of archives added and replaced.
    added_answered: added models that were invoked and responded correctly.
    examples: examples of wrong responses and failures.
    """

    seconds: "array[float]" = field(default_factory=lambda: array("d"))
    right: int = 0
    rows: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    server_errors: int = 0
    through_boto3: int = 0
    added: int = 0
    replaced: int = 0
    added_answered: set[str] = field(default_factory=set)
    examples: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Number of requests that were answered, correctly or not, or failed."""
        return len(self.seconds) + self.wrong.total() + self.failed.total()


class Plan:
    """Plan of the requests and uploads; equal seeds give equal plans, except for when an upload ends.

    Traffic always follows Zipf's law over the initial number of names. Each part of the soak draws the names and their
    order from all that exist. An added model takes another one's place until the next part.
    """

    def __init__(self, names: Sequence[str], rows: Sequence[bytes], *, requests: int, zipf_exponent: float, seed: int):
        self.requests = requests
        # Uploads end at a different time in every run; this must not change the requests.
        self._random, self._changes = random.Random(seed), random.Random(-1 - seed)
        self._names, self._rows = list(names), rows
        self._weights = list(itertools.accumulate(zipf(len(names), zipf_exponent).probabilities))
        self._ranked = list(names)
        self._sent = 0

    def draw(self) -> tuple[int, _Question] | None:
        """Return the next request and its number, from 0; None when there are no more."""
        if self._sent == self.requests:
            return None
        number = self._sent
        if number in _spread(self.requests, SHIFTS, 0):
            self._ranked = self._random.sample(self._names, len(self._weights))
        self._sent += 1
        return number, self._question()

    def uploads_at(self, number: int) -> Iterator[str]:
        """Yield the uploads to start with the request of that number: `add` or `replace`, each at most once."""
        if number in _spread(self.requests, ADDED, 0.25):
            yield "add"
        if number in _spread(self.requests, REPLACED, 0.5):
            yield "replace"

    def enter(self, name: str) -> None:
        """Give an added model the popularity of another, which gets no requests until the next part."""
        self._names.append(name)
        self._ranked[self._changes.randrange(len(self._ranked))] = name

    def name_to_replace(self) -> str:
        """Return one of the names in use, all equally likely."""
        return self._changes.choice(self._ranked)

    def content_to_upload(self, pool: Sequence[Content], current: Content) -> Content:
        """Return any content of the pool except the current one."""
        return self._changes.choice([content for content in pool if content is not current])

    def _question(self) -> _Question:
        draw = self._random
        (name,) = draw.choices(self._ranked, cum_weights=self._weights)
        ((_, fewest, most),) = draw.choices(SIZES, [share for share, _, _ in SIZES])
        rows = tuple(draw.choices(range(len(self._rows)), k=draw.randint(fewest, most)))
        body = b"\n".join(self._rows[row] for row in rows)
        if draw.random() >= BAD_SHARE:
            return _Question(name, rows, body)
        if draw.random() < 0.5:
            return _Question(name, rows, body + b",1", WRONG_LENGTH)
        return _Question(archive_name(f"unknown-{draw.getrandbits(64):016x}"), rows, body, UNKNOWN_MODEL)


def _spread(requests: int, times: int, offset: float) -> range:
    """Return the numbers of `times` evenly spaced requests, the first after `offset` of a distance."""
    step = max(1, requests // times)
    return range(int(step * offset), step * times, step)


class Soak:
    """The closed loop against one endpoint."""

    def __init__(
        self,
        endpoint: SoakedEndpoint,
        catalogue: Catalogue,
        plan: Plan,
        *,
        customers: Sequence[tabular.Customer],
        to_add: Sequence[Content],
        pool: Sequence[Content],
    ) -> None:
        self.tally = Tally()
        self.catalogue, self._endpoint, self._plan = catalogue, endpoint, plan
        self._to_add, self._pool = iter(to_add), pool
        self._customers, self._added = customers, set[str]()
        self._uploads: asyncio.Queue[str] = asyncio.Queue()
        self._signer = Signer(os.environ)

    async def run(self, clients: int, on_part: Callable[[int], object]) -> None:
        """Send the plan's requests, `clients` at a time, and return once all uploads are also done.

        on_part: called with the number, from 0, of each part that begins.
        """
        runtime = client()
        async with asyncio.TaskGroup() as everything:
            uploader = everything.create_task(self._upload_forever())
            async with _session(clients) as session, asyncio.TaskGroup() as closed_loop:
                for _ in range(clients):
                    closed_loop.create_task(self._client(session, runtime, on_part))
            await self._uploads.join()
            uploader.cancel()

    async def sweep(self, *, reloaded: bool) -> set[str]:
        """Invoke every model with all rows, one after another; return the names of those that responded correctly.

        reloaded: whether only the version uploaded last is correct.
        """
        right: set[str] = set()
        rows = tuple(range(len(self._customers)))
        async with _session(1) as session:
            for name in self.catalogue.names:
                oldest = self.catalogue.latest(name) if reloaded else self.catalogue.oldest(name)
                body = tabular.request(name, self._customers).body
                reply = await self._send(session, _Question(name, rows, body))
                if reply.status != 200:
                    self._note(self.tally.failed, _kind(reply), name, reply)
                elif mistake := self.catalogue.mistake(name, rows, reply.body, oldest):
                    self._note(self.tally.wrong, mistake, name, reply)
                else:
                    right.add(name)
        return right

    async def _client(
        self, session: aiohttp.ClientSession, runtime: "SageMakerRuntimeClient", on_part: Callable[[int], object]
    ) -> None:
        while self.tally.failed.total() < _GIVE_UP and (drawn := self._plan.draw()) is not None:
            number, question = drawn
            if number in (parts := _spread(self._plan.requests, SHIFTS, 0)):
                on_part(parts.index(number))
            for upload in self._plan.uploads_at(number):
                self._uploads.put_nowait(upload)
            oldest = 0 if question.refusal else self.catalogue.oldest(question.name)
            began = time.perf_counter()
            if number % BOTO3_EVERY == 0:
                self.tally.through_boto3 += 1
                reply = await asyncio.to_thread(self._ask_through_boto3, runtime, question)
            else:
                reply = await self._send(session, question)
            self._judge(question, reply, oldest, time.perf_counter() - began)

    def _judge(self, question: _Question, reply: _Reply, oldest: int, seconds: float) -> None:
        tally = self.tally
        if (refusal := question.refusal) is not None:
            if (reply.code, reply.status, reply.original_status) != dataclasses.astuple(refusal):
                self._note(tally.failed, f"{_kind(reply)} instead of {refusal.code}", question.name, reply)
                return
            tally.refused[refusal.code] += 1
        elif reply.status != 200:
            self._note(tally.failed, _kind(reply), question.name, reply)
            return
        elif mistake := self.catalogue.mistake(question.name, question.rows, reply.body, oldest):
            self._note(tally.wrong, mistake, question.name, reply)
            return
        else:
            tally.right += 1
            tally.rows += len(question.rows)
            if question.name in self._added:
                tally.added_answered.add(question.name)
        tally.seconds.append(seconds)

    def _note(self, counter: Counter[str], kind: str, name: str, reply: _Reply) -> None:
        counter[kind] += 1
        self.tally.server_errors += max(reply.status, reply.original_status or 0) >= 500
        if len(self.tally.examples) < _EXAMPLES:
            self.tally.examples.append(f"{name}, {kind}: {reply.body[:300].decode(errors='replace')}")

    async def _send(self, session: aiohttp.ClientSession, question: _Question) -> _Reply:
        url = self._endpoint.url
        named = {"Content-Type": tabular.CSV, "X-Amzn-SageMaker-Target-Model": question.name}
        headers = self._signer.headers("POST", url, named, question.body)
        try:
            async with session.post(url, data=question.body, headers=headers) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            return _lost(error)
        if answer.status == 200:
            return _Reply(200, body)
        return _Reply(answer.status, body, answer.headers.get("x-amzn-ErrorType", ""), _original_status(body))

    def _ask_through_boto3(self, runtime: "SageMakerRuntimeClient", question: _Question) -> _Reply:
        request = Request(body=question.body, content_type=tabular.CSV, target_model=question.name)
        try:
            return _Reply(200, invoke(runtime, self._endpoint.target, request))
        except ClientError as error:
            status: int = error.response["ResponseMetadata"]["HTTPStatusCode"]
            code: str = error.response["Error"]["Code"]
            original = error.response.get("OriginalStatusCode")
            return _Reply(status, str(error).encode(), code, original if isinstance(original, int) else None)
        except BotoCoreError as error:
            return _lost(error)

    async def _upload_forever(self) -> None:
        while True:
            kind = await self._uploads.get()
            if kind == "add":
                name, content = archive_name(f"N{self.tally.added}"), next(self._to_add)
            else:
                name = self._plan.name_to_replace()
                content = self._plan.content_to_upload(self._pool, self.catalogue.current(name))
            self.catalogue.begin_upload(name, content)
            try:
                await asyncio.to_thread(self._endpoint.put, name, content.archive)
            except (ClientError, BotoCoreError) as error:
                self._note(self.tally.failed, "upload", name, _lost(error))
            else:
                if kind == "add":
                    self._plan.enter(name)
                    self._added.add(name)
                    self.tally.added += 1
                else:
                    self.tally.replaced += 1
            self._uploads.task_done()


def _session(clients: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=clients), timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    )


def _lost(error: Exception) -> _Reply:
    """Return a reply with status 0 and the error for a request without a response."""
    return _Reply(0, str(error).encode(), type(error).__name__)


def _original_status(body: bytes) -> int | None:
    try:
        status = json.loads(body).get("OriginalStatusCode")
    except (ValueError, AttributeError):
        return None
    return status if isinstance(status, int) else None


def _kind(reply: _Reply) -> str:
    if reply.status == 200:
        return "an answer"
    if not reply.status:
        return f"no answer, {reply.code}"
    original = f", the container's {reply.original_status}" if reply.original_status else ""
    return f"HTTP {reply.status} {reply.code}{original}"
