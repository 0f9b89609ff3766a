"""OpenVINO with NNCF post-training quantization."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import nncf
import openvino as ov
import torch

from containers.encoder.engines.openvino import MODEL_FILE
from containers.serving.cpu import INT8_INSTRUCTION_SETS
from containers.serving.question_answering.windows import EncoderBatch
from model_build.encoder.engines import LogitsOnly, example_inputs


class OpenVinoInt8:
    """Builder of static INT8 models, weights and activations, with SmoothQuant."""

    name = "openvino"
    fp32_engine = "openvino"
    calibrates = True
    attention = "sdpa"
    int8_instruction_sets = INT8_INSTRUCTION_SETS

    def export(self, model: torch.nn.Module, output: Path) -> None:
        """Convert the model with dynamic batch and length."""
        example = example_inputs()
        converted = ov.convert_model(
            LogitsOnly(model).eval(),
            example_input=example,
            input=[(name, ov.PartialShape([-1, -1]), ov.Type.i64) for name in example],
        )
        for port, name in zip(converted.outputs, ("start_logits", "end_logits"), strict=True):
            port.get_tensor().set_names({name})
        ov.save_model(converted, output / MODEL_FILE, compress_to_fp16=False)

    def quantize(self, model: torch.nn.Module, fp32: Path, calibration: Sequence[EncoderBatch], output: Path) -> None:
        """Calibrate with the transformer scheme (SmoothQuant on) and the mixed preset."""
        del model  # The protocol passes it; quantization here starts from the FP32 OpenVINO model.
        quantized = nncf.quantize(
            ov.Core().read_model(fp32 / MODEL_FILE),
            nncf.Dataset([batch.arrays() for batch in calibration]),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(calibration),
        )
        ov.save_model(quantized, output / MODEL_FILE, compress_to_fp16=False)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that affect the result."""
        return {name: metadata.version(name) for name in ("openvino", "nncf", "torch", "transformers")}


ENGINE = OpenVinoInt8()
