"""Fetch the model of a recipe to this machine, and load it as a PyTorch module."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import cast
from urllib.parse import urlparse

import boto3
import torch
from transformers import BertConfig, BertForQuestionAnswering

from containers.encoder.model_files import TOKENIZER_FILE
from model_build.encoder.checkpoint import load_checkpoint
from model_build.encoder.demo_model.base import BaseModelError, base_model_path
from model_build.encoder.recipe import (
    DemoSource,
    FolderSource,
    HuggingFaceSource,
    ModelSource,
    RandomSource,
    S3Source,
)
from model_build.errors import BuildError

ADAPTER = Path(__file__).parent / "demo_model" / "adapter"


def describe(source: ModelSource) -> str:
    """Return a one-line description of the source for the manifest."""
    match source:
        case HuggingFaceSource():
            return f"Hugging Face {source.model_id}@{source.revision}"
        case S3Source():
            return source.url
        case FolderSource():
            return f"folder {Path(source.path).name}"
        case DemoSource():
            return "all-MiniLM-L6-v2 with the project's question-answering adapter"
        case RandomSource():
            return f"BERT-base shape, random weights, seed {source.seed}"


def fetch(source: ModelSource, output: Path) -> None:
    """Write config, weights and `tokenizer.json` into `output`.

    Raises BuildError that says what is missing and how to get it.
    """
    match source:
        case HuggingFaceSource():
            _from_transformers(source.model_id, source.revision, output)
        case S3Source():
            with tempfile.TemporaryDirectory() as downloaded:
                _download_prefix(source.url, Path(downloaded))
                _from_transformers(downloaded, None, output)
        case FolderSource():
            if not (Path(source.path) / "config.json").is_file():
                raise BuildError(f"source.path is {source.path!r}: it has no config.json; set a save_pretrained folder")
            _from_transformers(source.path, None, output)
        case DemoSource():
            _merge_adapter(output)
        case RandomSource():
            torch.manual_seed(source.seed)
            BertForQuestionAnswering(BertConfig()).save_pretrained(output)
            shutil.copy(_base() / "tokenizer.json", output / TOKENIZER_FILE)


def load(folder: Path, attention: str) -> BertForQuestionAnswering:
    """Load a fetched folder in FP32.

    attention: transformers' name of the attention implementation, "sdpa" or "eager".
    """
    model = BertForQuestionAnswering.from_pretrained(folder, attn_implementation=attention, torch_dtype=torch.float32)
    return cast(BertForQuestionAnswering, model.eval())


def _from_transformers(name: str, revision: str | None, output: Path) -> None:
    checkpoint = load_checkpoint(name, revision)
    checkpoint.model.save_pretrained(output)
    checkpoint.tokenizer.backend_tokenizer.save(str(output / TOKENIZER_FILE))


def _download_prefix(url: str, output: Path) -> None:
    parsed = urlparse(url)
    prefix = parsed.path.strip("/") + "/"
    s3 = boto3.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=parsed.netloc, Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", []) if not entry["Key"].endswith("/")]
    if not keys:
        raise BuildError(f"source.url is {url!r}: it has no objects; upload a save_pretrained folder there")
    for key in keys:
        path = output / key.removeprefix(prefix)
        if not path.resolve().is_relative_to(output.resolve()):
            raise BuildError(
                f"source.url is {url!r}: its key {key!r} points outside the folder; delete or rename that object"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(parsed.netloc, key, str(path))


def _base() -> Path:
    try:
        return base_model_path()
    except BaseModelError as error:
        raise BuildError(str(error)) from error


def _merge_adapter(output: Path) -> None:
    from peft import PeftModel  # only the demo model needs it

    if not (ADAPTER / "adapter_model.safetensors").is_file():
        raise BuildError(
            "the demo model's adapter is missing from model_build/encoder/demo_model/adapter; check out the repository "
            "again"
        )
    base = _base()
    adapted = PeftModel.from_pretrained(BertForQuestionAnswering.from_pretrained(base), str(ADAPTER))
    adapted.merge_and_unload().save_pretrained(output)
    shutil.copy(base / "tokenizer.json", output / TOKENIZER_FILE)
    config = json.loads((output / "config.json").read_text())
    config["architectures"] = ["BertForQuestionAnswering"]
    (output / "config.json").write_text(json.dumps(config, indent=2))
