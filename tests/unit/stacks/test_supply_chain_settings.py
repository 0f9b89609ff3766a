"""What production is built from: commits of models and digests of images, which nobody can move."""

import copy
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from model_build.encoder.recipe import EncoderRecipe, HuggingFaceSource
from model_build.neuron_encoder.recipe import NeuronEncoderRecipe
from stacks.constructs.assets import ROOT
from stacks.settings.deployment import DEPLOYMENTS, Deployment
from stacks.settings.encoder import Encoder
from stacks.settings.supply_chain import NEURON_BASE, PYTHON_BASE, Images, base_warning

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MOVING = ["main", "v1.0", "refs/pr/1", COMMIT[:8], COMMIT[:39], COMMIT + "0", COMMIT.upper()]


def document(source: dict[str, Any], profile: str = "prod", workload: str = "encoder") -> dict[str, Any]:
    endpoints: dict[str, dict[str, Any]] = {
        "encoder": {"model": "m", "variants": {"Any": {"precision": "int8", "instance_count": 2}}},
        "neuron_encoder": {
            "hosting": "sagemaker",
            "model": "m",
            "instance_type": "ml.inf2.xlarge",
            "instance_count": 2,
        },
    }
    return {
        "environment": "some",
        "profile": profile,
        "workloads": {
            workload: {
                "kind": workload,
                "models": {"m": {"source": {"kind": "hugging_face", **source}}},
                "endpoints": {"e": endpoints[workload]},
            }
        },
    }


@pytest.mark.parametrize("workload", ["encoder", "neuron_encoder"])
@pytest.mark.parametrize("revision", MOVING)
def test_prod_refuses_a_branch_or_tag_and_says_how_to_find_its_commit(workload: str, revision: str) -> None:
    with pytest.raises(ValidationError) as error:
        Deployment.model_validate(document({"model_id": "someone/model", "revision": revision}, workload=workload))
    message = str(error.value)
    assert f"workloads.{workload}.models.m.source.revision is {revision!r} in profile prod" in message
    assert f"git ls-remote https://huggingface.co/someone/model {revision}" in message
    assert "allow_moving_revision: true" in message


def test_prod_refuses_the_default_revision_of_the_default_source() -> None:
    content = document({})
    del content["workloads"]["encoder"]["models"]["m"]["source"]
    with pytest.raises(ValidationError, match=r"source\.revision is 'main' in profile prod"):
        Deployment.model_validate(content)


@pytest.mark.parametrize("workload", ["encoder", "neuron_encoder"])
def test_prod_takes_a_commit(workload: str) -> None:
    Deployment.model_validate(document({"revision": COMMIT}, workload=workload))


def test_prod_takes_a_branch_that_is_accepted_explicitly_and_warns_still() -> None:
    accepted = Deployment.model_validate(document({"allow_moving_revision": True})).workloads["encoder"]
    assert isinstance(accepted, Encoder)
    (warning,) = accepted.models["m"].warnings
    assert "source.revision is 'main'" in warning and "git ls-remote" in warning


def test_dev_warns() -> None:
    Deployment.model_validate(document({}, profile="dev"))
    for recipe in (EncoderRecipe(), NeuronEncoderRecipe()):
        (warning,) = recipe.warnings
        assert "source.revision is 'main' of csarron/bert-base-uncased-squad-v1" in warning


def test_a_commit_needs_no_warning_and_no_permission() -> None:
    assert EncoderRecipe(source=HuggingFaceSource(revision=COMMIT)).warnings == ()
    with pytest.raises(ValidationError, match=f"allow_moving_revision is true with revision '{COMMIT}'.* remove"):
        HuggingFaceSource(revision=COMMIT, allow_moving_revision=True)


def test_what_is_accepted_decides_nothing_in_a_build() -> None:
    sources = HuggingFaceSource(), HuggingFaceSource(allow_moving_revision=True)
    first, second = (EncoderRecipe(source=source).model_dump_json() for source in sources)
    assert first == second


@pytest.mark.parametrize("source", [{"revision": ""}, {"revision": "--upload-pack=x"}, {"model_id": "../etc"}])
def test_what_is_no_name_of_a_model_or_revision_is_refused(source: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"model_id|revision"):
        HuggingFaceSource.model_validate(source)


def test_the_shipped_production_is_refused_without_what_it_accepts() -> None:
    content = yaml.safe_load((DEPLOYMENTS / "prod.yaml").read_text())
    Deployment.model_validate(copy.deepcopy(content))
    del content["workloads"]["encoder"]["models"]["bert_base"]["source"]["allow_moving_revision"]
    with pytest.raises(ValidationError, match=r"source\.revision is 'main' in profile prod"):
        Deployment.model_validate(content)


DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "image",
    [f"python:3.11-slim@{DIGEST}", f"python@{DIGEST}", f"registry.example.com:5000/bases/python-3.11@{DIGEST}"],
)
def test_a_base_is_taken_by_its_digest(image: str) -> None:
    assert Images(base=image).chosen(on_neuron=False) == image
    assert Images(neuron_base=image).chosen(on_neuron=True) == image


@pytest.mark.parametrize("setting", ["base", "neuron_base"])
@pytest.mark.parametrize(
    "image",
    ["python:3.11-slim", "python", "", f"python:3.11-slim@{DIGEST[:-1]}", f"python@{DIGEST.upper()}", f"@{DIGEST}",
     f"python@{DIGEST} --push", f"python@{DIGEST}\n", "python@md5:0123"],
)  # fmt: skip
def test_a_base_by_anything_else_is_refused_with_the_way_to_its_digest(setting: str, image: str) -> None:
    content = {**document({"revision": COMMIT}), "images": {setting: image}}
    with pytest.raises(ValidationError) as error:
        Deployment.model_validate(content)
    assert f"images.{setting}" in str(error.value) and repr(image) in str(error.value)
    assert "docker buildx imagetools inspect" in str(error.value)


def test_the_tags_that_warnings_name_are_the_dockerfiles() -> None:
    for dockerfile in (ROOT / "containers").glob("*/Dockerfile"):
        expected = NEURON_BASE if dockerfile.parent.name == "neuron_encoder" else PYTHON_BASE
        assert f"ARG BASE_IMAGE={expected}\n" in dockerfile.read_text()
        bases = [line for line in dockerfile.read_text().splitlines() if line.startswith("FROM ")]
        assert all(line.startswith("FROM ${BASE_IMAGE}") for line in bases), dockerfile
        assert expected in base_warning(on_neuron=expected == NEURON_BASE)
