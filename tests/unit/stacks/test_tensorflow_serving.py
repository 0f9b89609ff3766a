"""The knobs of SageMaker's TensorFlow Serving container: what they become, and which do nothing."""

from typing import Any

import pytest
from pydantic import ValidationError

from stacks.settings.tensorflow_serving import TensorFlowServing


def knobs(**values: Any) -> TensorFlowServing:
    return TensorFlowServing.model_validate(values)


def test_what_is_not_set_is_left_to_the_container() -> None:
    assert knobs().environment() == {}


def test_the_published_settings_get_the_ports_that_they_need() -> None:
    published = knobs(gunicorn_workers=64, inter_op_parallelism=1, intra_op_parallelism=1, instance_count=8)
    assert published.environment() == {
        "SAGEMAKER_GUNICORN_WORKERS": "64",
        "SAGEMAKER_TFS_INTER_OP_PARALLELISM": "1",
        "SAGEMAKER_TFS_INTRA_OP_PARALLELISM": "1",
        "SAGEMAKER_TFS_INSTANCE_COUNT": "8",
        "SAGEMAKER_SAFE_PORT_RANGE": "9000-9016",
    }


def test_batching_is_enabled_with_its_parameters() -> None:
    assert knobs(batching={"max_batch_size": 16, "num_batch_threads": 2}).environment() == {
        "SAGEMAKER_TFS_ENABLE_BATCHING": "true",
        "SAGEMAKER_TFS_MAX_BATCH_SIZE": "16",
        "SAGEMAKER_TFS_BATCH_TIMEOUT_MICROS": "1000",
        "SAGEMAKER_TFS_NUM_BATCH_THREADS": "2",
    }


@pytest.mark.parametrize(
    ("values", "script", "parts"),
    [
        ({}, False, []),
        ({"gunicorn_workers": 4}, True, []),
        ({"gunicorn_workers": 64}, False, ["gunicorn_workers is 64", "inference.py"]),
        ({"gunicorn_threads": 4}, True, ["gunicorn_threads is 4", "gevent"]),
        ({"omp_num_threads": 8}, False, ["omp_num_threads is 8", "use intra_op_parallelism"]),
        ({"batching": {"max_batch_size": 1}}, False, ["max_batch_size is 1"]),
        ({"instance_count": 4}, False, ["instance_count 4", "8 vCPUs", "set intra_op_parallelism 2"]),
        ({"instance_count": 8, "intra_op_parallelism": 1}, False, []),
    ],
)
def test_a_knob_without_effect_is_said(values: dict[str, Any], script: bool, parts: list[str]) -> None:
    told = knobs(**values).without_effect(inference_script=script, vcpus=8)
    assert len(told) == bool(parts)
    for part in parts:
        assert part in told[0]


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"instance_count": 4, "port_range": [9000, 9004]}, "give 9000 to 9008"),
        ({"port_range": [9004, 9000]}, "the lower first"),
        ({"port_range": [80, 90]}, "from 1024"),
        ({"instance_count": 0}, "greater than or equal to 1"),
        ({"workers": 4}, "unknown key 'workers'; did you mean 'gunicorn_workers'"),
    ],
)
def test_what_cannot_start_is_refused(values: dict[str, Any], part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        knobs(**values)
