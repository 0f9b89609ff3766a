"""Command line of the build: `python -m model_build.encoder`, by hand or from the buildspec."""

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
from model_build.encoder.build import BuildResult, build
from model_build.encoder.recipe import EncoderRecipe


def main(
    recipe: RecipeText = "{}",
    output: Output = Path("build/encoder"),
    cache: Cache = STEPS,
    bucket: Bucket = None,
    prefix: Prefix = None,
) -> None:
    """Build the FP32 and INT8 artifacts of a recipe, gate INT8's accuracy, and upload both."""
    # Tracing warns about constants, and transformers about heads that the adapter fills. Users cannot act on either.
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    store = artifact_store(bucket, prefix)
    with reported(store):
        result = build(read_recipe(EncoderRecipe, recipe), cache, output, say)
    if store is not None:
        for name, artifact in result.artifacts.items():
            store.upload(artifact, name)
    write_summary(result.summary(), output, store)
    console.print(_table(result))


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
