"""What Neo cannot compile, or an endpoint cannot run, is refused with what is supported."""

from typing import Any

import pytest
from pydantic import ValidationError

from sizing.instances import instances
from stacks.settings.neo import TARGETS, NeoCompilation
from stacks.settings.saved_model import SavedModel, SavedModelEndpoint

JETSON = {"os": "LINUX", "arch": "ARM64", "accelerator": "NVIDIA"}
JETSON_OPTIONS = {"gpu-code": "sm_72", "trt-ver": "6.0.1", "cuda-ver": "10.1"}


def neo(**values: Any) -> NeoCompilation:
    return NeoCompilation.model_validate(values)


def endpoint(**values: Any) -> SavedModelEndpoint:
    return SavedModelEndpoint.model_validate({"server": "neo", "neo": {"target_device": "ml_g4dn"}, **values})


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"target_device": "ml_g4dn", "framework_version": "2.19"}, ["'2.19'", "TensorFlow 1.15.3 and 2.9"]),
        ({"target_device": "ml_g4dn", "framework_version": "1.15"}, ["'1.15'", "TensorFlow 1.15.3 and 2.9"]),
        ({"target_device": "rasp4b"}, ["'2.9'", "TensorFlow 1.15.3 for devices"]),
        ({"target_device": "ml_g4d"}, ["'ml_g4d' is no TargetDevice", "did you mean 'ml_g4dn'?", "ml_c5"]),
        (
            {"target_device": "ml_inf1"},
            ["'ml_inf1'", "Inferentia", "ml_c4, ml_c5, ml_m4, ml_m5, ml_p2, ml_p3 and ml_g4dn"],
        ),
        ({"target_device": "ml_trn1"}, ["'ml_trn1'", "Neuron", "compiles for ml_c4"]),
        ({"target_device": "ml_c6g"}, ["'ml_c6g'", "not among the instances that Neo documents", "compiles for ml_c4"]),
        ({}, ["set one of target_device and target_platform: neither"]),
        ({"target_device": "ml_c5", "target_platform": {"os": "LINUX", "arch": "X86_64"}}, ["both are set"]),
        (
            {"target_platform": {"os": "WINDOWS", "arch": "X86_64"}},
            ["'WINDOWS' is no TargetPlatformOs", "ANDROID, LINUX"],
        ),
        ({"target_platform": {"os": "LINUX", "arch": "ARM"}}, ["'ARM' is no TargetPlatformArch", "ARM64"]),
        ({"target_platform": {**JETSON, "accelerator": "TPU"}}, ["'TPU' is no TargetPlatformAccelerator", "MALI"]),
        ({"target_platform": JETSON, "framework_version": "1.15.3"}, ["'NVIDIA' without compiler_options gpu-code"]),
        ({"target_device": "ml_c5", "compiler_options": {"mcpu": "x" * 1024}}, ["SageMaker takes 1024"]),
        ({"target_device": "ml_c5", "target": 1}, ["unknown key 'target'"]),
        ({"target_device": "ml_c5", "tolerance": {"mean_difference": 0}}, ["mean_difference", "greater than 0"]),
        (
            {"target_device": "ml_c5", "max_runtime_seconds": 7200},
            ["max_runtime_seconds", "less than or equal to 3600"],
        ),
    ],
)
def test_what_neo_does_not_compile_is_refused_with_what_it_does(values: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ValidationError) as raised:
        neo(**values)
    for part in parts:
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"instance_type": "ml.c5.xlarge"}, ["'ml_g4dn'", "use an instance_type ml.g4dn.*", "target_device: ml_c5"]),
        ({"instance_type": "ml.g5.xlarge"}, ["'ml.g5.xlarge'", "use an instance_type ml.g4dn.*"]),
        (
            {"neo": {"target_platform": JETSON, "compiler_options": JETSON_OPTIONS, "framework_version": "1.15.3"}},
            ["'LINUX ARM64 NVIDIA', a device", "on instances only", "compiled_for_devices"],
        ),
        ({"neo": None}, ["server is 'neo' and neo is not set", "{target_device: ml_g4dn}"]),
        ({"server": "openvino", "precision": "int8"}, ["server is 'openvino' and neo is set"]),
        (
            {"precision": "fp32", "instance_type": "ml.g4dn.xlarge"},
            ["server is 'neo' and precision 'fp32'", "takes none"],
        ),
        (
            {"tensorflow_serving": {}, "instance_type": "ml.g4dn.xlarge"},
            ["tensorflow_serving is set with server 'neo'"],
        ),
    ],
)
def test_an_endpoint_that_cannot_run_what_is_compiled_is_refused(values: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ValidationError) as raised:
        endpoint(**values)
    for part in parts:
        assert part in str(raised.value)


def test_every_target_has_instances_that_an_endpoint_can_have() -> None:
    for target in TARGETS:
        family = target.replace("_", ".")
        types = [each.name for each in instances() if each.name.startswith(f"{family}.")]
        assert types, target
        for instance_type in types:
            assert endpoint(neo={"target_device": target}, instance_type=instance_type).neo == neo(target_device=target)


def test_an_instance_is_not_compiled_for_without_an_endpoint_that_proves_it() -> None:
    settings = {
        "endpoints": {"e": {"server": "tensorflow_serving"}},
        "compiled_for_devices": {"d": {"target_device": "ml_c5"}},
    }
    with pytest.raises(ValidationError, match=r"compiled_for_devices\.d\.target_device is 'ml_c5', an instance"):
        SavedModel.model_validate(settings)


def test_the_api_gets_the_target_and_the_short_version_and_the_image_the_long_one() -> None:
    cloud = neo(target_device="ml_c5", compiler_options={"mcpu": "skylake-avx512"})
    assert cloud.output_request() == {"TargetDevice": "ml_c5", "CompilerOptions": '{"mcpu": "skylake-avx512"}'}
    assert (cloud.version.api, cloud.version.image, cloud.processor) == ("2.9", "2.9.2", "cpu")
    assert neo(target_device="ml_c5", framework_version=2.9).version == cloud.version, "as YAML reads it unquoted"
    device = neo(target_platform={"os": "ANDROID", "arch": "ARM64"}, framework_version="1.15.3")
    assert device.output_request() == {"TargetPlatform": {"Os": "ANDROID", "Arch": "ARM64"}}
    assert (device.version.api, device.for_instances) == ("1.15", False)


def test_a_model_saved_by_a_newer_tensorflow_than_neos_is_warned_of() -> None:
    settings = neo(target_device="ml_g4dn")
    assert settings.warnings(saved_with="2.9.3", png_signature=False) == []
    (newer,) = settings.warnings(saved_with="2.19.1", png_signature=False)
    assert "framework_version is 2.9" in newer
    assert "TensorFlow 2.19.1" in newer
    (png,) = settings.warnings(saved_with="2.8.0", png_signature=True)
    assert "answers JSON only" in png
