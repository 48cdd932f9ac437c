"""From a few boxes of an annotator, or a phrase, to a box in every frame of a video."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from processing_elysium.frames import open_video
from processing_elysium.video_source import VideoSource

from ..construction.backends.make import make_grounder, make_tracker
from ..construction.items import PoisonedVideoError
from ..construction.protocols import ClipTracker, Grounder, StepTrackers
from ..construction.tracking import follow_frames
from .config import AnnotateConfig
from .requests import BadRequestError, ModelFailedError

__all__ = ["OpenedVideo", "Propagator", "WholeTrack", "opened"]

CHUNK = 16  # frames decoded at a time


@dataclass(frozen=True)
class OpenedVideo:
    """A video of known length.

    Attributes:
        source: its frames.
        num_frames: its length.
        fps: frames per second, 25 where the file does not say.
    """

    source: VideoSource
    num_frames: int
    fps: float

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as shown."""
        return self.source.width, self.source.height


@dataclass(frozen=True)
class WholeTrack:
    """An object from the first frame with a box to where tracking ended.

    Attributes:
        first: frame number of row 0.
        boxes: (F, 4) float xyxy relative to the frame, NaN where the object is not in sight.
        scores: (F,) the tracker's confidence, 1 for boxes of the annotator.
        given: rows that the annotator drew.
    """

    first: int
    boxes: np.ndarray
    scores: np.ndarray
    given: frozenset[int]

    @property
    def score(self) -> float:
        """Mean confidence where the object is in sight."""
        seen = ~np.isnan(self.boxes).any(axis=1)
        return float(self.scores[seen].mean()) if seen.any() else 0.0


@contextmanager
def opened(path: Path) -> Iterator[OpenedVideo]:
    """Open a file.

    Raises:
        BadRequestError: it is no video, or its length is unknown.
    """
    try:
        source = open_video(str(path))
    except (ValueError, OSError) as error:
        raise BadRequestError(f"video {path.name!r} cannot be read: {error}") from error
    with source as video:
        if not video.num_frames:
            raise BadRequestError(f"video {path.name!r}: the number of its frames is unknown.")
        yield OpenedVideo(video, video.num_frames, float(video.fps or 25.0))


