"""A scene at a time becomes pixels, and a map that says which object each pixel shows.

Every object is painted once as a sprite (color times coverage, and coverage) that fills its own bounding box; a
frame places the sprites with sub-pixel accuracy, so the box is exact by construction.
"""

from __future__ import annotations

import cv2
import numpy as np

from .scene import COLORS, Scene, SceneObject

__all__ = ["SceneRenderer"]

_SUPERSAMPLE = 4  # sprites are painted this much larger, then averaged down: smooth edges
_BORDER = 1.35  # the background is this much larger than the frame, so that the camera can pan


class SceneRenderer:
    """Draws frames of one scene.

    Args:
        scene: what to draw.
        size: width and height of the square frame in pixels.
    """

    def __init__(self, scene: Scene, size: int) -> None:
        self.scene = scene
        self.size = size
        rng = np.random.default_rng(scene.texture_seed)
        self._background = _background(rng, int(size * _BORDER))
        noise_size = size + 32
        self._noise = 3 * rng.standard_normal((noise_size, noise_size, 1), dtype=np.float32)
        self._noise_shift = rng.integers(0, 32, (64, 2))
        self._bar_color = rng.uniform(40, 140, 1).repeat(3).astype(np.float32)
        self._sprites = [_sprite(rng, item, size) for item in scene.objects]

    def frame(self, time: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw the scene at `time` (in frames, may be fractional).

        Returns:
            image `(size, size, 3)` uint8 RGB; owner `(size, size)` uint8, 0 for background and occluder, i + 1 where
            object i is in front; visible `(O,)`, the share of each object's whole area that can be seen.
        """
        times = np.array([time], dtype=np.float64)
        boxes = self.scene.boxes_at(times)[:, 0] * self.size
        canvas = self._place_background(times)
        owner = np.zeros((self.size, self.size), dtype=np.uint8)
        areas = np.empty(len(boxes))
        for number, (sprite, box) in enumerate(zip(self._sprites, boxes, strict=True)):
            share = float(sprite[..., 3].mean())
            areas[number] = share * (box[2] - box[0]) * (box[3] - box[1])
            _composite(canvas, owner, sprite, box, number + 1)
        if self.scene.occluder is not None:
            axis, center, width = self.scene.occluder
            low, high = int((center - width / 2) * self.size), int((center + width / 2) * self.size)
            bar = (slice(None), slice(low, high)) if axis == 0 else (slice(low, high), slice(None))
            canvas[bar] = self._bar_color
            owner[bar] = 0
        top, left = self._noise_shift[int(time) % len(self._noise_shift)]
        canvas += self._noise[top : top + self.size, left : left + self.size]
        np.clip(canvas, 0, 255, out=canvas)
        counts = np.bincount(owner.ravel(), minlength=len(boxes) + 1)[1:]
        visible = np.minimum(counts / np.maximum(areas, 1.0), 1.0)
        return canvas.astype(np.uint8), owner, visible

    def _place_background(self, times: np.ndarray) -> np.ndarray:
        offset, zoom = self.scene.camera.at(times)
        side = self._background.shape[0]
        scale = float(zoom[0])
        shift = (0.5 - 0.5 * scale) * self.size - offset[0] * scale * self.size - 0.5 * (side - self.size) * scale
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        return cv2.warpAffine(
            self._background, matrix, (self.size, self.size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )


def _composite(canvas: np.ndarray, owner: np.ndarray, sprite: np.ndarray, box_xyxy_px: np.ndarray, label: int) -> None:
    """Paint `sprite` so that it fills `box_xyxy_px`; mark the pixels it covers by more than half."""
    size = canvas.shape[0]
    x0, y0 = (int(np.floor(v)) for v in box_xyxy_px[:2])
    x1, y1 = (int(np.ceil(v)) for v in box_xyxy_px[2:])
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, size), min(y1, size)
    if right <= left or bottom <= top:
        return
    height, width = sprite.shape[:2]
    scale_x = (box_xyxy_px[2] - box_xyxy_px[0]) / width
    scale_y = (box_xyxy_px[3] - box_xyxy_px[1]) / height
    # Pixel centers sit at half-integers: destination u + 0.5 shows sprite s + 0.5.
    matrix = np.array(
        [
            [scale_x, 0, box_xyxy_px[0] - left + 0.5 * scale_x - 0.5],
            [0, scale_y, box_xyxy_px[1] - top + 0.5 * scale_y - 0.5],
        ]
    )
    patch = cv2.warpAffine(sprite, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    alpha = patch[..., 3:]
    region = canvas[top:bottom, left:right]
    region *= 1 - alpha
    region += patch[..., :3]
    owner[top:bottom, left:right][alpha[..., 0] > 0.5] = label


def _background(rng: np.random.Generator, side: int) -> np.ndarray:
    """Paint muted smooth colors with a fine grain and, half the time, faint stripes: texture without objects."""
    cells = int(rng.integers(3, 9))
    base = rng.uniform(35, 150)
    coarse = base + rng.normal(0, 26, (cells, cells, 1)) + rng.normal(0, 9, (cells, cells, 3))
    image = cv2.resize(coarse.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(
        rng.normal(0, 9, (side // 4, side // 4, 1)).astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR
    )
    image += fine[..., None]
    if rng.random() < 0.5:
        angle, period = rng.uniform(0, np.pi), rng.uniform(0.05, 0.2) * side
        ramp = np.arange(side, dtype=np.float32) * np.float32(2 * np.pi / period)
        wave = np.sin(ramp * np.float32(np.cos(angle)) + (ramp * np.float32(np.sin(angle)))[:, None])
        image += 9 * wave[..., None]
    return np.clip(image, 0, 255, out=image)


def _sprite(rng: np.random.Generator, item: SceneObject, frame_size: int) -> np.ndarray:
    """Paint color times coverage (0..255) and coverage (0..1), `(h, w, 4)` float32; the shape touches all sides."""
    side = item.size * frame_size * 1.1
    width = max(6, round(side * np.sqrt(item.aspect)))
    height = max(6, round(side / np.sqrt(item.aspect)))
    big_w, big_h = width * _SUPERSAMPLE, height * _SUPERSAMPLE
    mask = np.zeros((big_h, big_w), dtype=np.uint8)
    contours = [(c * [big_w, big_h] * 16 - 8).round().astype(np.int32) for c in _contours(item.shape)]
    cv2.fillPoly(mask, contours, 255, lineType=cv2.LINE_8, shift=4)
    coverage = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    color = np.clip(np.array(COLORS[item.color], dtype=np.float32) + item.tint, 0, 255).astype(np.float32)
    light = coverage if item.texture == "plain" else coverage * _pattern(rng, item.texture, width, height, frame_size)
    return np.concatenate([light[..., None] * color, coverage[..., None]], axis=2)


def _pattern(rng: np.random.Generator, texture: str, width: int, height: int, frame_px: int) -> np.ndarray:
    """Return `(h, w)` float32 brightness: 1 where the texture leaves the color, less where it darkens it."""
    fine_w, fine_h = 2 * width, 2 * height
    period = np.float32(0.075 * 2 * frame_px)
    y, x = np.ogrid[:fine_h, :fine_w]
    if texture == "striped":
        direction = 1 if rng.random() < 0.5 else -1
        dark = np.mod(x + direction * y, period) < 0.42 * period
    else:
        u, v = np.mod(x - fine_w / 2, period) - period / 2, np.mod(y - fine_h / 2, period) - period / 2
        dark = u**2 + v**2 < (0.3 * period) ** 2
    share = cv2.resize(dark.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_AREA)
    return 1 - share.astype(np.float32) * np.float32(0.62 / 255)


def _contours(shape: str) -> list[np.ndarray]:
    """Return closed outlines, points in [0, 1]^2, whose tight box is the unit square."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    if shape == "circle":
        points = [circle]
    elif shape == "ring":
        points = [circle, 0.52 * circle]
    elif shape == "square":
        points = [np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)]
    elif shape == "diamond":
        points = [np.array([[0, -1], [1, 0], [0, 1], [-1, 0]], float)]
    elif shape == "triangle":
        points = [np.array([[0, -1], [1, 1], [-1, 1]], float)]
    elif shape == "cross":
        a = 0.34
        points = [
            np.array(
                [
                    [-a, -1],
                    [a, -1],
                    [a, -a],
                    [1, -a],
                    [1, a],
                    [a, a],
                    [a, 1],
                    [-a, 1],
                    [-a, a],
                    [-1, a],
                    [-1, -a],
                    [-a, -a],
                ]
            )
        ]
    elif shape == "star":
        angle = np.arange(10) * np.pi / 5 - np.pi / 2
        radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
        points = [np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)]
    elif shape == "heart":
        x = 16 * np.sin(turn) ** 3
        y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn))
        points = [np.stack([x, y], axis=1)]
    else:
        raise ValueError(f"unknown shape {shape!r}; see SHAPES in scene.py.")
    low, high = points[0].min(axis=0), points[0].max(axis=0)
    return [(p - low) / (high - low) for p in points]
