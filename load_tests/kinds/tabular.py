"""The kind `tabular` in load tests and reports."""

from collections.abc import Callable, Mapping
from typing import ClassVar

from load_tests.closed_loop import Request
from load_tests.deployed import DeployedWorkload, list_objects, read_object
from load_tests.kinds.base import Described, Summary, WorkloadKind, summary_below
from load_tests.payloads import tabular
from load_tests.report.model import Quality
from model_build.tabular.schema import STATES
from sizing.facts import Facts
from sizing.instances import instance
from sizing.prices import price, priced_types
from sizing.profiles import ServiceProfile
from sizing.size import Wanted
from sizing.working_set import Candidate, Workload, memory_for_models_mib, predict, uniform
from stacks.settings.tabular import Tabular

CONTAINER_MIB = 47.0
"""Resident memory of this project's container without models, measured on Linux x86-64 with Python 3.11."""
MODEL_MIB = 0.1
"""Memory of a churn model in this project's container, measured; a deployment's memory_per_model_mib overrides it."""
LOAD_MS, SERVICE_MS = 8.0, 1.0
"""ModelLoadingWaitTime and ModelLatency of the local account on two cores; `inference working-set --check` measures."""
HIT_RATE = 0.99
"""Share of the requests whose model should be loaded already."""


class TabularKind(WorkloadKind[Tabular]):
    """Rows for a model per group, all of them on one multi-model endpoint."""

    question: ClassVar[str] = "Which instance holds the models?"
    facts: ClassVar[Facts] = Facts(payload_mib=0.001, memory_gib=0.5, models=len(STATES))

    def requests(self, workload: DeployedWorkload[Tabular], key: str) -> list[Request]:
        """Return rows of the build's test share, every group equally often."""
        del key
        return tabular.requests(self.customers(workload))

    def customers(self, workload: DeployedWorkload[Tabular]) -> list[tabular.Customer]:
        """Return the build's test share, with the probabilities that XGBoost gave."""
        return tabular.read_customers(read_object(f"{_build_url(workload)}requests.csv"))

    def archives(self, workload: DeployedWorkload[Tabular]) -> list[str]:
        """Return the file names of all deployed models, in order."""
        return list_objects(workload.outputs["Models"])

    def summaries(self, workload: DeployedWorkload[Tabular]) -> dict[str, Summary]:
        """Return the summary of the one build."""
        return {"": summary_below(_build_url(workload))}

    def qualities(self, summary: Summary) -> dict[str, Quality]:
        """Return the AUC over the test share."""
        test = summary["accuracy"]["test"]
        quality = Quality(metric="AUC", value=test["auc"], reference=None, kept=None, samples=test["rows"], passed=True)
        return {"": quality}

    def unfit(self, settings: Tabular, wanted: Wanted) -> Callable[[ServiceProfile], str | None]:
        """Return what refuses instances that hold too few of the models for the wanted hit rate."""
        memory = {each.price.instance_type: each.models_mib for each in candidates(wanted.region)}
        workload = Workload(
            popularity=uniform(wanted.facts.models),
            model_mib=model_mib_of(settings),
            load_ms=LOAD_MS,
            service_ms=SERVICE_MS,
            requests_per_second=wanted.rate,
            instances=wanted.min_instances,
        )

        def reason(profile: ServiceProfile) -> str | None:
            models_mib = memory.get(profile.instance_type, 0.0)
            if models_mib < workload.model_mib:
                return "not one model fits"
            predicted = predict(workload, models_mib)
            if predicted.hit_rate >= HIT_RATE:
                return None
            return f"holds {predicted.slots} models: a hit rate of {predicted.hit_rate:.1%}, {HIT_RATE:.1%} wanted"

        return reason

    def describe(self, settings: Tabular, key: str, variant: str | None, summaries: Mapping[str, Summary]) -> Described:
        """Return the same for every endpoint: they differ in their instances only."""
        del settings, key, variant
        return Described("all models on one endpoint", self.qualities(summaries[""])[""])


def model_mib_of(settings: Tabular) -> float:
    """Return the memory that a model counts as, in MiB."""
    return settings.memory_per_model_mib or MODEL_MIB


def candidates(region: str, container_mib: float = CONTAINER_MIB) -> list[Candidate]:
    """Return every priced instance type without accelerators, and the memory that it leaves for models."""
    return [
        Candidate(price(region, kind), memory_for_models_mib(instance(kind).memory_gib * 1024, container_mib))
        for kind in priced_types(region)
        if instance(kind).accelerators == 0
    ]


def _build_url(workload: DeployedWorkload[Tabular]) -> str:
    return workload.outputs["Models"].removesuffix("models/")
