"""What the command lines of all builds share: options, the recipe, errors and the summary."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console

from model_build.artifact import SUMMARY_FILE, ArtifactStore
from model_build.errors import BuildError

RecipeText = Annotated[str, typer.Option(envvar="RECIPE", help="recipe as JSON, or @file")]
Output = Annotated[Path, typer.Option(help="folder for the archives")]
Cache = Annotated[Path, typer.Option(help="folder for finished steps")]
Bucket = Annotated[str | None, typer.Option(envvar="ARTIFACT_BUCKET", help="bucket to upload to")]
Prefix = Annotated[str | None, typer.Option(envvar="ARTIFACT_PREFIX", help="key prefix to upload under")]
STEPS = Path("build/steps")
"""Default of `Cache`."""

console = Console(width=100, markup=False)
_Recipe = TypeVar("_Recipe", bound=BaseModel)


def say(line: str) -> None:
    """Print a line of progress at once."""
    print(line, flush=True)


def artifact_store(bucket: str | None, prefix: str | None) -> ArtifactStore | None:
    """Return where to upload, or None without a bucket and a prefix; exit with 1 if only one is given."""
    if (bucket is None) != (prefix is None):
        _fail("--bucket and --prefix go together: give both to upload, or neither", None)
    return ArtifactStore(bucket, prefix) if bucket and prefix else None


def read_recipe(recipe: type[_Recipe], text: str) -> _Recipe:
    """Parse a recipe from JSON text or from `@file`; raises BuildError for an unreadable file, and ValidationError."""
    try:
        return recipe.model_validate_json(Path(text[1:]).read_text() if text.startswith("@") else text)
    except OSError as error:
        raise BuildError(f"the recipe {text[1:]!r} cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def reported(store: ArtifactStore | None) -> Iterator[None]:
    """Report errors of a build on stderr and in the store's `failure.json`, and exit with 1."""
    try:
        yield
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
        _fail(f"the recipe is not valid: {problems}", store)
    except (BuildError, OSError) as error:
        _fail(str(error), store)


def write_summary(summary: dict[str, Any], output: Path, store: ArtifactStore | None) -> None:
    """Write `summary.json` into the folder, and into the store as the sign that everything is uploaded."""
    if store is not None:
        store.write_summary(summary)
    (output / SUMMARY_FILE).write_text(json.dumps(summary, indent=2))


def _fail(message: str, store: ArtifactStore | None) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    if store is not None:
        store.write_failure(message)
    raise typer.Exit(1)
