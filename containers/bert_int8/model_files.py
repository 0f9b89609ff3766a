"""What a bert_int8 archive holds besides the engine's own model file and the manifest."""

from collections.abc import Mapping
from typing import Any

from containers.serving.question_answering.windows import WindowLimits

TOKENIZER_FILE = "tokenizer.json"


def window_limits(recipe: Mapping[str, Any]) -> WindowLimits:
    """The limits that the artifact was built and scored with, from its manifest's recipe."""
    return WindowLimits(recipe["max_seq_length"], recipe["doc_stride"], recipe["max_query_length"])
