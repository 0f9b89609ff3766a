"""`inference working-set` from a shell, without an account."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from commands.main import app


def working_set(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["working-set", "tabular", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_the_cheapest_sufficient_instance_is_named() -> None:
    code, told, _ = working_set()
    assert code == 0
    assert "a hit rate of 99.0% needs 51 models loaded; cheapest: ml.c5.2xlarge, 100.0%" in " ".join(told.split())


def test_what_models_really_take_fits_the_smallest_instance() -> None:
    _, told, _ = working_set("--model-mib", "0.1")
    assert "cheapest: ml.c5.large, 100.0%" in " ".join(told.split())


def test_counts_of_a_file_are_taken_as_the_distribution(tmp_path: Path) -> None:
    counts = tmp_path / "counts.csv"
    counts.write_text("target_model,count\na.tar.gz,90\nb.tar.gz,10\n")
    _, told, _ = working_set("--requests", str(counts))
    assert "2 models of 235 MiB" in told


def test_no_sufficient_instance_is_said_with_the_best_there_is() -> None:
    code, told, _ = working_set("--models", "500", "--model-mib", "1000")
    assert code == 0
    assert "no instance type of the price table is enough" in " ".join(told.split())


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--requests", "nope.csv"), "requests is 'nope.csv': give uniform, zipf, or a CSV file"),
        (("--deployment", "nope"), "choose one of: dev, prod, prod-local, published"),
        (("--region", "mars-1"), "no prices for region 'mars-1'"),
        (("--target", "1.5"), "target_hit_rate is 1.5"),
        (("--model-mib", "0"), "model_mib is 0"),
        (("--check", "--endpoint", "nope"), "endpoint is 'nope': choose from small, large"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(arguments: tuple[str, ...], part: str, tmp_path: Path) -> None:
    code, _, told = working_set(*arguments, "--state", str(tmp_path))
    assert code == 1
    assert part in told
    assert "Traceback" not in told
