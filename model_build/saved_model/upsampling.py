"""Join each upsampling of a U-Net with the convolution after it: the same function with less arithmetic.

Only a concatenation lies between the transposed convolution (2 x 2, stride 2) and the convolution (3 x 3). So on the
upsampled channels, the two are one transposed convolution of 4 x 4. With C channels on each side of the concatenation,
an output pixel then takes 17 C^2 multiplications instead of 20 C^2, and nothing is concatenated.
"""

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops
from openvino.op import Constant

from model_build.errors import BuildError

_STEP, _SIDE = 2, 3
"""Stride and kernel size of the upsampling, and kernel size of the convolution."""
_JOINED = _STEP + _SIDE - 1
Floats = NDArray[np.float32]


def join_upsampling(model: ov.Model) -> int:
    """Change the FP32 model in place, and return the number of joined upsamplings.

    Raises BuildError for an upsampling that is not concatenated, alone and without a bias, into a padded 3 x 3
    convolution, since it would silently stay slow.
    """
    upsamplings = [node for node in model.get_ordered_ops() if node.get_type_name() == "ConvolutionBackpropData"]
    for upsampling in upsamplings:
        _join(upsampling)
    model.validate_nodes_and_infer_types()
    return len(upsamplings)


def joined_kernel(upsampling: Floats, convolution: Floats) -> Floats:
    """Return the kernel (in, out, 4, 4) of an upsampling (in, between, 2, 2) and a convolution (out, between, 3, 3).

    A transposed convolution with this kernel, stride 2 and padding 1 equals the two in sequence. The upsampling maps
    pixel i to pixels 2 i + a, which the convolution's tap d maps to 2 i + a - d + 1.
    """
    first, second = upsampling.astype(np.float64), convolution.astype(np.float64)
    kernel = np.zeros((first.shape[0], second.shape[0], _JOINED, _JOINED))
    for row, column in np.ndindex(_SIDE, _SIDE):
        top, left = _SIDE - 1 - row, _SIDE - 1 - column
        taps = np.einsum("icab,oc->ioab", first, second[:, :, row, column])
        kernel[:, :, top : top + _STEP, left : left + _STEP] += taps
    return kernel.astype(np.float32)


def _join(upsampling: ov.Node) -> None:
    concatenation = _only_reader(upsampling, upsampling)
    convolution = _only_reader(concatenation, upsampling)
    if not _fits(upsampling, concatenation, convolution):
        raise _unknown(upsampling)
    skipped = concatenation.input_value(0)
    channels = skipped.get_shape()[1]
    weights = _weights(convolution)
    skipped_part = ops.convolution(
        skipped, ops.constant(np.ascontiguousarray(weights[:, :channels])), [1, 1], [1, 1], [1, 1], [1, 1]
    )
    upsampled_part = ops.convolution_backprop_data(
        upsampling.input_value(0),
        ops.constant(joined_kernel(_weights(upsampling), weights[:, channels:])),
        [_STEP, _STEP],
        pads_begin=[1, 1],
        pads_end=[1, 1],
    )
    joined = ops.add(skipped_part, upsampled_part)
    for reader in convolution.output(0).get_target_inputs():
        reader.replace_source_output(joined.output(0))


def _fits(upsampling: ov.Node, concatenation: ov.Node, convolution: ov.Node) -> bool:
    if concatenation.get_type_name() != "Concat" or convolution.get_type_name() != "Convolution":
        return False
    small, large = list(upsampling.input_value(0).get_shape()), list(upsampling.output(0).get_shape())
    settings = convolution.get_attributes()
    return (
        len(concatenation.inputs()) == 2
        and concatenation.input_value(1).get_node() == upsampling
        and concatenation.get_attributes()["axis"] in (1, -3)
        and upsampling.get_attributes()["strides"] == [_STEP, _STEP]
        and large[2:] == [_STEP * side for side in small[2:]]
        and list(upsampling.input_value(1).get_shape())[2:] == [_STEP, _STEP]
        and list(convolution.input_value(1).get_shape())[2:] == [_SIDE, _SIDE]
        and settings["strides"] == settings["dilations"] == [1, 1]
        and list(convolution.output(0).get_shape())[2:] == large[2:]
    )


def _only_reader(node: ov.Node, upsampling: ov.Node) -> ov.Node:
    readers = node.output(0).get_target_inputs()
    if len(readers) != 1:
        raise _unknown(upsampling)
    return next(iter(readers)).get_node()


def _weights(node: ov.Node) -> Floats:
    constant = node.input_value(1).get_node()
    if not isinstance(constant, Constant):
        raise _unknown(node)
    return np.asarray(constant.data, np.float32)


def _unknown(node: ov.Node) -> BuildError:
    return BuildError(
        f"upsampling: {node.get_friendly_name()!r} cannot be joined with its neighbors; build the network "
        "with Conv2DTranspose(use_bias=False), then one Concatenate, then a padded 3 x 3 convolution"
    )
