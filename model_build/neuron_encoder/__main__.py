"""Command line of the build: `python -m model_build.neuron_encoder`, by hand or from the buildspec."""

import warnings
from pathlib import Path

import torch
import transformers
import typer
from rich.table import Table

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
from model_build.neuron_encoder.build import BuildResult, build
from model_build.neuron_encoder.recipe import NeuronEncoderRecipe


def main(
    recipe: RecipeText = "{}",
    output: Output = Path("build/neuron_encoder"),
    cache: Cache = STEPS,
    bucket: Bucket = None,
    prefix: Prefix = None,
) -> None:
    """Trace a recipe's model in its buckets, compare it with PyTorch if it can run here, and upload it."""
    # Tracing warns about constants, and transformers about heads that the adapter fills. Users cannot act on either.
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    store = artifact_store(bucket, prefix)
    with reported(store):
        result = build(read_recipe(NeuronEncoderRecipe, recipe), cache, output, say)
    if store is not None:
        store.upload(result.artifact, result.traced.target)
    write_summary(result.summary(), output, store)
    console.print(_table(result))
    if result.quality is not None:
        scores = result.quality
        console.print(f"PyTorch has an F1 of {scores.f1:.2f} on {scores.questions} questions of {scores.dataset}")
    if result.parity.note is not None:
        console.print(result.parity.note)


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
