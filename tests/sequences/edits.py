"""Edits that people make to a deployment file, as functions of the file and a random generator."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

Document = dict[str, Any]
"""What a deployment file contains."""
RefusedBy = Literal["synth", "aws"]
ENVIRONMENT = "seq"
_INSTANCE_TYPES = ("ml.c5.large", "ml.c5.xlarge", "ml.m5.large", "ml.c6i.large")
_MOST_WORKLOADS, _MOST_ENDPOINTS = 3, 2
_GUARDRAILS: tuple[Any, ...] = (
    "off",
    {"traffic": "all_at_once", "bake_seconds": 60},
    {"traffic": "canary", "step": "50%", "bake_seconds": 60},
    {"traffic": "rolling", "step": 1, "bake_seconds": 60},
)


@dataclass(frozen=True, slots=True)
class Edit:
    """A changed document. refused_by: who refuses to deploy it, None where it must be deployed; reason: in their words.

    text: the change in one line.
    """

    document: Document
    text: str
    refused_by: RefusedBy | None = None
    reason: str = ""


Editor = Callable[[Document, Random], Edit | str | None]
"""Changes the document in place, and returns the change in one line, or None where it does not apply.

An editor that makes what is refused returns a whole Edit.
"""


def first_document() -> Document:
    """Return the file that a sequence begins with: one workload with one endpoint."""
    return {
        "environment": ENVIRONMENT,
        "tags": {"team": "a"},
        "workloads": {"first": {"kind": "tabular", "recipe": _recipe(1), "endpoints": {"main": _endpoint()}}},
    }


def next_edit(document: Document, random: Random) -> Edit:
    """Return one random edit that applies to the document, which stays as it is."""
    for editor in random.sample(EDITORS, len(EDITORS)):
        changed = copy.deepcopy(document)
        outcome = editor(changed, random)
        if isinstance(outcome, Edit):
            return outcome
        if outcome is not None and changed != document:
            return Edit(changed, outcome)
    raise AssertionError("some edit always applies")


def _recipe(seed: int) -> Document:
    return {"source": {"kind": "generated", "customers": 1530, "seed": seed}, "num_round": 2}


def _endpoint() -> Document:
    return {"instance_type": _INSTANCE_TYPES[0]}


def _new_name(names: Mapping[str, Any], random: Random) -> str:
    return random.choice([name for name in ("first", "second", "third", "fo_urth", "main", "b2") if name not in names])


def _any_endpoint(document: Document, random: Random) -> tuple[str, Document]:
    """Return a random endpoint of the document, and where it is."""
    everywhere = [
        (f"{workload}.{name}", endpoint)
        for workload, settings in document["workloads"].items()
        for name, endpoint in settings["endpoints"].items()
    ]
    return random.choice(everywhere)


def _renamed(names: Document, old: str, new: str) -> None:
    """Rename a key in its place."""
    entries = [(new if name == old else name, value) for name, value in names.items()]
    names.clear()
    names.update(entries)


def add_workload(document: Document, random: Random) -> str | None:
    """Add a workload with one endpoint."""
    workloads = document["workloads"]
    if len(workloads) == _MOST_WORKLOADS:
        return None
    name = _new_name(workloads, random)
    workloads[name] = {"kind": "tabular", "recipe": _recipe(1), "endpoints": {"main": _endpoint()}}
    return f"workload {name} is added"


def remove_workload(document: Document, random: Random) -> str | None:
    """Remove a workload."""
    workloads = document["workloads"]
    if len(workloads) == 1:
        return None
    name = random.choice(list(workloads))
    del workloads[name]
    return f"workload {name} is removed"


def rename_workload(document: Document, random: Random) -> str:
    """Rename a workload."""
    workloads = document["workloads"]
    old, new = random.choice(list(workloads)), _new_name(workloads, random)
    _renamed(workloads, old, new)
    return f"workload {old} is renamed to {new}"


def add_endpoint(document: Document, random: Random) -> str | None:
    """Add an endpoint to a workload."""
    name, workload = random.choice(list(document["workloads"].items()))
    if len(workload["endpoints"]) == _MOST_ENDPOINTS:
        return None
    new = _new_name(workload["endpoints"], random)
    workload["endpoints"][new] = _endpoint()
    return f"endpoint {name}.{new} is added"


def remove_endpoint(document: Document, random: Random) -> str | None:
    """Remove an endpoint of a workload that has another."""
    name, workload = random.choice(list(document["workloads"].items()))
    if len(workload["endpoints"]) == 1:
        return None
    gone = random.choice(list(workload["endpoints"]))
    del workload["endpoints"][gone]
    return f"endpoint {name}.{gone} is removed"


def rename_endpoint(document: Document, random: Random) -> str:
    """Rename an endpoint."""
    name, workload = random.choice(list(document["workloads"].items()))
    old, new = random.choice(list(workload["endpoints"])), _new_name(workload["endpoints"], random)
    _renamed(workload["endpoints"], old, new)
    return f"endpoint {name}.{old} is renamed to {new}"


def change_instance_type(document: Document, random: Random) -> Edit | str | None:
    """Change an endpoint's instance type, which AWS refuses where the endpoint scales before and after."""
    where, endpoint = _any_endpoint(document, random)
    before, endpoint["instance_type"] = endpoint["instance_type"], random.choice(_INSTANCE_TYPES)
    text = f"{where}.instance_type is {endpoint['instance_type']}"
    if "scaling" in endpoint and endpoint["instance_type"] != before:
        return Edit(document, text, "aws", "must be deregistered as scalable targets")
    return text


