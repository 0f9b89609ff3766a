"""Network resources in CloudFormation that MiniStack supports only through EC2's API, or not at all.

They do not affect traffic.
"""

import uuid

from local_aws.emulator.ministack import ec2
from local_aws.emulator.ministack.resources import Properties, Provisioned, register_resource

_RULES = {"AWS::EC2::SecurityGroupIngress": "IpPermissions", "AWS::EC2::SecurityGroupEgress": "IpPermissionsEgress"}


def _register_rule(kind: str) -> None:
    """Add a type whose resources are standalone rules, stored in their security group."""
    held = _RULES[kind]

    def create(_logical_id: str, properties: Properties, _stack: str) -> Provisioned:
        group = ec2.security_groups()[properties["GroupId"]]
        group.setdefault(held, []).extend(ec2.permissions(properties))
        name = f"sgr-{uuid.uuid4().hex[:17]}"
        return name, {"Id": name}

    def delete(_physical_id: str, properties: Properties) -> None:
        group = ec2.security_groups().get(properties["GroupId"])
        if not group:
            return
        for rule in ec2.permissions(properties):
            if rule in group[held]:
                group[held].remove(rule)

    def update(physical_id: str, old: Properties, new: Properties, stack: str) -> Provisioned:
        delete(physical_id, old)
        return create("", new, stack)

    register_resource(kind, create=create, update=update, delete=delete)


def _create_flow_log(_logical_id: str, properties: Properties, _stack: str) -> Provisioned:
    name = f"fl-{uuid.uuid4().hex[:17]}"
    ec2.flow_logs()[name] = {
        "FlowLogId": name,
        "ResourceId": properties["ResourceId"],
        "ResourceType": properties["ResourceType"],
        "TrafficType": properties.get("TrafficType", "ALL"),
        "LogDestinationType": properties.get("LogDestinationType", "cloud-watch-logs"),
        "LogDestination": properties.get("LogDestination") or properties.get("LogGroupName", ""),
        "FlowLogStatus": "ACTIVE",
        "CreationTime": ec2.timestamp(),
    }
    return name, {"Id": name}


def _delete_flow_log(physical_id: str, _properties: Properties) -> None:
    ec2.flow_logs().pop(physical_id, None)


def _update_flow_log(physical_id: str, _old: Properties, new: Properties, stack: str) -> Provisioned:
    _delete_flow_log(physical_id, {})
    return _create_flow_log("", new, stack)


def register() -> None:
    """Add the types."""
    for kind in _RULES:
        _register_rule(kind)
    register_resource("AWS::EC2::FlowLog", create=_create_flow_log, update=_update_flow_log, delete=_delete_flow_log)
