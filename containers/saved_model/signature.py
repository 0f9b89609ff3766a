"""What goes into a saved_model model and what comes out, for those who build it and those who serve it."""

WORKLOAD = "saved_model"
"""The name that is in every manifest."""
IMAGE_SIDE = 224
"""Height and width of an image and of its mask, in pixels."""
CHANNELS = 3
"""Red, green and blue."""
INPUT_NAME = "image"
"""float32 of shape (rows, 224, 224, 3), values 0 to 1."""
OUTPUT_NAME = "mask"
"""float32 of shape (rows, 224, 224, 1): each pixel's probability of belonging to the foreground."""
MASK_THRESHOLD = 0.5
"""The least probability that counts as foreground where a mask is black and white."""
MODEL_FILE = "model.xml"
"""OpenVINO's file in the archive; its weights lie beside it as `model.bin`."""
