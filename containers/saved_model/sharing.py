"""Share the cores between images that are requested at the same time.

One image on all cores has the lowest latency. One image per core has the highest throughput, since no core waits for
another within a layer. So a few images get all cores one after the other, and many images get one core each. Meanwhile,
other threads decode and encode.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from containers.saved_model.engine import Segmenter


@dataclass(eq=False, slots=True)
class Streams:
    """A model that computes up to `count` images at the same time.

    running: number of images in progress.
    """

    model: Segmenter
    count: int
    running: int = 0


class SharedCores:
    """A Segmenter for many threads that chooses between two ways to share the cores.

    few: used while fewer images are requested than `many` computes at the same time, or always without `many`.
    many: used under higher load; None for a single way.
    """

    def __init__(self, few: Streams, many: Streams | None = None) -> None:
        self._few, self._many = few, many
        self._asked = 0
        self._changed = threading.Condition()

    @property
    def asked(self) -> int:
        """Return the number of images that are computed or wait."""
        return self._asked

    def segment(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities of shape (rows, 224, 224, 1); each image waits for its own turn."""
        masks = np.empty((*images.shape[:3], 1), np.float32)
        for row in range(len(images)):
            with self._turn() as model:
                masks[row : row + 1] = model.segment(images[row : row + 1])
        return masks

    @contextmanager
    def _turn(self) -> Iterator[Segmenter]:
        with self._changed:
            self._asked += 1
            self._changed.notify_all()
            self._changed.wait_for(self._is_free)
            taken = self._wanted()
            taken.running += 1
        try:
            yield taken.model
        finally:
            with self._changed:
                taken.running -= 1
                self._asked -= 1
                self._changed.notify_all()

    def _is_free(self) -> bool:
        """Return whether an image may start; both ways at once would compete for the cores."""
        wanted = self._wanted()
        other = self._few if wanted is self._many else self._many
        return wanted.running < wanted.count and (other is None or not other.running)

    def _wanted(self) -> Streams:
        if self._many is None:
            return self._few
        # Keep `many` until it is half idle, so a load near the limit does not switch back and forth.
        enough = self._many.count // 2 + 1 if self._many.running else self._many.count
        return self._many if self._asked >= enough else self._few
