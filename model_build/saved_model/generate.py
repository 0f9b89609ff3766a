"""Generate seeded pictures of cells and their masks, for a data set without network access."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from containers.saved_model.signature import CHANNELS, IMAGE_SIDE
from model_build.saved_model.recipe import GeneratedSource

_CELLS = (3, 14)
"""Range of the number of cells in a picture."""
_RADII = (7.0, 26.0)
"""Range of a cell's mean radius, in pixels."""
_CONTRAST = (0.10, 0.35)
"""Range of a cell's contrast to its surroundings, on a scale of 0..1; the lowest is twice the noise."""
_DARK_SHARE = 0.3
"""Fraction of pictures whose cells are darker than the background."""
_DEBRIS = (4, 16)
"""Range of the number of specks in a picture: as bright as cells but smaller, so size must be learned too."""
_DEBRIS_RADII = (1.0, 3.0)
_EDGE = 1.2
"""Width over which a cell's edge fades, in pixels, like blur from optics."""
_NOISE = 0.05
"""Standard deviation of the sensor noise, on a scale of 0..1."""

_DENTS = (2, 3, 5)
"""Numbers of waves around a cell's outline."""
_DENT = 0.10
"""Largest height of each wave, as a fraction of the radius."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An image, uint8 of shape (224, 224, 3), and its mask, bool of shape (224, 224)."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Blob:
    """A blob in a picture.

    window: part of the picture that contains the blob.
    distance: approximate distance of the window's pixels from the outline, in pixels, negative inside.
    """

    window: tuple[slice, slice]
    distance: Floats


def generate(source: GeneratedSource, number: int) -> Picture:
    """Return picture `number` of a source; equal arguments give equal pictures, in any order of calls.

    Every picture has at least three cells, which may overlap or extend beyond the edge.
    """
    rng = np.random.default_rng((source.seed, number))
    tint = rng.uniform(0.85, 1.15, CHANNELS)
    brightness = rng.uniform(0.3, 0.65) + 0.10 * _texture(rng, 40) + 0.04 * _texture(rng, 6)
    mask = np.zeros((IMAGE_SIDE, IMAGE_SIDE), dtype=np.bool_)
    sign = -1.0 if rng.random() < _DARK_SHARE else 1.0
    grain = _texture(rng, 3)
    for _ in range(rng.integers(*_CELLS, endpoint=True)):
        cell = _blob(rng, rng.uniform(*_RADII))
        light = sign * (rng.uniform(*_CONTRAST) + 0.03 * grain[cell.window])
        brightness[cell.window] += light * _cover(cell.distance)
        mask[cell.window] |= cell.distance <= 0
    for _ in range(rng.integers(*_DEBRIS, endpoint=True)):
        speck = _blob(rng, rng.uniform(*_DEBRIS_RADII))
        brightness[speck.window] += sign * rng.uniform(*_CONTRAST) * _cover(speck.distance)
    colors = brightness[:, :, np.newaxis] * tint + rng.normal(0.0, _NOISE, (IMAGE_SIDE, IMAGE_SIDE, CHANNELS))
    return Picture((colors.clip(0, 1) * 255).round().astype(np.uint8), mask)


def _texture(rng: np.random.Generator, blur: float) -> Floats:
    """Return smooth noise of mean 0 and standard deviation 1; `blur` is the radius of its blobs in pixels."""
    frequency = np.hypot(*np.meshgrid(np.fft.rfftfreq(IMAGE_SIDE), np.fft.fftfreq(IMAGE_SIDE)))
    spectrum = np.fft.rfft2(rng.normal(size=(IMAGE_SIDE, IMAGE_SIDE))) * np.exp(-2 * (np.pi * blur * frequency) ** 2)
    field = np.fft.irfft2(spectrum, s=(IMAGE_SIDE, IMAGE_SIDE))
    smooth: Floats = (field - field.mean()) / field.std()
    return smooth


def _blob(rng: np.random.Generator, radius: float) -> _Blob:
    """Return a dented ellipse of the given mean radius at a random position."""
    x, y = rng.uniform(0, IMAGE_SIDE, 2)
    reach = radius * (1 + len(_DENTS) * _DENT) + 10 * _EDGE
    window = tuple(slice(max(0, int(middle - reach)), int(middle + reach) + 1) for middle in (y, x))
    rows, columns = np.mgrid[:IMAGE_SIDE, :IMAGE_SIDE][(slice(None), *window)]
    tilt, squeeze = rng.uniform(0, np.pi), rng.uniform(0.65, 1.0)
    along = (columns - x) * np.cos(tilt) + (rows - y) * np.sin(tilt)
    across = ((rows - y) * np.cos(tilt) - (columns - x) * np.sin(tilt)) / squeeze
    angle = np.arctan2(across, along)
    outline = np.ones_like(angle)
    for waves in _DENTS:
        outline += rng.uniform(0, _DENT) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    return _Blob((window[0], window[1]), np.hypot(along, across) - radius * outline)


def _cover(distance: Floats) -> Floats:
    cover: Floats = 1 / (1 + np.exp(np.clip(distance / (_EDGE / 2), -30, 30)))
    return cover
