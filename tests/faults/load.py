"""A steady load whose every request is accounted for, and the figures of what it met."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

from botocore.exceptions import BotoCoreError, ClientError

from load_tests.closed_loop import Request, Target, client, invoke
from tests.local_account import wait_until

LONGEST_SECONDS = 65.0
"""No request may take longer: InvokeEndpoint gives a model 60 s."""
_IN_FLIGHT = 128
ANSWERED, WRONG, REFUSED, FAILED = "answered", "wrong", "refused", "failed"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and the one right answer to it."""

    target: Target
    request: Request
    right: bytes

    @property
    def name(self) -> str:
        """The endpoint and the model, as figures name them."""
        model = self.request.target_model
        return self.target.endpoint if model is None else f"{self.target.endpoint}/{model}"


@dataclass(frozen=True, slots=True)
class Met:
    """What one request met: times in monotonic seconds, the outcome, and the code of a refusal or the failure."""

    ask: Ask
    due: float
    ended: float
    outcome: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """A line of the table: what was done, and what became of the requests meanwhile."""

    fault: str
    requests: int
    answered: int
    refused: Counter[str]
    failed: Counter[str]
    recovery_seconds: float


class Load:
    """Sends the asks in turn, `rate` a second by the clock and not by the answers, for as long as the block runs.

    settle: the first answers must be right.
    """

    def __init__(self, asks: Sequence[Ask], rate: float, *, settle: bool = True) -> None:
        self._asks, self._rate, self._settle = asks, rate, settle
        self._client = client(connections=_IN_FLIGHT, read_seconds=LONGEST_SECONDS + 5)
        self._threads = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="load")
        self._stopped = threading.Event()
        self._clock = threading.Thread(target=self._send)
        self._sent = 0
        self.met: list[Met] = []

    def _send(self) -> None:
        began = time.monotonic()
        for number, ask in enumerate(itertools.cycle(self._asks)):
            due = began + number / self._rate
            if self._stopped.wait(max(0.0, due - time.monotonic())):
                return
            self._sent += 1
            self._threads.submit(self._ask, ask, due)

    def _ask(self, ask: Ask, due: float) -> None:
        try:
            answer = invoke(self._client, ask.target, ask.request)
            met = Met(ask, due, time.monotonic(), ANSWERED if answer == ask.right else WRONG, repr(answer[:80]))
        except ClientError as error:
            met = Met(ask, due, time.monotonic(), REFUSED, _code(error))
        except (BotoCoreError, OSError) as error:
            met = Met(ask, due, time.monotonic(), FAILED, type(error).__name__)
        self.met.append(met)

    def __enter__(self) -> "Load":
        self._clock.start()
        try:
            if self._settle:
                self.all_right(10)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        self._clock.join()
        self._threads.shutdown(wait=True)
        self._client.close()

    def since(self, moment: float, where: Callable[[Ask], bool] = lambda _ask: True) -> list[Met]:
        """Of the requests that were due from then on, those that have ended."""
        return [met for met in list(self.met) if met.due >= moment and where(met.ask)]

    def all_right(self, count: int = 30, where: Callable[[Ask], bool] = lambda _ask: True) -> None:
        """Waits for so many answers to requests from now on, and fails unless every one of them is right."""
        now = time.monotonic()
        wait_until(lambda: len(self.since(now, where)) >= count, 60, f"{count} answers")
        bad = [(met.ask.name, met.outcome, met.code) for met in self.since(now, where) if met.outcome != ANSWERED]
        assert bad == [], bad

    def right_again(self, began: float, what: Callable[[], bool], *, seconds: float = 60) -> float:
        """Seconds from `began` until that is so and requests are answered right again, every one from then on."""
        wait_until(what, seconds, "the recovery")
        now = time.monotonic()
        wait_until(lambda: self._right_since(now), seconds, "right answers")
        bad = [met.ended for met in self.since(began) if met.outcome != ANSWERED]
        self.all_right()
        return max([now, *bad]) - began

    def _right_since(self, moment: float) -> bool:
        last = self.since(moment)[-len(self._asks) :]
        return len(last) == len(self._asks) and all(met.outcome == ANSWERED for met in last)

    def account(self, fault: str, recovery_seconds: float) -> Measured:
        """The figures, after the block; fails for a request that is missing, too slow, or answered wrong."""
        outcomes = Counter(met.outcome for met in self.met)
        assert self._sent == len(self.met) == outcomes.total(), f"{self._sent} were sent, {outcomes} ended"
        assert outcomes[WRONG] == 0, [met for met in self.met if met.outcome == WRONG][:3]
        slowest = max(met.ended - met.due for met in self.met)
        assert slowest < LONGEST_SECONDS, f"a request took {slowest:.0f} s"
        return Measured(
            fault,
            self._sent,
            outcomes[ANSWERED],
            Counter(met.code for met in self.met if met.outcome == REFUSED),
            Counter(met.code for met in self.met if met.outcome == FAILED),
            recovery_seconds,
        )


def _code(error: ClientError) -> str:
    """The error's code, with the container's own status where it is that, as `ModelError 502`."""
    response = error.response
    return " ".join(str(part) for part in (response["Error"]["Code"], response.get("OriginalStatusCode", "")) if part)
