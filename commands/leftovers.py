"""`inference leftovers`: list what remains of a deployment after `cdk destroy`, and why."""

from botocore.exceptions import BotoCoreError, ClientError
from rich.table import Table

from commands.account import Deployment as DeploymentName
from commands.account import State, selected_account
from commands.output import NO_RESULT, console, fail
from stacks.leftovers import Account, ListingError, leftovers, shipped_environments
from stacks.settings.deployment import Deployment, DeploymentError


def list_leftovers(state: State, deployment: DeploymentName = "dev") -> None:
    """List what remains of a deployment in the account, and why; exit code 1 for an unexpected leftover.

    Uses the running local account, or the AWS account of the environment if none is running. Exit code 2: the account
    cannot be listed.
    """
    try:
        settings = Deployment.named(deployment)
        with selected_account(state):
            found = list(leftovers(Account(), settings, shipped_environments()))
    except DeploymentError as error:
        fail(str(error), NO_RESULT)
    except (ListingError, ClientError, BotoCoreError) as error:
        fail(f"{error}; nothing is known of the rest", NO_RESULT)
    table = Table(title=f"leftovers of {settings.environment}")
    for column in ("what", "name", "why it is there"):
        table.add_column(column, overflow="fold")
    for each in found:
        reason = each.reason or "unexpected leftover: see docs/runbook.md#unexpected-leftover"
        table.add_row(each.kind, each.name, reason)
    console(160).print(table)
    unexpected = sum(each.reason is None for each in found)
    if unexpected:
        fail(f"{unexpected} of {len(found)} are unexpected")
