"""Command line of the build: `python -m model_build.saved_model`, by hand or from the buildspec."""

import os
from pathlib import Path

import boto3
import typer
from rich.table import Table

from containers.serving.cpu import available_cores
from model_build.command_line import (
    STEPS,
    Bucket,
    Cache,
    Output,
    Prefix,
    RecipeText,
    artifact_store,
    console,
    read_recipe,
    reported,
    say,
    write_summary,
)
from model_build.saved_model.build import PICTURE_FILE, SAMPLES_FILE, BuildResult, Toolchain, build
from model_build.saved_model.recipe import SavedModelRecipe
from model_build.saved_model.reference import REFERENCE_FILE


def main(
    recipe: RecipeText = "{}",
    output: Output = Path("build/saved_model"),
    cache: Cache = STEPS,
    bucket: Bucket = None,
    prefix: Prefix = None,
) -> None:
    """Train a U-Net, export it for TensorFlow and OpenVINO, gate each artifact's accuracy, and upload them."""
    store = artifact_store(bucket, prefix)
    with reported(store):
        checked = read_recipe(SavedModelRecipe, recipe)
        result = build(checked, _toolchain(), cache, output, say)
    if store is not None and bucket and prefix:
        for name, artifact in result.artifacts.items():
            store.upload(artifact, name)
        _upload_samples(result, bucket, prefix)
    write_summary(result.summary(), output, store)
    console.print(_table(result))
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
