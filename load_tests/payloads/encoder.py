"""Requests for the encoder workload."""

import json
import random
from pathlib import Path

from load_tests.closed_loop import Request

WORKLOAD = "encoder"
_QUESTIONS = Path(__file__).parents[2] / "model_build/encoder/data/evaluation.json"


def requests(seed: int = 0) -> list[Request]:
    """Return the project's own evaluation questions as requests, in a seeded order."""
    articles = json.loads(_QUESTIONS.read_text())["data"]
    pairs = [
        (entry["question"], paragraph["context"])
        for article in articles
        for paragraph in article["paragraphs"]
        for entry in paragraph["qas"]
    ]
    random.Random(seed).shuffle(pairs)
    return [
        Request(body=json.dumps({"question": question, "context": context}).encode(), content_type="application/json")
        for question, context in pairs
    ]
