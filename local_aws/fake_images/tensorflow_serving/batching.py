"""Server-side batching with TensorFlow Serving's parameters, limits and errors.

Source: tensorflow_serving/batching/batching_session.cc, and TensorFlow's shared batch scheduler.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from local_aws.fake_images.tensorflow_serving.errors import Code, StatusError, invalid
from local_aws.fake_images.tensorflow_serving.json_tensors import Array
from local_aws.fake_images.tensorflow_serving.settings import Batching

Run = Callable[[Sequence[Array]], list[Array]]
"""Computes outputs from inputs, both in the signature's order."""
_SHAPES_DIFFER = (
    "Tensors with name '{}' from different tasks have different shapes and padding is turned off. Set "
    "pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal dimensions starting "
    "with the first dim."
)


class _Task:
    def __init__(self, feeds: Sequence[Array], rows: int) -> None:
        self.feeds, self.rows = feeds, rows
        self.result: Future[list[Array]] = Future()


class _Batch:
    """Tasks that are computed together. closes: when it stops waiting for more, in seconds of `time.monotonic`."""

    def __init__(self, closes: float) -> None:
        self.tasks: list[_Task] = []
        self.rows = 0
        self.closes = closes


class BatchQueue:
    """Waiting batches of one signature. names: its inputs, in order."""

    def __init__(self, run: Run, names: Sequence[str]) -> None:
        self._run, self._names = run, names
        self.batches: deque[_Batch] = deque()

    def compute(self, tasks: Sequence[_Task]) -> None:
        """Compute a batch, and give every task its rows of the result, or its error."""
        try:
            outputs = self._run([self._merged(tasks, index) for index in range(len(self._names))])
            total = sum(task.rows for task in tasks)
            if any(not output.ndim or len(output) != total for output in outputs):
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                    "input tensors",
                )
        except Exception as error:
            # Each task's caller raises it.
            for task in tasks:
                task.result.set_exception(error)
            return
        begin = 0
        for task in tasks:
            task.result.set_result([output[begin : begin + task.rows] for output in outputs])
            begin += task.rows

    def _merged(self, tasks: Sequence[_Task], index: int) -> Array:
        parts = [task.feeds[index] for task in tasks]
        if any(part.shape[1:] != parts[0].shape[1:] for part in parts):
            raise StatusError(Code.FAILED_PRECONDITION, _SHAPES_DIFFER.format(self._names[index]))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class BatchScheduler:
    """The threads that compute the batches of all signatures."""

    def __init__(self, parameters: Batching) -> None:
        self._parameters = parameters
        self._changed = threading.Condition()
        self._queues: list[BatchQueue] = []
        for number in range(parameters.num_batch_threads):
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True).start()

    def add(self, queue: BatchQueue) -> None:
        """Serve a queue."""
        with self._changed:
            self._queues.append(queue)

    def remove(self, queue: BatchQueue) -> None:
        """Stop serving a queue."""
        with self._changed:
            self._queues.remove(queue)

    def run(self, queue: BatchQueue, feeds: Sequence[Array]) -> list[Array]:
        """Return the outputs for a request's inputs, computed with those of others; raise StatusError."""
        if any(not feed.ndim for feed in feeds):
            raise invalid("Batching Run() input tensors must have at least one dimension")
        if len({len(feed) for feed in feeds}) > 1:
            raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
        task = _Task(feeds, len(feeds[0]) if feeds else 0)
        with self._changed:
            self._enqueue(queue, task)
            self._changed.notify_all()
        return task.result.result()

    def _enqueue(self, queue: BatchQueue, task: _Task) -> None:
        most = self._parameters.max_batch_size
        if task.rows > most:
            raise invalid(f"Task size {task.rows} is larger than maximum input batch size {most}")
        if not queue.batches or queue.batches[-1].rows + task.rows > most:
            if len(queue.batches) >= self._parameters.max_enqueued_batches:
                raise StatusError(
                    Code.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full"
                )
            queue.batches.append(_Batch(time.monotonic() + self._parameters.batch_timeout_micros / 1e6))
        batch = queue.batches[-1]
        batch.tasks.append(task)
        batch.rows += task.rows

    def _work(self) -> None:
        while True:
            with self._changed:
                while (ready := self._ready()) is None:
                    self._changed.wait(self._seconds_to_wait())
            queue, batch = ready
            queue.compute(batch.tasks)

    def _ready(self) -> tuple[BatchQueue, _Batch] | None:
        now, most = time.monotonic(), self._parameters.max_batch_size
        for queue in self._queues:
            first = queue.batches[0] if queue.batches else None
            if first is not None and (len(queue.batches) > 1 or first.rows >= most or first.closes <= now):
                return queue, queue.batches.popleft()
        return None

    def _seconds_to_wait(self) -> float | None:
        closing = [queue.batches[0].closes for queue in self._queues if queue.batches]
        return max(0.0, min(closing) - time.monotonic()) if closing else None
