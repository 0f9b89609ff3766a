"""The base class of all settings."""

import difflib
import re
import types
from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, Self, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from stacks.naming import camel

Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$", max_length=31)]
"""Name that a deployment file gives to a workload, a model, an endpoint or a schedule. Resources are named after it,
with hyphens, and SageMaker's names neither begin nor end with one."""
_TAG = re.compile(r"[\w\s.:/=+@-]*")
_MOST_TAGS = 45
"""AWS permits 50 tags; this project, the CDK and CloudFormation add some."""


def _check_tags(tags: dict[str, str]) -> dict[str, str]:
    """Check the rules that all AWS services share; source: "Tag naming limits and requirements" in the AWS guide."""
    if len(tags) > _MOST_TAGS:
        raise ValueError(
            f"there are {len(tags)} tags: at most {_MOST_TAGS} are allowed, since AWS permits 50 and this project, the "
            "CDK and CloudFormation add some"
        )
    for key, value in tags.items():
        if key == "environment":
            raise ValueError("the tag 'environment' has the deployment's name: remove it or rename it")
        if key.lower().startswith("aws:"):
            raise ValueError(f"the tag {key!r} begins with aws:, which is reserved by AWS: rename it")
        for what, text, least, most in (("name", key, 1, 128), ("value", value, 0, 256)):
            if not least <= len(text) <= most or not _TAG.fullmatch(text):
                raise ValueError(
                    f"the tag {key[:60]!r} has a {what} that AWS refuses: use {least} to {most} letters, digits, "
                    "spaces and _ . : / = + - @"
                )
    return tags


Tags = Annotated[dict[str, str], AfterValidator(_check_tags)]
"""Tags of resources, by name."""


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys and name the known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            known = list(cls.model_fields)
            for key in data:
                if key not in known:
                    close = difflib.get_close_matches(str(key), known, n=1)
                    hint = f"did you mean {close[0]!r}? " if close else ""
                    raise ValueError(f"unknown key {key!r}; {hint}valid keys: {', '.join(known)}")
        return data

    @model_validator(mode="before")
    @classmethod
    def _refuse_values_of_another_type(cls, data: Any) -> Any:
        """Refuse what pydantic would convert: true to 1, "3" to 3, "no" and 0 to false."""
        for key, value in data.items() if isinstance(data, Mapping) else ():
            if key in cls.model_fields:
                _check_type(key, cls.model_fields[key].annotation, value)
        return data

    @model_validator(mode="after")
    def _refuse_keys_that_name_the_same(self) -> Self:
        for name, field in type(self).model_fields.items():
            if get_origin(field.annotation) is dict and get_args(field.annotation)[0] == Key:
                taken: dict[str, str] = {}
                for key in getattr(self, name):
                    if (first := taken.setdefault(camel(key), key)) != key:
                        raise ValueError(
                            f"{name}.{first} and {name}.{key} would give their resources one name: rename one"
                        )
        return self


def _check_type(key: str, annotation: Any, value: Any) -> None:
    if isinstance(value, list | tuple):
        inner = [each for each in get_args(annotation) if each is not Ellipsis]
        for item in value if get_origin(annotation) is tuple else ():
            _check_type(key, inner[0], item)
        return
    accepted = _alternatives(annotation)
    if type(value) in accepted or not isinstance(value, bool | int | str):
        return
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    if accepted & {int, float} and isinstance(value, bool | str):
        fix = "remove the quotes" if isinstance(value, str) else "write a number"
        raise ValueError(f"{key} is {shown}, which is not a number: {fix}")
    if accepted <= {bool, NoneType}:
        raise ValueError(f"{key} is {shown}: write true or false, without quotes")


def _alternatives(annotation: Any) -> set[Any]:
    """Return the types that an annotation accepts, without constraints."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return {each for part in get_args(annotation) for each in _alternatives(part)}
    return {annotation}
