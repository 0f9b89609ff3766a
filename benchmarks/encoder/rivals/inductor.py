"""PyTorch Inductor, compiled ahead of time for any length, in FP32 and in INT8 with torchao's export quantization.

Run it with PRECISION and FOLDER as arguments to compile the model into the folder, which needs a C++ compiler.
"""

import sys
from pathlib import Path

import torch
from torch._inductor import aoti_compile_and_package, aoti_load_package
from torch.export import Dim, ExportedProgram, export

from benchmarks.encoder.batches import Infer, batch
from benchmarks.encoder.lengths import LONGEST, SQUAD_LENGTHS
from benchmarks.encoder.rivals.bert import random_bert, tensors
from containers.serving.question_answering.windows import EncoderBatch
from model_build.encoder.engines import LogitsOnly

_FILE = "model.pt2"
_EXAMPLE_LENGTH = 200
_LONGEST_POSITION = 512


def compile_into(precision: str, folder: Path) -> None:
    """Write one shared library for all lengths; precision is "fp32" or "int8"."""
    with torch.no_grad():
        program = _exported(LogitsOnly(random_bert()).eval())
        if precision == "int8":
            program = _exported(_quantized(program))
        # Freezing makes Inductor lay the weights out for oneDNN's matrix products.
        aoti_compile_and_package(program, package_path=str(folder / _FILE), inductor_configs={"freezing": True})


def load(folder: Path, threads: int) -> Infer:
    """Load the compiled model on `threads` OpenMP threads."""
    torch.set_num_threads(threads)
    model = aoti_load_package(str(folder / _FILE))

    def infer(rows: EncoderBatch) -> object:
        with torch.inference_mode():
            return model(*tensors(rows))

    return infer


def _exported(model: torch.nn.Module) -> ExportedProgram:
    length = Dim("length", min=2, max=_LONGEST_POSITION)
    rows = tensors(batch(1, _EXAMPLE_LENGTH, _EXAMPLE_LENGTH, 0))
    return export(model, rows, dynamic_shapes=tuple({1: length} for _ in rows))


def _quantized(program: ExportedProgram) -> torch.nn.Module:
    """Quantize linear layers to INT8 with static scales, which Inductor runs faster than dynamic ones."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    quantizer = X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(program.module(), quantizer)
    for seed, length in enumerate((*SQUAD_LENGTHS[::4], LONGEST)):
        prepared(*tensors(batch(1, length, length, 1000 + seed)))
    return convert_pt2e(prepared)


if __name__ == "__main__":
    compile_into(sys.argv[1], Path(sys.argv[2]))
