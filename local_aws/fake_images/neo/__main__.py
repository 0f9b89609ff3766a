"""Rewrite a SavedModel for inputs of fixed shapes: `python -m local_aws.fake_images.neo MODEL SHAPES OUTPUT`.

MODEL and OUTPUT are folders; SHAPES is the DataInputConfig of CreateCompilationJob. Exits with 1 and one line for
anything that Neo would report as a client error.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

NOTICE = (
    "Made by the local account's fake of SageMaker Neo: TensorFlow {version} rewrote the graph for inputs of one "
    "shape. Neo did not compile it, and its speed says nothing about Neo.\n"
)
NOTICE_FILE = "NOTICE.txt"
_GRAPH = "saved_model.pb"


class InputError(Exception):
    """The model and the request do not match."""


def find(folder: Path) -> Path:
    """Return the folder of the only SavedModel in a folder; raise InputError."""
    models = [path.parent for path in sorted(folder.rglob(_GRAPH))]
    if len(models) != 1:
        raise InputError(f"the archive holds {len(models)} files {_GRAPH}: TensorFlow models compile one at a time")
    return models[0]


def read_shapes(text: str) -> dict[str, list[int]]:
    """Return shapes by input name; raise InputError unless the text is like {"image": [1, 224, 224, 3]}."""
    try:
        shapes = json.loads(text)
    except ValueError as error:
        raise InputError(f"DataInputConfig is not JSON: {error}") from None
    if not isinstance(shapes, dict) or not shapes:
        raise InputError(f"DataInputConfig is {text[:100]}: it must name inputs, like {{'image': [1, 224, 224, 3]}}")
    for name, shape in shapes.items():
        if not isinstance(shape, list) or not all(isinstance(size, int) and size > 0 for size in shape):
            raise InputError(f"DataInputConfig's shape of {name!r} is {shape}: it must be a list of positive numbers")
    return shapes


def compile_model(model: Path, shapes: dict[str, list[int]], output: Path) -> str:
    """Write the model with fixed input shapes, and return TensorFlow's version; raise InputError."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    loaded = tf.saved_model.load(str(model))
    if "serving_default" not in loaded.signatures:
        raise InputError(f"the model has no signature serving_default; it has {', '.join(loaded.signatures) or 'none'}")
    signature = loaded.signatures["serving_default"]
    specs: dict[str, Any] = signature.structured_input_signature[1]
    if set(specs) != set(shapes):
        raise InputError(f"DataInputConfig names {', '.join(shapes)}, but the model takes {', '.join(specs)}")
    for name, spec in specs.items():
        if not spec.shape.is_compatible_with(shapes[name]):
            raise InputError(f"DataInputConfig's shape of {name!r} is {shapes[name]}, but the model takes {spec.shape}")
    outputs = list(signature.structured_outputs)
    fixed = {name: tf.TensorSpec(shapes[name], spec.dtype, name=name) for name, spec in specs.items()}
    traced = tf.function(lambda **inputs: signature(**inputs)).get_concrete_function(**fixed)
    frozen = convert_variables_to_constants_v2(traced)
    names = [tensor.name.partition(":")[0] for tensor in frozen.inputs]

    def run(**inputs: Any) -> dict[str, Any]:
        return dict(zip(sorted(outputs), frozen(*(inputs[name] for name in names)), strict=True))

    serve = tf.function(run).get_concrete_function(**fixed)
    tf.saved_model.save(tf.Module(), str(output), signatures={"serving_default": serve})
    # The only file with a random number in it. Without it, equal models compile to equal bytes.
    (output / "fingerprint.pb").unlink(missing_ok=True)
    return str(tf.__version__)


def main(arguments: list[str]) -> int:
    """Compile a model, and return the exit code."""
    if len(arguments) != 3:
        print("usage: python -m local_aws.fake_images.neo MODEL SHAPES OUTPUT", file=sys.stderr)
        return 2
    model, shapes, output = arguments
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        source = find(Path(model))
        version = compile_model(source, read_shapes(shapes), Path(output) / source.relative_to(model))
    except InputError as error:
        print(f"ClientError: InputConfiguration: {error}", file=sys.stderr)
        return 1
    (Path(output) / NOTICE_FILE).write_text(NOTICE.format(version=version))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
