"""A temporary endpoint that serves a deployed endpoint's model under other settings and leaves nothing behind."""

import functools
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from load_tests.closed_loop import Request, Target, client, invoke
from load_tests.traffic import Send, Traffic, closed_loop, open_loop
from load_tests.tuning.search import TrialFailedError
from load_tests.tuning.space import Candidate
from stacks.naming import tuning_endpoint_name

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker.literals import ProductionVariantInstanceTypeType

_SETTLE_SECONDS = 1800
_POLL_SECONDS = 1.0
_WARM_UP_SECONDS = 2.0
_SEED = 7


@dataclass(frozen=True, slots=True)
class Served:
    """Model and endpoint configuration of a deployed variant, as API values."""

    image: str
    model_data_url: str
    environment: Mapping[str, str]
    role_arn: str
    network_isolation: bool
    vpc_config: Mapping[str, Any] | None
    kms_key_id: str | None
    instance_type: "ProductionVariantInstanceTypeType"

    @classmethod
    def read(cls, sagemaker: "SageMakerClient", target: Target) -> "Served":
        """Read what the target serves now; errors of the client library pass through."""
        config_name = sagemaker.describe_endpoint(EndpointName=target.endpoint)["EndpointConfigName"]
        config = sagemaker.describe_endpoint_config(EndpointConfigName=config_name)
        (variant,) = (v for v in config["ProductionVariants"] if v["VariantName"] == target.variant)
        model = sagemaker.describe_model(ModelName=variant["ModelName"])
        container = model["PrimaryContainer"]
        return cls(
            container["Image"],
            container["ModelDataUrl"],
            container.get("Environment", {}),
            model["ExecutionRoleArn"],
            model.get("EnableNetworkIsolation", False),
            model.get("VpcConfig"),
            config.get("KmsKeyId"),
            variant["InstanceType"],
        )


