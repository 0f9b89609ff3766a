"""What the local account declares of AWS's APIs agrees with botocore's service models, and is what its servers do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader

from local_aws.account import ROOT
from local_aws.api.declaration import Service, State
from local_aws.api.services import EMULATED, EMULATED_FILE, MODULES, SERVICES, UNVALIDATED
from local_aws.hosting.control import ControlPlane
from local_aws.hosting.errors import ApiError
from local_aws.hosting.scaling_records import ScalingRecords
from local_aws.hosting.service_model import ServiceModel
from tools import emulated_operations

Document = dict[str, Any]
each_service = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)


def model(service: Service) -> Document:
    loaded: Document = Loader().load_service_model(service.name, "service-2")
    return loaded


def structures(shapes: Document, name: str, declared: Service, seen: list[str]) -> list[str]:
    """The structures that a shape holds, without those inside members that are refused or AWS's alone."""
    shape = shapes[name]
    match shape["type"]:
        case "structure" if name not in seen:
            seen.append(name)
            supported = declared.structures[name].supported.split() if name in declared.structures else ()
            for member in supported:
                if member in shape["members"]:
                    structures(shapes, shape["members"][member]["shape"], declared, seen)
        case "list":
            structures(shapes, shape["member"]["shape"], declared, seen)
        case "map":
            structures(shapes, shape["value"]["shape"], declared, seen)
    return seen


def reachable(service: Service) -> list[str]:
    found, seen = model(service), list[str]()
    for operation in service.operations:
        if given := found["operations"][operation].get("input"):
            structures(found["shapes"], given["shape"], service, seen)
    return seen


@each_service
def test_every_operation_that_is_named_exists_and_is_in_one_state(service: Service) -> None:
    named = [*service.operations, *service.refused]
    assert len(set(named)) == len(named)
    assert set(named) <= set(model(service)["operations"])


@each_service
def test_every_member_of_every_input_is_in_exactly_one_state_and_none_is_named_that_does_not_exist(
    service: Service,
) -> None:
    shapes = model(service)["shapes"]
    assert set(service.structures) == set(reachable(service))
    for name in reachable(service):
        states = service.structures[name].states
        assert sorted(member for member, _ in states) == sorted(shapes[name]["members"]), name


@each_service
def test_values_that_are_refused_are_values_of_supported_members(service: Service) -> None:
    shapes = model(service)["shapes"]
    for name, members in service.structures.items():
        for member, values in members.values.items():
            assert (member, State.SUPPORTED) in members.states
            shape = shapes[shapes[name]["members"][member]["shape"]]
            assert set(values) <= set(shape.get("enum", ["true", "false"] if shape["type"] == "boolean" else values))


def refusals(service: Service) -> Iterator[tuple[str, str, Document, str]]:
    """Yield an operation, a structure's member, a request with it, and the reason, for all that is refused."""
    found = model(service)
    for operation in service.operations:
        if given := found["operations"][operation].get("input"):
            yield from _refusals(service, found["shapes"], operation, given["shape"], ())


def _refusals(
    service: Service, shapes: Document, operation: str, name: str, path: tuple[str, ...]
) -> Iterator[tuple[str, str, Document, str]]:
    shape = shapes[name]
    if shape["type"] == "structure" and name not in path:
        members = service.structures[name]
        for member, reason in members.refused.items():
            yield operation, f"{name}.{member}", {member: "x"}, reason
        for member, values in members.values.items():
            for value, reason in values.items():
                yield operation, f"{name}.{member} {value}", {member: value}, reason
        for member in members.supported.split():
            inside = _refusals(service, shapes, operation, shape["members"][member]["shape"], (*path, name))
            for of, what, held, reason in inside:
                yield of, what, {member: held}, reason
    elif shape["type"] in ("list", "map"):
        item = shape["member" if shape["type"] == "list" else "value"]["shape"]
        for of, what, held, reason in _refusals(service, shapes, operation, item, path):
            # A list is no Document, but only inside of one.
            wrapped: Any = [held] if shape["type"] == "list" else {"key": held}
            yield of, what, wrapped, reason


@each_service
def test_the_server_refuses_what_is_declared_as_refused_with_the_reason(service: Service) -> None:
    server = ServiceModel(service.name, service)
    for operation, what, request, reason in refusals(service):
        with pytest.raises(ApiError) as raised:
            server.check_supported(operation, request)
        assert what.partition(".")[2] in str(raised.value)
        assert str(raised.value).endswith(f"is not supported by the local account: {reason}")


def test_the_server_refuses_what_is_not_declared() -> None:
    service = Service(
        "sagemaker", "SageMaker", ("DescribeModel",), {"DescribeModelInput": SERVICES[0].structures["Tag"]}
    )
    with pytest.raises(ApiError, match="ModelName is not supported by the local account: it is not declared"):
        ServiceModel("sagemaker", service).check_supported("DescribeModel", {"ModelName": "m"})


def test_hosting_has_exactly_the_operations_that_are_declared(tmp_path: Path) -> None:
    by_name = {service.name: service for service in SERVICES}
    assert ControlPlane(tmp_path).operations == set(by_name["sagemaker"].operations)
    assert ScalingRecords(tmp_path / "x").operations == set(by_name["application-autoscaling"].operations)


@each_service
def test_what_the_emulator_implements_is_among_what_it_answers(service: Service) -> None:
    if service.name in EMULATED:
        assert set(service.operations) <= set(EMULATED[service.name])


def test_services_of_the_emulator_are_named_as_botocore_names_them() -> None:
    assert set(EMULATED) == set(MODULES)
    for name in (*EMULATED, *UNVALIDATED):
        operations = Loader().load_service_model(name, "service-2")["operations"]
        assert set(EMULATED.get(name, ())) <= set(operations)


def test_the_operations_of_the_emulator_are_those_of_its_source() -> None:
    sources = [*(ROOT / ".cache/envs").glob("emulator-*/lib/python*/site-packages/ministack")]
    if not sources:
        pytest.skip("the emulator's environment is not installed: inference local up")
    assert EMULATED_FILE.read_text() == emulated_operations.rendered(emulated_operations.answered(sources[0]))
