"""A LitServe server as its documentation shows, with batching enabled.

Run it with FOLDER PORT THREADS as arguments.
"""

import sys
from pathlib import Path
from typing import Any

import litserve

from benchmarks.encoder.rivals.model import Answer, Model

_LARGEST_BATCH, _BATCH_SECONDS = 8, 0.01


class QuestionAnswering(litserve.LitAPI):
    """API that decodes requests, answers a batch at once, and encodes responses."""

    def __init__(self, folder: Path, threads: int) -> None:
        super().__init__(max_batch_size=_LARGEST_BATCH, batch_timeout=_BATCH_SECONDS, api_path="/invocations")
        self._folder, self._threads = folder, threads

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's interface
        """Load the model in the worker's process."""
        self._model = Model(self._folder, self._threads)

    def decode_request(self, request: dict[str, Any], **_rest: Any) -> tuple[str, str]:
        """Return the pair of texts."""
        return request["question"], request["context"]

    def predict(self, inputs: list[tuple[str, str]], **_rest: Any) -> list[Answer]:
        """Return the answers of one batch."""
        return self._model.answer(inputs)

    def encode_response(self, output: Answer, **_rest: Any) -> Answer:
        """Return the answer unchanged."""
        return output


if __name__ == "__main__":
    folder, port, threads = sys.argv[1:]
    server = litserve.LitServer(
        QuestionAnswering(Path(folder), int(threads)), accelerator="cpu", healthcheck_path="/ping"
    )
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")
