"""Load SavedModels and run their signatures as TensorFlow Serving does: in a session, whatever TensorFlow saved them.

Source: tensorflow_serving/servables/tensorflow/{predict_util,classifier,regressor}.cc.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import config_pb2

from local_aws.fake_images.tensorflow_serving.batching import BatchQueue, BatchScheduler
from local_aws.fake_images.tensorflow_serving.errors import Code, StatusError, invalid
from local_aws.fake_images.tensorflow_serving.json_tensors import Array, TensorInfo

DEFAULT_SIGNATURE = "serving_default"
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
_PREDICT = "tensorflow/serving/predict"
_SPATIAL_RANK = 3
"""Least rank of a signature whose inputs are checked: below it, TensorFlow's own operations report a wrong rank."""


class Signature:
    """One signature of a loaded model."""

    def __init__(self, definition: Any, session: Any, scheduler: BatchScheduler | None) -> None:
        self.inputs = _infos(definition.inputs)
        self._outputs = _infos(definition.outputs)
        self._method = definition.method_name
        self._defaults = {name: tf.make_ndarray(value) for name, value in definition.defaults.items()}
        self._session, self._scheduler = session, scheduler
        self._call: Any = None
        self._lock = threading.Lock()
        self._queue = BatchQueue(self._computed, [info.name for info in self.inputs.values()])
        if scheduler is not None:
            scheduler.add(self._queue)

    def close(self) -> None:
        """Stop batching its requests."""
        if self._scheduler is not None:
            self._scheduler.remove(self._queue)

    def predict(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """Return outputs by name; raise StatusError."""
        if self._method not in (_PREDICT, CLASSIFY, REGRESS):
            expected = ", ".join((_PREDICT, CLASSIFY, REGRESS))
            raise StatusError(
                Code.INTERNAL,
                f"Expected prediction signature method_name to be one of {{{expected}}}. Was: {self._method}",
            )
        inputs = {**self._defaults, **given}
        if set(inputs) != set(self.inputs):
            extra, missing = sorted(set(inputs) - set(self.inputs)), sorted(set(self.inputs) - set(inputs))
            raise invalid(
                f"input size does not match signature: {len(inputs)}!={len(self.inputs)} "
                f"len({{{','.join(sorted(inputs))}}}) != len({{{','.join(self.inputs)}}}). "
                f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
            )
        return self._run([inputs[name] for name in self.inputs])

    def classify(self, examples: Array) -> list[list[tuple[bytes, np.float32]]]:
        """Return label and score of every class, for each serialized tf.Example; raise StatusError."""
        self._check_method(CLASSIFY, "classification")
        if not {"classes", "scores"} & set(self._outputs):
            raise StatusError(
                Code.FAILED_PRECONDITION,
                'Expected classification signature outputs to contain at least one of "classes" or "scores". '
                f"Signature was: {', '.join(self._outputs)}",
            )
        outputs = self._run([examples])
        labels, scores = outputs.get("classes"), outputs.get("scores")
        for output, dtype, name in ((labels, object, "DT_STRING"), (scores, np.float32, "DT_FLOAT")):
            if output is not None and output.ndim != 2:
                raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_listed(output)}")
            if output is not None and output.dtype != dtype:
                raise invalid(f"Expected Tensor of {name}. Got: {output.dtype}")
        classes = {output.shape for output in (labels, scores) if output is not None}
        if classes != {(len(examples), next(iter(classes))[1])}:
            raise invalid(f"Expected output batch size of {len(examples)} and equal class counts. Got: {classes}")
        count = next(iter(classes))[1]
        return [
            [
                (b"" if labels is None else labels[row, each], np.float32(0) if scores is None else scores[row, each])
                for each in range(count)
            ]
            for row in range(len(examples))
        ]

    def regress(self, examples: Array) -> NDArray[np.float32]:
        """Return a value for each serialized tf.Example; raise StatusError."""
        self._check_method(REGRESS, "regression")
        if "outputs" not in self._outputs:
            raise StatusError(Code.FAILED_PRECONDITION, "No regression outputs found in SignatureDef")
        output = self._run([examples])["outputs"]
        if output.shape not in ((len(examples),), (len(examples), 1)):
            raise invalid(
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
                f"{_listed(output)} for a batch of {len(examples)}"
            )
        if output.dtype != np.float32:
            raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {output.dtype}")
        return output.reshape(-1)

    def _check_method(self, wanted: str, noun: str) -> None:
        if self._method != wanted:
            raise invalid(f"Expected {noun} signature method_name to be {wanted}. Was: {self._method}")
        if len(self.inputs) != 1:
            raise invalid("Expected one input Tensor.")
        if "inputs" not in self.inputs:
            raise StatusError(Code.FAILED_PRECONDITION, f"No {noun} inputs found in SignatureDef")

    def _run(self, feeds: list[Array]) -> dict[str, Array]:
        for info, feed in zip(self.inputs.values(), feeds, strict=True):
            _check_rank(info, feed)
        outputs = self._computed(feeds) if self._scheduler is None else self._scheduler.run(self._queue, feeds)
        return dict(zip(self._outputs, outputs, strict=True))

    def _computed(self, feeds: Sequence[Array]) -> list[Array]:
        try:
            return [np.asarray(output) for output in self._callable()(*feeds)]
        except tf.errors.OpError as error:
            raise StatusError(Code.of(error.error_code), error.message) from error

    def _callable(self) -> Any:
        """Return TensorFlow's own function, which takes tensors of any shape.

        `Session.run` compares them with the shapes in the graph first, and TensorFlow Serving does not.
        """
        with self._lock:
            if self._call is None:
                options = config_pb2.CallableOptions()
                options.feed.extend(info.name for info in self.inputs.values())
                options.fetch.extend(info.name for info in self._outputs.values())
                self._call = self._session._make_callable_from_options(options)
        return self._call


