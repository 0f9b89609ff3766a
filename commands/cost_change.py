"""`inference cost-change`: what a change of templates changes about the bill."""

from pathlib import Path
from typing import Annotated

import typer

from commands.output import fail
from sizing.template_cost import TemplateCostError, changes, read_templates, table


def cost_change(
    before: Annotated[Path, typer.Argument(help="folder of the templates before, a cdk.out")],
    after: Annotated[Path, typer.Argument(help="folder of the templates after")],
    region: Annotated[str, typer.Option(help="whose prices")] = "us-east-1",
) -> None:
    """Print a Markdown table of the instances that two synths differ in, and what a month of them costs more."""
    try:
        print(table(changes(read_templates(before), read_templates(after), region), region))
    except TemplateCostError as error:
        fail(str(error))
