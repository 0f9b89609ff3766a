"""Settings of a delivery pipeline: its source, deployments, load tests and approval."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from stacks.settings.base import Key, Settings, Tags
from stacks.settings.deployment import DEPLOYMENTS, Deployment, DeploymentError, problem
from stacks.settings.regions import Region, check_codebuild
from stacks.settings.yaml_files import YamlFileError, read_yaml

PIPELINES = DEPLOYMENTS / "pipelines"
MOST_WATCHED = 5
"""Rules in a condition of CodePipeline ("Quotas in AWS CodePipeline")."""
Account = Annotated[str, Field(pattern=r"^\d{12}$")]
LoadedFrom = Literal["machine", "fargate"]


class Source(Settings):
    """A repository behind a connection of AWS CodeConnections, which its owner has confirmed in the console."""

    connection_arn: str = Field(
        pattern=r"^arn:[a-z-]+:(codeconnections|codestar-connections):[\w-]+:\d{12}:connection/"
    )
    """ARN of the connection."""
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    """Repository, as OWNER/NAME."""
    branch: str = "main"
    """Branch whose pushes go through the pipeline."""


class Target(Settings):
    """A deployment and where it goes."""

    deployment: str
    """Name of a file in `deployments/`, or a path that ends in .yaml."""
    account: Account | None = None
    """Account of the deployment. Without it, the pipeline's."""
    region: Region | None = None
    """Region of the deployment. Without it, the pipeline's."""


class LoadGate(Settings):
    """A load test of the development deployment that must pass before production is approved."""

    workload: Key
    """Workload to load."""
    endpoint: Key | None = None
    """Endpoint key. Without it, every endpoint of the workload in turn."""
    rate: float | None = Field(default=None, gt=0)
    """Requests per second, in an open loop."""
    users: int | None = Field(default=None, ge=1)
    """Users, in a closed loop."""
    seconds: int = Field(default=120, ge=10, le=3600)
    """Measured seconds."""
    gates: tuple[str, ...] = Field(min_length=1)
    """Gates, in the form of `inference load-test --gate`."""
    on: LoadedFrom = "machine"
    """`machine` loads from the build machine, `fargate` from the deployment's LoadTest stack."""

    @model_validator(mode="after")
    def _one_load(self) -> "LoadGate":
        if (self.rate is None) == (self.users is None):
            raise ValueError(f"rate is {self.rate} and users {self.users}: give one of them")
        return self

    def arguments(self, deployment: str) -> tuple[str, ...]:
        """Return the arguments of `inference load-test`."""
        chosen = [self.workload, "--deployment", deployment, "--duration", str(self.seconds), "--on", self.on]
        if self.endpoint is not None:
            chosen += ["--endpoint", self.endpoint]
        chosen += ["--rate", f"{self.rate:g}"] if self.rate is not None else ["--users", str(self.users)]
        return (*chosen, *(part for gate in self.gates for part in ("--gate", gate)))


