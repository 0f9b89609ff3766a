"""The calibration and evaluation questions that a recipe names."""

import hashlib
import random
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import boto3
import botocore.exceptions

from containers.serving.question_answering.windows import EncoderBatch, Windower
from model_build.encoder.recipe import EncoderRecipe, ProjectData, SquadData, SquadEvaluation
from model_build.encoder.squad import DatasetError, Question, read
from model_build.errors import BuildError

_FOLDER = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Split:
    """Questions for calibration or evaluation.

    name: name of their file.
    sha256: hash of their content, in hex.
    """

    name: str
    questions: tuple[Question, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class Splits:
    """The calibration and evaluation questions, which share no context."""

    calibration: Split
    evaluation: Split


def load_splits(recipe: EncoderRecipe) -> Splits:
    """Read both splits.

    Raises BuildError for a file that cannot be read, and for contexts that are in both splits.
    """
    match recipe.data:
        case ProjectData():
            calibration = _split(str(_FOLDER / "calibration.json"))
        case SquadData():
            calibration = _split(recipe.data.calibration)
    evaluation = evaluation_split(recipe.data, recipe.evaluation_questions)
    shared = {question.context for question in calibration.questions} & {q.context for q in evaluation.questions}
    if shared:
        raise BuildError(
            f"{len(shared)} contexts of {calibration.name} are also in {evaluation.name}: "
            "calibrate on passages that are not scored"
        )
    return Splits(calibration, evaluation)


def evaluation_split(data: ProjectData | SquadData | SquadEvaluation, limit: int | None) -> Split:
    """Read the evaluation questions, or the first `limit` of them; raises BuildError for an unreadable file."""
    match data:
        case ProjectData():
            return _split(str(_FOLDER / "evaluation.json"), limit)
        case SquadData() | SquadEvaluation():
            return _split(data.evaluation, limit)


def calibration_batches(recipe: EncoderRecipe, windower: Windower, split: Split) -> list[EncoderBatch]:
    """Return up to `calibration_samples` windows of the split, one row each, chosen with the recipe's seed."""
    windows = [window for q in split.questions for window in windower.windows(q.question, q.context)]
    random.Random(recipe.seed).shuffle(windows)
    return [EncoderBatch.of([window]) for window in windows[: recipe.calibration_samples]]


def _split(location: str, limit: int | None = None) -> Split:
    with tempfile.TemporaryDirectory() as scratch:
        path = _local(location, Path(scratch))
        try:
            questions = tuple(read(path))[:limit]
        except DatasetError as error:
            raise BuildError(str(error)) from error
        digest = hashlib.sha256(path.read_bytes() + str(limit).encode()).hexdigest()
    return Split(Path(urlparse(location).path).name, questions, digest)


def _local(location: str, scratch: Path) -> Path:
    parsed = urlparse(location)
    path = scratch / (Path(parsed.path).name or "data.json")
    try:
        if parsed.scheme == "s3":
            boto3.client("s3").download_file(parsed.netloc, parsed.path.lstrip("/"), str(path))
        elif parsed.scheme == "https":
            with urllib.request.urlopen(location, timeout=60) as response:
                path.write_bytes(response.read())
        else:
            path = Path(location)
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, urllib.error.URLError) as error:
        raise BuildError(f"data: {location!r} cannot be read: {error}") from error
    if not path.is_file():
        raise BuildError(
            f"data: {location!r} does not exist; set the path of a SQuAD v1.1 file, or an s3:// or https:// URL"
        )
    return path
