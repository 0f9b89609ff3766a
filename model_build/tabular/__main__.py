"""Command line of the build: `python -m model_build.tabular`, by hand or from the buildspec."""

import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from model_build.artifact import ArtifactStore
from model_build.errors import BuildError
from model_build.tabular.build import BuildResult, build
from model_build.tabular.package import upload
from model_build.tabular.recipe import TabularRecipe
from model_build.tabular.train import Score

_console = Console(width=100, markup=False)


def main(
    recipe: Annotated[str, typer.Option(envvar="RECIPE", help="recipe as JSON, or @file")] = "{}",
    output: Annotated[Path, typer.Option(help="folder for the archives")] = Path("build/tabular"),
    cache: Annotated[Path, typer.Option(help="folder for finished steps")] = Path("build/steps"),
    bucket: Annotated[str | None, typer.Option(envvar="ARTIFACT_BUCKET", help="bucket to upload to")] = None,
    prefix: Annotated[str | None, typer.Option(envvar="ARTIFACT_PREFIX", help="key prefix to upload under")] = None,
) -> None:
    """Build a churn model per state from a recipe, score each, and upload them all."""
    if (bucket is None) != (prefix is None):
        _fail("--bucket and --prefix go together: give both to upload, or neither", None)
    store = ArtifactStore(bucket, prefix) if bucket and prefix else None
    try:
        text = Path(recipe[1:]).read_text() if recipe.startswith("@") else recipe
        result = build(TabularRecipe.model_validate_json(text), cache, output, lambda line: print(line, flush=True))
        if bucket and prefix:
            upload(bucket, prefix, result.files())
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
        _fail(f"the recipe is not valid: {problems}", store)
    except (BuildError, OSError) as error:
        _fail(str(error), store)
    if store is not None:
        store.write_summary(result.summary())
    (output / "summary.json").write_text(json.dumps(result.summary(), indent=2))
    _console.print(_table(result))


def _fail(message: str, store: ArtifactStore | None) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    if store is not None:
        store.write_failure(message)
    raise typer.Exit(1)


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
