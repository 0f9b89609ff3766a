"""Budgets in CloudFormation, backed by the emulator's own Budgets service."""

import json
from typing import Any

from ministack.services import budgets
from ministack.services.cloudformation import provisioners

Properties = dict[str, Any]


def _checked(response: Any) -> None:
    status, _, body = response
    if status >= 400:
        raise RuntimeError(json.loads(body)["message"])


def _request(properties: Properties) -> Properties:
    budget = json.loads(json.dumps(properties["Budget"]))
    # Amounts are numbers in a template but text in the API.
    if "BudgetLimit" in budget:
        budget["BudgetLimit"]["Amount"] = str(budget["BudgetLimit"]["Amount"])
    notifications = json.loads(json.dumps(properties.get("NotificationsWithSubscribers") or []))
    for entry in notifications:
        entry["Notification"]["Threshold"] = float(entry["Notification"]["Threshold"])
    return {"Budget": budget, "NotificationsWithSubscribers": notifications}


def _create(logical_id: str, properties: Properties, stack: str) -> tuple[str, Properties]:
    request = _request(properties)
    request["Budget"].setdefault("BudgetName", provisioners._physical_name(stack, logical_id, max_len=100))
    _checked(budgets._create_budget(request))
    return request["Budget"]["BudgetName"], {}


def _delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001 - MiniStack passes them
    budgets._delete_budget({"BudgetName": physical_id})


def _update(physical_id: str, old: Properties, new: Properties, stack: str) -> tuple[str, Properties]:  # noqa: ARG001 - MiniStack passes them
    _delete(physical_id, {})
    return _create(physical_id, new, stack)


def register() -> None:
    """Add the type to MiniStack's table."""
    provisioners._RESOURCE_HANDLERS["AWS::Budgets::Budget"] = {
        "create": _create,
        "update": _update,
        "delete": _delete,
    }
