"""Intel Extension for PyTorch 2.8: the published recipe's static INT8, traced to TorchScript."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import intel_extension_for_pytorch as ipex
import torch
from intel_extension_for_pytorch.quantization import convert, prepare

from containers.encoder.engines.ipex import MODEL_FILE
from containers.serving.question_answering.windows import EncoderBatch
from model_build.encoder.engines import LogitsOnly, example_inputs


class IpexInt8:
    """Builder of static INT8 models: prepare, calibrate, convert, trace and freeze."""

    name = "ipex"
    fp32_engine = "ipex"
    calibrates = True
    attention = "eager"
    int8_instruction_sets = ("avx512_vnni", "amx_int8")

    def export(self, model: torch.nn.Module, output: Path) -> None:
        """Trace and freeze the FP32 model."""
        self._save(LogitsOnly(model).eval(), output)

    def quantize(self, model: torch.nn.Module, fp32: Path, calibration: Sequence[EncoderBatch], output: Path) -> None:
        """Calibrate per-tensor affine activations, as published, on unpadded windows."""
        del fp32  # The protocol passes it; quantization here starts from the PyTorch model.
        inputs = tuple(example_inputs(384).values())
        prepared = prepare(
            LogitsOnly(model).eval(),
            ipex.quantization.default_static_qconfig_mapping,
            example_inputs=inputs,
            inplace=False,
        )
        with torch.inference_mode():
            for batch in calibration:
                prepared(*(torch.from_numpy(array) for array in batch.arrays().values()))
        self._save(convert(prepared), output)

    def _save(self, module: torch.nn.Module, output: Path) -> None:
        inputs = tuple(example_inputs(384).values())
        with torch.no_grad():
            traced = torch.jit.freeze(torch.jit.trace(module, inputs, check_trace=False, strict=False))
            # The first two runs fuse the graph, so run it before saving.
            for _ in range(2):
                traced(*inputs)
        torch.jit.save(traced, output / MODEL_FILE)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that affect the result."""
        names = {"ipex": "intel-extension-for-pytorch", "torch": "torch", "transformers": "transformers"}
        return {name: metadata.version(package) for name, package in names.items()}


ENGINE = IpexInt8()
