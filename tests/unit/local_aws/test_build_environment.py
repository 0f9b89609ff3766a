"""A build's environment: secrets are looked up and hidden, and the machine's own tokens stay out."""

import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local_aws.authentication.credentials import new_credential
from local_aws.emulator.build_environment import BuildEnvironmentError, BuildOutput, base, buildspec_variables, resolved

SECRET_ARN = "arn:aws:secretsmanager:us-east-1:000000000000:secret:hub-AbCdEf"


class Services:
    """Secrets Manager and the parameter store, as far as builds ask them."""

    def get_secret_value(self, **request: str) -> dict[str, str]:
        if request["SecretId"] not in (SECRET_ARN, "hub"):
            raise ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "no"}}, "GetSecretValue")
        version = request.get("VersionId") or request["VersionStage"]
        return {"SecretString": json.dumps({"token": f"hf_{version}", "nested": {"a": 1}})}

    def get_parameter(self, **request: Any) -> dict[str, dict[str, str]]:
        assert request["WithDecryption"]
        return {"Parameter": {"Value": f"value of {request['Name']}"}}


@pytest.fixture(autouse=True)
def services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boto3, "client", lambda _name: Services())


def value(reference: str, kind: str = "SECRETS_MANAGER") -> str:
    return resolved([{"name": "X", "value": reference, "type": kind}], BuildOutput(print))["X"]


def test_a_secret_is_its_value_and_not_its_name() -> None:
    assert json.loads(value("hub"))["token"] == "hf_AWSCURRENT"


@pytest.mark.parametrize("name", ["hub", SECRET_ARN])
def test_a_key_a_stage_and_a_version_of_a_secret_can_be_named(name: str) -> None:
    assert value(f"{name}:token") == "hf_AWSCURRENT"
    assert value(f"{name}:token:AWSPREVIOUS") == "hf_AWSPREVIOUS"
    assert value(f"{name}:token::v1") == "hf_v1"
    assert value(f"{name}:nested") == '{"a": 1}'


def test_a_parameter_is_decrypted() -> None:
    assert value("/hub/token", "PARAMETER_STORE") == "value of /hub/token"


@pytest.mark.parametrize("reference", ["absent", f"{SECRET_ARN}:absent"])
def test_a_secret_that_cannot_be_read_fails_the_build_and_names_the_variable(reference: str) -> None:
    with pytest.raises(BuildEnvironmentError, match="environment variable X: SECRETS_MANAGER"):
        value(reference)


def test_a_type_that_code_build_does_not_have_is_refused() -> None:
    with pytest.raises(BuildEnvironmentError, match="'VAULT': it must be one of PLAINTEXT"):
        value("x", "VAULT")


def test_an_override_wins_and_what_it_replaces_is_not_looked_up() -> None:
    variables = [
        {"name": "HF_TOKEN", "value": "absent", "type": "SECRETS_MANAGER"},
        {"name": "HF_TOKEN", "value": "plain", "type": "PLAINTEXT"},
    ]
    assert resolved(variables, BuildOutput(print)) == {"HF_TOKEN": "plain"}


def test_a_buildspec_names_secrets_too() -> None:
    spec = {"env": {"variables": {"A": 1}, "secrets-manager": {"B": "hub:token"}, "parameter-store": {"C": "/c"}}}
    assert resolved(buildspec_variables(spec), BuildOutput(print)) == {
        "A": "1",
        "B": "hf_AWSCURRENT",
        "C": "value of /c",
    }


def test_the_output_shows_stars_where_a_secret_was() -> None:
    lines: list[str] = []
    output = BuildOutput(lines.append)
    resolved([{"name": "HF_TOKEN", "value": "hub:token", "type": "SECRETS_MANAGER"}], output)
    output.emit("token is hf_AWSCURRENT!")
    assert lines == ["token is ***!"]


def test_a_build_has_its_own_key_and_none_of_the_shells_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the emulator's own")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    key = new_credential("build/1", temporary=True)
    environment = base(key)
    assert "GITHUB_TOKEN" not in environment
    assert environment["AWS_SECRET_ACCESS_KEY"] == key.secret_access_key
    assert environment["AWS_SESSION_TOKEN"] == key.session_token
    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
