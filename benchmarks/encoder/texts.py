"""Questions whose windows have the lengths of real ones, made of words from another benchmark."""

import itertools
import json
from pathlib import Path

from benchmarks.encoder.lengths import LONGEST, SQUAD_LENGTHS
from benchmarks.neuron_encoder.questions import PAIRS
from containers.serving.question_answering.windows import Windower, WindowLimits

_QUESTION = "What did the captain of the ferry decide about the harbour?"


def bodies(tokenizer: Path) -> list[bytes]:
    """Return a request body for each of SQUAD_LENGTHS, with that many tokens or a few more."""
    windower = Windower.from_file(tokenizer, WindowLimits(max_seq_length=LONGEST))
    return [
        json.dumps({"question": _QUESTION, "context": _context(windower, length)}).encode() for length in SQUAD_LENGTHS
    ]


def _context(windower: Windower, length: int) -> str:
    """Join words until the window has the length, or is one token shorter."""
    words = itertools.cycle(word for _, context in PAIRS for word in context.split())
    context: list[str] = []
    while True:
        windows = windower.windows(_QUESTION, " ".join(context))
        if len(windows) > 1:
            return " ".join(context[:-1])
        if len(windows[0].input_ids) >= length:
            return " ".join(context)
        context.append(next(words))
