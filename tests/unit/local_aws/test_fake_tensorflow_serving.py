"""The fake of SageMaker's TensorFlow Serving container reads what the container reads."""

import json
from pathlib import Path

import pytest

from local_aws import fake_images
from local_aws.fake_images.tensorflow_serving.attributes import api_path, parse_attributes
from local_aws.fake_images.tensorflow_serving.bundles import bundle, find_models
from local_aws.fake_images.tensorflow_serving.packages import install
from local_aws.fake_images.tensorflow_serving.settings import Batching, SettingsError, read_settings
from local_aws.hosting import launch
from local_aws.installer import CONTAINER_VARIABLE
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
        ({"SAGEMAKER_MULTI_MODEL": "1"}, "SAGEMAKER_MULTI_MODEL must be 'true' or 'false'"),
        (
            {"SAGEMAKER_MULTI_MODEL_UNIVERSAL_BUCKET": "b", "SAGEMAKER_MULTI_MODEL_UNIVERSAL_PREFIX": "p"},
            "the fake downloads no scripts",
        ),
    ],
)
def test_settings_on_which_the_container_ends_are_refused(variables: dict[str, str], part: str) -> None:
    with pytest.raises(SettingsError, match=part):
        read_settings(variables)


def test_the_range_of_ports_limits_the_models_of_a_multi_model_container() -> None:
    assert read_settings({"SAGEMAKER_MULTI_MODEL": "True"}).max_models is None
    ports = {"SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_SAFE_PORT_RANGE": "9000-9999"}
    assert read_settings(ports).max_models == 449
    assert read_settings({**ports, "SAGEMAKER_TFS_INSTANCE_COUNT": "2"}).max_models == 224


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [({}, 60), ({"SAGEMAKER_GUNICORN_TIMEOUT_SECONDS": "90"}, 90), ({"SAGEMAKER_GUNICORN_TIMEOUT_SECONDS": "9"}, 60)],
)
def test_the_proxy_waits_at_least_as_long_as_a_worker_may_take(variables: dict[str, str], seconds: int) -> None:
    assert read_settings(variables).proxy_timeout_seconds == seconds


def saved_models(folder: Path, *versions: str) -> Path:
    for version in versions:
        (folder / version).mkdir(parents=True)
        (folder / version / "saved_model.pb").touch()
    return folder


def test_a_model_is_a_folder_with_numbered_saved_models_and_all_of_them_are_its_versions(tmp_path: Path) -> None:
    folder = saved_models(tmp_path / "model", "unet/1", "unet/2", "export/Servo/00000123", "code")
    models = find_models(folder)
    assert {name: model.versions for name, model in models.items()} == {"Servo": (123,), "unet": (1, 2)}
    assert models["Servo"].path == folder / "export/Servo"
    assert models["Servo"].folder(123).name == "00000123"
    with pytest.raises(SettingsError, match="no SavedModel bundles found"):
        find_models(folder / "code")


def test_an_archive_of_versions_alone_is_a_model_named_after_its_folder(tmp_path: Path) -> None:
    assert find_models(saved_models(tmp_path / "model", "5"))["model"].versions == (5,)


@pytest.mark.parametrize(
    ("versions", "part"),
    [(("a/m/1", "b/m/1"), "two models named m: a/m and b/m"), (("m/0",), "version 0"), (("m/000",), "version 0")],
)
def test_models_that_tensorflow_serving_does_not_start_with_are_refused(
    tmp_path: Path, versions: tuple[str, ...], part: str
) -> None:
    with pytest.raises(SettingsError, match=part):
        find_models(saved_models(tmp_path / "model", *versions))


def test_a_model_without_a_version_on_top_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no folder named after a version"):
        bundle("m", saved_models(tmp_path, "inner/1"))


@pytest.mark.parametrize(
    ("header", "path"),
    [
        ("", "/v1/models/default:predict"),
        ("tfs-model-name=a,tfs-model-version=3,other=x", "/v1/models/a/versions/3:predict"),
        ("tfs-method=classify", "/v1/models/default:classify"),
    ],
)
def test_custom_attributes_choose_model_version_and_method(header: str, path: str) -> None:
    assert api_path(parse_attributes(header), "default") == path


def test_a_container_without_network_installs_no_packages_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (given,) = launch.installer(tmp_path, isolated=True).items()
    monkeypatch.setenv(*given)
    (tmp_path / "requirements.txt").write_text("requests\n")
    with pytest.raises(SettingsError, match=r"EnableNetworkIsolation.*put the packages into code/lib"):
        install(tmp_path / "requirements.txt", tmp_path / "installed")


def test_a_container_with_network_installs_from_where_this_machine_installs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example.com/simple")
    monkeypatch.setenv("GITHUB_TOKEN", "the user's own")
    variables = json.loads(launch.installer(tmp_path, isolated=False)[CONTAINER_VARIABLE])
    assert variables["PIP_INDEX_URL"] == "https://packages.example.com/simple"
    assert not {"GITHUB_TOKEN", "HOME", "PATH"} & set(variables)


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
    assert served.installs
    assert "neither Neo's runtime nor TensorFlow Serving" in compiled.note


def test_only_images_of_aws_have_fakes(tmp_path: Path) -> None:
    assert fake_images.find(tmp_path, "tensorflow-inference:latest") is None
    assert fake_images.find(tmp_path, "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.0-5") is None
    for fake in fake_images.FAKES.values():
        assert fake.requirements.is_file()
        assert "fake" in fake.note
