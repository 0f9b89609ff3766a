"""Broken checkpoints are refused in one line before anything is uploaded; unusual but sound ones are built."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from local_aws.account import ROOT, default_cache
from tests.processors import needs_vnni

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900), needs_vnni]
BROKEN = {
    "missing_layer": r"lacks weights that its config.json declares: bert.encoder.layer.1\.",
    "missing_bias": r"lacks weights .*bert.encoder.layer.0.output.dense.bias",
    "surplus_layer": r"has weights that its config.json does not declare: bert.encoder.layer.1\.",
    "nan": r"NaN or infinite weights in bert.encoder.layer.0.attention.self.query.weight",
    "infinity": r"NaN or infinite weights in bert.embeddings.LayerNorm.weight",
    "tokens_added": r"up to 'brexit'; the model has \d+ embeddings .*resize_token_embeddings",
    "cased_vocabulary_alone": r"lower-cases texts, but its vocabulary has words with capitals, such as 'Paris'",
    "few_positions": r"max_seq_length is 128: the model has 64 positions",
    "three_labels": r"has 3 labels",
    "truncated": r"the weights: ",
    "empty_weights": r"the weights: ",
    "damaged_header": r"the weights: ",
    "no_weights": r"the weights: .*no file named",
    "no_tokenizer": r"the tokenizer: ",
    "damaged_tokenizer": r"the tokenizer: ",
    "foreign_tokenizer": r"has no \[CLS\] and no \[SEP\]",
    "no_config": r"no config.json|config.json: ",
    "damaged_config": r"config.json: .*not a valid JSON",
    "other_shape": r"the weights: |of another shape",
    "no_head": r"has no question-answering head",
    "adapter_alone": r"the weights: |no file named",
    "own_code": r"own code \(auto_map",
    "decoder": r"is a decoder",
    "quantized": r"quantized already",
    "code_in_a_pickle": r"the weights: ",
    "roberta": r"of type 'roberta'",
    "distilbert": r"of type 'distilbert'",
    "electra": r"of type 'electra'",
    "gpt2": r"of type 'gpt2'",
    "vit": r"of type 'vit'",
}
UNUSUAL = (
    "half_precision", "bfloat16", "sharded", "pickled_weights", "with_pooler", "with_position_ids", "spare_embeddings",
    "cased", "tokens_added_and_resized", "vocabulary_alone", "other_activation", "no_architectures",
)  # fmt: skip


@pytest.fixture(scope="module")
def build_variables() -> dict[str, str]:
    """The variables of a build outside CodeBuild, which uploads nothing."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ARTIFACT_", "CODEBUILD_"))}
    return {**own, "INFERENCE_BUILD_CACHE": str(default_cache() / "builds"), "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def build_python(build_variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of the build's environment, which the first build makes."""
    recipe = {"source": {"kind": "folder", "path": str(tmp_path_factory.mktemp("empty"))}}
    built = subprocess.run(
        ["bash", "-x", "model_build/encoder/codebuild.sh"],
        cwd=ROOT, env={**build_variables, "RECIPE": json.dumps(recipe)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    found = re.search(r"^\+ (\S+/bin/python) -m model_build.encoder", built.stderr, re.MULTILINE)
    assert found is not None, built.stderr
    assert built.returncode == 1
    assert "has no config.json; set a save_pretrained folder" in built.stderr
    return Path(found.group(1))


@pytest.fixture(scope="module")
def refusals(
    build_python: Path, build_variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, str | None]:
    folder = tmp_path_factory.mktemp("checkpoints")
    ran = subprocess.run(
        [str(build_python), "-m", "tests.end_to_end.checkpoints", str(folder)],
        cwd=ROOT, env=build_variables, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert not Path(ROOT / "evil-was-here").exists()
    refused: dict[str, str | None] = json.loads(ran.stdout.splitlines()[-1])
    assert set(refused) == {*BROKEN, *UNUSUAL}
    return refused


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint_is_refused_in_one_line_that_says_why(
    refusals: Mapping[str, str | None], name: str
) -> None:
    message = refusals[name]
    assert message is not None
    assert "\n" not in message
    assert re.search(BROKEN[name], message), message


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_but_sound_checkpoint_is_built_and_gives_pytorchs_logits(
    refusals: Mapping[str, str | None], name: str
) -> None:
    assert refusals[name] is None
