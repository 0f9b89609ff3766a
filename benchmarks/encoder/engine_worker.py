"""Run one engine in a separate process: read a JSON object per line, run its lengths, and respond with seconds.

With `logits`, it responds with the logits of these lengths instead. Run it with KIND FOLDER THREADS as arguments. It
ends when its standard input does.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.encoder.batches import Infer, batch
from containers.encoder.engines import load_engine, load_lanes


def load(kind: str, folder: Path, threads: int) -> Infer:
    """Load an engine of that kind; the product's engines use the product's own code."""
    engine, _, way = kind.partition("_")
    if way == "lanes":
        return _lanes(engine, folder, threads)
    match kind:
        case "openvino_bf16":
            from containers.encoder.engines.openvino import OpenVinoEngine, compiled

            return OpenVinoEngine(compiled(folder, 1, threads, precision="bf16")).infer
        case "ctranslate2":
            from benchmarks.encoder.rivals import ct2

            return ct2.load(folder, threads)
        case "inductor":
            from benchmarks.encoder.rivals import inductor

            return inductor.load(folder, threads)
        case "eager" | "script":
            from benchmarks.encoder.rivals import bert

            return bert.load(kind, threads)
    return load_engine(kind, folder, threads).infer


def _lanes(engine: str, folder: Path, threads: int) -> Infer:
    """Run the same batch on a lane of every core at once, so one measured run covers one batch per core."""
    lanes = load_lanes(engine, folder, threads)
    pool = ThreadPoolExecutor(len(lanes))
    return lambda rows: list(pool.map(lambda lane: lane.infer(rows), lanes))


def answer(infer: Infer, request: dict[str, Any]) -> dict[str, object]:
    """Return the seconds of every length, or the start and end logits of every token of one row of each."""
    seconds: list[float] = []
    logits: list[list[float]] = []
    for seed, length in enumerate(request["lengths"]):
        padded = request["pad"] or -(-length // request["bucket"]) * request["bucket"]
        rows = batch(request["rows"], length, padded, seed)
        if not request["masked"]:
            rows.attention_mask[:] = 1
        began = time.perf_counter()
        outputs = infer(rows)
        seconds.append(time.perf_counter() - began)
        if request["logits"]:
            logits += [np.asarray(each)[0, :length].tolist() for each in outputs]
    return {"logits": logits} if request["logits"] else {"seconds": seconds}


def main(arguments: list[str]) -> None:
    """Process requests until the input ends."""
    kind, folder, threads = arguments
    infer = load(kind, Path(folder), int(threads))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(infer, json.loads(line))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
