"""Secrets are refused wherever they stand, unquoted; a private network needs what it cannot reach."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from stacks.settings.deployment import Deployment, DeploymentError
from stacks.settings.model_build import code_artifact

PRIVATE = Path(__file__).parents[2] / "infrastructure/private_network.yaml"


def document(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(PRIVATE.read_text())
    return {**found, **changes}


def refused(tmp_path: Path, content: dict[str, Any]) -> str:
    path = tmp_path / "some.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(DeploymentError) as error:
        Deployment.load(path)
    return str(error.value)


# Put together here, so that no scanner takes this file for a leak.
SECRETS = {
    "an AWS access key": "AKIA" + "IOSFODNN7EXAMPLE",
    "a Hugging Face token": "hf_" + "a" * 34,
    "a GitHub token": "ghp_" + "b" * 36,
    "a Slack token": "xoxb-" + "1" * 12,
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "a JSON web token": "eyJhbGciOiJI.eyJzdWIiOiIx." + "c" * 20,
    "a URL with a password": "https://user:" + "hunter2@packages.example.com/simple/",
}


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("where", ["tags", "model_build", "source"])
def test_a_secret_in_a_setting_is_refused_and_never_quoted(tmp_path: Path, kind: str, where: str) -> None:
    content, secret = document(), SECRETS[kind]
    if where == "tags":
        content["tags"] = {"note": f"see {secret}"}
    elif where == "model_build":
        content["model_build"]["package_index"] = secret
    else:
        content["workloads"]["encoder"]["models"]["bert_base"]["source"]["url"] = f"s3://bucket/{secret}"
    message = refused(tmp_path, content)
    assert f"looks like {kind}" in message and "Secrets Manager" in message
    assert secret not in message
    assert {"tags": "tags.note", "model_build": "model_build.package_index", "source": "source.url"}[where] in message


@pytest.mark.parametrize("key", ["password", "hub_token", "api-key", "client_secret", "ACCESS_KEY"])
def test_what_is_called_a_secret_is_refused_whatever_it_looks_like(tmp_path: Path, key: str) -> None:
    message = refused(tmp_path, document(tags={key: "plain words"}))
    assert f"tags.{key} looks like a secret" in message and "plain words" not in message


def test_a_secret_among_the_keys_is_refused_too(tmp_path: Path) -> None:
    message = refused(tmp_path, document(tags={SECRETS["a GitHub token"]: "x"}))
    assert "a key of tags looks like a GitHub token" in message and "ghp_" not in message


def test_a_reference_to_a_secret_is_none(tmp_path: Path) -> None:
    reference = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hub-AbCdEf"
    path = tmp_path / "some.yaml"
    path.write_text(yaml.safe_dump(document(tags={"hub_token": reference})))
    assert Deployment.load(path).model_build.hub_token_secret == reference


def test_the_hubs_token_is_the_arn_of_a_secret_and_nothing_else(tmp_path: Path) -> None:
    content = document()
    content["model_build"]["hub_token_secret"] = "my-token"
    assert "model_build.hub_token_secret" in refused(tmp_path, content)


def without_internet(**changes: Any) -> dict[str, Any]:
    content = copy.deepcopy(document())
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = content
        for name in parents:
            place = place[name]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (without_internet(model_build__package_index=None), ["model_build.package_index", "PyPI", "CodeArtifact"]),
        (without_internet(model_build__package_index="http://packages.example.com"), ["https://"]),
        (
            without_internet(
                model_build__package_index="https://p-123456789012.d.codeartifact.eu-west-1.amazonaws.com/npm/x/"
            ),
            ["/pypi/REPOSITORY/simple/", "/npm/x/"],
        ),
        (
            without_internet(workloads__encoder__models__bert_base__source={"kind": "hugging_face"}),
            ["workloads.encoder.models.bert_base.source is 'hugging_face'", "s3://"],
        ),
        (
            without_internet(
                workloads__encoder__models__bert_base__data={
                    "kind": "squad",
                    "calibration": "https://example.com/train.json",
                    "evaluation": "s3://models-of-ours/dev.json",
                }
            ),
            ["data.calibration", "https://example.com/train.json", "s3://"],
        ),
        (
            without_internet(vpc={"subnet_ids": ["subnet-1"], "security_group_ids": ["sg-1"]}),
            ["vpc and private_network are both set"],
        ),
        (
            without_internet(load_test={"vpc": {"subnet_ids": ["subnet-1"], "security_group_ids": ["sg-1"]}}),
            ["load_test.vpc and private_network are both set"],
        ),
        (without_internet(permissions_boundary="a boundary"), ["permissions_boundary", "a boundary"]),
    ],
)
def test_what_a_private_network_cannot_reach_is_refused_with_the_way_out(
    tmp_path: Path, content: dict[str, Any], expected: list[str]
) -> None:
    message = refused(tmp_path, content)
    for text in expected:
        assert text in message


def test_an_index_of_code_artifact_says_whose_it_is() -> None:
    index = "https://a-domain-123456789012.d.codeartifact.eu-west-1.amazonaws.com/pypi/mirror/simple/"
    assert code_artifact(index) == {
        "domain": "a-domain", "owner": "123456789012", "region": "eu-west-1", "repository": "mirror"
    }  # fmt: skip
    assert code_artifact("https://packages.example.com/simple/") is None
