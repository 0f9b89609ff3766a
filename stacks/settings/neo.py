"""SageMaker Neo's settings, checked against botocore's enumerations and against what Neo says it compiles."""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Self

from botocore.loaders import Loader
from pydantic import Field, field_validator, model_validator

from stacks.settings.base import Settings

FRAMEWORK = "TENSORFLOW"
Processor = Literal["cpu", "gpu"]


@dataclass(frozen=True, slots=True)
class NeoVersion:
    """api: what CreateCompilationJob is given; image: the version in the inference image's tag."""

    api: str
    image: str


VERSIONS = {"1.15.3": NeoVersion("1.15", "1.15.3"), "2.9": NeoVersion("2.9", "2.9.2")}
"""TensorFlow's versions for cloud instances (SageMaker developer guide, "Supported Instance Types and Frameworks").

The SageMaker Python SDK shortens a version to two numbers for the API; tags by neo-tensorflow.json of sagemaker-core.
"""
DEVICE_VERSION = "1.15.3"
"""TensorFlow's only version for devices (SageMaker developer guide, "Supported Frameworks" of edge devices)."""
TARGETS: dict[str, Processor] = {
    "ml_c4": "cpu",
    "ml_c5": "cpu",
    "ml_m4": "cpu",
    "ml_m5": "cpu",
    "ml_p2": "gpu",
    "ml_p3": "gpu",
    "ml_g4dn": "gpu",
}
"""Instance families that Neo compiles TensorFlow for, and whose image serves them.

Source: the developer guide's table, and NEO_IOC_TARGET_DEVICES of the SageMaker Python SDK.
"""
_OTHER_INSTANCES = {
    "ml_inf1": "Inferentia takes TensorFlow 1.15 and 2.5 in images of its own, which this endpoint does not have",
    "ml_inf2": "Inferentia2 takes models that Neuron compiled, in images of its own; see the workload neuron_encoder",
    "ml_trn1": "Trainium takes models that Neuron compiled, in images of its own; see the workload neuron_encoder",
    "ml_eia2": "Elastic Inference is no longer offered",
}


@cache
def _enumeration(shape: str) -> tuple[str, ...]:
    """Values of an enumeration of SageMaker's API; read from botocore's data files, without network."""
    return tuple(Loader().load_service_model("sagemaker", "service-2")["shapes"][shape]["enum"])


def _known(shape: str, value: str) -> str:
    known = _enumeration(shape)
    if value not in known:
        close = difflib.get_close_matches(value, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"{value!r} is no {shape} of SageMaker's API; {hint}it has {', '.join(known)}")
    return value


class TargetPlatform(Settings):
    """A device by operating system, architecture and accelerator, for which Neo has no name."""

    os: str
    """Operating system, as in the TargetPlatformOs enumeration of the SageMaker API."""
    arch: str
    """Architecture, as in TargetPlatformArch."""
    accelerator: str | None = None
    """Accelerator, as in TargetPlatformAccelerator."""

    @field_validator("os", "arch", "accelerator")
    @classmethod
    def _in_the_api(cls, value: str | None, info: Any) -> str | None:
        return None if value is None else _known(f"TargetPlatform{info.field_name.capitalize()}", value)

    def request(self) -> dict[str, str]:
        """Return the platform in the form of the API."""
        given = {"Os": self.os, "Arch": self.arch, "Accelerator": self.accelerator}
        return {name: value for name, value in given.items() if value is not None}


class Tolerance(Settings):
    """How far the compiled model's responses may be from the original's.

    FP32 in another order of operations differs by about 1e-5 and FP16 by 1e-3. This network in INT8 changes one pixel
    in a thousand. A wrongly compiled graph is far beyond the defaults.
    """

    mean_difference: float = Field(default=0.01, gt=0, le=1)
    """Mean absolute difference of the pixels' probabilities, 0 to 1."""
    changed_pixels: float = Field(default=0.005, ge=0, le=1)
    """Share of pixels that change between foreground and background, 0 to 1."""


