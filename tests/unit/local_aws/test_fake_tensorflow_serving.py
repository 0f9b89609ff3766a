"""The fake of SageMaker's TensorFlow Serving container reads what the container reads."""

from pathlib import Path

import msgspec
import pytest

from local_aws import fake_images
from local_aws.fake_images.tensorflow_serving.settings import Batching, SettingsError, find_models, read_settings
from local_aws.fake_images.tensorflow_serving.tfs import JSON, parse_attributes, predict_path, to_instances
from stacks.settings.tensorflow_serving import TensorFlowServing


def test_without_variables_one_model_server_has_the_default_ports() -> None:
    settings = read_settings({})
    assert settings.ports == ((9000, 8501),)
    assert settings.batching is None
    assert (settings.inter_op_parallelism, settings.intra_op_parallelism, settings.gunicorn_workers) == (0, 0, 1)


@pytest.mark.parametrize("instance_count", [1, 2, 8])
def test_what_the_deployment_sets_is_what_the_container_reads(instance_count: int) -> None:
    knobs = TensorFlowServing.model_validate(
        {
            "instance_count": instance_count,
            "gunicorn_workers": 3,
            "inter_op_parallelism": 1,
            "intra_op_parallelism": 2,
            "batching": {
                "max_batch_size": 16,
                "batch_timeout_micros": 500,
                "num_batch_threads": 2,
                "max_enqueued_batches": 9,
            },
        }
    )
    settings = read_settings(knobs.environment())
    assert len(settings.ports) == instance_count
    assert len({port for pair in settings.ports for port in pair}) == 2 * instance_count
    assert (settings.gunicorn_workers, settings.inter_op_parallelism, settings.intra_op_parallelism) == (3, 1, 2)
    assert settings.batching == Batching(16, 500, 2, 9)


def test_batching_parameters_are_written_as_tensorflow_serving_reads_them() -> None:
    assert Batching(16, 500, 2, 9).text().splitlines()[0] == "max_batch_size { value: 16 }"


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"SAGEMAKER_TFS_INSTANCE_COUNT": "2"}, "without SAGEMAKER_SAFE_PORT_RANGE"),
        ({"SAGEMAKER_TFS_INSTANCE_COUNT": "4", "SAGEMAKER_SAFE_PORT_RANGE": "9000-9004"}, "not enough ports"),
        ({"SAGEMAKER_SAFE_PORT_RANGE": "many"}, "must look like 9000-9999"),
        ({"SAGEMAKER_TFS_INSTANCE_COUNT": "0"}, "of at least 1"),
        ({"SAGEMAKER_GUNICORN_WORKERS": "two"}, "SAGEMAKER_GUNICORN_WORKERS is 'two'"),
        ({"SAGEMAKER_TFS_ENABLE_BATCHING": "yes"}, "must be 'true' or 'false'"),
    ],
)
def test_settings_on_which_the_container_ends_are_refused(variables: dict[str, str], part: str) -> None:
    with pytest.raises(SettingsError, match=part):
        read_settings(variables)


def test_models_are_folders_with_a_numbered_saved_model(tmp_path: Path) -> None:
    for name in ("unet/1", "unet/2", "other/7", "code"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "saved_model.pb").touch()
    assert find_models(tmp_path) == {"unet": tmp_path / "unet", "other": tmp_path / "other"}
    with pytest.raises(SettingsError, match="no SavedModel bundles found"):
        find_models(tmp_path / "code")


def test_custom_attributes_choose_model_and_version() -> None:
    attributes = parse_attributes("tfs-model-name=a,tfs-model-version=3,other=x")
    assert predict_path(attributes, "default") == "/v1/models/a/versions/3:predict"
    assert predict_path({}, "default") == "/v1/models/default:predict"
    with pytest.raises(ValueError, match="'classify'"):
        predict_path(parse_attributes("tfs-method=classify"), "default")


@pytest.mark.parametrize(
    ("body", "content_type", "instances"),
    [
        (b'{"instances": [1]}', JSON, [1]),
        (b"[1, 2]\n\n[3, 4]\n", "application/jsonlines", [[1, 2], [3, 4]]),
        (b"1,2\n3,4\n", "text/csv; charset=utf-8", [[1, 2], [3, 4]]),
    ],
)
def test_bodies_become_instances(body: bytes, content_type: str, instances: list[object]) -> None:
    assert msgspec.json.decode(to_instances(body, content_type))["instances"] == instances


@pytest.mark.parametrize(("body", "content_type"), [(b"a,b", "text/csv"), (b"\xff", "text/csv"), (b"x", "image/png")])
def test_other_bodies_are_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(ValueError, match=r"invalid CSV|without an inference\.py"):
        to_instances(body, content_type)


def test_the_image_of_compiled_models_runs_what_tensorflow_serving_runs_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_images, "environment", lambda cache, name, *_, **__: cache / name)
    registry = "785573368785.dkr.ecr.us-east-1.amazonaws.com"
    compiled = fake_images.find(tmp_path, f"{registry}/sagemaker-inference-tensorflow:2.9.2-gpu-py3")
    served = fake_images.find(tmp_path, f"{registry}/tensorflow-inference:2.19.0-cpu")
    assert compiled is not None
    assert served is not None
    assert compiled.entrypoint == served.entrypoint
    assert "neither Neo's runtime nor TensorFlow Serving" in compiled.note


def test_only_images_of_aws_have_fakes(tmp_path: Path) -> None:
    assert fake_images.find(tmp_path, "tensorflow-inference:latest") is None
    assert fake_images.find(tmp_path, "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.0-5") is None
    for fake in fake_images.FAKES.values():
        assert fake.requirements.is_file()
        assert "fake" in fake.note
