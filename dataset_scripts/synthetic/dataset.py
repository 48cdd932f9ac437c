"""Synthetic clips by number: the same (seed, split, index) gives the same frames, boxes and words, always."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..records import ObjectTrack, VideoRecord
from .language import caption, referring_expression
from .render import SceneRenderer
from .scene import Scene, motion_word, sample_scene

__all__ = ["SPLITS", "SyntheticClip", "SyntheticConfig", "make_clip", "make_video"]

# First index and number of indices of each split; they never meet.
SPLITS: dict[str, tuple[int, int]] = {
    "train": (0, 100_000_000),
    "val": (100_000_000, 1_000_000),
    "test": (101_000_000, 1_000_000),
}
NATIVE_FPS = 12.0
VISIBLE_TO_ASK = 0.6  # an object is asked about if this much of it shows in the first frame
ABSENT_BELOW = 0.1  # and called absent where less than this shows
_LAST_START = 200  # clips start somewhere in the first frames of their scene's (endless) life
_ATTEMPTS = 50


@dataclass(frozen=True)
class SyntheticConfig:
    """What videos to make.

    Attributes:
        seed: of the whole dataset.
        size: frame width and height in pixels.
        min_objects, max_objects: objects in a scene, before some hide or leave.
    """

    seed: int = 0
    size: int = 140
    min_objects: int = 2
    max_objects: int = 5

    def __post_init__(self) -> None:
        if self.size < 16:
            raise ValueError(f"size must be at least 16 pixels to draw in; got {self.size}.")
        if not 1 <= self.min_objects <= self.max_objects:
            raise ValueError(f"need 1 <= min_objects <= max_objects; got {self.min_objects} and {self.max_objects}.")


@dataclass(frozen=True)
class SyntheticClip:
    """Frames in memory and their record.

    Attributes:
        frames: `(F, H, W, 3)` uint8 RGB.
        owner: `(F, H, W)` uint8, which object a pixel shows (number in the scene + 1; 0 is background).
        scene: what was drawn; `record.objects` holds only the objects that can be asked about.
        scene_boxes: `(O, F, 4)` clipped boxes of all objects of the scene.
        record: boxes (not clipped), expressions, captions.
    """

    frames: np.ndarray
    owner: np.ndarray
    scene: Scene
    scene_boxes: np.ndarray
    record: VideoRecord


def make_clip(
    config: SyntheticConfig,
    split: str,
    index: int,
    num_frames: int,
    interval: tuple[int, int] = (1, 6),
    irregular: bool = False,
) -> SyntheticClip:
    """Make a clip of `num_frames` frames that lie a random number of native frames apart.

    Args:
        config: size and seed.
        split: a key of `SPLITS`.
        index: number within the split, from 0.
        num_frames: F, at least 1.
        interval: smallest and largest distance between frames, in native frames, both included.
        irregular: draw every distance anew instead of one for the clip, so that earlier boxes do not tell the next.

    Raises:
        ValueError: unknown split, index out of range, or no frames asked for.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {sorted(SPLITS)}; got {split!r}.")
    first, count = SPLITS[split]
    if not 0 <= index < count:
        raise ValueError(f"index must be in [0, {count}) for split {split!r}; got {index}.")
    if num_frames < 1 or not 1 <= interval[0] <= interval[1]:
        raise ValueError(f"need num_frames >= 1 and 1 <= interval[0] <= interval[1]; got {num_frames}, {interval}.")
    rng = np.random.default_rng([config.seed, first + index])
    for _ in range(_ATTEMPTS):
        scene = sample_scene(rng, config.min_objects, config.max_objects)
        start = float(rng.integers(_LAST_START))
        step = int(rng.integers(interval[0], interval[1] + 1))
        renderer = SceneRenderer(scene, config.size)
        drawn = [renderer.frame(start)]
        if drawn[0][2].max() >= VISIBLE_TO_ASK:
            break
    else:
        raise RuntimeError(f"no visible object in {_ATTEMPTS} scenes of ({config.seed}, {split}, {index}).")
    steps = np.full(num_frames - 1, step)
    if irregular and num_frames > 1:
        steps = rng.integers(interval[0], interval[1] + 1, num_frames - 1)
        step = float(steps.mean())
    times = start + np.concatenate([[0], np.cumsum(steps)])
    drawn += [renderer.frame(time) for time in times[1:]]
    boxes = scene.boxes_at(times)
    visible = np.stack([shares for _, _, shares in drawn])
    record = _record(rng, config, f"{split}-{index:06d}", scene, boxes, visible, step)
    return SyntheticClip(
        frames=np.stack([image for image, _, _ in drawn]),
        owner=np.stack([owner for _, owner, _ in drawn]),
        scene=scene,
        scene_boxes=np.clip(boxes, 0, 1),
        record=record,
    )


def make_video(config: SyntheticConfig, split: str, index: int, num_frames: int = 64) -> SyntheticClip:
    """Make consecutive native frames: what a video file holds."""
    return make_clip(config, split, index, num_frames, interval=(1, 1))


def _record(
    rng: np.random.Generator,
    config: SyntheticConfig,
    name: str,
    scene: Scene,
    boxes: np.ndarray,
    visible: np.ndarray,
    step: float,
) -> VideoRecord:
    """Turn boxes (O, F, 4) and visible shares (F, O) into tracks of the objects in the first frame."""
    num_frames = boxes.shape[1]
    seen = np.clip(boxes, 0, 1)
    present = [i for i in range(len(boxes)) if visible[0, i] >= ABSENT_BELOW]
    tracks = []
    for i in present:
        if visible[0, i] < VISIBLE_TO_ASK:
            continue
        item = scene.objects[i]
        motion = motion_word(seen[i]) if num_frames > 1 else None
        others = [scene.objects[j].look for j in present if j != i]
        attributes = dict(zip(("size", "texture", "colour", "shape"), item.look, strict=True))
        if motion is not None:
            attributes["motion"] = motion
        tracks.append(
            ObjectTrack(
                expression=referring_expression(rng, item.look, others, motion),
                caption=caption(item.look, motion),
                boxes=boxes[i],
                absent=visible[:, i] < ABSENT_BELOW,
                attributes=attributes,
            )
        )
    return VideoRecord(
        id=name,
        source="synthetic",
        license="Apache-2.0",
        width=config.size,
        height=config.size,
        fps=NATIVE_FPS / step,
        frame_indices=list(range(num_frames)),
        objects=tracks,
    )
