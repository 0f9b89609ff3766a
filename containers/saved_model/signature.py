"""The inputs and outputs of a saved_model model, shared by its build and its server."""

WORKLOAD = "saved_model"
"""The workload's name in every manifest."""
IMAGE_SIDE = 224
"""Height and width of an image and of its mask, in pixels."""
CHANNELS = 3
"""Color channels: red, green and blue."""
INPUT_NAME = "image"
"""Input tensor: float32 of shape (rows, 224, 224, 3), values 0 to 1."""
OUTPUT_NAME = "mask"
"""Output tensor: float32 of shape (rows, 224, 224, 1), each pixel's probability of belonging to the foreground."""
MASK_THRESHOLD = 0.5
"""Lowest probability that counts as foreground in a black-and-white mask."""
MODEL_FILE = "model.xml"
"""OpenVINO's model file in the archive; the weights are in `model.bin` in the same folder."""
