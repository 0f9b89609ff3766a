"""The files of an encoder archive other than the manifest and the engine's own model file."""

from collections.abc import Mapping
from typing import Any

from containers.serving.errors import StartupError
from containers.serving.question_answering.windows import WindowLimits

TOKENIZER_FILE = "tokenizer.json"


def window_limits(recipe: Mapping[str, Any]) -> WindowLimits:
    """Return the limits that the artifact was built and scored with, from its manifest's recipe.

    Raises StartupError for a recipe with missing or invalid limits.
    """
    try:
        return WindowLimits(recipe["max_seq_length"], recipe["doc_stride"], recipe["max_query_length"])
    except KeyError as error:
        raise StartupError(f"the manifest's recipe has no {error.args[0]}; rebuild the artifact") from error
    except ValueError as error:
        raise StartupError(
            f"the manifest's recipe does not fit a BERT encoder: {error}; rebuild the artifact"
        ) from error
