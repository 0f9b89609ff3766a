"""The doctor names everything that would stop a deployment, with what mends it, and is silent on a sound account."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from stacks.doctor.examination import examine
from stacks.doctor.findings import Finding, Patient
from stacks.settings.deployment import Deployment

QUOTAS = {
    "sagemaker": {"ml.c5.xlarge for endpoint usage": 8.0},
    "codebuild": {
        "Concurrently running builds for Linux/Large environment": 1.0,
        "Concurrently running builds for Linux/XLarge environment": 1.0,
    },
}


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, "Operation")


class Clients:
    """The clients of an account in which all is well; `faults` replaces answers by operation."""

    def __init__(self, **faults: Any) -> None:
        self._answers: dict[str, Any] = {
            "get_caller_identity": {"Arn": "arn:aws:iam::210987654321:user/me", "Account": "210987654321"},
            "get_parameter": {"Parameter": {"Value": "30"}},
            "get_role": {},
            "list_objects_v2": {"KeyCount": 1},
            "describe_secret": {},
            "quotas": QUOTAS,
            **faults,
        }

    def client(self, service: str) -> Any:
        del service
        return self

    def __getattr__(self, operation: str) -> Any:
        def call(**request: Any) -> Any:
            del request
            return self._answer(operation)

        return call

    def get_paginator(self, operation: str) -> "Clients":
        del operation
        return self

    def paginate(self, **request: str) -> Iterator[Mapping[str, Any]]:
        named = self._answer("quotas")[request["ServiceCode"]].items()
        yield {"Quotas": [{"QuotaName": name, "Value": value, "QuotaCode": "L-1"} for name, value in named]}

    def _answer(self, operation: str) -> Any:
        answer = self._answers[operation]
        if isinstance(answer, Exception):
            raise answer
        return answer


def patient(account: Clients, *, local: bool = False, region: str | None = "us-east-1", **settings: Any) -> Patient:
    endpoint = {"instance_type": "ml.c5.xlarge", "instance_count": 2}
    workload = {"kind": "tabular", "endpoints": {"main": endpoint}, **settings.pop("workload", {})}
    given = {
        "environment": "mine",
        "alerts": {"email": "me@company.com"},
        "model_build": {"compute": "on_demand"},
        "workloads": {"tables": workload},
        **settings,
    }
    deployment = Deployment.model_validate(given)
    return Patient(deployment=deployment, file="mine.yaml", region=region, client=account.client, local=local)


def faults(examined: Patient) -> list[Finding]:
    return [each for each in examine(examined) if each.verdict != "ok"]


S3 = {"recipe": {"source": {"kind": "s3", "url": "s3://tables/churn.csv"}}}
TOKEN = {
    "compute": "on_demand",
    "hub_token_secret": "arn:aws:secretsmanager:us-east-1:210987654321:secret:hub",
}


@pytest.mark.parametrize("local", [False, True])
def test_a_sound_account_has_no_faults(local: bool) -> None:
    assert faults(patient(Clients(), local=local, load_test={}, workload=S3)) == []


PLANTED: dict[str, tuple[dict[str, Any], dict[str, Any], str, str, str]] = {
    "no credentials": ({"get_caller_identity": NoCredentialsError()}, {}, "stop", "identity", "aws sts"),
    "expired": ({"get_caller_identity": refused("ExpiredToken")}, {}, "stop", "identity", "aws sts"),
    "no region": ({}, {"region": None}, "stop", "region", "export AWS_REGION"),
    "no bootstrap": ({"get_parameter": refused("ParameterNotFound")}, {}, "stop", "bootstrap", "scripts/bootstrap"),
    "old bootstrap": ({"get_parameter": {"Parameter": {"Value": "5"}}}, {}, "stop", "bootstrap", "scripts/bootstrap"),
    "bootstrap unknown": ({"get_parameter": refused("AccessDenied")}, {}, "warning", "bootstrap", "read permissions"),
    "no instances": (
        {"quotas": {**QUOTAS, "sagemaker": {"ml.c5.xlarge for endpoint usage": 0.0}}},
        {}, "stop", "instance quotas", "--quota-code L-1 --desired-value 4",
    ),
    "no room for an update": (
        {"quotas": {**QUOTAS, "sagemaker": {"ml.c5.xlarge for endpoint usage": 3.0}}},
        {}, "warning", "instance quotas", "--desired-value 4",
    ),
    "no quota of that name": ({"quotas": {**QUOTAS, "sagemaker": {}}}, {}, "stop", "instance quotas", "console"),
    "no large builds": (
        {"quotas": {**QUOTAS, "codebuild": dict.fromkeys(QUOTAS["codebuild"], 0.0)}},
        {}, "stop", "build quotas", "--service-code codebuild",
    ),
    "no build quota of that name": ({"quotas": {**QUOTAS, "codebuild": {}}}, {}, "stop", "build quotas", "console"),
    "quotas unknown": ({"quotas": refused("AccessDenied")}, {}, "warning", "instance quotas", "read permissions"),
    "no role of ECS": (
        {"get_role": refused("NoSuchEntity")}, {"load_test": {}}, "stop", "service-linked roles",
        "aws iam create-service-linked-role --aws-service-name ecs.amazonaws.com",
    ),
    "source denied": (
        {"list_objects_v2": refused("AccessDenied")}, {"workload": S3}, "stop", "sources", "correct the URL",
    ),
    "source gone": ({"list_objects_v2": {"KeyCount": 0}}, {"workload": S3}, "stop", "sources", "correct the URL"),
    "token gone": (
        {"describe_secret": refused("ResourceNotFoundException")}, {"model_build": TOKEN}, "stop", "sources",
        "model_build.hub_token_secret",
    ),
    "placeholder": ({}, {"alerts": {"email": "me@example.com"}}, "stop", "placeholders", "set alerts.email"),
    "nobody notified": ({}, {"alerts": None}, "warning", "alerts", "set alerts.email in mine.yaml"),
    "no price": (
        {}, {"workload": {"endpoints": {"main": {"instance_type": "ml.r7i.48xlarge"}}}},
        "warning", "cost", "inference prices refresh",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", PLANTED)
def test_every_fault_is_named_with_what_mends_it(fault: str) -> None:
    answers, settings, verdict, check, fix = PLANTED[fault]
    found = faults(patient(Clients(**answers), **settings))
    assert any((each.verdict, each.check) == (verdict, check) and fix in each.fix for each in found), found


def test_without_credentials_only_the_file_is_checked() -> None:
    found = list(examine(patient(Clients(get_caller_identity=NoCredentialsError()))))
    assert {each.check for each in found} == {"identity", "placeholders", "alerts", "cost"}


def test_the_most_instances_of_a_scaled_endpoint_count() -> None:
    endpoint = {"instance_type": "ml.c5.xlarge", "scaling": {"max_capacity": 3, "target_invocations_per_instance": 9}}
    examined = patient(Clients(), workload={"endpoints": {"main": endpoint}})
    (quota,) = [each for each in examine(examined) if each.check == "instance quotas"]
    assert "runs up to 3, 6 while its largest endpoint is updated" in quota.text
