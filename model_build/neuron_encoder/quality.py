"""Score the model in PyTorch before it is traced, and choose the question that the container must answer alike."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
from tqdm import tqdm

import containers.serving.question_answering
import model_build.encoder
from containers.serving.errors import ServingError
from containers.serving.manifest import ROUNDING_TOLERANCE, Example
from containers.serving.question_answering.answers import AnsweredQuestion, Item, answers
from containers.serving.question_answering.windows import EncoderBatch, Window, Windower
from model_build.encoder import squad
from model_build.encoder.data import Split
from model_build.encoder.gate import check_reference
from model_build.errors import BuildError
from model_build.neuron_encoder.parity import Infer
from model_build.neuron_encoder.recipe import NeuronEncoderRecipe
from model_build.steps import StepCache, StepResult, code_hash

_ROWS = 8
"""Windows per batch in PyTorch."""
_QUESTIONS = 16
"""Questions per step of the progress bar."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What the model in PyTorch answers.

    dataset: name of the evaluation questions. exact_match, f1: in percent. item, answer: the question that the model is
    surest of, and its answer.
    """

    dataset: str
    exact_match: float
    f1: float
    questions: int
    item: Item
    answer: AnsweredQuestion

    def summary(self) -> dict[str, Any]:
        """Return the scores as JSON values."""
        return {name: getattr(self, name) for name in ("dataset", "questions", "exact_match", "f1")}


def evaluate(
    steps: StepCache, fetched: StepResult, windower: Windower, split: Split, eager: Infer, limits: Mapping[str, int]
) -> Quality:
    """Score the model on a split; raises BuildError for answers near chance, and for logits that are not finite.

    eager: the model in PyTorch. limits: the windower's, which with the model and the questions determine the result.
    """
    code = code_hash(
        Path(containers.serving.question_answering.__file__).parent, Path(model_build.encoder.__file__).parent
    )

    def run(output: Path) -> None:
        found = _answers(split, windower, eager)
        predictions = {name: answer.answer for name, answer in found.items()}
        surest = max(split.questions, key=lambda question: found[question.id].score)
        scores = squad.score(split.questions, predictions)
        quality = Quality(
            split.name, **asdict(scores), item=Item(surest.question, surest.context), answer=found[surest.id]
        )
        (output / "predictions.json").write_text(json.dumps(predictions, sort_keys=True))
        (output / "quality.json").write_bytes(msgspec.json.encode(quality))

    inputs = {"of": fetched.key, "data": split.sha256, "code": code, **limits}
    done = steps.run("evaluate", inputs, run)
    check_reference(split.questions, json.loads((done.folder / "predictions.json").read_text()))
    return msgspec.json.decode((done.folder / "quality.json").read_bytes(), type=Quality)


def _answers(split: Split, windower: Windower, eager: Infer) -> dict[str, AnsweredQuestion]:
    found: dict[str, AnsweredQuestion] = {}
    with tqdm(total=len(split.questions), desc="evaluate", unit="question") as progress:
        for begin in range(0, len(split.questions), _QUESTIONS):
            part = split.questions[begin : begin + _QUESTIONS]
            items = [Item(question.question, question.context) for question in part]
            found |= zip((question.id for question in part), _answered(items, windower, eager), strict=True)
            progress.update(len(part))
    return found


def _answered(items: Sequence[Item], windower: Windower, infer: Infer) -> list[AnsweredQuestion]:
    cut = [windower.windows(item.question, item.context) for item in items]
    windows = [window for each in cut for window in each]
    logits = []
    for begin in range(0, len(windows), _ROWS):
        rows = windows[begin : begin + _ROWS]
        start, end = infer(EncoderBatch.of(rows))
        logits += [_without_padding(row, start[index], end[index]) for index, row in enumerate(rows)]
    try:
        return answers(items, cut, logits)
    except ServingError as error:
        raise BuildError(f"the model fails on an evaluation question: {error.message}") from error


def _without_padding(window: Window, start: Any, end: Any) -> tuple[Any, Any]:
    tokens = len(window.input_ids)
    return start[:tokens], end[:tokens]


def make_example(recipe: NeuronEncoderRecipe, quality: Quality, windower: Windower, traced: Infer | None) -> Example:
    """Return the surest question with the traced model's answer, which must be that of PyTorch; raises BuildError.

    Where the traced model cannot run, PyTorch's answer is recorded, with the tolerance that the allowed difference of
    its logits implies.
    """
    answer, tolerance = quality.answer, ROUNDING_TOLERANCE
    if traced is None:
        tolerance = max(ROUNDING_TOLERANCE, _score_change(answer.score, recipe.largest_difference))
    else:
        answer = _traced_answer(recipe, quality.item, windower, traced)
        if answer.answer != quality.answer.answer:
            raise BuildError(
                f"the traced model answers {answer.answer!r} to an evaluation question where PyTorch answers "
                f"{quality.answer.answer!r}, with a score of {quality.answer.score:.3f}: lower tolerance, or compile "
                "with --auto-cast none"
            )
    return Example(request=msgspec.to_builtins(quality.item), response=msgspec.to_builtins(answer), tolerance=tolerance)


def _traced_answer(recipe: NeuronEncoderRecipe, item: Item, windower: Windower, traced: Infer) -> AnsweredQuestion:
    """Run each window in the smallest bucket that holds it, all rows of which are the window."""
    windows = windower.windows(item.question, item.context)
    logits = []
    for window in windows:
        length = next(length for length in recipe.lengths if len(window.input_ids) <= length)
        start, end = traced(EncoderBatch.of([window] * recipe.batches[0], length))
        logits.append(_without_padding(window, start[0], end[0]))
    return answers([item], [windows], logits)[0]


def _score_change(score: float, difference: float) -> float:
    """Return how much a score can fall if each logit changes by a difference.

    An answer's logit is the sum of two. In the worst case, those of the best answer fall and all others rise.
    """
    others = (1 - score) * math.exp(4 * difference)
    return score - score / (score + others)
