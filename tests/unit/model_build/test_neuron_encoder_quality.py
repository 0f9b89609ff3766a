"""A model that answers near chance is not traced, and the surest question becomes the container's example."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers

from containers.serving.manifest import ROUNDING_TOLERANCE
from containers.serving.question_answering.answers import AnsweredQuestion, Item
from model_build.encoder.recipe import SquadEvaluation
from model_build.errors import BuildError
from model_build.neuron_encoder.build import BuildResult, Source
from model_build.neuron_encoder.recipe import NeuronEncoderRecipe
from tests.unit.model_build.test_neuron_encoder_build import FakeNeuronX, FakeTensor, run

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "what")
WORDS = tuple(f"w{index}" for index in range(40))
ANSWERS = tuple(f"answer{index}" for index in range(25))
VOCABULARY = {word: index for index, word in enumerate((*SPECIAL, *WORDS, *ANSWERS))}
FIRST_ANSWER = VOCABULARY[ANSWERS[0]]
Model = Callable[..., tuple[FakeTensor, FakeTensor]]


def finds(input_ids: Any, attention_mask: Any, token_type_ids: Any) -> tuple[FakeTensor, FakeTensor]:
    """A model that knows the words that are answers, the surer the higher their number."""
    del attention_mask, token_type_ids
    logits = np.where(input_ids >= FIRST_ANSWER, 4 + input_ids / 20, 0).astype(np.float32)
    return FakeTensor(logits), FakeTensor(logits)


def guesses(input_ids: Any, attention_mask: Any, token_type_ids: Any) -> tuple[FakeTensor, FakeTensor]:
    del attention_mask, token_type_ids
    logits = np.random.default_rng(0).normal(size=input_ids.shape).astype(np.float32)
    return FakeTensor(logits), FakeTensor(logits)


def overflows(input_ids: Any, attention_mask: Any, token_type_ids: Any) -> tuple[FakeTensor, FakeTensor]:
    del attention_mask, token_type_ids
    logits = np.full(input_ids.shape, np.nan, np.float32)
    return FakeTensor(logits), FakeTensor(logits)


def recipe(folder: Path, **changes: Any) -> NeuronEncoderRecipe:
    """A recipe with 25 questions, each with an answer among nine other words."""
    paragraphs = []
    for index, answer in enumerate(ANSWERS):
        words = [*np.random.default_rng(index).choice(WORDS, 9)]
        words.insert(index % 9, answer)
        context = " ".join(words)
        answers = [{"text": answer, "answer_start": context.index(answer)}]
        paragraphs.append({"context": context, "qas": [{"id": answer, "question": "what", "answers": answers}]})
    path = folder / "questions.json"
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    given = {"lengths": (32, 64), "batches": (2, 4), "doc_stride": 4, "max_query_length": 8, **changes}
    return NeuronEncoderRecipe(data=SquadEvaluation(evaluation=str(path)), **given)


def fetch(_source: Any, to: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(to / "tokenizer.json"))
    (to / "config.json").write_text(json.dumps({"vocab_size": len(VOCABULARY), "max_position_embeddings": 64}))


def built(folder: Path, model: Model, *, sdk: Any = None, on_device: bool = False, **changes: Any) -> BuildResult:
    return run(
        folder, recipe(folder, **changes), sdk or FakeNeuronX(), on_device=on_device, answers=model,
        models=lambda: Source(lambda _source: "a model", fetch, lambda _folder, _attention: model),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (guesses, r"the FP32 model's F1 is \d+\.\d\d on 25 questions, and random passages have"),
        (overflows, r"the model fails on an evaluation question: .* not finite"),
    ],
)
def test_a_model_that_does_not_answer_the_questions_is_not_traced(tmp_path: Path, model: Model, message: str) -> None:
    sdk = FakeNeuronX()
    with pytest.raises(BuildError, match=message):
        built(tmp_path, model, sdk=sdk)
    assert sdk.calls == []


def test_the_summary_says_what_pytorch_scores(tmp_path: Path) -> None:
    scores = {"dataset": "questions.json", "questions": 25, "exact_match": 100.0, "f1": 100.0}
    assert built(tmp_path, finds).summary()["reference"] == scores


@pytest.mark.parametrize("on_device", [True, False])
def test_the_example_is_the_question_that_the_model_is_surest_of(tmp_path: Path, on_device: bool) -> None:
    example = built(tmp_path, finds, on_device=on_device).manifest.example
    assert example is not None
    item, answer = msgspec.convert(example.request, Item), msgspec.convert(example.response, AnsweredQuestion)
    assert answer.answer == ANSWERS[-1] == item.context[answer.start : answer.end]
    assert answer.score > 0.9
    assert ROUNDING_TOLERANCE <= example.tolerance < 0.1


def test_a_trace_that_could_not_run_may_differ_by_what_its_logits_may(tmp_path: Path) -> None:
    strict, loose = (built(tmp_path, finds, tolerance=tolerance).manifest.example for tolerance in (0.001, 1.5))
    assert strict is not None
    assert loose is not None
    assert strict.tolerance == ROUNDING_TOLERANCE < loose.tolerance < 1


def test_a_repeated_build_does_not_evaluate_again(tmp_path: Path) -> None:
    first = built(tmp_path, finds)
    assert built(tmp_path, finds).quality == first.quality
    (folder,) = (tmp_path / "steps").glob("evaluate-*")
    assert (folder / "predictions.json").exists()


def test_lengths_beyond_the_models_positions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="lengths are 32, 128: the model has 64 positions; set at most 64"):
        built(tmp_path, finds, lengths=(32, 128))


def test_questions_in_s3_are_what_the_build_may_read() -> None:
    url = "s3://bucket/questions.json"
    assert NeuronEncoderRecipe(data=SquadEvaluation(evaluation=url)).s3_urls == (url,)
    assert NeuronEncoderRecipe().s3_urls == ()
    with pytest.raises(ValidationError, match="calibration"):
        NeuronEncoderRecipe.model_validate({"data": {"kind": "squad", "evaluation": "a", "calibration": "b"}})
