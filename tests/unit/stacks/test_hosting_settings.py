"""Guardrails and inference components: what SageMaker would refuse, or would never answer, is refused before."""

from typing import Any

import pytest
from pydantic import ValidationError

from stacks.settings.deployment import Deployment
from stacks.settings.encoder import Encoder
from stacks.settings.guardrails import Capacity, Guardrails
from stacks.settings.saved_model import SavedModel

PER_COPY = {"target_invocations_per_copy": 60}
PER_INSTANCE = {"target_invocations_per_instance": 60}


def component(**changes: Any) -> dict[str, Any]:
    return {"cpu_cores": 2, "memory_mib": 2048, **changes}


def unet(*, profile: str = "dev", **endpoint: Any) -> dict[str, Any]:
    settings = {"endpoints": {"e": {"server": "openvino", "precision": "fp32", **endpoint}}}
    return {"environment": "dev", "profile": profile, "workloads": {"saved_model": {"kind": "saved_model", **settings}}}


def asleep(*, scaling: Any = None, **changes: Any) -> dict[str, Any]:
    return unet(
        inference_component=component(**{"min_instances": 0, **changes}),
        scaling={"min_capacity": 0, "max_capacity": 4, **(PER_COPY if scaling is None else scaling)},
    )


def shadowed(**variants: Any) -> dict[str, Any]:
    content = bert("ml.c6i.large")
    chosen = content["workloads"]["encoder"]["endpoints"]["e"]["variants"]
    chosen |= {name: {"precision": "int8", "instance_type": "ml.c6i.large", **v} for name, v in variants.items()}
    return content


def fleet(count: int, *, scaling: Any = None, **guardrails: Any) -> dict[str, Any]:
    return unet(instance_count=count, guardrails=guardrails, **({} if scaling is None else {"scaling": scaling}))


def bert(instance_type: str, *, more: dict[str, str] | None = None, **endpoint: Any) -> dict[str, Any]:
    of = {"A": instance_type, **(more or {})}
    variants = {name: {"precision": "fp32", "instance_type": each} for name, each in of.items()}
    chosen = {"model": "m", "variants": variants, **endpoint}
    settings = {"models": {"m": {"source": {"kind": "demo"}}}, "endpoints": {"e": chosen}}
    return {"environment": "dev", "workloads": {"encoder": {"kind": "encoder", **settings}}}


