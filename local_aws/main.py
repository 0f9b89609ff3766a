"""The `inference` command line."""

import typer

from local_aws import cli
from local_aws.demo import demo

app = typer.Typer(
    help="Serve models on SageMaker, locally and on AWS.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.add_typer(cli.app, name="local")
app.command()(demo)


@app.callback()
def main() -> None:
    """Serve models on SageMaker, locally and on AWS."""


if __name__ == "__main__":
    app()
