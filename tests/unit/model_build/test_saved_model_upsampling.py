"""Upsampling and the convolution after it become one: the same answers, and nothing is left apart silently."""

from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13 as ops

from model_build.errors import BuildError
from model_build.saved_model.upsampling import join_upsampling, joined_kernel

Floats = NDArray[np.float32]
SIDE, WIDTH = 8, 3


def numbers(*shape: int) -> Floats:
    return (np.random.default_rng(sum(shape)).normal(size=shape) / 4).astype(np.float32)


def decoder(**changes: Any) -> ov.Model:
    """Two levels of a U-Net's decoder as OpenVINO converts them; changes say what the first has otherwise."""
    signal = ops.parameter([1, 4 * WIDTH, SIDE, SIDE], np.float32, "signal")
    inputs = [signal]
    node = signal.output(0).get_node()
    for level, width in enumerate((2 * WIDTH, WIDTH)):
        given = changes if level == 0 else {}
        node = ops.convolution_backprop_data(
            node,
            ops.constant(numbers(2 * width, width, *given.get("upsampling", (2, 2)))),
            [2, 2],
            **given.get("pads", {}),
        )
        if given.get("bias"):
            node = ops.add(node, ops.constant(numbers(1, width, 1, 1)))
        if given.get("activation"):
            node = ops.relu(node)
        skipped = ops.parameter([1, width, SIDE * 2 ** (level + 1), SIDE * 2 ** (level + 1)], np.float32)
        inputs.append(skipped)
        parts = [skipped, node] if not given.get("swapped") else [node, skipped]
        joined = ops.concat(parts, 1)
        kernel = given.get("kernel", 3)
        pads = [kernel // 2] * 2
        node = ops.relu(
            ops.convolution(joined, ops.constant(numbers(width, 2 * width, kernel, kernel)), [1, 1], pads, pads, [1, 1])
        )
    return ov.Model([node], inputs, "decoder")


def answer(model: ov.Model) -> Floats:
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result: Floats = compiled([numbers(*port.shape) for port in model.inputs])[0]
    return result


def kinds(model: ov.Model) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops()]


def test_a_joined_model_gives_the_same_answers_up_to_the_edges() -> None:
    expected = answer(decoder())
    model = decoder()
    assert join_upsampling(model) == 2
    np.testing.assert_allclose(answer(model), expected, rtol=1e-5, atol=1e-5)


def test_nothing_is_concatenated_any_more() -> None:
    model = decoder()
    join_upsampling(model)
    assert "Concat" not in kinds(model)
    assert kinds(model).count("ConvolutionBackpropData") == 2


def test_one_pixel_lights_what_both_kernels_light_one_after_the_other() -> None:
    first, second = np.zeros((1, 1, 2, 2), np.float32), np.zeros((1, 1, 3, 3), np.float32)
    first[0, 0, 1, 0] = 2
    second[0, 0, 0, 2] = 5
    # The lower left of the pixel's four, seen by the tap above and to the right: one lower and one to the left.
    assert np.argwhere(joined_kernel(first, second)[0, 0]).tolist() == [[3, 0]]
    assert joined_kernel(first, second).max() == 10


@pytest.mark.parametrize(
    "changes",
    [
        {"bias": True},
        {"activation": True},
        {"swapped": True},
        {"kernel": 5},
        {"upsampling": (4, 4), "pads": {"pads_begin": [1, 1], "pads_end": [1, 1]}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_upsampling_that_cannot_be_joined_stops_the_build_with_its_name_and_the_fix(changes: dict[str, Any]) -> None:
    with pytest.raises(BuildError, match=r"upsampling: '.+' cannot be joined .*use_bias=False"):
        join_upsampling(decoder(**changes))
