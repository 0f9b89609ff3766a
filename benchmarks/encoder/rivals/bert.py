"""PyTorch's BERT-base with the random weights of the build's `random` source, so all engines agree."""

import torch
from transformers import BertConfig, BertForQuestionAnswering

from benchmarks.encoder.batches import Infer
from benchmarks.encoder.lengths import LONGEST
from containers.serving.question_answering.windows import EncoderBatch
from model_build.encoder.engines import LogitsOnly, example_inputs


def random_bert(attention: str = "sdpa") -> BertForQuestionAnswering:
    """Create the model in FP32; `attention` is the transformers name, "sdpa" or "eager"."""
    torch.manual_seed(0)
    model = BertForQuestionAnswering(BertConfig(attn_implementation=attention))
    return model.eval()


def tensors(batch: EncoderBatch) -> tuple[torch.Tensor, ...]:
    """Return the model's inputs, in its order."""
    return tuple(torch.from_numpy(array) for array in batch.arrays().values())


def load(kind: str, threads: int) -> Infer:
    """Load `eager`, or `script`, which is traced at the published length, as in the published recipe."""
    torch.set_num_threads(threads)
    model: torch.nn.Module = LogitsOnly(random_bert("eager" if kind == "script" else "sdpa")).eval()
    if kind == "script":
        inputs = tuple(example_inputs(LONGEST).values())
        model = torch.jit.freeze(torch.jit.trace(model, inputs, check_trace=False, strict=False))

    def infer(rows: EncoderBatch) -> object:
        with torch.inference_mode():
            return model(*tensors(rows))

    return infer