class EndpointBench:
    """A `search.Bench` of two endpoints: the deployed one, and a temporary one that tries each candidate's settings.

    clients, seconds: clients and duration of one turn of the closed loop.
    open_seconds: duration of the open loop.
    agree: whether a response (first argument) matches the deployed endpoint's (second argument).
    target: the temporary endpoint.

    Use it as a context manager, which removes everything it created.
    """

    def __init__(
        self,
        deployed: Target,
        requests: Sequence[Request],
        *,
        clients: int,
        seconds: float,
        open_seconds: float,
        agree: Callable[[bytes, bytes], bool],
        on_wait: Callable[[str], object] = lambda _text: None,
    ) -> None:
        self._sagemaker: SageMakerClient = boto3.client("sagemaker")
        self._runtime = client()
        self._deployed, self._requests = deployed, requests
        self._clients, self._seconds, self._open_seconds = clients, seconds, open_seconds
        self._agree, self._on_wait = agree, on_wait
        self.served = Served.read(self._sagemaker, deployed)
        self.target = Target(tuning_endpoint_name(deployed.endpoint), deployed.variant)
        self._created: str | None = None

    def __enter__(self) -> "EndpointBench":
        self.remove()
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def serve(self, candidate: Candidate) -> None:
        """Serve a candidate and warm it up; raises TrialFailedError."""
        name = f"{self._prefix}{uuid.uuid4().hex[:12]}"
        self._create(name, candidate.knobs.environment())
        endpoint = self._describe()
        if endpoint is not None and endpoint["EndpointStatus"] == "Failed":
            self._delete_endpoint()
            endpoint = None
        if endpoint is None:
            self._sagemaker.create_endpoint(EndpointName=self.target.endpoint, EndpointConfigName=name)
        else:
            self._sagemaker.update_endpoint(EndpointName=self.target.endpoint, EndpointConfigName=name)
        endpoint = self._settled()
        # An endpoint whose update failed stays in service with its previous configuration.
        served = endpoint["EndpointStatus"] == "InService" and endpoint["EndpointConfigName"] == name
        unused, self._created = (self._created, name) if served else (name, self._created)
        if unused is not None:
            self._delete(unused)
        if not served:
            raise TrialFailedError(
                endpoint.get("FailureReason", "the endpoint did not start; SageMaker gave no reason")
            )
        self._check_response()
        warm_up = min(_WARM_UP_SECONDS, self._seconds)
        closed_loop(self._sender(self.target), self._requests, clients=self._clients, seconds=warm_up)

    def closed_loop(self) -> tuple[Traffic, Traffic]:
        """Run one turn of the candidate and one of the deployed endpoint, with the same clients and requests."""
        mine, theirs = (
            closed_loop(self._sender(target), self._requests, clients=self._clients, seconds=self._seconds)
            for target in (self.target, self._deployed)
        )
        return mine, theirs

    def open_loop(self, rate: float) -> Traffic:
        """Run the candidate under Poisson traffic; every candidate gets the same arrivals."""
        return open_loop(self._sender(self.target), self._requests, rate=rate, seconds=self._open_seconds, seed=_SEED)

    def _sender(self, target: Target) -> Send:
        return functools.partial(invoke, self._runtime, target)

    def remove(self) -> None:
        """Delete the endpoint, its models, configurations and log group, including those left by an earlier run."""
        endpoint = self._describe()
        if endpoint is not None:
            if endpoint["EndpointStatus"] not in ("InService", "Failed"):
                self._settled()
            self._delete_endpoint()
        for page in self._sagemaker.get_paginator("list_endpoint_configs").paginate(NameContains=self._prefix):
            for config in page["EndpointConfigs"]:
                if config["EndpointConfigName"].startswith(self._prefix):
                    self._delete(config["EndpointConfigName"])
        logs = boto3.client("logs")
        name = f"/aws/sagemaker/Endpoints/{self.target.endpoint}"
        for group in logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]:
            if group["logGroupName"] == name:
                logs.delete_log_group(logGroupName=name)
        self._created = None

    @property
    def _prefix(self) -> str:
        """Prefix of the names of models and configurations, which SageMaker limits to 63 characters."""
        return f"{self.target.endpoint[:50]}-"

    def _create(self, name: str, environment: Mapping[str, str]) -> None:
        vpc: dict[str, Any] = {"VpcConfig": self.served.vpc_config} if self.served.vpc_config else {}
        key: dict[str, Any] = {"KmsKeyId": self.served.kms_key_id} if self.served.kms_key_id else {}
        self._sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=self.served.role_arn,
            EnableNetworkIsolation=self.served.network_isolation,
            PrimaryContainer={
                "Image": self.served.image,
                "ModelDataUrl": self.served.model_data_url,
                "Environment": dict(environment),
            },
            **vpc,
        )
        self._sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": self.target.variant,
                    "ModelName": name,
                    "InstanceType": self.served.instance_type,
                    "InitialInstanceCount": 1,
                    "InitialVariantWeight": 1.0,
                }
            ],
            **key,
        )

    def _delete(self, name: str) -> None:
        self._sagemaker.delete_endpoint_config(EndpointConfigName=name)
        self._sagemaker.delete_model(ModelName=name)

    def _delete_endpoint(self) -> None:
        self._sagemaker.delete_endpoint(EndpointName=self.target.endpoint)
        deadline = time.monotonic() + _SETTLE_SECONDS
        while self._describe() is not None:
            if time.monotonic() > deadline:
                raise TrialFailedError(f"endpoint {self.target.endpoint} still exists after {_SETTLE_SECONDS} s")
            time.sleep(_POLL_SECONDS)

    def _describe(self) -> dict[str, Any] | None:
        try:
            return dict(self._sagemaker.describe_endpoint(EndpointName=self.target.endpoint))
        except ClientError as error:
            if "Could not find" in error.response["Error"]["Message"]:
                return None
            raise

    def _settled(self) -> dict[str, Any]:
        deadline = time.monotonic() + _SETTLE_SECONDS
        began = time.monotonic()
        while (endpoint := self._describe()) is not None:
            if endpoint["EndpointStatus"] in ("InService", "Failed"):
                return endpoint
            if time.monotonic() > deadline:
                break
            self._on_wait(f"{endpoint['EndpointStatus']} for {time.monotonic() - began:.0f} s")
            time.sleep(_POLL_SECONDS)
        raise TrialFailedError(f"endpoint {self.target.endpoint} did not settle within {_SETTLE_SECONDS} s")

    def _check_response(self) -> None:
        try:
            response, expected = (
                invoke(self._runtime, target, self._requests[0]) for target in (self.target, self._deployed)
            )
        except (ClientError, BotoCoreError) as error:
            raise TrialFailedError(f"it does not answer: {error}") from error
        if not self._agree(response, expected):
            raise TrialFailedError("its response to the first request differs from the deployed endpoint's")
