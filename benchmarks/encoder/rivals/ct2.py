"""CTranslate2 in INT8: weights quantized per output, activations dynamically per token, attention in floats.

Run it with FOLDER as the argument to convert the model into that folder.
"""

import sys
from pathlib import Path

import ctranslate2
import numpy as np
from ctranslate2.converters.transformers import BertLoader

from benchmarks.encoder.batches import Infer
from benchmarks.encoder.rivals.bert import random_bert
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch

_HEAD_FILE = "head.npz"


def convert(folder: Path) -> None:
    """Write the encoder, with CTranslate2's own converter, and the head that CTranslate2 does not support."""
    model = random_bert()
    # The converter expects a pooling layer, which question answering has not; it costs one token's product.
    encoder = type(model.bert)(model.config)
    encoder.load_state_dict(model.bert.state_dict(), strict=False)
    spec = BertLoader().get_model_spec(encoder)
    spec.register_vocabulary([str(token) for token in range(model.config.vocab_size)])
    spec.config.unk_token = "0"
    spec.config.layer_norm_epsilon = model.config.layer_norm_eps
    spec.validate()
    spec.optimize(quantization="int8")
    spec.save(str(folder))
    head = model.qa_outputs
    np.savez(folder / _HEAD_FILE, weight=head.weight.detach().numpy().T, bias=head.bias.detach().numpy())


def load(folder: Path, threads: int) -> Infer:
    """Load the encoder on `threads` threads, and its head in NumPy; rows keep their own lengths."""
    encoder = ctranslate2.Encoder(
        str(folder), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
    )
    with np.load(folder / _HEAD_FILE) as head:
        weight, bias = head["weight"], head["bias"]

    def infer(batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        ids = ctranslate2.StorageView.from_array(batch.input_ids.astype(np.int32))
        lengths = ctranslate2.StorageView.from_array(batch.attention_mask.sum(axis=1, dtype=np.int32))
        found = encoder.forward_batch(ids, lengths, token_type_ids=batch.token_type_ids.tolist())
        logits = np.asarray(found.last_hidden_state) @ weight + bias
        return logits[..., 0], logits[..., 1]

    return infer


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
