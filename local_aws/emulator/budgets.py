"""Budgets in CloudFormation, backed by the emulator's own Budgets service."""

import json

from local_aws.emulator.ministack.budgets import create_budget, delete_budget
from local_aws.emulator.ministack.resources import Properties, Provisioned, physical_name, register_resource


def _request(properties: Properties) -> Properties:
    budget = json.loads(json.dumps(properties["Budget"]))
    # Amounts are numbers in a template but text in the API.
    if "BudgetLimit" in budget:
        budget["BudgetLimit"]["Amount"] = str(budget["BudgetLimit"]["Amount"])
    notifications = json.loads(json.dumps(properties.get("NotificationsWithSubscribers") or []))
    for entry in notifications:
        entry["Notification"]["Threshold"] = float(entry["Notification"]["Threshold"])
    return {"Budget": budget, "NotificationsWithSubscribers": notifications}


def _create(logical_id: str, properties: Properties, stack: str) -> Provisioned:
    request = _request(properties)
    request["Budget"].setdefault("BudgetName", physical_name(stack, logical_id, max_length=100))
    create_budget(request)
    return request["Budget"]["BudgetName"], {}


def _delete(physical_id: str, _properties: Properties) -> None:
    delete_budget(physical_id)


def _update(physical_id: str, _old: Properties, new: Properties, stack: str) -> Provisioned:
    _delete(physical_id, {})
    return _create(physical_id, new, stack)


def register() -> None:
    """Add the type."""
    register_resource("AWS::Budgets::Budget", create=_create, update=_update, delete=_delete)
