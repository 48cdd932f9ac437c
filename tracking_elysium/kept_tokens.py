"""What the T-Selector looked at: the patches that it kept of the frames (or search windows) the model saw.

`KeptTokens` stands between tracking and an answerer and notes `VideoFrame.kept_indices` as frames are encoded; it
changes no answer. Pictures are of constant number, however long the video is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import numpy as np
from PIL import Image

from .detections import supervision
from .exchange import ClipAnswer, ClipRequest, VideoFrame
from .plots import plot_map
from .protocols import Answerer, QueuedAnswerer
from .visualize import sheet_of

MOST_VIEWS = 12  # pictures on the sheet
_DIMMED = 0.75  # how dark patches are that were not kept
_Item = TypeVar("_Item")


class EvenlySpread(Generic[_Item]):
    """Holds a bounded number of items of a sequence of unknown length, evenly spaced over what has come so far.

    Args:
        most: items that `chosen` gives at the most; twice as many are held.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._every, self._seen = 1, 0
        self._held: list[_Item] = []

    def add(self, item: _Item) -> None:
        """Take the next item, or pass over it."""
        if self._seen % self._every == 0:
            self._held.append(item)
        self._seen += 1
        if len(self._held) > 2 * self._most:
            self._held = self._held[::2]
            self._every *= 2

    def chosen(self) -> list[_Item]:
        """Choose up to `most` of the items that are held, the first and the last of them included."""
        count = len(self._held)
        if count <= self._most:
            return list(self._held)
        return [self._held[round(step * (count - 1) / max(self._most - 1, 1))] for step in range(self._most)]


class KeptTokens:
    """Notes which patches were kept, frame by frame.

    Args:
        grid: rows and columns of patches in a frame (`ElysiumConfig.patch_grid`).
        most: pictures that are held for the sheet.
    """

    def __init__(self, grid: tuple[int, int], most: int = MOST_VIEWS) -> None:
        self.grid = grid
        self.num_views = 0
        self._counts = np.zeros(grid[0] * grid[1], np.int64)
        self._views: EvenlySpread[tuple[int, np.ndarray, np.ndarray]] = EvenlySpread(most)
        self._known: WeakSet[VideoFrame] = WeakSet()

    def note(self, frames: Sequence[VideoFrame]) -> None:
        """Take the frames of a question that has been answered; those of earlier questions are known."""
        for frame in frames:
            if frame.kept_indices is None or frame in self._known:
                continue
            self._known.add(frame)
            kept = frame.kept_indices.cpu().numpy()
            self._counts[kept] += 1
            self.num_views += 1
            self._views.add((frame.index, frame.image, kept))

    def share(self) -> np.ndarray:
        """Compute how often each patch was kept: (rows, columns) of numbers in [0, 1]."""
        return (self._counts / max(self.num_views, 1)).reshape(self.grid)

    def pictures(self) -> list[tuple[int, np.ndarray]]:
        """Draw the views that are held: (index of the frame, uint8 RGB picture), what was not kept dimmed."""
        return [(index, draw_kept(image, kept, self.grid)) for index, image, kept in self._views.chosen()]

    def sheet(self) -> Image.Image | None:
        """Put the pictures on one sheet; None where the model keeps no patches (or has seen no frame)."""
        pictures = sorted(self.pictures(), key=lambda picture: picture[0])
        if not pictures:
            return None
        title = "patches that the T-Selector kept, of what the model saw (a search window, or the frame)"
        return sheet_of([(picture, f"frame {index}") for index, picture in pictures], title)

    def heat_map(self) -> Image.Image | None:
        """Plot how often each patch was kept; None where there is nothing to plot."""
        if not self.num_views:
            return None
        return plot_map(self.share(), f"share of {self.num_views} views in which a patch was kept")


def draw_kept(image: np.ndarray, kept: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Dim the patches of a picture that were not kept.

    Args:
        image: uint8 RGB array (H, W, 3), which the model saw squeezed to its square.
        kept: (K,) patch indices in raster order.
        grid: rows and columns of patches.

    Returns:
        uint8 RGB array (H, W, 3).

    Raises:
        ImportError: supervision is not installed.
    """
    sv = supervision()
    height, width = image.shape[:2]
    cells = np.zeros(grid[0] * grid[1], bool)
    cells[kept] = True
    mask = np.asarray(Image.fromarray(cells.reshape(grid)).resize((width, height), Image.Resampling.NEAREST))
    detections = sv.Detections(xyxy=np.array([[0, 0, width, height]], np.float32), mask=mask[None])
    # Gray is the same in RGB and in supervision's BGR.
    drawn: np.ndarray = sv.BackgroundOverlayAnnotator(color=sv.Color.BLACK, opacity=_DIMMED).annotate(
        image.copy(), detections
    )
    return drawn


def watched(answerer: Answerer, kept: KeptTokens) -> Answerer:
    """Return an answerer that answers as `answerer` does, while `kept` notes what its frames keep."""
    return _WatchedQueue(answerer, kept) if isinstance(answerer, QueuedAnswerer) else _Watched(answerer, kept)


class _Watched:
    """An `Answerer` around another one."""

    def __init__(self, answerer: Any, kept: KeptTokens) -> None:
        self._answerer, self._kept = answerer, kept
        self.batch_size, self.stats = answerer.batch_size, answerer.stats

    def __call__(self, requests: Sequence[ClipRequest]) -> list[ClipAnswer]:
        """Answer all requests, in order."""
        answers: list[ClipAnswer] = self._answerer(requests)
        for request in requests:
            self._kept.note(request.frames)
        return answers

    def check_fits(self, requests: Sequence[ClipRequest]) -> None:
        """Raise ValueError when one of the requests does not fit the model's context."""
        self._answerer.check_fits(requests)

    def prepare(self, frames: list[VideoFrame]) -> None:
        """Do ahead for new frames what needs no question."""
        self._answerer.prepare(frames)


class _WatchedQueue(_Watched):
    """A `QueuedAnswerer` around another one."""

    def __init__(self, answerer: Any, kept: KeptTokens) -> None:
        super().__init__(answerer, kept)
        self._frames: dict[int, list[VideoFrame]] = {}  # ticket -> frames, until it is answered

    def submit(self, requests: Sequence[ClipRequest]) -> list[int]:
        """Queue requests and return a ticket for each."""
        tickets: list[int] = self._answerer.submit(requests)
        self._frames.update({ticket: request.frames for ticket, request in zip(tickets, requests, strict=True)})
        return tickets

    def advance(self) -> list[tuple[int, ClipAnswer]]:
        """Do one step; return (ticket, answer) of what is finished."""
        done: list[tuple[int, ClipAnswer]] = self._answerer.advance()
        for ticket, _ in done:
            self._kept.note(self._frames.pop(ticket))
        return done

    def so_far(self, tickets: Sequence[int]) -> dict[int, ClipAnswer]:
        """Return the unfinished answers of those of `tickets` that have begun, by ticket."""
        so_far: dict[int, ClipAnswer] = self._answerer.so_far(tickets)
        return so_far


__all__ = ["EvenlySpread", "KeptTokens", "draw_kept", "watched"]
