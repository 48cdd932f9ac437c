"""Search windows: square crops around an object that the model reads in place of the whole frame.

A crop is a frame like any other: it is resized to the size of the vision tower, the model answers in its text grid,
and `Window.to_frame` maps the boxes back. Small objects, which the paper names as its limit (section 5), then fill a
fixed share of what the model sees. Every token tracker crops (SeqTrack, ARTrack: about 2 object sizes for the frame in
which the box is known, about 4 for the frames searched).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .exchange import VideoFrame

# Context of the frame in which the box is known, and of the frames searched, in units of the square root of its area.
TEMPLATE_FACTOR = 2.0
SEARCH_FACTOR = 4.0
# However long and thin an object is, the window is this much longer than its longer side.
LONGEST_SIDE_FACTOR = 1.3
# Windows below this many pixels would show the resampling of a few pixels and nothing else.
SMALLEST_SIDE_PX = 12
# A window grows by this much per frame without a box, and never beyond this multiple of its usual width.
WIDEN_WHEN_LOST, WIDEST = 1.2, 2.0
# Frames without a box until other parts of the frame are looked at as well; a box there needs so much certainty.
PATIENCE, SURE = 4, 0.9
MOST_TILES_ACROSS = 6
# What stands outside the frame: ImageNet's mean color.
OUTSIDE = (124, 116, 104)


@dataclass(frozen=True)
class Window:
    """A square in pixels of the frame; it may reach past the frame's edges.

    Attributes:
        left: x of the left edge, whole pixels.
        top: y of the upper edge, whole pixels.
        side: length of an edge, whole pixels, at least 1.
    """

    left: int
    top: int
    side: int

    def crop(self, image: np.ndarray) -> np.ndarray:
        """Cut the window out of a frame.

        Args:
            image: uint8 array of shape (H, W, 3).

        Returns:
            uint8 array of shape (side, side, 3); what lies outside the frame has the color `OUTSIDE`.
        """
        height, width = image.shape[:2]
        cut = np.empty((self.side, self.side, 3), np.uint8)
        x0, y0 = max(self.left, 0), max(self.top, 0)
        x1, y1 = min(self.left + self.side, width), min(self.top + self.side, height)
        inside = x1 > x0 and y1 > y0
        if not inside or x1 - x0 < self.side or y1 - y0 < self.side:
            cut[:] = OUTSIDE
        if inside:
            cut[y0 - self.top : y1 - self.top, x0 - self.left : x1 - self.left] = image[y0:y1, x0:x1]
        return cut

    def from_frame(self, box: np.ndarray, width: int, height: int) -> np.ndarray:
        """Map boxes (..., 4) from [0, 1] of a width x height frame to [0, 1] of the window, unclipped."""
        return (np.asarray(box) * [width, height, width, height] - [self.left, self.top] * 2) / self.side

    def to_frame(self, box: np.ndarray, width: int, height: int) -> np.ndarray:
        """Map boxes (..., 4) from [0, 1] of the window to [0, 1] of a width x height frame, unclipped."""
        return (np.asarray(box) * self.side + [self.left, self.top] * 2) / [width, height, width, height]


def window_around(box: np.ndarray, width: int, height: int, factor: float) -> Window:
    """Place a window on a box.

    Args:
        box: (4,) x1, y1, x2, y2 in [0, 1] of the frame; it may reach past the edges.
        width: of the frame in pixels.
        height: of the frame in pixels.
        factor: side of the window over the square root of the box's area.

    Returns:
        The window, centered on the box.
    """
    x1, y1, x2, y2 = (float(v) for v in np.asarray(box) * [width, height, width, height])
    box_width, box_height = max(x2 - x1, 1.0), max(y2 - y1, 1.0)
    side = max(
        factor * math.sqrt(box_width * box_height), LONGEST_SIDE_FACTOR * max(box_width, box_height), SMALLEST_SIDE_PX
    )
    side = max(round(side), 1)
    return Window(round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2), side)


def known_window(frame: VideoFrame, box: np.ndarray) -> VideoFrame:
    """Cut the window around a known box (4,) in [0, 1] out of its frame; it is its own reference."""
    height, width = frame.image.shape[:2]
    window = window_around(box, width, height, TEMPLATE_FACTOR)
    known = np.clip(window.from_frame(box, width, height), 0.0, 1.0)
    shown = VideoFrame(frame.index, frame.timestamp, window.crop(frame.image), reference_box=known)
    shown.reference = shown
    return shown


class ZoomState:
    """What following one object in search windows remembers: its first look, where and how wide to search.

    While the object is lost, its window grows where it was last seen. After `PATIENCE` frames every second window
    looks elsewhere, tile after tile over the whole frame, the nearest first: a box found there counts if the model is
    sure.

    Args:
        factor: of the search window, see `TrackingOptions.zoom_factor`.
    """

    def __init__(self, factor: float) -> None:
        self.base = self.factor = factor
        self.template: VideoFrame | None = None
        self.lost = 0  # frames in a row without a box
        self._elsewhere: Window | None = None  # the window under way, where it is a tile

    def begin(self, frame: VideoFrame, box: np.ndarray) -> VideoFrame:
        """Take the frame in which the box (4,) in [0, 1] is known; return its window, which every question shows."""
        self.template = known_window(frame, box)
        return self.template

    def look(self, frame: VideoFrame, box: np.ndarray) -> tuple[VideoFrame, Window]:
        """Cut the search window for an object whose last box was `box` out of a frame."""
        height, width = frame.image.shape[:2]
        window, self._elsewhere = window_around(box, width, height, self.factor), None
        turn = self.lost - PATIENCE
        if turn > 0 and turn % 2:
            tiles = tiles_around(box, width, height, self.base)
            window = self._elsewhere = tiles[turn // 2 % len(tiles)]
        cut = VideoFrame(frame.index, frame.timestamp, window.crop(frame.image), reference=self.template)
        cut.reference_box = None if self.template is None else self.template.reference_box
        return cut, window

    def note(
        self,
        window: Window,
        last: np.ndarray,
        found: np.ndarray | None,
        size: tuple[int, int],
        presence: float | None = None,
    ) -> np.ndarray | None:
        """Take the answer about a window, and set the next one.

        Args:
            window: what was looked at.
            last: the box before, (4,) in [0, 1] of the frame.
            found: the box now, (4,) in [0, 1] of the window; None where there was none.
            size: width and height of the frame in pixels.
            presence: the model's probability that the object is in the window; None where it could not choose.

        Returns:
            The box (4,) in [0, 1] of the frame; None where there is none, it lies outside the frame, or it was found
            elsewhere without certainty.
        """
        if found is not None:
            found = np.clip(window.to_frame(found, *size), 0.0, 1.0)
            unsure = window is self._elsewhere and (presence is None or presence < SURE)
            if unsure or not (found[2:] > found[:2]).all():
                found = None
        if found is None:
            self.lost += 1
            self.factor = min(self.factor * WIDEN_WHEN_LOST, self.base * WIDEST)
            return None
        scale = np.array(size * 2)
        before, now = last * scale, found * scale
        moved = np.abs((now[:2] + now[2:]) - (before[:2] + before[2:])).max() / 2
        if self.lost:  # how far it went meanwhile says nothing about its speed
            moved = 0.0
        self.lost = 0
        own_size = math.sqrt(max(np.prod(now[2:] - now[:2]), 1.0))
        # As far again as it moved, and half its size, should stay inside.
        self.factor = float(np.clip(2 * moved / own_size + 2, self.base, self.base * WIDEST))
        return found


def tiles_around(box: np.ndarray, width: int, height: int, factor: float) -> list[Window]:
    """Cover a frame with windows, the nearest to a box first.

    Args:
        box: (4,) in [0, 1] of the frame.
        width: of the frame in pixels.
        height: of the frame in pixels.
        factor: side of a window over the square root of the box's area; at least a sixth of the frame's longer side,
            so that looking everywhere does not take for ever.

    Returns:
        Windows that overlap by half.
    """
    side = max(window_around(box, width, height, factor).side, -(-max(width, height) // MOST_TILES_ACROSS))
    half = max(side // 2, 1)
    x, y = (box[0] + box[2]) / 2 * width, (box[1] + box[3]) / 2 * height
    centers = [
        (cx, cy) for cy in range(half, max(height, half + 1), half) for cx in range(half, max(width, half + 1), half)
    ]
    centers.sort(key=lambda center: (center[0] - x) ** 2 + (center[1] - y) ** 2)
    return [Window(cx - side // 2, cy - side // 2, side) for cx, cy in centers]


__all__ = [
    "OUTSIDE",
    "SEARCH_FACTOR",
    "TEMPLATE_FACTOR",
    "Window",
    "ZoomState",
    "known_window",
    "tiles_around",
    "window_around",
]
