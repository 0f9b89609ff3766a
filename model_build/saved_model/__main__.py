"""Command line of the build: `python -m model_build.saved_model`, by hand or from the buildspec."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import boto3
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from containers.serving.cpu import available_cores
from model_build.artifact import ArtifactStore
from model_build.errors import BuildError
from model_build.saved_model.build import PICTURE_FILE, SAMPLES_FILE, BuildResult, Toolchain, build
from model_build.saved_model.recipe import SavedModelRecipe
from model_build.saved_model.reference import REFERENCE_FILE

_console = Console(width=100, markup=False)


def main(
    recipe: Annotated[str, typer.Option(envvar="RECIPE", help="recipe as JSON, or @file")] = "{}",
    output: Annotated[Path, typer.Option(help="folder for the archives")] = Path("build/saved_model"),
    cache: Annotated[Path, typer.Option(help="folder for finished steps")] = Path("build/steps"),
    bucket: Annotated[str | None, typer.Option(envvar="ARTIFACT_BUCKET", help="bucket to upload to")] = None,
    prefix: Annotated[str | None, typer.Option(envvar="ARTIFACT_PREFIX", help="key prefix to upload under")] = None,
) -> None:
    """Train a U-Net, export it for TensorFlow and OpenVINO, gate each artifact's accuracy, and upload them."""
    if (bucket is None) != (prefix is None):
        _fail("--bucket and --prefix go together: give both to upload, or neither", None)
    store = ArtifactStore(bucket, prefix) if bucket and prefix else None
    try:
        text = Path(recipe[1:]).read_text() if recipe.startswith("@") else recipe
        checked = SavedModelRecipe.model_validate_json(text)
        result = build(checked, _toolchain(), cache, output, lambda line: print(line, flush=True))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
        _fail(f"the recipe is not valid: {problems}", store)
    except (BuildError, OSError) as error:
        _fail(str(error), store)
    if store is not None and bucket and prefix:
        for name, artifact in result.artifacts.items():
            store.upload(artifact, name)
        _upload_samples(result, bucket, prefix)
        store.write_summary(result.summary())
    (output / "summary.json").write_text(json.dumps(result.summary(), indent=2))
    _console.print(_table(result))
    print(f"image, truth and predictions side by side: {result.picture}")


def _toolchain() -> Toolchain:
    # Users cannot act on TensorFlow's startup messages. Importing it takes seconds, so check the recipe first.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from model_build.saved_model.toolchain import TensorFlowToolchain

    return TensorFlowToolchain(available_cores())


def _upload_samples(result: BuildResult, bucket: str, prefix: str) -> None:
    s3 = boto3.client("s3")
    for path, name, kind in (
        (result.picture, PICTURE_FILE, "image/png"),
        (result.samples, SAMPLES_FILE, "application/zip"),
        (result.reference, REFERENCE_FILE, "application/gzip"),
    ):
        s3.put_object(Bucket=bucket, Key=f"{prefix.strip('/')}/{name}", Body=path.read_bytes(), ContentType=kind)


def _fail(message: str, store: ArtifactStore | None) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    if store is not None:
        store.write_failure(message)
    raise typer.Exit(1)


def _table(result: BuildResult) -> Table:
    training = result.training
    table = Table(
        title=f"U-Net, {training.parameters / 1e6:.1f} M parameters, {training.best_epoch} epochs, {result.source}"
    )
    for column in ("artifact", "archive MB", "IoU", "Dice", "IoU kept", "gate"):
        table.add_column(column, justify="left" if column == "artifact" else "right")
    for name, accuracy in result.accuracy.items():
        table.add_row(
            name,
            f"{result.artifacts[name].size / 1e6:.1f}",
            f"{accuracy.artifact.iou:.4f}",
            f"{accuracy.artifact.dice:.4f}",
            f"{accuracy.iou_ratio:.2%}",
            accuracy.gate,
        )
    return table


if __name__ == "__main__":
    typer.run(main)
