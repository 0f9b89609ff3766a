"""A FastAPI server as its documentation shows: a pydantic body and a plain function, which runs on a thread.

Run it with FOLDER PORT THREADS as arguments.
"""

import sys
import threading
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.encoder.rivals.model import Answer, Model


class Item(BaseModel):
    """One question about one context."""

    question: str
    context: str


def create_app(model: Model) -> FastAPI:
    """Create the application."""
    app, turn = FastAPI(), threading.Lock()

    @app.get("/ping")
    def ping() -> dict[str, str]:
        return {}

    @app.post("/invocations")
    def invocations(item: Item) -> Answer:
        with turn:
            return model.answer([(item.question, item.context)])[0]

    return app


if __name__ == "__main__":
    folder, port, threads = sys.argv[1:]
    uvicorn.run(
        create_app(Model(Path(folder), int(threads))), host="127.0.0.1", port=int(port), log_level="warning",
        access_log=False,
    )  # fmt: skip
