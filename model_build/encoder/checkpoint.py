"""Load a user's checkpoint, and refuse a broken one.

Warnings of transformers are errors here: a model with random layers or the wrong tokenizer would pass the accuracy
gate, which compares INT8 with the same broken FP32 model.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, BertConfig, BertForQuestionAnswering, PreTrainedTokenizerBase

from model_build.errors import BuildError

_LABELS = 2
"""Outputs of a question-answering head: the logits of an answer's start and of its end."""
_UNUSED = "bert.pooler."
"""Prefix of weights that older checkpoints contain although a question-answering head does not read them."""
_SHOWN = 3
"""Number of weights that a message names."""
_FIREWALL = "behind a firewall, put a save_pretrained folder in S3 and use source.kind=s3"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checked model and its tokenizer."""

    model: BertForQuestionAnswering
    tokenizer: PreTrainedTokenizerBase


def load_checkpoint(name: str, revision: str | None = None) -> Checkpoint:
    """Load a save_pretrained folder or a Hub model in FP32; raises BuildError with one line."""
    config = _config(name, revision)
    model = _model(name, revision)
    tokenizer = _tokenizer(name, revision)
    _check_tokenizer(name, tokenizer, config.vocab_size)
    return Checkpoint(model, tokenizer)


def check_windows(folder: Path, max_seq_length: int) -> None:
    """Raise BuildError if windows of this length need more positions than a fetched model has."""
    positions = BertConfig.from_pretrained(folder).max_position_embeddings
    if max_seq_length > positions:
        raise BuildError(
            f"max_seq_length is {max_seq_length}: the model has {positions} positions; set at most {positions}"
        )


def _config(name: str, revision: str | None) -> Any:
    """Return the configuration, which is checked before the weights are read."""
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except Exception as error:
        raise _unreadable(name, "config.json", error) from error
    if config.model_type != "bert":
        raise BuildError(f"the model {name!r} is of type {config.model_type!r}: encoder serves BERT encoders")
    if getattr(config, "auto_map", None):
        raise BuildError(
            f"the model {name!r} needs its own code (auto_map in config.json), which is not run: save it as a "
            "BertForQuestionAnswering of transformers"
        )
    if getattr(config, "quantization_config", None):
        raise BuildError(
            f"the model {name!r} is quantized already (quantization_config in config.json): use its FP32 weights"
        )
    if config.is_decoder or config.add_cross_attention:
        raise BuildError(
            f"the model {name!r} is a decoder (is_decoder or add_cross_attention in config.json): encoder serves "
            "encoders"
        )
    if config.num_labels != _LABELS:
        raise BuildError(
            f"the model {name!r} has {config.num_labels} labels (id2label in config.json): a question-answering head "
            f"has {_LABELS}, start and end"
        )
    return config


def _model(name: str, revision: str | None) -> BertForQuestionAnswering:
    try:
        model, report = BertForQuestionAnswering.from_pretrained(
            name, revision=revision, output_loading_info=True, torch_dtype=torch.float32
        )
    except Exception as error:
        raise _unreadable(name, "the weights", error) from error
    missing = sorted(report["missing_keys"])
    if any("qa_outputs" in key for key in missing):
        raise BuildError(
            f"the model {name!r} has no question-answering head ({_some(missing)} missing): fine-tune it on SQuAD first"
        )
    surplus = sorted(key for key in report["unexpected_keys"] if not key.startswith(_UNUSED))
    for keys, problem in (
        (missing, "lacks weights that its config.json declares"),
        (surplus, "has weights that its config.json does not declare"),
        (sorted(str(key) for key in report["mismatched_keys"]), "has weights of another shape than its config.json"),
    ):
        if keys:
            raise BuildError(
                f"the model {name!r} {problem}: {_some(keys)}; save config.json and weights of the same model again"
            )
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BuildError(
                f"the model {name!r} has NaN or infinite weights in {key}: fix the training and save it again"
            )
    return model


def _tokenizer(name: str, revision: str | None) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, use_fast=True, trust_remote_code=False)
    except Exception as error:
        raise _unreadable(name, "the tokenizer", error) from error
    if not tokenizer.is_fast:
        raise BuildError(
            f"the model {name!r} has no fast tokenizer: save one with "
            "AutoTokenizer.from_pretrained(NAME, use_fast=True).save_pretrained(FOLDER)"
        )
    return tokenizer


def _check_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase, words: int) -> None:
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    if absent := [token for token in ("[CLS]", "[SEP]") if token not in vocabulary]:
        raise BuildError(f"the tokenizer of {name!r} has no {' and no '.join(absent)}: it is not BERT's")
    token, highest = max(vocabulary.items(), key=lambda item: item[1])
    if highest >= words:
        raise BuildError(
            f"the tokenizer of {name!r} has {highest + 1} tokens, up to {token!r}; the model has {words} embeddings "
            "(vocab_size): call resize_token_embeddings before training and save both again"
        )
    special = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    capitals = [each for each in vocabulary if each not in special and each != each.lower() and each[:1] != "["]
    normalizer = tokenizer.backend_tokenizer.normalizer
    if capitals and normalizer is not None and normalizer.normalize_str("A") == "a":
        first = min(capitals, key=vocabulary.__getitem__)
        raise BuildError(
            f"the tokenizer of {name!r} lower-cases texts, but its vocabulary has words with capitals, such as "
            f"{first!r}: save it with do_lower_case=False, or add the tokenizer.json of the model"
        )


def _unreadable(name: str, what: str, error: Exception) -> BuildError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return BuildError(f"the model {name!r} cannot be loaded: {what}: {reason} ({_FIREWALL})")


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
