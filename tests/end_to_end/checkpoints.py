"""Checkpoints as people have them, broken and unusual; run in the encoder build's environment.

`python -m tests.end_to_end.checkpoints FOLDER` writes each one into the folder, builds it as far as its logits, and
prints JSON: the build's refusal by name, or null for one that was built.
"""

import json
import pickle
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    ElectraConfig,
    ElectraForQuestionAnswering,
    GPT2Config,
    GPT2LMHeadModel,
    RobertaConfig,
    RobertaForQuestionAnswering,
    ViTConfig,
    ViTModel,
)

from containers.encoder.engines import load_engine
from containers.encoder.model_files import TOKENIZER_FILE
from containers.serving.question_answering.windows import EncoderBatch, Windower, WindowLimits
from model_build.encoder import source
from model_build.encoder.checkpoint import check_windows
from model_build.encoder.engines import engine
from model_build.encoder.recipe import FolderSource
from model_build.errors import BuildError

WORDS = ("the", "capital", "of", "france", "is", "paris", "which", "city", "##s", "##ing")
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
WEIGHTS = "model.safetensors"
POSITIONS = 128


def vocabulary(words: Iterable[str] = WORDS) -> list[str]:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{each}" for each in letters), *words]


def write_tokenizer(folder: Path, words: Iterable[str] = WORDS, **settings: Any) -> BertTokenizerFast:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary(words)) + "\n")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), **settings)
    tokenizer.save_pretrained(folder)
    return tokenizer


def sound(folder: Path, *, words: Iterable[str] = WORDS, **changes: Any) -> Path:
    torch.manual_seed(0)
    words = tuple(words)
    size = len(vocabulary(words))
    write_tokenizer(folder, words)
    config = BertConfig(**{"vocab_size": size, "max_position_embeddings": POSITIONS, **SMALL, **changes})
    BertForQuestionAnswering(config).save_pretrained(folder)
    return folder


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def without(part: str) -> Callable[[dict[str, torch.Tensor]], object]:
    def drop(weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if part in name]:
            del weights[name]

    return drop


def number_in(name: str, value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    def put(weights: dict[str, torch.Tensor]) -> None:
        weights[name].view(-1)[0] = value

    return put


def pickled(folder: Path, state: Any) -> None:
    (folder / WEIGHTS).unlink()
    torch.save(state, folder / "pytorch_model.bin")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("evil-was-here"),))


def missing_layer(folder: Path) -> None:
    edit_weights(sound(folder), without("encoder.layer.1."))


def missing_bias(folder: Path) -> None:
    edit_weights(sound(folder), without("encoder.layer.0.output.dense.bias"))


def surplus_layer(folder: Path) -> None:
    edit_config(sound(folder), num_hidden_layers=1)


def nan(folder: Path) -> None:
    edit_weights(sound(folder), number_in("bert.encoder.layer.0.attention.self.query.weight", float("nan")))


def infinity(folder: Path) -> None:
    edit_weights(sound(folder), number_in("bert.embeddings.LayerNorm.weight", float("inf")))


def tokens_added(folder: Path) -> None:
    tokenizer = write_tokenizer(sound(folder))
    tokenizer.add_tokens(["covid", "brexit"])
    tokenizer.save_pretrained(folder)


def cased_vocabulary_alone(folder: Path) -> None:
    sound(folder, words=(*WORDS, "Paris", "France"))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink()


def few_positions(folder: Path) -> None:
    sound(folder, max_position_embeddings=64)


def three_labels(folder: Path) -> None:
    sound(folder, num_labels=3)


def truncated(folder: Path) -> None:
    path = sound(folder) / WEIGHTS
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty_weights(folder: Path) -> None:
    (sound(folder) / WEIGHTS).write_bytes(b"")


def damaged_header(folder: Path) -> None:
    path = sound(folder) / WEIGHTS
    path.write_bytes(b"\xff" * 16 + path.read_bytes()[16:])


def no_weights(folder: Path) -> None:
    (sound(folder) / WEIGHTS).unlink()


def no_tokenizer(folder: Path) -> None:
    sound(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        (folder / name).unlink()


def damaged_tokenizer(folder: Path) -> None:
    (sound(folder) / "tokenizer.json").write_text('{"version": "1.0"')


def foreign_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    no_tokenizer(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)


def no_config(folder: Path) -> None:
    (sound(folder) / "config.json").unlink()


def damaged_config(folder: Path) -> None:
    (sound(folder) / "config.json").write_text('{"model_type": "bert",')


def other_shape(folder: Path) -> None:
    edit_config(sound(folder), hidden_size=64)


def no_head(folder: Path) -> None:
    write_tokenizer(folder)
    config = BertConfig(vocab_size=len(vocabulary()), max_position_embeddings=POSITIONS, **SMALL)
    BertForMaskedLM(config).save_pretrained(folder)


def adapter_alone(folder: Path) -> None:
    sound(folder)
    (folder / WEIGHTS).rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "base"}))


def own_code(folder: Path) -> None:
    edit_config(sound(folder), auto_map={"AutoModelForQuestionAnswering": "modeling_own.Own"})
    (folder / "modeling_own.py").write_text("from pathlib import Path\nPath('evil-was-here').touch()\n")


def decoder(folder: Path) -> None:
    edit_config(sound(folder), is_decoder=True)


