"""EC2's security groups and flow logs."""

from collections.abc import MutableMapping
from typing import Any

from ministack.services import ec2
from ministack.services.cloudformation import provisioners

Record = dict[str, Any]


def security_groups() -> MutableMapping[str, Record]:
    """Return the records of all security groups, by ID."""
    groups: MutableMapping[str, Record] = ec2._security_groups
    return groups


def permissions(rule: dict[str, Any]) -> list[Record]:
    """Return the API's form of a rule, given in CloudFormation's form."""
    converted: list[Record] = provisioners._ec2_sg_permissions([rule])
    return converted


def flow_logs() -> MutableMapping[str, Record]:
    """Return the records of all flow logs, by ID."""
    logs: MutableMapping[str, Record] = ec2._flow_logs
    return logs


def timestamp() -> str:
    """Return the current time in EC2's form."""
    now: str = ec2._now_ts()
    return now
