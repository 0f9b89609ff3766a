"""Checks of the account and region, with read permissions only."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from stacks.doctor.findings import Finding, Patient
from stacks.settings.scaling import most

_BOOTSTRAP_PARAMETER = "/cdk-bootstrap/hnb659fds/version"
_LEAST_BOOTSTRAP = 6
"""Version that the templates' own rule asks for (BootstrapVersion in every template of the CDK)."""
_BUILD_QUOTA = "Concurrently running builds for {environment} environment"
_ROLES = {"ecs.amazonaws.com": "AWSServiceRoleForECS"}
"""Service-linked roles that a service does not make in time by itself, by service."""


def identity(patient: Patient) -> Iterator[Finding]:
    """Find missing, expired or wrong credentials, and a missing region."""
    if patient.region is None:
        fix = f"set region in {patient.file}, or export AWS_REGION=REGION"
        yield Finding("stop", "region", "neither the file nor the environment names a region", fix)
    caller = patient.client("sts").get_caller_identity()
    yield Finding("ok", "credentials", f"{caller['Arn']} in account {caller['Account']}, region {patient.region}")


def bootstrap(patient: Patient) -> Iterator[Finding]:
    """Find a region that the CDK was never bootstrapped in, or long ago."""
    fix = "cdk bootstrap" if patient.local else "scripts/bootstrap"
    try:
        parameter = patient.client("ssm").get_parameter(Name=_BOOTSTRAP_PARAMETER)["Parameter"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ParameterNotFound":
            raise
        yield Finding("stop", "bootstrap", "the CDK is not bootstrapped in this region", fix)
        return
    version = int(parameter["Value"])
    if version < _LEAST_BOOTSTRAP:
        text = f"the bootstrap stack has version {version}, and the templates need {_LEAST_BOOTSTRAP}"
        yield Finding("stop", "bootstrap", text, fix)
    else:
        yield Finding("ok", "bootstrap", f"version {version}")


def instance_quotas(patient: Patient) -> Iterator[Finding]:
    """Compare the quota of every instance type with what runs, and with what the largest update adds."""
    running: defaultdict[str, int] = defaultdict(int)
    added: defaultdict[str, int] = defaultdict(int)
    for workload in patient.deployment.workloads.values():
        for endpoint in workload.sagemaker_endpoints.values():
            own: defaultdict[str, int] = defaultdict(int)
            for instance_type, initial in endpoint.variant_instances:
                own[instance_type] += most(initial, endpoint.scaling)
            for instance_type, count in own.items():
                running[instance_type] += count
                # Blue/green starts every new instance next to the old ones.
                added[instance_type] = max(added[instance_type], count)
    quotas = _quotas(patient, "sagemaker")
    for instance_type, count in sorted(running.items()):
        name = f"{instance_type} for endpoint usage"
        needed = count + added[instance_type]
        value, code = quotas.get(name, (0.0, ""))
        text = f"{name}: {value:g}; this deployment runs up to {count}, {needed} while its largest endpoint is updated"
        if value < needed:
            fix = _increase("sagemaker", code, needed)
            yield Finding("stop" if value < count else "warning", "instance quotas", text, fix)
        else:
            yield Finding("ok", "instance quotas", text)


def build_quotas(patient: Patient) -> Iterator[Finding]:
    """Find an account that may run no build of the size that the deployment's builds have."""
    workloads = patient.deployment.workloads.values()
    on_fleet = patient.deployment.model_build.compute == "fleet"
    sizes = {"Linux/Large" if each.builds_on_fleet else "Linux/XLarge" for each in workloads}
    if on_fleet:
        sizes.discard("Linux/Large")
    quotas = _quotas(patient, "codebuild") if sizes else {}
    for size in sorted(sizes):
        name = _BUILD_QUOTA.format(environment=size)
        value, code = quotas.get(name, (0.0, ""))
        if value < 1:
            yield Finding("stop", "build quotas", f"{name}: {value:g}", _increase("codebuild", code, 1))
        else:
            yield Finding("ok", "build quotas", f"{name}: {value:g}")
    if not sizes:
        yield Finding("ok", "build quotas", "builds run on a fleet of their own")


def service_roles(patient: Patient) -> Iterator[Finding]:
    """Find a missing service-linked role of ECS, without which the first cluster of an account fails."""
    needed = _ROLES if patient.deployment.load_test is not None else {}
    for service, role in needed.items():
        try:
            patient.client("iam").get_role(RoleName=role)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchEntity":
                raise
            fix = f"aws iam create-service-linked-role --aws-service-name {service}"
            yield Finding("stop", "service-linked roles", f"{role} is missing: the first cluster would fail", fix)
        else:
            yield Finding("ok", "service-linked roles", f"{role} exists")
    if not needed:
        yield Finding("ok", "service-linked roles", "none has to exist before")


def sources(patient: Patient) -> Iterator[Finding]:
    """Find S3 sources and secrets that builds could not read."""
    urls = sorted({url for workload in patient.deployment.workloads.values() for url in workload.s3_urls})
    for url in urls:
        bucket, _, key = url.removeprefix("s3://").partition("/")
        try:
            listed = patient.client("s3").list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
        except ClientError as error:
            fix = f"correct the URL in {patient.file}, or let this account read it"
            yield Finding("stop", "sources", f"{url} cannot be listed: {_reason(error)}", fix)
            continue
        if listed.get("KeyCount"):
            yield Finding("ok", "sources", f"{url} is there")
        else:
            yield Finding("stop", "sources", f"there is nothing at {url}", f"correct the URL in {patient.file}")
    secret = patient.deployment.model_build.hub_token_secret
    if secret is not None:
        try:
            patient.client("secretsmanager").describe_secret(SecretId=secret)
            yield Finding("ok", "sources", "the secret with the Hub's token is there")
        except ClientError as error:
            fix = f"correct model_build.hub_token_secret in {patient.file}"
            yield Finding("stop", "sources", f"the Hub's token cannot be described: {_reason(error)}", fix)
    if not urls and secret is None:
        yield Finding("ok", "sources", "the file names no S3 URL and no secret")


def unable(check: str, error: ClientError | BotoCoreError) -> Finding:
    """Return the finding of a check that AWS did not let run."""
    return Finding(
        "stop" if check == "identity" else "warning",
        check.replace("_", " "),
        f"cannot be checked: {_reason(error)}",
        "aws sts get-caller-identity" if check == "identity" else "give this principal read permissions",
    )


def _reason(error: ClientError | BotoCoreError) -> str:
    return str(error).removeprefix("An error occurred ")


def _increase(service: str, code: str, value: int) -> str:
    """Return the command that requests an increase; code: of the quota, empty where the service has none."""
    if not code:
        return f"open Service Quotas in the console: {service} has no such quota in this region"
    return (
        f"aws service-quotas request-service-quota-increase --service-code {service} --quota-code {code} "
        f"--desired-value {value}"
    )


def _quotas(patient: Patient, service: str) -> dict[str, tuple[float, str]]:
    """Return the value and the code of a service's quotas, by name: those of the account, or AWS's defaults."""
    client: Any = patient.client("service-quotas")
    found: dict[str, tuple[float, str]] = {}
    for operation in ("list_aws_default_service_quotas", "list_service_quotas"):
        for page in client.get_paginator(operation).paginate(ServiceCode=service):
            found |= {each["QuotaName"]: (float(each["Value"]), each["QuotaCode"]) for each in page["Quotas"]}
    return found