class NeoCompilation(Settings):
    """What SageMaker Neo compiles the SavedModel for.

    For an endpoint, the compiled model is first tried for some minutes on an endpoint of its own with one instance.
    """

    framework_version: str = "2.9"
    """TensorFlow version with which Neo reads the model."""
    target_device: str | None = None
    """Instance family such as ml_g4dn, or a device."""
    target_platform: TargetPlatform | None = None
    """A device for which Neo has no name."""
    compiler_options: dict[str, str | int | list[str]] | None = None
    """CompilerOptions of CreateCompilationJob, for example {mcpu: skylake-avx512} for C5."""
    tolerance: Tolerance = Tolerance()
    """Largest accepted difference from the original model's responses."""
    max_runtime_seconds: int = Field(default=1800, ge=60, le=3600)
    """Timeout of the compilation, in seconds."""

    @property
    def version(self) -> NeoVersion:
        """What the API and the image's tag are given."""
        return VERSIONS[self.framework_version]

    @property
    def processor(self) -> Processor:
        """Which of Neo's images serves the target; only targets that are instances have one."""
        return TARGETS[self.target_device or ""]

    @property
    def for_instances(self) -> bool:
        """Whether an endpoint can run what is compiled."""
        return self.target_device in TARGETS

    @property
    def _platform(self) -> dict[str, str]:
        return self.target_platform.request() if self.target_platform is not None else {}

    def output_request(self) -> dict[str, Any]:
        """Return the target's part of CreateCompilationJob's OutputConfig."""
        made: dict[str, Any] = {"TargetDevice": self.target_device} if self.target_device else {}
        if self.target_platform is not None:
            made["TargetPlatform"] = self._platform
        if self.compiler_options is not None:
            made["CompilerOptions"] = json.dumps(self.compiler_options, sort_keys=True)
        return made

    def warnings(self, *, saved_with: str, png_signature: bool) -> list[str]:
        """Return what Neo may not compile, one line each; saved_with: TensorFlow version that saved the model."""
        found = []
        if _numbers(saved_with)[:2] > _numbers(self.framework_version)[:2]:
            found.append(
                f"neo.framework_version is {self.framework_version} and the build saves the model with TensorFlow "
                f"{saved_with}: Neo documents models of its own version; if it cannot read this one its job fails, or "
                "gives the model back as it was, and the deployment stops there"
            )
        if png_signature:
            found.append(
                "recipe.png_signature is on: the compiled model answers JSON only, since Neo compiles the signature "
                "whose input it was given and knows no inference.py"
            )
        return found

    @field_validator("framework_version", mode="before", json_schema_input_type=str | float)
    @classmethod
    def _without_quotes(cls, value: Any) -> Any:
        """2.9 without quotes is a number in YAML."""
        return str(value) if isinstance(value, float) else value

    @field_validator("target_device")
    @classmethod
    def _compiled_for(cls, value: str | None) -> str | None:
        if value is None:
            return None
        _known("TargetDevice", value)
        if value.startswith("ml_") and value not in TARGETS:
            reason = _OTHER_INSTANCES.get(value, "it is not among the instances that Neo documents")
            raise ValueError(
                f"target_device is {value!r}: Neo does not compile TensorFlow for it here ({reason}); it compiles for "
                f"{_either(TARGETS)}"
            )
        return value

    @field_validator("compiler_options")
    @classmethod
    def _fit(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and len(json.dumps(value)) > 1024:
            raise ValueError(f"compiler_options are {len(json.dumps(value))} characters: SageMaker takes 1024")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Self:
        _known("Framework", FRAMEWORK)
        if (self.target_device is None) == (self.target_platform is None):
            given = "both are set" if self.target_device else "neither is set"
            raise ValueError(
                f"set one of target_device and target_platform: {given}; for example target_device: ml_g4dn"
            )
        if self.framework_version not in VERSIONS:
            raise ValueError(
                f"framework_version is {self.framework_version!r}: Neo compiles TensorFlow {_either(VERSIONS)} for "
                f"instances and {DEVICE_VERSION} for devices"
            )
        if not self.for_instances and self.framework_version != DEVICE_VERSION:
            raise ValueError(
                f"framework_version is {self.framework_version!r}: Neo compiles TensorFlow {DEVICE_VERSION} for "
                f"devices, and {_either(VERSIONS)} for the instances {_either(TARGETS)}"
            )
        return self

    @model_validator(mode="after")
    def _nvidia_described(self) -> Self:
        missing = [name for name in ("gpu-code", "trt-ver", "cuda-ver") if name not in (self.compiler_options or {})]
        if self._platform.get("Accelerator") == "NVIDIA" and missing:
            raise ValueError(
                f"target_platform.accelerator is 'NVIDIA' without compiler_options {', '.join(missing)}: SageMaker "
                "needs them, for example {gpu-code: sm_72, trt-ver: 6.0.1, cuda-ver: '10.1'}"
            )
        return self

    def check_instance(self, instance_type: str) -> None:
        """Raise ValueError unless the compiled model runs on an endpoint's instance type."""
        if not self.for_instances:
            target = self.target_device or " ".join(self._platform.values())
            raise ValueError(
                f"neo compiles for {target!r}, a device: SageMaker hosts compiled models on instances only; set "
                f"target_device to one of {_either(TARGETS)}, or list it in saved_model.compiled_for_devices, which "
                "compiles and stores it and serves nothing"
            )
        family = self.target_device.replace("_", ".") if self.target_device else ""
        if not instance_type.startswith(f"{family}."):
            raise ValueError(
                f"instance_type is {instance_type!r} and neo.target_device {self.target_device!r}: a compiled model "
                f"runs on the family that it was compiled for; use an instance_type {family}.*"
                + (f" or target_device: {other}" if (other := _target_of(instance_type)) else "")
            )


def check_endpoint(server: str, compilation: NeoCompilation | None, instance_type: str) -> None:
    """Raise ValueError unless exactly the endpoints of server neo have a compilation, for their instance type."""
    if (server == "neo") != (compilation is not None):
        raise ValueError(
            f"server is {server!r} and neo is {'not set' if compilation is None else 'set'}: server neo needs it, for "
            "example {target_device: ml_g4dn} with instance_type: ml.g4dn.xlarge, and no other takes it"
        )
    if compilation is not None:
        compilation.check_instance(instance_type)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _target_of(instance_type: str) -> str | None:
    target = "_".join(instance_type.split(".")[:2])
    return target if target in TARGETS else None


def _either(values: Iterable[str]) -> str:
    *most, last = values
    return f"{', '.join(most)} and {last}" if most else last
