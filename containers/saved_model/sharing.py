"""How images that are asked for at the same time share the cores.

One image on all cores is there soonest; as many images as cores, each on one, take less of each core altogether,
since no core waits for another within a layer. So one or few images get all cores, one after the other, and many
get a core each. Decoding and encoding go on beside both, on the threads that wait here.
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
    """A model that computes up to `count` images at the same time; running: as many as it does now."""

    model: Segmenter
    count: int
    running: int = 0


class SharedCores:
    """A Segmenter for many threads over one way to share the cores, or over two of which it takes the better.

    few: used while fewer images are asked for than `many` computes at a time. Without `many`, always.
    """

    def __init__(self, few: Streams, many: Streams | None = None) -> None:
        self._few, self._many = few, many
        self._asked = 0
        self._changed = threading.Condition()

    @property
    def asked(self) -> int:
        """Images that are computed or wait for it."""
        return self._asked

    def segment(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of shape (rows, 224, 224, 1); each image waits for its own turn."""
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
        """Whether an image may begin: the two ways at once would fight for the cores."""
        wanted = self._wanted()
        other = self._few if wanted is self._many else self._many
        return wanted.running < wanted.count and (other is None or not other.running)

    def _wanted(self) -> Streams:
        if self._many is None:
            return self._few
        # Those in use until they are half idle: a number of clients about the limit must not drain them all the time.
        enough = self._many.count // 2 + 1 if self._many.running else self._many.count
        return self._many if self._asked >= enough else self._few
