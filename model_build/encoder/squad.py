"""SQuAD v1.1 files and the official exact-match and F1 scores."""

import gzip
import json
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class DatasetError(ValueError):
    """A data set that cannot be read or is not in SQuAD v1.1 format."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A gold answer: its text, and the index of its first character in the context."""

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one context, with the answers of all annotators."""

    id: str
    title: str
    question: str
    context: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """Accuracy over a data set: exact match and F1 in percent, and the number of questions."""

    exact_match: float
    f1: float
    questions: int


def document(path: Path) -> Any:
    """Return a file's JSON without checking its form; a name ending in `.gz` means gzip. Raises DatasetError."""
    try:
        return json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    except (OSError, EOFError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as SQuAD JSON: {error}") from error


def read(path: Path) -> list[Question]:
    """Read a SQuAD v1.1 file; a name ending in `.gz` means gzip.

    Raises DatasetError with the file and the position of the error, also for an answer whose text is not at its
    `answer_start`.
    """
    whole = document(path)
    try:
        questions = [
            _question(path, article, paragraph, entry)
            for article in whole["data"]
            for paragraph in article["paragraphs"]
            for entry in paragraph["qas"]
        ]
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{path}: not in SQuAD v1.1 form: {error!r} is missing or of the wrong type") from error
    if not questions:
        raise DatasetError(f"{path}: has no questions")
    if len({question.id for question in questions}) != len(questions):
        raise DatasetError(f"{path}: two questions share an id")
    return questions


def _question(
    path: Path, article: Mapping[str, Any], paragraph: Mapping[str, Any], entry: Mapping[str, Any]
) -> Question:
    context = paragraph["context"]
    answers = tuple(Answer(answer["text"], answer["answer_start"]) for answer in entry["answers"])
    for answer in answers:
        if context[answer.start : answer.start + len(answer.text)] != answer.text:
            raise DatasetError(
                f"{path}: question {entry['id']}: {answer.text!r} is not at character {answer.start} of its context"
            )
    if not answers:
        raise DatasetError(f"{path}: question {entry['id']} has no answer (SQuAD v2 is not supported)")
    return Question(entry["id"], article["title"], entry["question"], context, answers)


def normalize(text: str) -> str:
    """Lowercase a text, and drop punctuation, articles and extra white space.

    Source: the official SQuAD v1.1 evaluation script (Rajpurkar et al. 2016).
    """
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def f1(prediction: str, gold: str) -> float:
    """Return the harmonic mean of token precision and recall after `normalize`, 0 to 1."""
    predicted, expected = normalize(prediction).split(), normalize(gold).split()
    common = sum((Counter(predicted) & Counter(expected)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(expected)
    return 2 * precision * recall / (precision + recall)


def best_f1(question: Question, prediction: str) -> float:
    """Return the best F1 of a prediction over the question's gold answers, 0 to 1."""
    return max(f1(prediction, answer.text) for answer in question.answers)


def score(questions: Iterable[Question], predictions: Mapping[str, str]) -> Scores:
    """Return the official exact match and F1: the best over each question's gold answers, averaged, in percent.

    predictions: answer text by question id; a question without one counts as wrong. Raises DatasetError for no
    questions.
    """
    exact, f1_sum, count = 0.0, 0.0, 0
    for question in questions:
        prediction = predictions.get(question.id, "")
        exact += max(normalize(prediction) == normalize(answer.text) for answer in question.answers)
        f1_sum += best_f1(question, prediction)
        count += 1
    if count == 0:
        raise DatasetError("there are no questions to score")
    return Scores(100 * exact / count, 100 * f1_sum / count, count)
