"""One engine in a process of its own: reads a JSON object a line, runs the lengths it names, answers with seconds.

Run with KIND FOLDER THREADS as arguments; ends with its standard input.
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from containers.bert_int8.engines import load_engine, load_lanes
from containers.bert_int8.engines.openvino import OpenVinoEngine, compiled
from containers.serving.question_answering.windows import EncoderBatch

_VOCABULARY = 30_522
_SEPARATOR = 102
Infer = Callable[[EncoderBatch], object]


def batch(rows: int, length: int, padded: int, seed: int) -> EncoderBatch:
    """Random tokens of a question and its context, padded with zeros that are masked."""
    random = np.random.default_rng(seed)
    ids, mask, types = (np.zeros((rows, padded), dtype=np.int64) for _ in range(3))
    ids[:, :length] = random.integers(1000, _VOCABULARY, (rows, length))
    ids[:, 0], ids[:, 11], ids[:, length - 1] = 101, _SEPARATOR, _SEPARATOR
    mask[:, :length] = 1
    types[:, 12:length] = 1
    return EncoderBatch(ids, mask, types)


def load(kind: str, folder: Path, threads: int) -> Infer:
    """The engine of that kind; the product's own code where it is one of the product's."""
    engine, _, way = kind.partition("_")
    if way == "lanes":
        return _lanes(engine, folder, threads)
    if kind in ("vnni", "openvino", "onnxruntime"):
        return load_engine(kind, folder, threads).infer
    if kind == "openvino_bf16":
        return OpenVinoEngine(compiled(folder, 1, threads, precision="bf16")).infer
    return _torch(kind, threads)


def _lanes(engine: str, folder: Path, threads: int) -> Infer:
    """The same batch on a lane of every core at once: what is timed is as many batches as there are cores."""
    lanes = load_lanes(engine, folder, threads)
    pool = ThreadPoolExecutor(len(lanes))
    return lambda rows: list(pool.map(lambda lane: lane.infer(rows), lanes))


def _torch(kind: str, threads: int) -> Infer:
    """BERT-base with random weights in PyTorch: `eager`, `script`, traced at the published length, or `inductor`."""
    import torch
    from transformers import BertConfig, BertForQuestionAnswering

    from model_build.bert_int8.engines import LogitsOnly, example_inputs

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    attention = "eager" if kind == "script" else "sdpa"
    model: torch.nn.Module = LogitsOnly(
        BertForQuestionAnswering._from_config(BertConfig(), attn_implementation=attention)
    ).eval()
    if kind == "script":
        inputs = tuple(example_inputs(384).values())
        model = torch.jit.freeze(torch.jit.trace(model, inputs, check_trace=False, strict=False))
    elif kind != "eager":
        raise SystemExit(f"unknown engine {kind!r}")

    def infer(rows: EncoderBatch) -> object:
        with torch.inference_mode():
            return model(*(torch.from_numpy(array) for array in rows.arrays().values()))

    return infer


def main(arguments: list[str]) -> None:
    """Answers until its input ends."""
    kind, folder, threads = arguments
    infer = load(kind, Path(folder), int(threads))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        seconds = []
        for seed, length in enumerate(wanted["lengths"]):
            padded = wanted["pad"] or -(-length // wanted["bucket"]) * wanted["bucket"]
            rows = batch(wanted["rows"], length, padded, seed)
            if not wanted["masked"]:
                rows.attention_mask[:] = 1
            began = time.perf_counter()
            infer(rows)
            seconds.append(time.perf_counter() - began)
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