class Pipeline(Settings):
    """One pipeline, read from `deployments/pipelines/<name>.yaml`: source, tests, dev, load tests, approval, prod."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{1,40}$")
    """Name of the pipeline, which ends the name of its stack."""
    account: Account | None = None
    """Account of the pipeline. Without it, the templates suit any account, and both stages go where the pipeline is."""
    region: Region | None = None
    """Region of the pipeline. Without it, the templates name none."""
    source: Source
    """Repository that starts the pipeline."""
    dev: Target
    """Development deployment."""
    prod: Target
    """Production deployment."""
    load_tests: tuple[LoadGate, ...] = Field(min_length=1)
    """Load tests of dev that must pass before prod is approved."""
    load_test_role_arn: str | None = Field(default=None, pattern=r"^arn:[a-z-]+:iam::\d{12}:role/[\w+=,.@/-]+$")
    """ARN of the role in the dev account that load tests assume, where dev is in another account."""
    watch_minutes: int | None = Field(default=None, ge=1, le=60)
    """How long prod's endpoint alarms are watched after its deployment, in minutes. An alarm that fires deploys the
    previous execution again. Without it, only guardrails roll back."""
    permissions_boundary: str | None = None
    """Name or ARN of a managed policy that bounds the pipeline's own roles. Roles of the stages have their
    deployment's."""
    tags: Tags = Field(default_factory=dict)
    """Tags of the pipeline."""

    @classmethod
    def named(cls, name: str) -> "Pipeline":
        """Return the pipeline of `deployments/pipelines/NAME.yaml`, or of a .yaml path; raises DeploymentError."""
        path = Path(name) if name.endswith(".yaml") else PIPELINES / f"{name}.yaml"
        try:
            return cls.model_validate(read_yaml(path))
        except FileNotFoundError:
            others = ", ".join(sorted(other.stem for other in path.parent.glob("*.yaml"))) or "none"
            raise DeploymentError(f"pipeline {path.stem!r} was not found; choose one of: {others}") from None
        except YamlFileError as error:
            raise DeploymentError(str(error)) from error
        except OSError as error:
            raise DeploymentError(f"{path.name} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise DeploymentError("\n".join(problem(path.name, detail) for detail in error.errors())) from None

    def loaded(self) -> tuple[Deployment, Deployment]:
        """Return dev and prod, checked against each other and against the load tests; raises DeploymentError."""
        dev, prod = (Deployment.named(target.deployment) for target in (self.dev, self.prod))
        problems = list(self._problems(dev, prod))
        if problems:
            raise DeploymentError("\n".join(problems))
        return dev, prod

    def _problems(self, dev: Deployment, prod: Deployment) -> Iterator[str]:
        if dev.environment == prod.environment:
            yield f"dev and prod are both of environment {dev.environment!r}: name two deployments"
        if prod.profile != "prod":
            yield f"prod.deployment is {self.prod.deployment!r} of profile {prod.profile!r}: name one of profile prod"
        for name, target, deployment in (("dev", self.dev, dev), ("prod", self.prod, prod)):
            region = target.region or deployment.region or self.region
            try:
                if region is not None:
                    deployment.check_region(region)
            except ValueError as error:
                yield f"{name}.deployment is {target.deployment!r} in {region}: {error}"
        for index, test in enumerate(self.load_tests):
            workload = dev.workloads.get(test.workload)
            where = f"load_tests.{index}"
            if workload is None:
                yield f"{where}.workload is {test.workload!r}: choose one of {', '.join(dev.workloads)}"
            elif test.endpoint is not None and test.endpoint not in workload.served:
                yield f"{where}.endpoint is {test.endpoint!r}: choose one of {', '.join(workload.served)}"
            if test.on == "fargate" and dev.load_test is None:
                yield f"{where}.on is 'fargate' and {self.dev.deployment} has no load_test: add it, or use machine"
        watched = len(endpoint_names(prod))
        if self.watch_minutes is not None and watched > MOST_WATCHED:
            yield f"watch_minutes is set with {watched} endpoints in prod: the limit is {MOST_WATCHED}; remove it"

    @model_validator(mode="after")
    def _placed(self) -> "Pipeline":
        if self.region is not None:
            check_codebuild(self.region)
        for name, target in (("dev", self.dev), ("prod", self.prod)):
            for part in ("account", "region"):
                if getattr(target, part) is not None and getattr(self, part) is None:
                    raise ValueError(
                        f"{name}.{part} is set but the pipeline's {part} is not: set the pipeline's {part}; an "
                        f"environment-agnostic pipeline cannot pass artifacts to a fixed {part}"
                    )
        elsewhere = self.dev.account not in (None, self.account)
        if elsewhere != (self.load_test_role_arn is not None):
            raise ValueError(
                f"dev.account is {self.dev.account} and load_test_role_arn {self.load_test_role_arn}: set the role "
                "if dev is in another account than the pipeline, and only then"
            )
        if self.watch_minutes is not None and self.prod.account not in (None, self.account):
            raise ValueError(
                "watch_minutes is set and prod is in another account: CodePipeline can watch only alarms of its own "
                "account; remove watch_minutes"
            )
        return self


def endpoint_names(deployment: Deployment, workload: str | None = None) -> list[str]:
    """Return the names of a deployment's endpoints, or of one workload's."""
    return [
        deployment.endpoint_name(name, key)
        for name, settings in deployment.workloads.items()
        if workload in (None, name)
        for key in settings.served
    ]
