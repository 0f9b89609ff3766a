"""What no NeuronCore could serve is refused before anything is built, and what can has its container's variables."""

from typing import Any

import pytest
from pydantic import ValidationError

from containers.neuron_encoder.settings import Settings as ContainerSettings
from stacks.settings.deployment import Deployment
from stacks.settings.neuron_encoder import NeuronEncoder, NeuronEndpoint, NeuronFleet

MODEL = {"source": {"kind": "demo"}}


def workload(*, target: str = "inf2", recipe: dict[str, Any] | None = None, **endpoint: Any) -> dict[str, Any]:
    chosen = {"hosting": "sagemaker", "model": "m", **endpoint}
    return {"models": {"m": {**MODEL, "target": target, **(recipe or {})}}, "endpoints": {"e": chosen}}


def settings(**changes: Any) -> NeuronEncoder:
    return NeuronEncoder.model_validate(workload(**changes))


def endpoint(**changes: Any) -> NeuronEndpoint:
    found = settings(**changes).endpoints["e"]
    assert isinstance(found, NeuronEndpoint)
    return found


def fleet(**changes: Any) -> NeuronFleet:
    found = settings(**{"hosting": "ec2", **changes}).endpoints["e"]
    assert isinstance(found, NeuronFleet)
    return found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instance_type": "ml.inf2.large"}, r"'ml.inf2.large' is not an endpoint instance type; did you mean"),
        ({"instance_type": "ml.c6i.2xlarge"}, "'ml.c6i.2xlarge': choose a Neuron instance: inf1.xlarge"),
        ({"target": "cpu"}, "set target 'inf2', or another instance_type"),
        ({"target": "inf1", "instance_type": "ml.inf1.xlarge"}, "with guardrails: SageMaker has none on Inf1"),
        (
            {"target": "inf1", "instance_type": "ml.inf1.xlarge", "guardrails": "off"},
            r"endpoints.e: models is 1 at 2.6 GiB of accelerator memory each: a device of inf1.xlarge has 8 GiB",
        ),
        ({"processes": 3}, r"endpoints.e: copies is 3: inf2.xlarge has 2 NeuronCores"),
        ({"host_mib": 9000}, r"at 8.8 GiB of host memory each: inf2.xlarge has 16 GiB, enough for 1"),
        ({"model": "other"}, "endpoints.e.model is 'other': choose one of models: m"),
        (
            {"device": "cpu", "instance_type": "ml.c6i.xlarge", "target": "cpu"},
            "set virtual_cores with device cpu or timed",
        ),
        ({"virtual_cores": 2}, "remove it with device neuron, which uses real cores"),
        ({"device": "cpu", "virtual_cores": 2, "target": "cpu"}, "which has NeuronCores of its own"),
        (
            {"device": "timed", "virtual_cores": 2, "instance_type": "ml.c6i.xlarge"},
            "virtual cores serve target 'cpu'",
        ),
        ({"hosting": "ecs"}, "'sagemaker', 'ec2'"),
        ({"hosting": "ec2", "instance_type": "ml.inf2.xlarge"}, "'ml.inf2.xlarge': choose one of inf1.xlarge"),
        ({"hosting": "ec2", "min_instances": 5}, "min_instances 5 and max_instances 4: swap them"),
        ({"hosting": "ec2", "desired_instances": 9}, "desired_instances is 9: it must lie between min_instances 1"),
        ({"hosting": "ec2", "instance_type": "inf1.xlarge"}, "after SDK 2.26 have no driver for Inf1"),
        ({"hosting": "ec2", "processes": 3}, "copies is 3"),
        ({"hosting": "ec2", "guardrails": "on"}, "unknown key 'guardrails'"),
    ],
)
def test_what_cannot_be_served_is_refused_with_what_could(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**changes)


def test_a_model_that_nothing_serves_is_refused() -> None:
    document = workload()
    document["models"]["idle"] = MODEL
    with pytest.raises(ValidationError, match=r"models\.idle is served by no endpoint"):
        NeuronEncoder.model_validate(document)


def test_prod_wants_two_instances_of_either_hosting() -> None:
    chosen: dict[str, dict[str, Any]] = {"instance_count": {}, "min_instances": {"hosting": "ec2"}}
    for setting, changes in chosen.items():
        with pytest.raises(
            ValidationError, match=f"workloads.neuron_encoder.endpoints.e.{setting} is 1 in profile prod"
        ):
            Deployment.model_validate(
                {
                    "environment": "production",
                    "profile": "prod",
                    "workloads": {"neuron_encoder": {"kind": "neuron_encoder", **workload(**changes)}},
                }
            )


def test_inferentia_fits_with_one_trace_a_length() -> None:
    small = {"dynamic_batch": True, "lengths": (128, 256)}
    inf1 = endpoint(target="inf1", instance_type="ml.inf1.2xlarge", guardrails="off", recipe=small)
    assert inf1.guardrails is None
    assert "legacy" in settings(
        target="inf1", instance_type="ml.inf1.2xlarge", guardrails="off", recipe=small
    ).models["m"].warnings[0]  # fmt: skip


def test_the_container_reads_its_variables_as_they_were_meant() -> None:
    environment = endpoint(copies_per_core=2, processes=1, queue_capacity=9).container_environment()
    read = ContainerSettings.from_environment(environment)
    assert (read.device, read.instance_type, read.models, read.copies) == ("neuron", "inf2.xlarge", 2, 1)
    assert (read.queue_capacity, read.batch_deadline_ms, read.virtual_cores) == (9, 2.0, None)


@pytest.mark.parametrize("device", ["cpu", "timed"])
def test_virtual_cores_are_for_an_instance_without_real_ones(device: str) -> None:
    environment = endpoint(
        target="cpu", device=device, virtual_cores=2, copies_per_core=2, instance_type="ml.c6i.2xlarge"
    ).container_environment()
    read = ContainerSettings.from_environment(environment)
    assert (read.device, read.virtual_cores, read.models, read.instance_type) == (device, 2, 2, None)


def test_a_fleet_places_a_process_on_every_core() -> None:
    chosen = fleet(instance_type="inf2.24xlarge")
    placed = chosen.placement(chosen.instance_type, settings().models["m"])
    assert [process.visible_cores for process in placed.processes] == [str(core) for core in range(12)]
    assert [process.port for process in placed.processes] == list(range(8081, 8093))