class Propagator:
    """A tracker and a grounder, used by one request at a time."""

    def __init__(self, config: AnnotateConfig) -> None:
        """Load the models.

        Raises:
            ValueError: settings of a backend are wrong.
            ImportError: a library is not installed.
        """
        self.config = config
        self.tracker: StepTrackers | ClipTracker = make_tracker(config.tracker, config.device, config.seed)
        self.grounder: Grounder | None = (
            None if config.grounder is None else make_grounder(config.grounder, config.device, config.seed)
        )
        self.lock = threading.Lock()

    def track(self, video: OpenedVideo, given: Mapping[int, np.ndarray], end: int | None = None) -> WholeTrack:
        """Follow one object through a video.

        The tracker starts afresh at every box of the annotator and follows it up to the next one, the last one to the
        end. Frames before the first box are not looked at.

        Args:
            video: the video.
            given: frame -> box (4,) of the annotator; at least one.
            end: frame before which to stop, by default the video's end; `max_frames` bounds the number of frames.

        Raises:
            BadRequestError: a box behind the last frame, a video that breaks off.
            ModelFailedError: the tracker failed.
        """
        starts = sorted(given)
        if starts[-1] >= video.num_frames or starts[0] < 0:
            raise BadRequestError(
                f"a box in frame {starts[-1]} (counted from 0), but the video has {video.num_frames}."
            )
        stop = min(video.num_frames, starts[0] + self.config.max_frames, video.num_frames if end is None else end)
        stop = max(stop, starts[0] + 1)
        boxes, scores = np.full((stop - starts[0], 4), np.nan), np.zeros(stop - starts[0])
        for begin, until in pairwise([frame for frame in starts if frame < stop] + [stop]):
            rows = slice(begin - starts[0], until - starts[0])
            boxes[rows], scores[rows] = self._segment(video.source, given[begin], begin, until)
        return WholeTrack(starts[0], boxes, scores, frozenset(f - starts[0] for f in starts if f < stop))

    def find(self, video: OpenedVideo, phrases: Sequence[str]) -> dict[int, tuple[int, np.ndarray, float]]:
        """Look for what phrases name, in `search_frames` frames spread over the video, until each is found.

        Returns:
            Position of each phrase that was found -> frame, the surest box (4,) and its score.

        Raises:
            BadRequestError: no grounder is configured.
            ModelFailedError: it failed.
        """
        if self.grounder is None:
            raise BadRequestError("words find nothing without a grounder: draw a box, or set `grounder` and restart.")
        places = np.linspace(0, video.num_frames, self.config.search_frames, endpoint=False).astype(int)
        found: dict[int, tuple[int, np.ndarray, float]] = {}
        for frame in sorted({int(place) for place in places}):
            left = [position for position in range(len(phrases)) if position not in found]
            if not left:
                break
            (image,) = self._read(video.source, range(frame, frame + 1))
            try:
                answers = self.grounder.ground([image] * len(left), [phrases[position] for position in left])
            except Exception as error:  # whatever a foreign model raises, the server goes on
                raise ModelFailedError(f"the grounder failed: {type(error).__name__}: {error}") from error
            for position, answer in zip(left, answers, strict=True):
                if len(answer.scores) and answer.scores[0] > self.config.min_grounding:
                    box = np.clip(answer.boxes[0], 0, 1)
                    if box[2] > box[0] and box[3] > box[1]:
                        found[position] = frame, box, float(answer.scores[0])
        return found

    def follow(self, frames: list[np.ndarray], boxes: np.ndarray) -> np.ndarray:
        """Follow O objects (O, 4) through a few frames at hand; return their boxes in the last, NaN where lost.

        Raises:
            ModelFailedError: the tracker failed.
        """
        found = [now for now, _ in self._steps(iter(frames), boxes)]
        if len(found) < len(frames):
            raise ModelFailedError(f"the tracker ended after {len(found)} of {len(frames)} frames.")
        return found[-1]

    def _segment(self, source: VideoSource, box: np.ndarray, begin: int, until: int) -> tuple[np.ndarray, np.ndarray]:
        """Track from `begin` to the frame before `until`; boxes (F, 4) and scores (F,)."""
        boxes, scores = np.full((until - begin, 4), np.nan), np.zeros(until - begin)
        boxes[0], scores[0] = box, 1.0
        if until - begin == 1:
            return boxes, scores
        count = 0
        for row, (now, sure) in enumerate(self._steps(self._frames(source, begin, until), box[None])):
            count = row + 1
            if row:
                boxes[row], scores[row] = now[0], sure[0]
        if count < until - begin:
            raise ModelFailedError(f"the tracker ended after {count} of {until - begin} frames.")
        return boxes, scores

    def _steps(self, frames: Iterator[np.ndarray], boxes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Per frame: boxes (O, 4), NaN where out of sight, and scores (O,) in [0, 1]."""
        alive = np.ones(len(boxes), dtype=bool)
        try:
            for now, sure in follow_frames(self.tracker, frames, boxes, alive):
                scores = np.nan_to_num(np.asarray(sure, dtype=np.float64), nan=0.0, posinf=1.0, neginf=0.0)
                finite = np.isfinite(np.asarray(now, dtype=np.float64)).all(axis=1)
                found = np.clip(np.asarray(now, dtype=np.float64), 0, 1)
                seen = finite & (found[:, 2:] > found[:, :2]).all(axis=1) & (scores > self.config.min_confidence)
                found[~seen] = np.nan
                yield found, np.clip(scores, 0, 1)
        except (BadRequestError, ModelFailedError):
            raise
        except PoisonedVideoError as error:
            raise ModelFailedError(f"the tracker failed: {error.detail}") from error
        except Exception as error:  # whatever a foreign tracker raises, the server goes on
            raise ModelFailedError(f"the tracker failed: {type(error).__name__}: {error}") from error

    def _frames(self, source: VideoSource, begin: int, until: int) -> Iterator[np.ndarray]:
        for start in range(begin, until, CHUNK):
            yield from self._read(source, range(start, min(start + CHUNK, until)))

    @staticmethod
    def _read(source: VideoSource, wanted: range) -> list[np.ndarray]:
        frames = source.read(wanted)
        if len(frames) < len(wanted):
            raise BadRequestError(f"the video breaks off: frame {wanted[len(frames)]} cannot be read.")
        return frames
