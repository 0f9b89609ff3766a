"""Network resources in CloudFormation that MiniStack supports only through EC2's API, or not at all.

They do not affect traffic.
"""

import uuid
from typing import Any

from ministack.services import ec2
from ministack.services.cloudformation import provisioners

Properties = dict[str, Any]
_RULES = {"AWS::EC2::SecurityGroupIngress": "IpPermissions", "AWS::EC2::SecurityGroupEgress": "IpPermissionsEgress"}


def _rule(kind: str) -> dict[str, Any]:
    """Return handlers that store a standalone rule in its security group."""
    held = _RULES[kind]

    def create(logical_id: str, properties: Properties, stack: str) -> tuple[str, Properties]:  # noqa: ARG001 - MiniStack passes them
        ec2._security_groups[properties["GroupId"]].setdefault(held, []).extend(
            provisioners._ec2_sg_permissions([properties])
        )
        name = f"sgr-{uuid.uuid4().hex[:17]}"
        return name, {"Id": name}

    def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001 - MiniStack passes it
        group = ec2._security_groups.get(properties["GroupId"])
        for rule in provisioners._ec2_sg_permissions([properties]) if group else ():
            if rule in group[held]:
                group[held].remove(rule)

    def update(physical_id: str, old: Properties, new: Properties, stack: str) -> tuple[str, Properties]:
        delete(physical_id, old)
        return create("", new, stack)

    return {"create": create, "update": update, "delete": delete}


def _create_flow_log(logical_id: str, properties: Properties, stack: str) -> tuple[str, Properties]:  # noqa: ARG001 - MiniStack passes them
    name = f"fl-{uuid.uuid4().hex[:17]}"
    ec2._flow_logs[name] = {
        "FlowLogId": name,
        "ResourceId": properties["ResourceId"],
        "ResourceType": properties["ResourceType"],
        "TrafficType": properties.get("TrafficType", "ALL"),
        "LogDestinationType": properties.get("LogDestinationType", "cloud-watch-logs"),
        "LogDestination": properties.get("LogDestination") or properties.get("LogGroupName", ""),
        "FlowLogStatus": "ACTIVE",
        "CreationTime": ec2._now_ts(),
    }
    return name, {"Id": name}


def _delete_flow_log(physical_id: str, properties: Properties) -> None:  # noqa: ARG001 - MiniStack passes them
    ec2._flow_logs.pop(physical_id, None)


def _update_flow_log(physical_id: str, old: Properties, new: Properties, stack: str) -> tuple[str, Properties]:  # noqa: ARG001 - MiniStack passes it
    _delete_flow_log(physical_id, {})
    return _create_flow_log("", new, stack)


def register() -> None:
    """Add the types to MiniStack's table."""
    for kind in _RULES:
        provisioners._RESOURCE_HANDLERS[kind] = _rule(kind)
    provisioners._RESOURCE_HANDLERS["AWS::EC2::FlowLog"] = {
        "create": _create_flow_log,
        "update": _update_flow_log,
        "delete": _delete_flow_log,
    }
