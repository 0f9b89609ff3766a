"""The release of AWS's Neuron SDK that models are traced with and served by."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SdkRelease:
    """A release of the SDK: its packages by name, the framework first, and the image that has the same packages."""

    version: str
    packages: Mapping[str, str]
    image: str


RELEASE = SdkRelease(
    "2.30.0",
    {"torch-neuronx": "2.9.0.2.14.27725", "neuronx-cc": "2.25.3371.0"},
    "public.ecr.aws/neuron/pytorch-inference-neuronx:2.9.0-neuronx-py312-sdk2.30.0-ubuntu24.04",
)
"""A server refuses models of another release.

Sources: "Release content" of Neuron 2.30.0 in the AWS Neuron documentation; tag 2.30.0 of
aws-neuron/deep-learning-containers.
"""
