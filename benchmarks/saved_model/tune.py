"""The tuner's bench on local servers: the fake TensorFlow Serving with its defaults, and a second one per candidate."""

import contextlib
import http.client
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from benchmarks.errors import BenchmarkError
from benchmarks.saved_model import programs
from benchmarks.saved_model.client import ImageClient
from load_tests.closed_loop import Request
from load_tests.payloads import saved_model
from load_tests.traffic import Traffic, closed_loop, open_loop
from load_tests.tuning.search import TrialFailedError
from load_tests.tuning.space import Candidate

ANSWER_IOU = 0.99
"""Smallest overlap (IoU) of a setting's first response with the default setting's."""
_WARM_UP_SECONDS = 2.0
_SEED = 7


class ServerBench:
    """A `load_tests.tuning.search.Bench` that stops its servers at the end of its context.

    clients, seconds: clients and duration of one turn of the closed loop; the open loop takes the time of three turns.
    """

    def __init__(
        self,
        python: Path,
        base: Path,
        samples: Sequence[saved_model.Sample],
        form: saved_model.Form,
        clients: int,
        seconds: float,
    ) -> None:
        self._python, self._base = python, base
        self._requests: list[Request] = saved_model.requests(samples, form)
        self._form: saved_model.Form = form
        self._clients, self._seconds = clients, seconds
        self._stack, self._current = contextlib.ExitStack(), contextlib.ExitStack()
        self._default: ImageClient | None = None
        self.server: ImageClient | None = None

    def __enter__(self) -> "ServerBench":
        self._default = self._stack.enter_context(programs.tensorflow(self._python, self._base, {}))
        self._warm_up(self._default)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            self._current.close()

    def serve(self, candidate: Candidate) -> None:
        """Start a candidate in place of the previous one; raises TrialFailedError."""
        self._current.close()
        assert self._default is not None
        try:
            knobs = candidate.knobs.environment()
            self.server = self._current.enter_context(programs.tensorflow(self._python, self._base, knobs))
            answers = [server.send(self._requests[0]) for server in (self.server, self._default)]
        except (BenchmarkError, OSError, http.client.HTTPException) as error:
            raise TrialFailedError(str(error)) from error
        one, other = (saved_model.answered_mask(answer, self._form) for answer in answers)
        if saved_model.iou(one, other) < ANSWER_IOU:
            raise TrialFailedError("its answer to the first image is not the default setting's")
        self._warm_up(self.server)

    def closed_loop(self) -> tuple[Traffic, Traffic]:
        """Run one turn of the candidate and one of the defaults."""
        assert self.server is not None
        assert self._default is not None
        mine, theirs = (self._turn(server, self._seconds) for server in (self.server, self._default))
        return mine, theirs

    def open_loop(self, rate: float) -> Traffic:
        """Run the candidate under Poisson traffic; every candidate gets the same arrivals."""
        assert self.server is not None
        return open_loop(self.server.send, self._requests, rate=rate, seconds=3 * self._seconds, seed=_SEED)

    def stop_default(self) -> None:
        """Stop the server with the defaults once the sweep is over; the last candidate keeps running."""
        self._stack.close()

    def _warm_up(self, server: ImageClient) -> None:
        self._turn(server, _WARM_UP_SECONDS)

    def _turn(self, server: ImageClient, seconds: float) -> Traffic:
        return closed_loop(server.send, self._requests, clients=self._clients, seconds=seconds)
