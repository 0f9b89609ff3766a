"""The image that a container must segment at its start as the build did."""

import io
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from PIL import Image

from containers.saved_model.example import Picture
from model_build.saved_model.example import choose_example

SIDE = 224


def test_the_example_is_the_surest_image_with_foreground_and_background() -> None:
    images = np.arange(4, dtype=np.uint8)[:, None, None, None].repeat(SIDE, 1).repeat(SIDE, 2).repeat(3, 3)
    masks = np.zeros((4, SIDE, SIDE, 1), np.float32)
    masks[0, :112] = 0.6
    masks[1, :112] = 0.9
    masks[3] = 1
    request = msgspec.convert(choose_example(images, masks).request, Picture)
    assert (np.asarray(Image.open(io.BytesIO(request.png))) == 1).all()


@pytest.mark.parametrize("kind", ["saved_model", "neuron_encoder"])
def test_a_build_needs_none_of_the_servers_packages(kind: str) -> None:
    missing = "import sys; sys.modules.update(dict.fromkeys(('anyio', 'starlette', 'uvicorn', 'fastapi')))"
    command = f"{missing}; import model_build.{kind}.build"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
