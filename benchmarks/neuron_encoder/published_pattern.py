"""The published pattern for serving BERT on Inferentia, run with CORE PORT MODELS TOKENIZER as arguments.

It follows aws-samples/best-practices-for-fastapi-on-inferentia. There is one process per NeuronCore, and a request is a
GET whose query has question and context. Inside `async def`, the Hugging Face tokenizer pads to 128 tokens, the model
is called for this one request, and the answer is assembled from tokens. It is served by Hypercorn, as in the sample.

Two differences favor it: arrays are NumPy's rather than torch tensors, and an unknown model is a 404 rather than an
error. `/busy` is an addition for the benchmark: the seconds that the timed core was busy.
"""

import asyncio
import logging
import sys

import numpy as np
from fastapi import FastAPI, responses
from hypercorn.asyncio import serve
from hypercorn.config import Config
from transformers import PreTrainedTokenizerFast

from containers.neuron_encoder.devices.core import CoreGroup, sleep_precisely
from containers.neuron_encoder.devices.timed import TimedDevice
from containers.serving.question_answering.windows import EncoderBatch

LENGTH = 128
logger = logging.getLogger()


def create_app(neuron_core: int, models: int, tokenizer_file: str) -> FastAPI:
    """Create the application of one NeuronCore with `models` copies of the model."""
    app = FastAPI()
    core = CoreGroup((neuron_core,))
    served = {f"model_{index}": TimedDevice(core) for index in range(models)}
    tokenizers = {
        model_id: PreTrainedTokenizerFast(
            tokenizer_file=tokenizer_file,
            **{"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"},
        )
        for model_id in served
    }

    @app.get("/")
    async def healthy() -> dict[str, str]:
        return {"Status": "Healthy"}

    @app.get("/busy")
    async def busy() -> dict[str, float]:
        return {"seconds": core.busy_seconds}

    @app.get(f"/predictions_neuron_core_{neuron_core}/{{model_id}}")
    async def infer(model_id: str, seq_0: str, seq_1: str) -> responses.JSONResponse:
        if model_id not in served:
            return responses.JSONResponse(status_code=404, content={"detail": f"no model {model_id}"})
        logger.warning(f"\nQuestion: {seq_0}\n")
        tokenizer = tokenizers[model_id]
        encoded = tokenizer.encode_plus(
            seq_0, seq_1, return_tensors="np", max_length=LENGTH, padding="max_length", truncation=True
        )
        ids, mask = encoded["input_ids"], encoded["attention_mask"]
        start_logits, end_logits = served[model_id].run(EncoderBatch(ids, mask, np.zeros_like(ids)))
        start, end = int(np.argmax(start_logits)), int(np.argmax(end_logits)) + 1
        tokens = ids[0][start:end] if end > start else ids[0][start:]
        answer = tokenizer.convert_tokens_to_string(tokenizer.convert_ids_to_tokens(tokens))
        logger.warning("\nAnswer: ")
        logger.warning(answer)
        return responses.JSONResponse(status_code=200, content={"detail": answer})

    return app


def main(arguments: list[str]) -> None:
    """Serve until terminated."""
    core, port, models, tokenizer_file = arguments
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    sleep_precisely()
    asyncio.run(serve(create_app(int(core), int(models), tokenizer_file), config))


if __name__ == "__main__":
    main(sys.argv[1:])
