"""What a encoder archive holds besides the engine's own model file and the manifest."""

from collections.abc import Mapping
from typing import Any

from containers.serving.errors import StartupError
from containers.serving.question_answering.windows import WindowLimits

TOKENIZER_FILE = "tokenizer.json"


def window_limits(recipe: Mapping[str, Any]) -> WindowLimits:
    """Return the limits that the artifact was built and scored with, from its manifest's recipe.

    Raises StartupError for a recipe without them, or with ones that cannot be.
    """
    try:
        return WindowLimits(recipe["max_seq_length"], recipe["doc_stride"], recipe["max_query_length"])
    except KeyError as error:
        raise StartupError(f"the manifest's recipe has no {error.args[0]}; rebuild the artifact") from error
    except ValueError as error:
        raise StartupError(
            f"the manifest's recipe does not fit a BERT encoder: {error}; rebuild the artifact"
        ) from error
