"""The `inference` command line."""

import typer

from local_aws import cli, neuron_top, size_tabular, tune
from local_aws.dashboard import dashboard
from local_aws.demo import demo
from local_aws.load_test import load_test
from local_aws.remains import remain
from local_aws.report import report
from local_aws.simulate import simulate
from local_aws.watch_scaling import watch_scaling
from sizing import price_list
from sizing.cost_change import cost_change
from sizing.size import WORKLOADS, command

app = typer.Typer(
    help="Serve models on SageMaker, locally and on AWS.", no_args_is_help=True, pretty_exceptions_enable=False
)
cli.app.command()(dashboard)
app.add_typer(cli.app, name="local")
app.command()(demo)
app.command()(watch_scaling)
app.command()(report)
app.command()(load_test)
app.command()(simulate)
app.command()(cost_change)
app.command("remains")(remain)
size = typer.Typer(help="How large an endpoint must be.", no_args_is_help=True)
for workload in WORKLOADS:
    size.command(workload)(size_tabular.size if workload == size_tabular.WORKLOAD else command(workload))
app.add_typer(size, name="size")
prices = typer.Typer(help="The price table.", no_args_is_help=True)
prices.command()(price_list.refresh)
app.add_typer(prices, name="prices")
tuner = typer.Typer(help="Which settings of a serving container pay.", no_args_is_help=True)
tuner.command(tune.WORKLOAD)(tune.tune)
app.add_typer(tuner, name="tune")
neuron = typer.Typer(help="BERT on NeuronCores.", no_args_is_help=True)
neuron.command()(neuron_top.top)
app.add_typer(neuron, name="neuron")


@size.callback()
def _size() -> None:
    """How large an endpoint must be."""


@prices.callback()
def _prices() -> None:
    """The price table."""


@tuner.callback()
def _tune() -> None:
    """Which settings of a serving container pay."""


@neuron.callback()
def _neuron() -> None:
    """BERT on NeuronCores."""


@app.callback()
def main() -> None:
    """Serve models on SageMaker, locally and on AWS."""


if __name__ == "__main__":
    app()
