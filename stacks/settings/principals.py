"""ARNs of IAM principals as settings."""

import re
from typing import Annotated

from pydantic import AfterValidator

_PRINCIPAL = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(role|user)/[\w+=,.@/*-]{1,512}", re.ASCII)


def _principal(value: str) -> str:
    if not _PRINCIPAL.fullmatch(value) or value.endswith((":role/*", ":user/*")):
        raise ValueError(
            f"{value[:200]!r} is not the ARN of a role or user: write one like "
            "arn:aws:iam::123456789012:role/model-publisher, where `*` may stand for a part of the name"
        )
    return value


Principal = Annotated[str, AfterValidator(_principal)]
"""ARN of an IAM role or user, or a pattern of them."""
