"""A region without a registry of an AWS image is refused at synth, and not by CloudFormation's lookup."""

from pathlib import Path

import pytest

from tests.infrastructure.conftest import run_app

DEPLOYMENT = """
environment: mine
region: ap-southeast-7
model_build: {compute: on_demand}
workloads:
  w: {WORKLOAD}
"""


@pytest.mark.parametrize(
    ("workload", "image"),
    [
        ("{kind: tabular, container: builtin, endpoints: {e: {}}}", "sagemaker-xgboost"),
        (
            "{kind: saved_model, endpoints: "
            "{e: {server: neo, neo: {target_device: ml_c5}, instance_type: ml.c5.large}}}",
            "sagemaker-inference-tensorflow",
        ),
    ],
)
def test_a_region_without_the_image_is_refused_with_its_name(tmp_path: Path, workload: str, image: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(DEPLOYMENT.replace("{WORKLOAD}", workload))
    done = run_app(tmp_path / "out", str(path), CDK_VALIDATION="false")
    assert done.returncode == 1
    assert f"region is 'ap-southeast-7': AWS has no registry with the image {image}:" in done.stderr
    assert "Traceback" not in done.stderr
