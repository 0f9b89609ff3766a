"""`inference doctor`: find what would stop a first deployment, before it begins."""

import botocore.session
from rich.table import Table

from commands.account import Deployment as DeploymentName
from commands.account import State, selected_account
from commands.output import NO_RESULT, console, fail
from stacks.doctor.examination import examine
from stacks.doctor.findings import Patient
from stacks.leftovers import Account
from stacks.settings.deployment import Deployment, DeploymentError


def doctor(state: State, deployment: DeploymentName = "dev") -> None:
    """Check account, quotas, sources and file before a deployment; exit code 1 if something would stop it.

    Reads only. Uses the running local account, or the AWS account of the environment if none is running. Exit code 2:
    the deployment file is wrong.
    """
    try:
        settings = Deployment.named(deployment)
    except DeploymentError as error:
        fail(str(error), NO_RESULT)
    with selected_account(state) as local:
        region = settings.region or botocore.session.get_session().get_config_variable("region")
        client = Account(region).client
        patient = Patient(deployment=settings, file=deployment, region=region, client=client, local=local is not None)
        findings = list(examine(patient))
    table = Table(title=f"before deploying {settings.environment}")
    for column in ("", "check", "finding", "what to do"):
        table.add_column(column, overflow="fold")
    for each in findings:
        table.add_row(each.verdict, each.check, each.text, each.fix)
    console(180).print(table)
    stops = sum(each.verdict == "stop" for each in findings)
    if stops:
        fail(f"{stops} of {len(findings)} findings would stop the deployment")