def change_instance_count(document: Document, random: Random) -> str | None:
    """Change an endpoint's number of instances."""
    where, endpoint = _any_endpoint(document, random)
    if "scaling" in endpoint or _half_steps(endpoint):
        return None
    endpoint["instance_count"] = random.choice((1, 2))
    return f"{where}.instance_count is {endpoint['instance_count']}"


def change_guardrails(document: Document, random: Random) -> str | None:
    """Change how traffic moves to new instances."""
    where, endpoint = _any_endpoint(document, random)
    if "scaling" in endpoint:
        return None
    endpoint["guardrails"] = random.choice(_GUARDRAILS)
    if _half_steps(endpoint):
        endpoint["instance_count"] = 2
    return f"{where}.guardrails is {endpoint['guardrails']}"


def _half_steps(endpoint: Document) -> bool:
    """Return whether the traffic moves in steps of one of two instances."""
    guardrails = endpoint.get("guardrails", "off")
    return guardrails != "off" and str(guardrails["traffic"]) != "all_at_once"


def change_scaling(document: Document, random: Random) -> str | None:
    """Add, change or remove an endpoint's scaling."""
    where, endpoint = _any_endpoint(document, random)
    if _half_steps(endpoint):
        return None
    if "scaling" in endpoint and random.random() < 0.4:
        del endpoint["scaling"]
        return f"{where}.scaling is removed"
    endpoint.pop("instance_count", None)
    scaling: Document = {"max_capacity": random.choice((2, 3)), "target_invocations_per_instance": 1000}
    if random.random() < 0.5:
        scaling["schedules"] = {"night": {"schedule": "cron(0 22 * * ? *)", "min_capacity": 1, "max_capacity": 1}}
    endpoint["scaling"] = scaling
    return f"{where}.scaling is {scaling}"


def change_alarms(document: Document, random: Random) -> str:
    """Change an alarm's threshold."""
    where, endpoint = _any_endpoint(document, random)
    endpoint["alarms"] = {"p99_model_latency_ms": random.choice((500, 1500, 2000))}
    return f"{where}.alarms is {endpoint['alarms']}"


def change_tags(document: Document, random: Random) -> str:
    """Add, change or remove a tag."""
    name, value = random.choice(("team", "cost_center")), random.choice(("a", "b", None))
    if value is None:
        document["tags"].pop(name, None)
    else:
        document["tags"][name] = value
    return f"tags is {document['tags']}"


def change_recipe(document: Document, random: Random) -> str:
    """Change what a workload's models are trained on, which builds them again."""
    name, workload = random.choice(list(document["workloads"].items()))
    workload["recipe"] = _recipe(random.choice((1, 2)))
    return f"{name}.recipe.source.seed is {workload['recipe']['source']['seed']}"


def change_memory(document: Document, random: Random) -> str:
    """Change a variable of a workload's containers."""
    name, workload = random.choice(list(document["workloads"].items()))
    workload["memory_per_model_mib"] = random.choice((0, 100))
    return f"{name}.memory_per_model_mib is {workload['memory_per_model_mib']}"


def change_budget(document: Document, random: Random) -> str:
    """Add, change or remove the budget."""
    if "budget" in document and random.random() < 0.4:
        del document["budget"]
        return "budget is removed"
    document["budget"] = {"monthly_usd": random.choice((100, 200)), "email": "ml-platform@example.com"}
    return f"budget is {document['budget']}"


def change_nothing(document: Document, random: Random) -> Edit:
    """Deploy the same file again."""
    del random
    return Edit(document, "nothing is changed")


def give_two_endpoints_one_name(document: Document, random: Random) -> Edit:
    """Make what synth refuses: two endpoints whose names differ in `_` and `-` only."""
    del random
    workloads = document["workloads"]
    workloads["x_y"] = {"kind": "tabular", "recipe": _recipe(1), "endpoints": {"z": _endpoint()}}
    workloads["x"] = {"kind": "tabular", "recipe": _recipe(1), "endpoints": {"y_z": _endpoint()}}
    return Edit(document, "two endpoints would have one name", "synth", "seq-x-y-z")


def misspell(document: Document, random: Random) -> Edit:
    """Make what synth refuses: a setting that does not exist."""
    where, endpoint = _any_endpoint(document, random)
    endpoint["instance_typ"] = "ml.c5.large"
    return Edit(document, f"{where}.instance_typ is misspelled", "synth", "instance_typ")


def exceed_the_most(document: Document, random: Random) -> Edit:
    """Make what synth refuses: a minimum above the maximum."""
    where, endpoint = _any_endpoint(document, random)
    endpoint["scaling"] = {"min_capacity": 5, "max_capacity": 2, "target_invocations_per_instance": 10}
    return Edit(document, f"{where}.scaling has a minimum above its maximum", "synth", "min_capacity is 5")


EDITORS: tuple[Editor, ...] = (
    add_workload,
    remove_workload,
    rename_workload,
    add_endpoint,
    remove_endpoint,
    rename_endpoint,
    change_instance_type,
    change_instance_count,
    change_guardrails,
    change_scaling,
    change_alarms,
    change_tags,
    change_recipe,
    change_memory,
    change_budget,
    change_nothing,
    give_two_endpoints_one_name,
    misspell,
    exceed_the_most,
)
