"""Command line of the build: `python -m model_build.encoder`, by hand or from the buildspec."""

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
from model_build.encoder.build import BuildResult, build
from model_build.encoder.recipe import EncoderRecipe
from model_build.errors import BuildError

_console = Console(width=100, markup=False)


def main(
    recipe: Annotated[str, typer.Option(envvar="RECIPE", help="recipe as JSON, or @file")] = "{}",
    output: Annotated[Path, typer.Option(help="folder for the archives")] = Path("build/encoder"),
    cache: Annotated[Path, typer.Option(help="folder for finished steps")] = Path("build/steps"),
    bucket: Annotated[str | None, typer.Option(envvar="ARTIFACT_BUCKET", help="bucket to upload to")] = None,
    prefix: Annotated[str | None, typer.Option(envvar="ARTIFACT_PREFIX", help="key prefix to upload under")] = None,
) -> None:
    """Build the FP32 and INT8 artifacts of a recipe, gate INT8's accuracy, and upload both."""
    # Tracing warns about constants, and transformers about heads that the adapter fills. Users cannot act on either.
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    if (bucket is None) != (prefix is None):
        _fail("--bucket and --prefix go together: give both to upload, or neither", None)
    store = ArtifactStore(bucket, prefix) if bucket and prefix else None
    try:
        text = Path(recipe[1:]).read_text() if recipe.startswith("@") else recipe
        result = build(EncoderRecipe.model_validate_json(text), cache, output, lambda line: print(line, flush=True))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
        _fail(f"the recipe is not valid: {problems}", store)
    except (BuildError, OSError) as error:
        _fail(str(error), store)
    if store is not None:
        for name, artifact in result.artifacts.items():
            store.upload(artifact, name)
        store.write_summary(result.summary())
    (output / "summary.json").write_text(json.dumps(result.summary(), indent=2))
    _console.print(_table(result))


def _fail(message: str, store: ArtifactStore | None) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    if store is not None:
        store.write_failure(message)
    raise typer.Exit(1)


def _table(result: BuildResult) -> Table:
    int8 = result.manifests["int8"]
    table = Table(title=f"{int8.source} on {int8.engine.name} {int8.engine.version}")
    for column in ("artifact", "archive MB", "F1", "EM", "F1 kept", "gate"):
        table.add_column(column, justify="left" if column == "artifact" else "right")
    for precision, artifact in result.artifacts.items():
        accuracy = result.manifests[precision].accuracy
        scores = (
            ("not scored: random weights", "", "", "")
            if accuracy is None
            else (
                f"{accuracy.artifact.f1:.2f}",
                f"{accuracy.artifact.exact_match:.2f}",
                f"{accuracy.f1_ratio:.2%}",
                accuracy.gate,
            )
        )
        table.add_row(precision, f"{artifact.size / 1e6:.1f}", *scores)
    return table


if __name__ == "__main__":
    typer.run(main)