class Servable:
    """One version of a model, loaded into a session of its own."""

    def __init__(self, name: str, version: int, path: Path, config: Any, scheduler: BatchScheduler | None) -> None:
        self.name, self.version = name, version
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        with graph.as_default():
            # TensorFlow 2 loads models of either version so, too, and the session keeps each signature as it was saved.
            meta_graph = tf.compat.v1.saved_model.loader.load(self._session, [tf.saved_model.SERVING], str(path))
        self.definitions = dict(meta_graph.signature_def)
        self._signatures = {
            key: Signature(definition, self._session, scheduler) for key, definition in self.definitions.items()
        }

    def signature(self, name: str) -> Signature:
        """Return a signature, the default one for an empty name; raise StatusError."""
        wanted = name or DEFAULT_SIGNATURE
        if wanted not in self._signatures:
            raise invalid(f'Serving signature name: "{wanted}" not found in signature def')
        return self._signatures[wanted]

    def close(self) -> None:
        """Release its memory."""
        for signature in self._signatures.values():
            signature.close()
        self._session.close()


def _infos(tensors: Mapping[str, Any]) -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(
            tensor.name,
            # TensorFlow Serving's names of types are those of the enumeration: float, double, string.
            types_pb2.DataType.Name(tensor.dtype).removeprefix("DT_").lower(),
            None if tensor.tensor_shape.unknown_rank else len(tensor.tensor_shape.dim),
        )
        for name, tensor in sorted(tensors.items())
    }


def _check_rank(info: TensorInfo, feed: Array) -> None:
    # A convolution over an input of fewer dimensions ends TensorFlow's process, with every other request in it.
    if info.rank is not None and _SPATIAL_RANK <= info.rank > feed.ndim:
        raise invalid(f"input {info.name} has shape {_listed(feed)}, but the signature's has {info.rank} dimensions")


def _listed(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def session_config(intra_op: int, inter_op: int) -> Any:
    """Return a session's configuration; 0 threads let TensorFlow choose."""
    return tf.compat.v1.ConfigProto(intra_op_parallelism_threads=intra_op, inter_op_parallelism_threads=inter_op)


def loadable_errors() -> tuple[type[Exception], ...]:
    """Return what loading a broken SavedModel raises."""
    return (OSError, ValueError, RuntimeError, KeyError, tf.errors.OpError)
