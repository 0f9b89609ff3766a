"""The U-Net in Keras, its training, and the TensorFlow functions that serve it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from numpy.typing import NDArray
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tqdm import tqdm

from containers.saved_model.signature import CHANNELS, IMAGE_SIDE, INPUT_NAME, MASK_THRESHOLD, OUTPUT_NAME
from model_build.saved_model.data import Dataset
from model_build.saved_model.inference import MASK_PNG_OUTPUT, PNG_INPUT, PNG_SIGNATURE
from model_build.saved_model.recipe import SavedModelRecipe
from model_build.saved_model.training import TRAINING_FILE, Training, batch, batch_count

MODEL_FILE = "model.keras"
_BATCH_NORM_MOMENTUM = 0.9
"""Keras' default of 0.99 averages over several hundred steps, more than a short training has."""


def build_network(recipe: SavedModelRecipe) -> keras.Model:
    """Return a U-Net (Ronneberger et al., 2015) with batch normalization and padded convolutions.

    Its input is float32 images of shape (rows, 224, 224, 3), values 0 to 1. Its output is probabilities of shape (rows,
    224, 224, 1).
    """
    widths = [recipe.base_width * 2**level for level in range(recipe.depth)]
    image = signal = keras.Input((IMAGE_SIDE, IMAGE_SIDE, CHANNELS), name=INPUT_NAME)
    skipped = []
    for width in widths:
        signal = _block(signal, width)
        skipped.append(signal)
        signal = layers.MaxPool2D()(signal)
    signal = _block(signal, recipe.base_width * 2**recipe.depth)
    for width, skip in zip(reversed(widths), reversed(skipped), strict=True):
        # Normalization would cancel a bias. Without one, this layer can join the next convolution: see upsampling.py.
        signal = layers.Conv2DTranspose(width, 2, strides=2, use_bias=False)(signal)
        signal = _block(layers.Concatenate()([skip, signal]), width)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid", name=OUTPUT_NAME)(signal))


def train(recipe: SavedModelRecipe, training: Dataset, validation: Dataset, output: Path) -> None:
    """Train until the recipe's epochs or patience run out, and write the best epoch's model and a record.

    Equal recipes and data give equal weights on machines with the same number of cores, if TensorFlow runs one
    operation at a time.
    """
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(recipe.seed)
    network = build_network(recipe)
    steps = recipe.epochs * batch_count(len(training.images), recipe.batch_size)
    network.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps)),
        loss=_loss,
        metrics=[keras.metrics.BinaryIoU(target_class_ids=[1], threshold=MASK_THRESHOLD, name="iou")],
    )
    stop = keras.callbacks.EarlyStopping("val_iou", patience=recipe.patience, mode="max", restore_best_weights=True)
    history = network.fit(
        _Batches(training, recipe.batch_size, recipe.seed),
        epochs=recipe.epochs,
        validation_data=_Batches(validation, recipe.batch_size, None),
        callbacks=[stop, _Progress(steps)],
        # _Batches shuffles itself.
        shuffle=False,
        verbose=0,
    ).history["val_iou"]
    network.save(output / MODEL_FILE)
    best = int(np.argmax(history))
    done = Training(network.count_params(), len(history), best + 1, float(history[best]))
    (output / TRAINING_FILE).write_text(json.dumps(asdict(done)))


def export(model: Path, output: Path, *, png_signature: bool) -> None:
    """Write a Keras model as a SavedModel with the signature `serving_default`, and optionally one for PNG."""
    network = keras.models.load_model(model, compile=False)
    image = tf.TensorSpec((None, IMAGE_SIDE, IMAGE_SIDE, CHANNELS), tf.float32, name=INPUT_NAME)
    run = tf.function(lambda image: network(image, training=False), input_signature=[image])
    # With constants instead of variables, TensorFlow folds normalization into convolutions, which takes 10 % less time.
    frozen = convert_variables_to_constants_v2(run.get_concrete_function())
    signatures = {
        "serving_default": tf.function(lambda image: {OUTPUT_NAME: frozen(image)[0]}, input_signature=[image])
    }
    if png_signature:
        png = tf.TensorSpec((None,), tf.string, name=PNG_INPUT)
        signatures[PNG_SIGNATURE] = tf.function(lambda png: _masks_of_png(frozen, png), input_signature=[png])
    tf.saved_model.save(tf.Module(), str(output), signatures=signatures)
    # The only file with a random number, which TensorFlow reads only for its own statistics.
    (output / "fingerprint.pb").unlink()


def _masks_of_png(run: Callable[[tf.Tensor], list[tf.Tensor]], png: tf.Tensor) -> Mapping[str, tf.Tensor]:
    def decode(content: tf.Tensor) -> tf.Tensor:
        pixels = tf.ensure_shape(tf.io.decode_png(content, channels=CHANNELS), (IMAGE_SIDE, IMAGE_SIDE, CHANNELS))
        return tf.cast(pixels, tf.float32) / 255

    images = tf.map_fn(decode, png, fn_output_signature=tf.TensorSpec((IMAGE_SIDE, IMAGE_SIDE, CHANNELS), tf.float32))
    masks = tf.cast(run(images)[0] >= MASK_THRESHOLD, tf.uint8) * 255
    return {MASK_PNG_OUTPUT: tf.map_fn(tf.io.encode_png, masks, fn_output_signature=tf.TensorSpec((), tf.string))}


def _block(signal: Any, width: int) -> Any:
    for _ in range(2):
        signal = layers.Conv2D(width, 3, padding="same", use_bias=False)(signal)
        signal = layers.BatchNormalization(momentum=_BATCH_NORM_MOMENTUM)(signal)
        signal = layers.ReLU()(signal)
    return signal


def _loss(truth: Any, predicted: Any) -> Any:
    """Return cross-entropy, which depends on every pixel, plus soft Dice loss, which ignores the background's size."""
    overlap, total = ops.sum(truth * predicted), ops.sum(truth) + ops.sum(predicted)
    return ops.mean(keras.losses.binary_crossentropy(truth, predicted)) + 1 - (2 * overlap + 1) / (total + 1)


class _Batches(keras.utils.PyDataset):
    """Batches of images and masks; with a seed, reshuffled every epoch and mirrored at random."""

    def __init__(self, data: Dataset, size: int, seed: int | None) -> None:
        super().__init__()
        self._data, self._size, self._seed = data, size, seed
        self._epoch = 0

    def __len__(self) -> int:
        return batch_count(len(self._data.images), self._size)

    def __getitem__(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return batch(self._data, self._size, number, None if self._seed is None else (self._seed, self._epoch))

    def on_epoch_end(self) -> None:
        """Advance to the next epoch's order."""
        self._epoch += 1


class _Progress(keras.callbacks.Callback):
    """A progress bar over all batches, with the last epoch's validation IoU."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._bar = tqdm(total=steps, desc="train", unit="batch")

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002 - Keras passes them
        """Advance the bar."""
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Show the epoch's validation IoU."""
        values = logs or {}
        self._bar.set_postfix({"epoch": epoch + 1, "validation IoU": f"{values.get('val_iou', 0.0):.3f}"})

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002 - Keras passes it
        """Close the bar."""
        self._bar.close()
