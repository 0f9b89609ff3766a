"""The `inference` command line."""

import typer

from commands import local, prices
from commands.cost_change import cost_change
from commands.dashboard import dashboard
from commands.demo import demo
from commands.doctor import doctor
from commands.leftovers import list_leftovers
from commands.load_test import load_test
from commands.neuron_top import top
from commands.report import report
from commands.simulate import simulate
from commands.size import size_workload
from commands.tune import tune
from commands.watch_scaling import watch_scaling
from commands.working_set import working_set

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
local.app.command()(dashboard)
app.add_typer(local.app, name="local")
app.command()(demo)
app.command()(doctor)
app.command()(load_test)
app.command()(report)
app.command("size")(size_workload)
app.command()(working_set)
app.command()(simulate)
app.command()(watch_scaling)
app.command()(tune)
app.command("leftovers")(list_leftovers)
app.command()(cost_change)
app.add_typer(prices.app, name="prices")
neuron = typer.Typer(help="Servers on NeuronCores.", no_args_is_help=True)
neuron.command()(top)
app.add_typer(neuron, name="neuron")


@neuron.callback()
def _neuron() -> None:
    """Inspect servers on NeuronCores."""


@app.callback()
def main() -> None:
    """Serve models on SageMaker, locally and on AWS."""


if __name__ == "__main__":
    app()
