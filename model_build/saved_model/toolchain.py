"""The build steps that need TensorFlow and NNCF: training, export, conversion and quantization."""

from importlib import metadata
from pathlib import Path

import nncf
import numpy as np
import openvino as ov
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from containers.saved_model.images import to_floats
from containers.saved_model.signature import CHANNELS, IMAGE_SIDE, INPUT_NAME, MODEL_FILE, OUTPUT_NAME
from model_build.saved_model import network
from model_build.saved_model.data import Dataset
from model_build.saved_model.recipe import SavedModelRecipe
from model_build.saved_model.upsampling import join_upsampling

_PREDICT_BATCH = 8


class TensorFlowToolchain:
    """A toolchain of Keras for training, TensorFlow for the SavedModel, and OpenVINO and NNCF for conversions."""

    def __init__(self, cores: int) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(cores)
        # Concurrent operations would add up gradients in a random order.
        tf.config.threading.set_inter_op_parallelism_threads(1)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that affect the result."""
        names = {"tensorflow": "tensorflow-cpu", **{name: name for name in ("keras", "openvino", "nncf", "numpy")}}
        return {name: metadata.version(package) for name, package in names.items()}

    def train(self, recipe: SavedModelRecipe, training: Dataset, validation: Dataset, output: Path) -> None:
        """Train, and write the model in Keras' format and `training.json`."""
        network.train(recipe, training, validation, output)

    def export(self, trained: Path, output: Path, *, png_signature: bool) -> None:
        """Write a SavedModel from the output folder of `train`."""
        network.export(trained / network.MODEL_FILE, output, png_signature=png_signature)

    def predict(self, saved_model: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities of shape (images, 224, 224, 1) from a SavedModel's default signature."""
        serve = tf.saved_model.load(str(saved_model)).signatures["serving_default"]
        parts = []
        for begin in tqdm(range(0, len(images), _PREDICT_BATCH), desc="evaluate tensorflow", unit="batch"):
            part = to_floats(images[begin : begin + _PREDICT_BATCH])
            parts.append(serve(**{INPUT_NAME: tf.constant(part)})[OUTPUT_NAME].numpy())
        return np.concatenate(parts)

    def convert(self, saved_model: Path, output: Path) -> None:
        """Write the FP32 model for one image at a time, with each upsampling joined to the convolution after it."""
        shape = [1, IMAGE_SIDE, IMAGE_SIDE, CHANNELS]
        # OpenVINO cannot find the variables in the files. A signature does not keep its variables alive, but the
        # loaded model does.
        loaded = tf.saved_model.load(str(saved_model))
        model = ov.convert_model(loaded.signatures["serving_default"], input=[(INPUT_NAME, shape)])
        for port, name in ((model.input(), INPUT_NAME), (model.output(), OUTPUT_NAME)):
            port.get_tensor().set_names({name})
        join_upsampling(model)
        ov.save_model(model, output / MODEL_FILE, compress_to_fp16=False)

    def halve(self, fp32: Path, output: Path) -> None:
        """Write the FP32 model with FP16 weights, which have three bits of precision more than bf16."""
        ov.save_model(ov.Core().read_model(fp32 / MODEL_FILE), output / MODEL_FILE, compress_to_fp16=True)

    def quantize(self, fp32: Path, images: NDArray[np.uint8], output: Path) -> None:
        """Quantize weights and activations to INT8, calibrated on images of shape (images, 224, 224, 3)."""
        samples = [to_floats(image[np.newaxis]) for image in images]
        quantized = nncf.quantize(
            ov.Core().read_model(fp32 / MODEL_FILE),
            nncf.Dataset(samples),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(samples),
        )
        ov.save_model(quantized, output / MODEL_FILE, compress_to_fp16=False)
