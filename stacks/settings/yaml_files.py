"""Read hand-written YAML files strictly: an ambiguous value is an error that names its line and column.

PyYAML follows YAML 1.1, in which `no` is false, `010` is 8, `1:30` is 90, and the second of two equal keys wins. YAML
1.2 reads all of these differently, and so do people.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from sizing.text_files import TextFileError, read_text

_MOST_CHARACTERS = 2**20
_MOST_NODES = 100_000
"""Most values of a file, with aliases resolved: a few lines of nested aliases can expand to billions."""
_AMBIGUOUS = (
    (re.compile(r"[-+]?0[0-9_]+"), "write the number without leading zeros, or put text in quotes"),
    (re.compile(r"[-+]?0[xob][0-9a-fA-F_]+"), "write the number in decimal, or put text in quotes"),
    (re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9_]*)?"), "YAML 1.1 reads it in base 60: put it in quotes"),
    (re.compile(r"[-+]?[0-9][0-9_]*_[0-9_.]*"), "write the number without underscores, or put text in quotes"),
    (re.compile(r"\d{4}-\d\d?-\d\d?([Tt ].*)?"), "YAML 1.1 reads it as a date: put it in quotes"),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), "write a finite number"),
    (re.compile(r"="), "put it in quotes"),
)
"""Unquoted scalars that YAML 1.1 and 1.2, or a person, read in different ways, and what to write instead."""


class YamlFileError(ValueError):
    """An invalid or ambiguous YAML file; the message has the file, line, column and fix."""


def read_yaml(path: Path) -> Any:
    """Return a file's only document as JSON values, with text as keys; raises YamlFileError, and OSError."""
    try:
        text = read_text(path)
    except TextFileError as error:
        raise YamlFileError(str(error)) from error
    if len(text) > _MOST_CHARACTERS:
        raise YamlFileError(
            f"{path.name} has {len(text)} characters: the limit is {_MOST_CHARACTERS}; split it or remove comments"
        )
    loader = _Loader(text)
    try:
        document = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        raise YamlFileError(_located(path.name, error)) from error
    except RecursionError as error:
        raise YamlFileError(f"{path.name} cannot be read as YAML: it is nested too deeply") from error
    except (yaml.YAMLError, LookupError, ValueError, TypeError, AttributeError) as error:
        # PyYAML's constructors raise anything for a value that does not fit its explicit tag.
        raise YamlFileError(f"{path.name} cannot be read as YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()
    return document


_STANDARD = "tag:yaml.org,2002:"
_TEXT, _MERGE, _BOOLEAN = (_STANDARD + name for name in ("str", "merge", "bool"))
_KINDS = ("str", "int", "float", "bool", "null", "merge", "timestamp", "value", "map", "seq")
"""Types of values; timestamps and the value `=` are refused as ambiguous."""


class _Loader(yaml.SafeLoader):
    """PyYAML's loader for JSON values, which refuses ambiguous values.

    Only true and false are booleans, as in YAML 1.2: yes, no, on and off are text.
    """

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        self._count(node, [])
        return self.construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping; its keys must be unique strings, and override merged keys (`<<`)."""
        seen: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (_TEXT, _MERGE):
                raise _error("a key must be text: put it in quotes", key)
            if (first := seen.setdefault(key.value, key)) is not key:
                line = first.start_mark.line + 1
                raise _error(f"duplicate key {key.value!r}, first used on line {line}: remove one of them", key)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: Any) -> Any:
        """Return a scalar's text, unless it can be read in two ways without quotes."""
        if isinstance(node, yaml.ScalarNode) and node.style is None:
            for pattern, fix in _AMBIGUOUS:
                if pattern.fullmatch(node.value):
                    raise _error(f"{node.value!r} is ambiguous: {fix}", node)
        return super().construct_scalar(node)

    def _count(self, node: yaml.Node, above: list[yaml.Node], so_far: int = 0) -> int:
        """Return the number of values below a node, with aliases resolved."""
        if any(node is each for each in above):
            raise _error("an alias refers to a value that contains it", node)
        so_far += 1
        if so_far > _MOST_NODES:
            raise _error(
                f"the file has too many values with its aliases resolved: the limit is {_MOST_NODES}; split the "
                "file or remove aliases",
                node,
            )
        if node.tag.startswith(_STANDARD) and node.tag.removeprefix(_STANDARD) not in _KINDS:
            raise _error(f"the tag {node.tag.removeprefix(_STANDARD)!r} is not supported: write plain values", node)
        if isinstance(node, yaml.CollectionNode):
            for child in node.value:
                for each in child if isinstance(child, tuple) else (child,):
                    so_far = self._count(each, [*above, node], so_far)
        return so_far


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOLEAN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def _error(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _located(name: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f" line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    problem = error.problem or error.context or "it is not YAML"
    hint = ": indent with spaces" if "'\\t'" in problem else ""
    return f"{name}{place}: {problem}{hint}"
