"""Command line of the build: `python -m model_build.neuron_encoder`, by hand or from the buildspec."""

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, NoReturn

import torch
import transformers
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from model_build.artifact import ArtifactStore
from model_build.errors import BuildError
from model_build.neuron_encoder.build import BuildResult, build, read_recipe

_console = Console(width=100, markup=False)


def main(
    recipe: Annotated[str, typer.Option(envvar="RECIPE", help="recipe as JSON, or @file")] = "{}",
    output: Annotated[Path, typer.Option(help="folder for the archive")] = Path("build/neuron_encoder"),
    cache: Annotated[Path, typer.Option(help="folder for finished steps")] = Path("build/steps"),
    bucket: Annotated[str | None, typer.Option(envvar="ARTIFACT_BUCKET", help="bucket to upload to")] = None,
    prefix: Annotated[str | None, typer.Option(envvar="ARTIFACT_PREFIX", help="key prefix to upload under")] = None,
) -> None:
    """Trace a recipe's model in its buckets, compare it with PyTorch if it can run here, and upload it."""
    # Tracing warns about constants, and transformers about heads that the adapter fills. Users cannot act on either.
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    if (bucket is None) != (prefix is None):
        _fail("--bucket and --prefix go together: give both to upload, or neither", None)
    store = ArtifactStore(bucket, prefix) if bucket and prefix else None
    try:
        result = build(read_recipe(recipe), cache, output, lambda line: print(line, flush=True))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
        _fail(f"the recipe is not valid: {problems}", store)
    except (BuildError, OSError) as error:
        _fail(str(error), store)
    if store is not None:
        store.upload(result.artifact, result.traced.target)
        store.write_summary(result.summary())
    (output / "summary.json").write_text(json.dumps(result.summary(), indent=2))
    _console.print(_table(result))
    if result.parity.note is not None:
        _console.print(result.parity.note)


def _fail(message: str, store: ArtifactStore | None) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    if store is not None:
        store.write_failure(message)
    raise typer.Exit(1)


def _table(result: BuildResult) -> Table:
    engine = result.manifest.engine
    table = Table(title=f"{result.manifest.source} for {result.traced.target} by {engine.name} {engine.version}")
    for column in ("length", "batch", "file", "largest logit difference"):
        table.add_column(column, justify="left" if column == "file" else "right")
    for bucket in result.traced.buckets:
        difference = result.parity.differences.get(f"{bucket.length}x{bucket.batch}")
        shown = "not compared" if difference is None else f"{difference:.2g}"
        table.add_row(str(bucket.length), str(bucket.batch), bucket.file, shown)
    return table


if __name__ == "__main__":
    typer.run(main)
