"""Check every response against XGBoost's own predictions, for a model uploaded under the archive's name."""

import io
import math
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import BenchmarkError
from containers.tabular.features import MODEL_FILE
from load_tests.payloads.tabular import Customer
from model_build.tabular.booster import predict

TOLERANCE = 1e-6
"""Largest difference from XGBoost's own prediction."""


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """A model archive, and XGBoost's predictions for all rows, in order."""

    archive: bytes
    answers: tuple[float, ...]


def contents(archives: Sequence[bytes], customers: Sequence[Customer]) -> list[Content]:
    """Run XGBoost itself on every archive's model; raises BenchmarkError for an archive without a model."""
    features = np.array([[float(value) for value in customer.features] for customer in customers], np.float32)
    return [Content(archive, _answers(archive, features)) for archive in archives]


def _answers(archive: bytes, features: NDArray[np.float32]) -> tuple[float, ...]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.extractfile(MODEL_FILE)
        if member is None:
            raise BenchmarkError(f"an archive of the build has no file {MODEL_FILE}")
        return tuple(predict(member.read(), features).tolist())


@dataclass(slots=True)
class _Entry:
    """Versions uploaded under a name, oldest first, and the oldest that may still be loaded."""

    versions: list[Content]
    oldest: int = 0


@dataclass(slots=True)
class Catalogue:
    """Names of all archives, and the versions that a response may come from.

    A loaded model stays the same when its archive is replaced; when it is loaded again, it comes from the archive as it
    is then. So a response may come from any version uploaded before the response arrived, but from none older than a
    version that responded before the request was sent.
    """

    replaced_meanwhile: int = 0
    """Number of correct responses from a model whose archive had been replaced."""
    largest_difference: float = 0.0
    """Largest difference of a correct response from XGBoost's own prediction."""
    _entries: dict[str, _Entry] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that has an archive."""
        return tuple(self._entries)

    @property
    def replaced(self) -> tuple[str, ...]:
        """Names whose archives were replaced at least once."""
        return tuple(name for name, entry in self._entries.items() if len(entry.versions) > 1)

    def begin_upload(self, name: str, content: Content) -> None:
        """Record an upload before it begins; from then on, responses may come from the new version."""
        if name in self._entries:
            self._entries[name].versions.append(content)
        else:
            self._entries[name] = _Entry([content])

    def current(self, name: str) -> Content:
        """Return the content last uploaded under a name."""
        return self._entries[name].versions[-1]

    def oldest(self, name: str) -> int:
        """Return the oldest version, counted from 0, that may answer a request sent now."""
        return self._entries[name].oldest

    def latest(self, name: str) -> int:
        """Return the version, counted from 0, that a model loaded now has."""
        return len(self._entries[name].versions) - 1

    def mistake(self, name: str, rows: Sequence[int], answer: bytes, oldest: int) -> str | None:
        """Return what is wrong with a response, or None if it is correct.

        rows: indices of the rows that were sent.
        oldest: value of `oldest` when the request was sent.
        """
        entry = self._entries[name]
        try:
            given = [float(score) for score in answer.decode().split(",")]
        except ValueError:
            return "no comma-joined numbers"
        if len(given) != len(rows):
            return "another number of answers than rows"
        if not all(map(math.isfinite, given)):
            return "not a finite number"
        differences = [_difference(version, rows, given) for version in entry.versions]
        fitting = [index for index, difference in enumerate(differences) if difference <= TOLERANCE]
        allowed = [index for index in fitting if index >= oldest]
        if not allowed:
            return "of a replaced version" if fitting else "of no version of the model"
        # If several versions agree on these rows, the response only proves the oldest of them.
        entry.oldest = max(entry.oldest, allowed[0])
        self.largest_difference = max(self.largest_difference, min(differences[index] for index in allowed))
        self.replaced_meanwhile += allowed[-1] < len(entry.versions) - 1
        return None


def _difference(version: Content, rows: Sequence[int], given: Sequence[float]) -> float:
    return max(abs(version.answers[row] - score) for row, score in zip(rows, given, strict=True))
