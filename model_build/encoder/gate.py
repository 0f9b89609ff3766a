"""The accuracy gates: FP32 must beat chance, and INT8 must keep a fraction of its F1, as in MLPerf Inference."""

import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

from containers.serving.manifest import Scores
from model_build.encoder.squad import Question, best_f1
from model_build.errors import BuildError

_DRAWS = 5
_LEAST_GAIN = 0.1
"""F1, 0 to 1, by which a model must exceed chance."""
_LEAST_ERRORS = 3.0
"""The same in standard errors of the mean, so a few lucky questions are not enough."""


def check_reference(questions: Sequence[Question], predictions: Mapping[str, str]) -> None:
    """Raise BuildError unless the FP32 model's answers are clearly better than chance.

    INT8's ratio means nothing if FP32 cannot answer: any score passes against 0. Chance is a random passage of the
    context with as many words as an answer, as the mean of several draws with a fixed seed.

    predictions: answer text by question id.
    """
    draw = random.Random(0)
    chances = [_chance(question, draw) for question in questions]
    scores = [best_f1(question, predictions.get(question.id, "")) for question in questions]
    gains = [score - chance for score, chance in zip(scores, chances, strict=True)]
    gain = statistics.fmean(gains)
    error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    if gain < max(_LEAST_GAIN, _LEAST_ERRORS * error):
        raise BuildError(
            f"the FP32 model's F1 is {100 * statistics.fmean(scores):.2f} on {len(questions)} questions, and random "
            f"passages have {100 * statistics.fmean(chances):.2f}: the model does not answer the questions. Check "
            "that weights, tokenizer and config.json belong together, and that the data is in the model's language"
        )


def _chance(question: Question, draw: random.Random) -> float:
    words = question.context.split()
    total = 0.0
    for _ in range(_DRAWS):
        count = min(len(words), max(1, len(draw.choice(question.answers).text.split())))
        first = draw.randrange(len(words) - count + 1)
        total += best_f1(question, " ".join(words[first : first + count]))
    return total / _DRAWS


def check_gate(fp32: Scores, int8: Scores, min_f1_ratio: float) -> None:
    """Raise BuildError if INT8's F1 is less than `min_f1_ratio` of FP32's on the same questions."""
    limit = min_f1_ratio * fp32.f1
    if int8.f1 < limit:
        raise BuildError(
            f"accuracy gate failed: F1 is {fp32.f1:.2f} before quantization and {int8.f1:.2f} after, "
            f"the limit is {limit:.2f} "
            f"({min_f1_ratio:.2%} of FP32, {fp32.questions} questions). Calibrate on more or better data, "
            "or lower gate.min_f1_ratio if the loss is acceptable"
        )


def gate_label(ratio: float, min_f1_ratio: float) -> Literal["99.9%", "99%", "passed"]:
    """Return the stricter of MLPerf's two limits that the ratio meets, or "passed" if it meets only the recipe's."""
    if ratio >= 0.999:
        return "99.9%"
    return "99%" if ratio >= max(0.99, min_f1_ratio) else "passed"
