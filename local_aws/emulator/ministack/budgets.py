"""AWS Budgets."""

from typing import Any

from ministack.services import budgets

from local_aws.emulator.ministack.responses import raise_for_status


def create_budget(request: dict[str, Any]) -> None:
    """Handle CreateBudget; raise RuntimeError."""
    raise_for_status(budgets._create_budget(request))


def delete_budget(name: str) -> None:
    """Delete a budget, if there is one of this name."""
    budgets._delete_budget({"BudgetName": name})
