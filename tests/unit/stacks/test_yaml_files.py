"""A YAML file that a person writes is read in only one way, or refused with its line, column and fix."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stacks.settings.deployment import DEPLOYMENTS, Deployment, DeploymentError
from stacks.settings.pipeline import Pipeline
from stacks.settings.yaml_files import YamlFileError, read_yaml

WORKLOADS = (DEPLOYMENTS / "dev.yaml").read_text()


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "mine.yaml line 3, column 1: duplicate key 'a', first used on line 1"),
        ("a:\n  b: 1\n  c: {d: 1, d: 2}\n", "line 3, column 13: duplicate key 'd', first used on line 3"),
        ("a: &x {k: 1}\nb:\n  <<: *x\n  <<: *x\n", "line 4, column 3: duplicate key '<<', first used on line 3"),
        ("a: 010\n", "line 1, column 4: '010' is ambiguous: write the number without leading zeros"),
        ("a: 012345678901\n", "'012345678901' is ambiguous"),
        ("a: 0x1F\n", "'0x1F' is ambiguous: write the number in decimal"),
        ("a: 0b11\n", "'0b11' is ambiguous"),
        ("a: 1_000\n", "'1_000' is ambiguous: write the number without underscores"),
        ("a: 1:30\n", "'1:30' is ambiguous: YAML 1.1 reads it in base 60"),
        ("a: [010, 1]\n", "line 1, column 5: '010' is ambiguous"),
        ("a: 2026-12-01\n", "'2026-12-01' is ambiguous: YAML 1.1 reads it as a date"),
        ("a: .inf\n", "'.inf' is ambiguous: write a finite number"),
        ("a: -.INF\n", "write a finite number"),
        ("a: .nan\n", "write a finite number"),
        ("true: 1\n", "line 1, column 1: a key must be text: put it in quotes"),
        ("1: a\n", "a key must be text"),
        ("[a]: b\n", "a key must be text"),
        ("a:\n\tb: 1\n", "line 2, column 1: .*: indent with spaces"),
        ("a: *x\n", "line 1, column 4: found undefined alias"),
        ("a: &x [*x]\n", "an alias refers to a value that contains it"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: but found another document"),
        ("a: !!python/object:os.system x\n", "line 1, column 4: the tag 'python/object:os.system' is not supported"),
        ("a: [1, 2\n", "line 2, column 1"),
        ("a: !!bool maybe\n", "cannot be read as YAML"),
        ("a: !!int x\n", "cannot be read as YAML"),
        ("a: !!set {b, c}\n", "line 1, column 4: the tag 'set' is not supported"),
        ("a: !!binary aGVsbG8=\n", "the tag 'binary' is not supported"),
        (b"a: \xff\n", "line 1: byte 0xff is not UTF-8: save the file in UTF-8"),
        ("a: 1\n".encode("utf-16"), "is in UTF-16: save it in UTF-8"),
        (b"a: 1\nb: \0\n", "line 2: it has a NUL character"),
        ("a: " + "[" * 5000, "nested too deeply"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_with_place_and_fix(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(YamlFileError, match=message) as raised:
        read_yaml(written(tmp_path, content))
    assert "\n" not in str(raised.value)


def test_aliases_that_stand_for_billions_of_values_are_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(YamlFileError, match=r"too many values .* the limit is 100000"):
        read_yaml(written(tmp_path, "\n".join(lines)))


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("a: '010'\n", {"a": "010"}),
        ('a: "yes"\nb: true\nc: ~\n', {"a": "yes", "b": True, "c": None}),
        ("\ufeffa: 1\r\nb: 2.5\r\n", {"a": 1, "b": 2.5}),
        ("x: &x {k: 1, l: 2}\ny: {<<: *x, k: 3}\n", {"x": {"k": 1, "l": 2}, "y": {"k": 3, "l": 2}}),
        ("a: 0\nb: -1\nc: 1e-3\nd: 0.5\n", {"a": 0, "b": -1, "c": "1e-3", "d": 0.5}),
        ("a: off\nb: No\nc: truest\nno: on\n", {"a": "off", "b": "No", "c": "truest", "no": "on"}),
        ("a: TRUE\nb: false\n", {"a": True, "b": False}),
        ("a: |\n  no\n  010\n", {"a": "no\n010\n"}),
        ("", None),
    ],
)
def test_what_has_one_meaning_is_read(tmp_path: Path, content: str, value: Any) -> None:
    assert read_yaml(written(tmp_path, content)) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(value=JSON)
def test_what_yaml_writers_write_is_read_back_or_refused(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = written(tmp_path_factory.mktemp("yaml"), yaml.safe_dump(value))
    try:
        assert read_yaml(path) == value
    except YamlFileError as error:
        assert "mine.yaml" in str(error)


@pytest.mark.parametrize("name", ["dev", "prod", "published"])
def test_every_shipped_deployment_is_read(name: str) -> None:
    assert Deployment.named(name).workloads


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("environment: dev", "environment: dev\nenvironment: prod"),
            "duplicate key 'environment', first used on line",
        ),
        (("workloads:", "workloads: {}\nworkloads:"), "duplicate key 'workloads', first used on line"),
        (("environment: dev", "environment: dev\nretain_data: no"), "retain_data is 'no': write true or false"),
        (("environment: dev", "environment: dev\nretain_data: 'true'"), "retain_data is 'true': write true or false"),
        (("environment: dev", "environment: dev\nretain_data: 1"), "retain_data is 1: write true or false"),
    ],
)
def test_a_deployment_file_that_says_two_things_is_refused(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    assert change[0] in WORKLOADS
    with pytest.raises(DeploymentError, match=message):
        Deployment.load(written(tmp_path, WORKLOADS.replace(*change, 1)))


@pytest.mark.parametrize(
    ("given_", "message"),
    [("true", "instance_count is true, which is not a number"), ("'2'", "instance_count is '2', .* remove the quotes")],
)
def test_a_truth_or_a_text_is_no_count(tmp_path: Path, given_: str, message: str) -> None:
    content = f"""
environment: mine
workloads:
  qa:
    kind: encoder
    models: {{m: {{source: {{kind: demo}}}}}}
    endpoints: {{e: {{model: m, variants: {{A: {{instance_type: ml.c6i.2xlarge, instance_count: {given_}}}}}}}}}
"""
    with pytest.raises(DeploymentError, match=message):
        Deployment.load(written(tmp_path, content))


@pytest.mark.parametrize("content", ["", "- a\n", "text\n"])
def test_a_file_without_settings_says_what_belongs_there(tmp_path: Path, content: str) -> None:
    with pytest.raises(DeploymentError, match="must contain settings by name"):
        Deployment.load(written(tmp_path, content))


def test_a_pipeline_file_is_read_as_strictly(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="line 2, column 1: duplicate key 'repository', first used on line 1"):
        Pipeline.named(str(written(tmp_path, "repository: a\nrepository: b\n")))
