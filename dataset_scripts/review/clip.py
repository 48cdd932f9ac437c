"""A trajectory to look at: the video with the box drawn, and the way of its center on one picture."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..construction.builds import open_row
from ..construction.rows import Trajectory
from ..elysium_track.elysium_track import evenly
from ..synthetic.write import write_video

__all__ = ["draw_boxes", "draw_clip", "draw_way", "frames_of"]

_BOX, _GONE, _RIM = (255, 214, 10), (220, 60, 60), (0, 0, 0)
_SIDE = 640  # longest side of what is shown
_SLOWEST = 1.0  # frames per second: thinner trajectories would stand still


def frames_of(row: Trajectory, videos: str | os.PathLike[str], positions: list[int]) -> list[np.ndarray]:
    """Read frames of a trajectory, given by their position (0 to F - 1), as (H, W, 3) uint8.

    Raises:
        ValueError: the video cannot be read, or ends before.
    """
    with open_row(row, videos) as video:
        frames = video.read([row.frame_indices[position] for position in positions])
    if len(frames) < len(positions):
        raise ValueError(f"trajectory {row.id!r}: {video.name} ends before frame {row.frame_indices[positions[-1]]}.")
    return frames


def draw_boxes(frame: np.ndarray, box: np.ndarray | None, side: int = _SIDE) -> Image.Image:
    """Draw a frame, at most `side` pixels long and even on both sides, with the box; without one, a red rim."""
    picture = Image.fromarray(frame)
    scale = min(1.0, side / max(picture.size))
    width, height = (max(2, 2 * round(length * scale / 2)) for length in picture.size)
    picture = picture.resize((width, height))
    draw = ImageDraw.Draw(picture)
    if box is None or np.isnan(box).any():
        draw.rectangle((0, 0, width - 1, height - 1), outline=_GONE, width=4)
        return picture
    _rectangle(draw, box, picture.size)
    return picture


def _rectangle(draw: ImageDraw.ImageDraw, box: np.ndarray, size: tuple[int, int]) -> None:
    x1, y1, x2, y2 = np.clip(box, 0, 1) * (*size, *size)
    corners = (float(x1), float(y1), float(max(x1, x2 - 1)), float(max(y1, y2 - 1)))
    draw.rectangle(corners, outline=_RIM, width=4)
    draw.rectangle(corners, outline=_BOX, width=2)


def draw_clip(
    row: Trajectory, videos: str | os.PathLike[str], target: str | os.PathLike[str], max_frames: int = 120
) -> Path:
    """Write the trajectory as an mp4 that browsers play, as long as it lasts; one that is there is kept.

    Args:
        row: of a build.
        videos: folder that its video is relative to.
        target: file to write.
        max_frames: of a longer trajectory so many frames, evenly spread.
    """
    target = Path(target)
    if target.exists():
        return target
    positions = evenly(len(row.frame_indices), max_frames)
    frames = frames_of(row, videos, positions)
    boxes = [row.boxes[i] if row.presence[i] else None for i in positions]
    drawn = [np.asarray(draw_boxes(frame, box)) for frame, box in zip(frames, boxes, strict=True)]
    lasts = row.timestamps[positions[-1]] - row.timestamps[0]
    fps = (len(drawn) - 1) / lasts if lasts > 0 else _SLOWEST
    write_video(target, np.stack(drawn), max(fps, _SLOWEST))
    return target


def draw_way(row: Trajectory, videos: str | os.PathLike[str]) -> Image.Image:
    """Draw the first frame in which the object is there, its box, and the way of the box's center to the last one."""
    there = np.flatnonzero(row.presence)
    position = int(there[0]) if len(there) else 0
    picture = draw_boxes(frames_of(row, videos, [position])[0], row.boxes[position])
    draw = ImageDraw.Draw(picture)
    centers = (row.boxes[there, :2] + row.boxes[there, 2:]) / 2 * picture.size
    points = [(float(x), float(y)) for x, y in centers]
    if len(points) > 1:
        draw.line(points, fill=_RIM, width=4)
        draw.line(points, fill=_BOX, width=2)
        x, y = points[-1]
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=_BOX, outline=_RIM)
    return picture
