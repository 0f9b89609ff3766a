"""ONNX Runtime with static u8s8 QDQ quantization."""

import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from containers.encoder.engines.onnxruntime import MODEL_FILE
from containers.serving.cpu import INT8_INSTRUCTION_SETS
from containers.serving.question_answering.windows import EncoderBatch
from model_build.encoder.engines import LogitsOnly, example_inputs

_OUTPUTS = ("start_logits", "end_logits")


class _Reader(CalibrationDataReader):
    def __init__(self, batches: Sequence[EncoderBatch]) -> None:
        self._rows: Iterator[dict[str, npt.NDArray[np.int64]]] = (batch.arrays() for batch in batches)

    def get_next(self) -> dict[str, npt.NDArray[np.int64]] | None:
        return next(self._rows, None)


class OnnxRuntimeInt8:
    """Builder of INT8 models with u8 activations and per-channel s8 weights.

    With s8 activations or u8 weights, INT8 is slower than FP32 on VNNI.
    """

    name = "onnxruntime"
    fp32_engine = "onnxruntime"
    calibrates = True
    attention = "eager"
    int8_instruction_sets = INT8_INSTRUCTION_SETS

    def export(self, model: torch.nn.Module, output: Path) -> None:
        """Export opset 17 with dynamic batch and length, and preprocess the graph."""
        example = example_inputs()
        with tempfile.TemporaryDirectory() as scratch:
            raw = Path(scratch) / "raw.onnx"
            torch.onnx.export(
                LogitsOnly(model).eval(),
                tuple(example.values()),
                str(raw),
                input_names=list(example),
                output_names=list(_OUTPUTS),
                dynamic_axes={name: {0: "rows", 1: "tokens"} for name in (*example, *_OUTPUTS)},
                opset_version=17,
                dynamo=False,
            )
            quant_pre_process(str(raw), str(output / MODEL_FILE), skip_symbolic_shape=True)

    def quantize(self, model: torch.nn.Module, fp32: Path, calibration: Sequence[EncoderBatch], output: Path) -> None:
        """Calibrate and quantize the matrix multiplications with constant weights."""
        del model  # The protocol passes it; quantization here starts from the FP32 ONNX model.
        quantize_static(
            str(fp32 / MODEL_FILE),
            str(output / MODEL_FILE),
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that affect the result."""
        return {name: metadata.version(name) for name in ("onnxruntime", "onnx", "torch", "transformers")}


ENGINE = OnnxRuntimeInt8()
