"""A second endpoint beside a deployed one, which serves the same model under other settings and leaves nothing."""

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
    """What a deployed variant runs: API values of its model and its endpoint configuration."""

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
        """What the target runs now; errors of the client library pass through."""
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
    """A `search.Bench`: the deployed endpoint, and beside it one that takes every candidate's settings in turn.

    clients, seconds: of a turn of the closed loop. open_seconds: of the open loop. agree: whether an answer, the
    second, says the same as the deployed endpoint's. target: the endpoint beside.
    Use it as a context manager, which removes what it made.
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
        on_wait: Callable[[str], object] = lambda text: None,
    ) -> None:
        self._sagemaker: SageMakerClient = boto3.client("sagemaker")
        self._runtime = client()
        self._deployed, self._requests = deployed, requests
        self._clients, self._seconds, self._open_seconds = clients, seconds, open_seconds
        self._agree, self._on_wait = agree, on_wait
        self.served = Served.read(self._sagemaker, deployed)
        self.target = Target(tuning_endpoint_name(deployed.endpoint), deployed.variant)
        self._made: str | None = None

    def __enter__(self) -> "EndpointBench":
        self.remove()
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def serve(self, candidate: Candidate) -> None:
        """Serves a candidate and warms it up; raises TrialFailedError."""
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
        # A failed update leaves the endpoint in service with what it had.
        served = endpoint["EndpointStatus"] == "InService" and endpoint["EndpointConfigName"] == name
        unused, self._made = (self._made, name) if served else (name, self._made)
        if unused is not None:
            self._delete(unused)
        if not served:
            raise TrialFailedError(endpoint.get("FailureReason", "the endpoint did not come up; no reason is given"))
        self._check_answers()
        warm_up = min(_WARM_UP_SECONDS, self._seconds)
        closed_loop(self._sender(self.target), self._requests, clients=self._clients, seconds=warm_up)

    def closed_loop(self) -> tuple[Traffic, Traffic]:
        """One turn of the candidate, and one of the deployed endpoint, with the same clients and requests."""
        mine, theirs = (
            closed_loop(self._sender(target), self._requests, clients=self._clients, seconds=self._seconds)
            for target in (self.target, self._deployed)
        )
        return mine, theirs

    def open_loop(self, rate: float) -> Traffic:
        """The candidate under a Poisson process of requests, the same for every candidate."""
        return open_loop(self._sender(self.target), self._requests, rate=rate, seconds=self._open_seconds, seed=_SEED)

    def _sender(self, target: Target) -> Send:
        return functools.partial(invoke, self._runtime, target)

    def remove(self) -> None:
        """Deletes the endpoint, its models and configurations, and its log group, also an earlier run's."""
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
        self._made = None

    @property
    def _prefix(self) -> str:
        """Of the names of models and configurations, which have 63 characters at the most."""
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
                raise TrialFailedError(f"endpoint {self.target.endpoint} is not deleted after {_SETTLE_SECONDS} s")
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

    def _check_answers(self) -> None:
        try:
            given, expected = (
                invoke(self._runtime, target, self._requests[0]) for target in (self.target, self._deployed)
            )
        except (ClientError, BotoCoreError) as error:
            raise TrialFailedError(f"it does not answer: {error}") from error
        if not self._agree(given, expected):
            raise TrialFailedError("its answer to the first request is not the deployed endpoint's")