def churn(instance_type: str, **endpoint: Any) -> dict[str, Any]:
    settings = {"endpoints": {"e": {"instance_type": instance_type, **endpoint}}}
    return {"environment": "dev", "workloads": {"tabular": {"kind": "tabular", **settings}}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (unet(instance_type="ml.inf1.xlarge"), ["instance_type is 'ml.inf1.xlarge'", "guardrails: off"]),
        (bert("ml.inf1.2xlarge"), ["variants.A.instance_type is 'ml.inf1.2xlarge'", "rolls nothing back"]),
        (churn("ml.inf1.xlarge", guardrails={"bake_seconds": 60}), ["'ml.inf1.xlarge' with guardrails"]),
        (unet(guardrails={"bake_seconds": 4000}), ["guardrails", "3600"]),
        (unet(guardrails="maybe"), ["guardrails", "maybe"]),
        (unet(guardrails={"traffic": "slowly"}), ["guardrails", "'canary'"]),
        (unet(guardrails={"step": "10%"}), ["step is 10% with traffic 'all_at_once'", "remove it, or set traffic"]),
        (
            unet(guardrails={"traffic": "canary", "step": "tenth"}),
            ["'tenth' is neither a percentage such as 10% nor a number of instances"],
        ),
        (unet(guardrails={"traffic": "canary", "step": 0}), ["step.value", "greater than or equal to 1"]),
        (fleet(10, traffic="canary", step="51%"), ["step is 51%", "at most 50% of a variant's instances for canary"]),
        (fleet(3, traffic="canary", step=2), ["step is 2 instances and instance_count 3", "at most 50%"]),
        (shadowed(B={"shadow": True, "weight": 2}), ["variants.B.weight is 2 and variants.A.weight 1", "at most 1"]),
        (
            shadowed(B={"shadow": True, "weight": 0}),
            ["variants.B.weight is 0", "set the shadow weight above 0 and at most 1"],
        ),
        (
            shadowed(B={}, C={"shadow": True}),
            ["variants.C.shadow is true with 2 production and 1 shadow variants", "SageMaker takes one of each"],
        ),
        (fleet(10, traffic="linear", step="9%"), ["step is 9%", "10% to 50%"]),
        (fleet(11, traffic="linear", step=1), ["step is 1 instance and instance_count 11", "10% to 50%"]),
        (fleet(10, traffic="rolling", step="4%"), ["step is 4%", "5% to 50%"]),
        (
            fleet(1, traffic="canary"),
            ["traffic is 'canary' and instance_count 1", "at most half of the instances", "set instance_count to 2"],
        ),
        (
            fleet(2, scaling={"min_capacity": 1, **PER_INSTANCE}, traffic="linear"),
            ["traffic is 'linear' and scaling.min_capacity 1", "set scaling.min_capacity to 2"],
        ),
        (
            fleet(4, scaling={"min_capacity": 4, "max_capacity": 20, **PER_INSTANCE}, traffic="linear", step=1),
            ["step is 1 instance with up to 20 instances"],
        ),
        (
            fleet(4, traffic="linear", step="10%", bake_seconds=300, timeout_seconds=1800),
            ["timeout_seconds is 1800: the waits of all steps, with bake_seconds 300", "alone take 3000 s"],
        ),
        (fleet(4, traffic="rolling", keep_seconds=60), ["keep_seconds is 60 with traffic 'rolling'"]),
        (
            bert("ml.c6i.large", guardrails={"traffic": "rolling"}, more={"B": "ml.c6i.large"}),
            ["traffic is 'rolling' with 2 variants", "set traffic: linear"],
        ),
        (
            unet(inference_component=component(), guardrails={"traffic": "canary"}),
            ["traffic is 'canary' with an inference_component", "set traffic: rolling"],
        ),
        (
            unet(inference_component=component(copies=3), guardrails={"traffic": "rolling", "step": 2}),
            ["step is 2 instances and inference_component.copies 3", "5% to 50%"],
        ),
        (
            unet(scaling={"min_capacity": 0, **PER_INSTANCE}),
            ["scaling.min_capacity is 0", "only an endpoint of inference components scales to zero"],
        ),
        (unet(scaling=PER_COPY), ["target_invocations_per_copy is 60 without", "target_invocations_per_instance"]),
        (
            unet(scaling={"target_concurrent_requests_per_copy": 2}),
            ["target_concurrent_requests_per_copy is 2", "set target_concurrent_requests_per_model"],
        ),
        (
            unet(scaling={"step": {"threshold_invocations_per_copy": 9, "steps": [{"over": 0, "change": 1}]}}),
            ["threshold_invocations_per_copy is set without", "set threshold_invocations_per_instance"],
        ),
        (asleep(scaling=PER_INSTANCE), ["target_invocations_per_instance is 60 with", "target_invocations_per_copy"]),
        (
            asleep(scaling={"step": {"threshold_invocations_per_instance": 9, "steps": [{"over": 0, "change": 1}]}}),
            ["threshold_invocations_per_instance is set with", "set threshold_invocations_per_copy"],
        ),
        (asleep(scaling={"step": {"steps": [{"over": 0, "change": 1}]}}), ["one of the two"]),
        (asleep(cpu_cores=9), ["cpu_cores is 9", "ml.c6i.2xlarge has 8 vCPUs"]),
        (asleep(memory_mib=20000), ["memory_mib is 20000", "has 16384 MiB"]),
        (asleep(accelerators=1), ["accelerators is 1", "has 0 accelerators"]),
        (asleep(cpu_cores=0.1), ["cpu_cores", "0.25"]),
        (
            asleep(cpu_cores=8),
            ["max_instances is 1: 1 copy fits on ml.c6i.2xlarge, and there may be 4", "set max_instances 4"],
        ),
        (asleep(min_instances=2), ["min_instances is 2 and max_instances 1: swap them"]),
        (asleep(min_instances=1), ["min_instances is 1 with a scaling.min_capacity of 0", "set min_instances to 0"]),
        (asleep(copies=5), ["inference_component.copies is 5: it must lie between scaling.min_capacity 0"]),
        (
            unet(inference_component=component(min_instances=0)),
            ["min_instances is 0, but the copies never go to 0", "set scaling.min_capacity to 0"],
        ),
        (unet(inference_component=component(copies=0)), ["copies is 0 and nothing would ever start one"]),
        (
            unet(inference_component=component(), instance_count=2),
            ["instance_count is 2: it is the initial number of instances", "max_instances 1"],
        ),
        (
            {**asleep(), "profile": "prod"},
            ["instance_count is 1 in profile prod"],
        ),
        (
            unet(
                profile="prod",
                instance_count=2,
                inference_component=component(copies=2, max_instances=2),
            ),
            ["inference_component.min_instances is 1 in profile prod"],
        ),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason_and_the_fix(content: dict[str, Any], expected: list[str]) -> None:
    with pytest.raises(ValidationError) as raised:
        Deployment.model_validate(content)
    for part in expected:
        assert part in str(raised.value)


@pytest.mark.parametrize("off", [False, "off", None])
@pytest.mark.parametrize("make", [bert, churn])
def test_an_endpoint_on_inf1_goes_without_guardrails(make: Any, off: Any) -> None:
    assert Deployment.model_validate(make("ml.inf1.xlarge", guardrails=off)).workloads


@pytest.mark.parametrize("on", [True, "on", {"bake_seconds": 120}])
def test_guardrails_are_on_unless_they_are_switched_off(on: Any) -> None:
    for content in (unet(), unet(guardrails=on)):
        workload = Deployment.model_validate(content).workloads["saved_model"]
        assert isinstance(workload, SavedModel)
        assert workload.endpoints["e"].guardrails == Guardrails(bake_seconds=120)


@pytest.mark.parametrize(
    ("guardrails", "most", "seconds"),
    [
        (Guardrails(), 1, 3600),
        (Guardrails(traffic="canary", bake_seconds=3600), 10, 2 * 3600 + 1500),
        (Guardrails(traffic="rolling", bake_seconds=600), 10, 2 * (600 + 1500)),
        (Guardrails(traffic="rolling", step=Capacity(value=1), bake_seconds=600), 10, 10 * (600 + 1500)),
        (Guardrails(traffic="rolling", step=Capacity(value=1), bake_seconds=600), 18, 28800),
        (Guardrails(traffic="canary", bake_seconds=3600, timeout_seconds=9000), 10, 9000),
    ],
)
def test_an_update_has_an_hour_or_the_time_that_its_waits_and_starts_need(
    guardrails: Guardrails, most: int, seconds: int
) -> None:
    assert guardrails.timeout(most) == seconds


@pytest.mark.parametrize(
    "content",
    [
        asleep(),
        asleep(copies=0, accelerators=None),
        asleep(scaling={"step": {"threshold_invocations_per_copy": 9, "steps": [{"over": 0, "change": 1}]}}),
        unet(inference_component=component(copies=4)),
        unet(
            instance_type="ml.g5.12xlarge",
            inference_component=component(accelerators=1, copies=4),
            scaling=PER_COPY,
        ),
        unet(
            inference_component=component(min_instances=0),
            scaling={
                **PER_COPY,
                "schedules": {"night": {"schedule": "cron(0 20 * * ? *)", "min_capacity": 0, "max_capacity": 0}},
            },
        ),
    ],
)
def test_components_that_fit_their_instances_are_valid(content: dict[str, Any]) -> None:
    assert "saved_model" in Deployment.model_validate(content).workloads


def test_a_shadow_is_enabled_but_answers_nobody_and_bounds_no_step() -> None:
    content = shadowed(B={"shadow": True, "weight": 0.5})
    content["workloads"]["encoder"]["endpoints"]["e"]["guardrails"] = {"traffic": "canary", "step": 1}
    content["workloads"]["encoder"]["endpoints"]["e"]["variants"]["A"]["instance_count"] = 2
    workload = Deployment.model_validate(content).workloads["encoder"]
    assert isinstance(workload, Encoder)
    endpoint = workload.endpoints["e"]
    assert (list(endpoint.enabled_variants), list(endpoint.production_variants)) == (["A", "B"], ["A"])
