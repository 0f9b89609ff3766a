"""Command line of the build: `python -m model_build.tabular`, by hand or from the buildspec."""

from pathlib import Path

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
from model_build.tabular.build import BuildResult, build
from model_build.tabular.package import upload
from model_build.tabular.recipe import TabularRecipe
from model_build.tabular.train import Score


def main(
    recipe: RecipeText = "{}",
    output: Output = Path("build/tabular"),
    cache: Cache = STEPS,
    bucket: Bucket = None,
    prefix: Prefix = None,
) -> None:
    """Build a churn model per state from a recipe, score each, and upload them all."""
    store = artifact_store(bucket, prefix)
    with reported(store):
        result = build(read_recipe(TabularRecipe, recipe), cache, output, say)
        if bucket and prefix:
            upload(bucket, prefix, result.files())
    write_summary(result.summary(), output, store)
    console.print(_table(result))


def _table(result: BuildResult) -> Table:
    report = result.report
    fallbacks = {fallback.state for fallback in report.fallbacks}
    table = Table(title=f"Churn models per state, {result.data.description}")
    for column in ("state", "trained on", "train", "validation", "test", "test AUC", "test error", "archive kB"):
        table.add_column(column, justify="left" if column in ("state", "trained on") else "right")
    for one in report.states:
        table.add_row(
            one.state,
            "all states" if one.state in fallbacks else "own rows",
            str(one.train_rows),
            str(one.validation.rows),
            str(one.test.rows),
            *_accuracy(one.test),
            f"{result.archives[one.state].size / 1e3:.1f}",
        )
    table.add_section()
    table.add_row(
        "all",
        "",
        str(sum(one.train_rows for one in report.states)),
        str(report.validation.rows),
        str(report.test.rows),
        *_accuracy(report.test),
        f"{sum(artifact.size for artifact in result.archives.values()) / 1e3:.1f}",
    )
    return table


def _accuracy(score: Score) -> tuple[str, str]:
    auc = "one class" if score.auc is None else f"{score.auc:.3f}"
    return auc, "no rows" if score.error is None else f"{score.error:.1%}"


if __name__ == "__main__":
    typer.run(main)
