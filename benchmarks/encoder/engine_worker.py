"""One engine in a process of its own: reads a JSON object a line, runs the lengths it names, answers with seconds.

With `logits` it answers with those of the lengths instead. Run with KIND FOLDER THREADS as arguments; ends with its
standard input.
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
    """The engine of that kind; the product's own code where it is one of the product's."""
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
    """The same batch on a lane of every core at once: what is timed is as many batches as there are cores."""
    lanes = load_lanes(engine, folder, threads)
    pool = ThreadPoolExecutor(len(lanes))
    return lambda rows: list(pool.map(lambda lane: lane.infer(rows), lanes))


def answer(infer: Infer, wanted: dict[str, Any]) -> dict[str, object]:
    """Seconds of every length, or start logits and then end logits of every token of one row of each."""
    seconds: list[float] = []
    logits: list[list[float]] = []
    for seed, length in enumerate(wanted["lengths"]):
        padded = wanted["pad"] or -(-length // wanted["bucket"]) * wanted["bucket"]
        rows = batch(wanted["rows"], length, padded, seed)
        if not wanted["masked"]:
            rows.attention_mask[:] = 1
        began = time.perf_counter()
        found = infer(rows)
        seconds.append(time.perf_counter() - began)
        if wanted["logits"]:
            logits += [np.asarray(each)[0, :length].tolist() for each in found]
    return {"logits": logits} if wanted["logits"] else {"seconds": seconds}


def main(arguments: list[str]) -> None:
    """Answers until its input ends."""
    kind, folder, threads = arguments
    infer = load(kind, Path(folder), int(threads))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(infer, json.loads(line))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
