"""The requests of the bert_int8 workload."""

import json
import random
from pathlib import Path

_QUESTIONS = Path(__file__).parents[1] / "model_build/bert_int8/data/evaluation.json"


def payloads(seed: int = 0) -> list[bytes]:
    """The project's own questions as request bodies, in a seeded order."""
    articles = json.loads(_QUESTIONS.read_text())["data"]
    pairs = [
        (entry["question"], paragraph["context"])
        for article in articles
        for paragraph in article["paragraphs"]
        for entry in paragraph["qas"]
    ]
    random.Random(seed).shuffle(pairs)
    return [json.dumps({"question": question, "context": context}).encode() for question, context in pairs]
