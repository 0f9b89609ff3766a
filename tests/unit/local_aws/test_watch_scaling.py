"""`inference watch-scaling` says what cannot be watched, and whether what it saw was scaling."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from load_tests.watch_scaling import Moment, Policy
from local_aws.main import app
from local_aws.watch_scaling import scaled, time_scale

POLICY = Policy("SageMakerVariantInvocationsPerInstance", 100, 1, 4)


def moments(*instances: int) -> list[Moment]:
    return [Moment(float(second), True, count, count, 0.0, 0, 0) for second, count in enumerate(instances)]


@pytest.mark.parametrize(
    ("instances", "seen"),
    [((1, 2, 4, 4, 1), True), ((1, 2, 3, 1), False), ((1, 4, 4), False), ((1, 1), False)],
)
def test_scaling_is_seen_when_the_most_instances_came_and_went(instances: tuple[int, ...], seen: bool) -> None:
    assert scaled(POLICY, moments(*instances)) is seen


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("nope",), "workload is 'nope': choose from bert_int8, churn_mme, unet_tfs"),
        (("bert_int8",), "bert_int8 has no scaling"),
        (("churn_mme", "--endpoint", "nope"), "endpoint is 'nope': choose from small, large"),
        (("churn_mme", "--endpoint", "small"), "small has no scaling"),
        (("churn_mme", "--deployment", "nope"), "choose one of: dev, prod, published"),
    ],
)
def test_what_cannot_be_watched_is_one_line(arguments: tuple[str, ...], part: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["watch-scaling", *arguments, "--state", str(tmp_path)])
    assert done.exit_code == 1
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_time_is_not_compressed_on_aws() -> None:
    assert time_scale(None) == 1