def quantized(folder: Path) -> None:
    edit_config(sound(folder), quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})


def code_in_a_pickle(folder: Path) -> None:
    sound(folder)
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))


def of_type(model: Any, config: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        write_tokenizer(folder)
        model(config).save_pretrained(folder)

    return write


_SIZES = {"vocab_size": 80, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
BROKEN: dict[str, Callable[[Path], None]] = {
    each.__name__: each
    for each in (
        missing_layer, missing_bias, surplus_layer, nan, infinity, tokens_added, cased_vocabulary_alone, few_positions,
        three_labels, truncated, empty_weights, damaged_header, no_weights, no_tokenizer, damaged_tokenizer,
        foreign_tokenizer, no_config, damaged_config, other_shape, no_head, adapter_alone, own_code, decoder, quantized,
        code_in_a_pickle,
    )
} | {
    "roberta": of_type(RobertaForQuestionAnswering, RobertaConfig(**_SIZES, intermediate_size=64)),
    "distilbert": of_type(DistilBertForQuestionAnswering, DistilBertConfig(dim=32, n_layers=2, n_heads=2)),
    "electra": of_type(ElectraForQuestionAnswering, ElectraConfig(**_SIZES, embedding_size=32, intermediate_size=64)),
    "gpt2": of_type(GPT2LMHeadModel, GPT2Config(vocab_size=80, n_embd=32, n_layer=2, n_head=2)),
    "vit": of_type(ViTModel, ViTConfig(**{k: v for k, v in _SIZES.items() if k != "vocab_size"}, image_size=32)),
}  # fmt: skip


def half_precision(folder: Path) -> None:
    sound(folder)
    edit_weights(folder, lambda weights: weights.update({k: v.half() for k, v in weights.items()}))


def bfloat16(folder: Path) -> None:
    sound(folder)
    edit_weights(folder, lambda weights: weights.update({k: v.bfloat16() for k, v in weights.items()}))
    edit_config(folder, torch_dtype="bfloat16")


def sharded(folder: Path) -> None:
    model = BertForQuestionAnswering.from_pretrained(sound(folder))
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="20KB")


def pickled_weights(folder: Path) -> None:
    pickled(folder, load_file(sound(folder) / WEIGHTS))


def with_pooler(folder: Path) -> None:
    def add(weights: dict[str, torch.Tensor]) -> None:
        weights["bert.pooler.dense.weight"], weights["bert.pooler.dense.bias"] = torch.ones(32, 32), torch.ones(32)

    edit_weights(sound(folder), add)


def with_position_ids(folder: Path) -> None:
    ids = torch.arange(POSITIONS).expand((1, -1)).contiguous()
    edit_weights(sound(folder), lambda weights: weights.update({"bert.embeddings.position_ids": ids}))


def spare_embeddings(folder: Path) -> None:
    sound(folder, vocab_size=-(-len(vocabulary()) // 64) * 64)


def cased(folder: Path) -> None:
    words = (*WORDS, "Paris", "France")
    sound(folder, words=words)
    write_tokenizer(folder, words, do_lower_case=False)


def tokens_added_and_resized(folder: Path) -> None:
    tokenizer = write_tokenizer(sound(folder))
    tokenizer.add_tokens(["covid", "brexit"])
    tokenizer.save_pretrained(folder)
    model = BertForQuestionAnswering.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)


def vocabulary_alone(folder: Path) -> None:
    sound(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink()


def other_activation(folder: Path) -> None:
    sound(folder, hidden_act="gelu_new")


def no_architectures(folder: Path) -> None:
    edit_config(sound(folder), architectures=None)


UNUSUAL: dict[str, Callable[[Path], None]] = {
    each.__name__: each
    for each in (
        half_precision, bfloat16, sharded, pickled_weights, with_pooler, with_position_ids, spare_embeddings, cased,
        tokens_added_and_resized, vocabulary_alone, other_activation, no_architectures,
    )
}  # fmt: skip


def build(checkpoint: Path, output: Path) -> None:
    """Fetch, check and export a checkpoint, and compare its logits with PyTorch's."""
    fetched, exported = output / "fetched", output / "exported"
    fetched.mkdir(parents=True)
    exported.mkdir()
    source.fetch(FolderSource(path=str(checkpoint)), fetched)
    check_windows(fetched, POSITIONS)
    windower = Windower.from_file(fetched / TOKENIZER_FILE, WindowLimits(POSITIONS, 32, 32))
    kit = engine("openvino")
    model = source.load(fetched, kit.attention)
    kit.export(model, exported)
    batch = EncoderBatch.of(windower.windows("which city", "the capital of france is paris"))
    with torch.inference_mode():
        output_of = model(**{name: torch.from_numpy(array) for name, array in batch.arrays().items()})
    expected = output_of.start_logits.numpy(), output_of.end_logits.numpy()
    for logits, wanted in zip(load_engine("openvino", exported, 1).infer(batch), expected, strict=True):
        np.testing.assert_allclose(logits, wanted, atol=1e-4)


def main(folder: Path) -> None:
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    refused: dict[str, str | None] = {}
    for name, write in (BROKEN | UNUSUAL).items():
        checkpoint = folder / name
        write(checkpoint)
        try:
            build(checkpoint, folder / f"{name}-built")
            refused[name] = None
        except BuildError as error:
            refused[name] = str(error)
    print(json.dumps(refused))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
