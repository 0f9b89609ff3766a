"""Checks of where a deployment's models come from."""

from collections.abc import Mapping

from model_build.bert_int8.recipe import HuggingFaceSource, ModelSource


def check_revisions(sources: Mapping[str, ModelSource]) -> None:
    """Raise ValueError for a model of the hub that production would build from a branch or tag.

    sources: by the path of their setting.
    """
    for path, source in sources.items():
        if isinstance(source, HuggingFaceSource) and not source.is_pinned and not source.allow_moving_revision:
            raise ValueError(
                f"{path}.revision is {source.revision!r} in profile prod, a branch or tag that the model's owner may "
                f"move: give a commit of 40 hex digits; {source.how_to_pin}. To accept that the model may change "
                "without a change here, set allow_moving_revision: true"
            )
