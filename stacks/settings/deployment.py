"""A deployment file as typed settings: one environment, its workloads, and everything around them."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from stacks.naming import camel
from stacks.settings.alerts import Alerts
from stacks.settings.base import Key, Settings, Tags
from stacks.settings.budget import Budget
from stacks.settings.hosting import ENDPOINT_NAME_LIMIT
from stacks.settings.kinds import KINDS, AnyWorkload
from stacks.settings.load_test import LoadTest, TaskVpc
from stacks.settings.model_build import ModelBuild
from stacks.settings.regions import Region
from stacks.settings.security import PrivateNetwork, Vpc, check_alone, check_sources, refuse_secrets
from stacks.settings.supply_chain import Images
from stacks.settings.yaml_files import YamlFileError, read_yaml

Profile = Literal["dev", "prod"]

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
PLATFORM_STACKS = ("foundation", "model_build", "monitoring", "load_test", "cleanup")
"""Stacks of every deployment besides those of its workloads, by the name that a workload of theirs would have."""
_OTHER_PREFIXES = ("cache", "capture")
"""Key prefixes of the artifact bucket that no workload owns."""


class DeploymentError(ValueError):
    """A deployment file is missing or invalid; the text lists every problem, one per line."""


class Deployment(Settings):
    """One environment, read from `deployments/<name>.yaml`."""

    environment: str = Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", min_length=2, max_length=21)
    """Name of the environment. It begins the names of stacks, endpoints, alarms and dashboards."""
    region: Region | None = None
    """AWS region of all stacks. Without it, the templates name none, and nothing checks that a region has what they
    use."""
    profile: Profile = "dev"
    """`prod` refuses single instances and model revisions that may move, and warns of base images that may move."""
    retain_data: bool = False
    """Keep artifacts, captured data, their buckets and their key on updates and on destroy."""
    tags: Tags = Field(default_factory=dict)
    """Tags of every resource, besides `environment`."""
    model_build: ModelBuild = ModelBuild()
    """Where models are built."""
    images: Images = Images()
    """Base images of this project's images."""
    workloads: dict[Key, AnyWorkload]
    """Workloads by name. Each gets a stack, endpoints, alarms, artifacts and a dashboard, named after it."""
    vpc: Vpc | None = None
    """An existing VPC in which models run."""
    alerts: Alerts | None = None
    """Who is notified when an alarm fires. Without it, only what subscribes to the alert topic is."""
    budget: Budget | None = None
    """A cost budget with notifications."""
    load_test: LoadTest | None = None
    """Where `inference load-test --on fargate` runs. Without it, load tests run on the machine that starts them."""
    private_network: PrivateNetwork | None = None
    """A network without internet, in which everything runs. Without it, only models may run in a network, `vpc`."""
    permissions_boundary: str | None = Field(
        default=None, pattern=r"^(arn:[a-z-]+:iam::(\d{12}|aws):policy/)?[\w+=,.@/-]+$"
    )
    """Name or ARN of a managed policy that bounds every role, including those that the CDK creates."""

    @classmethod
    def load(cls, path: Path) -> "Deployment":
        """Read and check a deployment file; raises DeploymentError."""
        try:
            data = read_yaml(path)
        except FileNotFoundError:
            others = ", ".join(sorted(other.stem for other in path.parent.glob("*.yaml"))) or "none"
            raise DeploymentError(f"deployment {path.stem!r} was not found; choose one of: {others}") from None
        except YamlFileError as error:
            raise DeploymentError(str(error)) from error
        except OSError as error:
            raise DeploymentError(f"{path.name} cannot be read: {error.strerror}") from error
        if not isinstance(data, dict):
            raise DeploymentError(f"{path.name}: it must contain settings by name, such as `environment: dev`")
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise DeploymentError("\n".join(problem(path.name, detail) for detail in error.errors())) from None

    @classmethod
    def named(cls, name: str) -> "Deployment":
        """Return the deployment of `deployments/NAME.yaml`, or of a path that ends in .yaml; raises DeploymentError."""
        return cls.load(Path(name) if name.endswith(".yaml") else DEPLOYMENTS / f"{name}.yaml")

    def endpoint_name(self, workload: str, endpoint: str) -> str:
        """Return the name of an endpoint, which stays the same across updates."""
        return "-".join([self.environment, workload, endpoint]).replace("_", "-")

    def with_vpc(self, vpc: Vpc) -> "Deployment":
        """Return the deployment with its models and load tests in that network."""
        tasks = TaskVpc(subnet_ids=vpc.subnet_ids, security_group_ids=vpc.security_group_ids)
        load_test = self.load_test.model_copy(update={"vpc": tasks}) if self.load_test is not None else None
        return self.model_copy(update={"vpc": vpc, "load_test": load_test})

    def check_region(self, region: str) -> None:
        """Raise ValueError for a region that lacks something the deployment uses."""
        self.model_build.check_region(region, on_fleet=any(each.builds_on_fleet for each in self.workloads.values()))
        if self.budget is not None:
            self.budget.check_region(region)
        for name, workload in self.workloads.items():
            for key, endpoint in workload.served.items():
                try:
                    endpoint.check_region(region)
                except ValueError as error:
                    raise ValueError(f"workloads.{name}.endpoints.{key}: {error}") from error

    @model_validator(mode="before")
    @classmethod
    def _no_secrets(cls, data: Any) -> Any:
        refuse_secrets(data)
        return data

    @model_validator(mode="before")
    @classmethod
    def _known_kinds(cls, data: Any) -> Any:
        workloads = data.get("workloads") if isinstance(data, Mapping) else None
        if workloads == {}:
            raise ValueError("workloads is empty: name at least one, with a kind")
        for name, given in workloads.items() if isinstance(workloads, Mapping) else ():
            kind = given.get("kind") if isinstance(given, Mapping) else None
            if isinstance(given, Mapping) and kind not in KINDS:
                close = difflib.get_close_matches(str(kind), KINDS, n=1)
                problem = "is missing" if kind is None else f"is {kind!r}"
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise ValueError(f"workloads.{name}.kind {problem}: {hint}give one of {', '.join(KINDS)}")
        return data

    @model_validator(mode="after")
    def _reachable(self) -> "Deployment":
        if self.private_network is not None:
            load_test_vpc = self.load_test.vpc if self.load_test is not None else None
            check_alone({"vpc": self.vpc, "load_test.vpc": load_test_vpc})
            self.model_build.check_reachable()
            check_sources({name: each.model_dump(mode="json") for name, each in self.workloads.items()})
        return self

    @model_validator(mode="after")
    def _available(self) -> "Deployment":
        if self.region is not None:
            self.check_region(self.region)
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> "Deployment":
        platform = {camel(name) for name in PLATFORM_STACKS}
        endpoints: dict[str, str] = {}
        for name, workload in self.workloads.items():
            if camel(name) in platform or name in _OTHER_PREFIXES:
                stack, prefix = f"the stack {camel(name)}", f"the prefix {name}/ of the artifact bucket"
                taken = stack if camel(name) in platform else prefix
                raise ValueError(f"workloads.{name} would have the name of {taken}: rename the workload")
            for key in workload.served:
                where = f"workloads.{name}.endpoints.{key}"
                full = self.endpoint_name(name, key)
                if len(full) > ENDPOINT_NAME_LIMIT:
                    raise ValueError(
                        f"{where}: the endpoint name {full!r} has {len(full)} characters and SageMaker allows "
                        f"{ENDPOINT_NAME_LIMIT}: shorten the environment, the workload or the endpoint"
                    )
                if full in endpoints:
                    raise ValueError(f"{where} and {endpoints[full]} would both be named {full!r}: rename one of them")
                endpoints[full] = where
        return self

    @model_validator(mode="after")
    def _ready_for_production(self) -> "Deployment":
        if self.profile != "prod":
            return self
        for name, workload in self.workloads.items():
            for key, endpoint in workload.served.items():
                for setting, count in endpoint.minimum_counts.items():
                    if count < 2:
                        raise ValueError(
                            f"workloads.{name}.endpoints.{key}.{setting} is {count} in profile prod: set at least 2, "
                            "so the endpoint survives the loss of one Availability Zone"
                        )
            workload.check_production(f"workloads.{name}")
        return self


def problem(file: str, detail: Any) -> str:
    """Return a pydantic error as one line: file, path of the setting, problem, and the given value."""
    match detail["loc"]:
        # The chosen member of the union of kinds, which is no key of the file.
        case ("workloads", name, kind, *rest) if kind in KINDS:
            parts = ["workloads", name, *rest]
        case parts:
            pass
    path = ".".join(str(part) for part in parts) or "(top level)"
    message = detail["msg"].removeprefix("Value error, ")
    given = detail["input"]
    shown = "" if isinstance(given, dict | list) or repr(given) in message else f" (given: {given!r})"
    return f"{file}: {path}: {message}{shown}"
