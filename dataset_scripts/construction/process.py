"""One video through all stages: a caption and a file in, trajectories and counted reasons out."""

from __future__ import annotations

import errno
import hashlib
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from processing_elysium.frames import even_indices, open_video
from processing_elysium.video_source import VideoSource

from .config import BuildConfig, fingerprint
from .consistency import overlaps, why_inconsistent
from .drift import innovations, why_drifted
from .enrichment import enriched
from .forward_backward import return_overlaps, why_lost_on_the_way_back
from .grounding import Grounded, ground_phrases
from .items import CaptionedVideo, PoisonedVideoError, VideoResult
from .noun_chunks import split_caption
from .protocols import ClipTracker, Describer, Grounder, StepTrackers
from .rows import Trajectory
from .shots import find_cuts, longest_shot
from .tracking import Tracked, follow_objects
from .unique import why_ambiguous

__all__ = ["DISK_FULL", "Components", "VideoProcessor"]

CHUNK = 16  # frames decoded at a time
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Written with every row: other versions may give other boxes.
VERSIONED = ("elysium", "torch", "transformers", "spacy", "opencv-contrib-python-headless", "av", "numpy")
STAGES = (
    "enrichment",
    "noun_chunks",
    "grounding",
    "unique",
    "tracking",
    "drift",
    "consistency",
    "forward_backward",
    "shots",
    "video",
)


@dataclass(frozen=True)
class Components:
    """What a worker builds once.

    Attributes:
        nlp: spaCy's pipeline.
        grounder: finds phrases.
        tracker: follows boxes.
        describer: adds words to captions; None where `enrichment` is off.
    """

    nlp: Any
    grounder: Grounder
    tracker: StepTrackers | ClipTracker
    describer: Describer | None = None


@dataclass(frozen=True)
class _Clip:
    """The part of an opened video that is worked on: frames `first`, `first + step`, ... before `end`."""

    video: VideoSource
    indices: list[int]
    times: list[float]

    def frames(self, backward: bool = False) -> Iterator[np.ndarray]:
        starts = range(0, len(self.indices), CHUNK)
        for start in reversed(starts) if backward else starts:
            wanted = self.indices[start : start + CHUNK]
            got = self.video.read(wanted)
            if len(got) < len(wanted):
                raise PoisonedVideoError("video_breaks_off", f"frame {wanted[len(got)]} cannot be read")
            yield from reversed(got) if backward else got


class VideoProcessor:
    """The stages in order, with one set of components."""

    def __init__(self, config: BuildConfig, components: Components) -> None:
        self._config, self._parts = config, components
        self._provenance = {
            "versions": _versions(),
            "fingerprint": fingerprint(config),
            "seed": config.seed,
            "grounder": asdict(config.grounder),
            "tracker": asdict(config.tracker),
            "thresholds": {name: asdict(getattr(config, name)) for name in STAGES if name != "noun_chunks"},
        }

    def process(self, item: CaptionedVideo) -> VideoResult:
        """Work on one video; what a video, a caption or a backend does wrong puts the video aside.

        Raises:
            OSError: the disk is full, which ends a run.
        """
        result = VideoResult()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of readers, about damage that is counted here
                self._process(item, result)
        except PoisonedVideoError as error:
            return VideoResult(quarantined=(error.reason, error.detail), seconds=result.seconds)
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            return VideoResult(quarantined=("error", f"OSError: {error}"), seconds=result.seconds)
        except Exception as error:
            return VideoResult(quarantined=("error", f"{type(error).__name__}: {error}"), seconds=result.seconds)
        return result

    def _process(self, item: CaptionedVideo, result: VideoResult) -> None:
        if self._config.enrichment.enabled:
            item = self._enriched(item, result)
        with _timed(result, "noun_chunks"):
            chunks = split_caption(self._parts.nlp, item.caption, self._config.noun_chunks)
        result.counts["phrases"] = len(chunks.phrases) + chunks.dropped.total()
        result.dropped.update(chunks.dropped)
        if chunks.caption_reason or not chunks.phrases:
            result.dropped[chunks.caption_reason or "caption.no_phrase"] += 1
            return
        with _timed(result, "decode"):
            source = _source_of(item)
        with source as video:
            clip = self._clip(video, result)
            if clip is None:
                result.dropped["phrases_of_dropped_videos"] += len(chunks.phrases)
                return
            grounded = self._ground(clip, chunks.phrases, result)
            if grounded:
                self._follow(item, clip, grounded, result)
        if result.rows:
            _keep_member(item, self._config.folder)
        result.counts["kept"] = len(result.rows)

    def _enriched(self, item: CaptionedVideo, result: VideoResult) -> CaptionedVideo:
        """The video with more words; what is known of it before stays in the provenance of its rows."""
        settings, describer = self._config.enrichment, self._parts.describer
        assert describer is not None
        if settings.how == "if_empty" and item.caption.strip():
            return item
        with _timed(result, "decode"), _source_of(item) as video:
            if not video.num_frames:
                raise PoisonedVideoError("video_unreadable", "the number of its frames is not known")
            wanted = even_indices(video.num_frames, settings.frames)
            frames = video.read(wanted)
            if len(frames) < len(wanted):
                raise PoisonedVideoError("video_breaks_off", f"frame {wanted[len(frames)]} cannot be read")
        with _timed(result, "enrichment"):
            return replace(item, caption=enriched(item.caption, frames, describer, settings), given=item.caption)

    def _clip(self, video: VideoSource, result: VideoResult) -> _Clip | None:
        """Choose the frames, or count why the video is dropped."""
        settings = self._config.video
        count, times = video.num_frames, video.timestamps
        if count is None or times is None:
            raise PoisonedVideoError("video_unreadable", "neither length nor times of its frames are known")
        reason = None
        if settings.max_seconds is not None and times[-1] - times[0] > settings.max_seconds:
            reason = "video.too_long"
        elif min(video.width, video.height) < settings.min_side:
            reason = "video.too_small"
        elif len(range(0, count, settings.frame_step)) < settings.min_frames:
            reason = "video.too_short"
        if reason is not None:
            result.dropped[reason] += 1
            return None
        indices = list(range(0, count, settings.frame_step))
        if self._config.shots.enabled:
            with _timed(result, "shots"):
                whole = _Clip(video, indices, [])
                first, end = longest_shot(find_cuts(whole.frames(), self._config.shots), len(indices))
            indices = indices[first:end]
            if len(indices) < settings.min_frames:
                result.dropped["shots.too_short"] += 1
                return None
        return _Clip(video, indices, [times[index] for index in indices])

    def _ground(self, clip: _Clip, phrases: list[Any], result: VideoResult) -> list[Grounded]:
        with _timed(result, "decode"):
            wanted = [clip.indices[0], clip.indices[_middle(clip)], clip.indices[-1]]
            frames = clip.video.read(wanted)
            if len(frames) < len(wanted):
                raise PoisonedVideoError("video_breaks_off", f"frame {wanted[len(frames)]} cannot be read")
        with _timed(result, "grounding"):
            found, dropped = ground_phrases(self._parts.grounder, frames, phrases, self._config.grounding)
        result.dropped.update(dropped)
        kept = []
        for one in found:
            reason = why_ambiguous(one.in_first, self._config.unique)
            if reason is None:
                kept.append(one)
            else:
                result.dropped[reason] += 1
        return kept

    def _follow(self, item: CaptionedVideo, clip: _Clip, grounded: list[Grounded], result: VideoResult) -> None:
        boxes = np.stack([one.boxes[0] for one in grounded])
        with _timed(result, "tracking"):
            tracks = follow_objects(self._parts.tracker, clip.frames(), boxes, self._config.tracking)
        measured: list[dict[str, Any]] = []
        with _timed(result, "filters"):
            for one, track in zip(grounded, tracks, strict=True):
                measured.append({} if track.reason else self._filter(clip, one, track))
        if self._config.forward_backward.enabled:
            with _timed(result, "forward_backward"):
                self._track_back(clip, tracks, measured)
        for one, track, numbers in zip(grounded, tracks, measured, strict=True):
            if track.reason is not None:
                result.dropped[track.reason] += 1
                continue
            result.rows.append(self._row(item, clip, one, track, numbers, len(result.rows)))

    def _filter(self, clip: _Clip, one: Grounded, track: Tracked) -> dict[str, Any]:
        """Measure drift and consistency; what fails gets its reason."""
        if len(track.boxes) < len(clip.indices):
            raise PoisonedVideoError("tracker_error", f"boxes for {len(track.boxes)} of {len(clip.indices)} frames")
        boxes, middle = np.stack(track.boxes), _middle(clip)
        squared = innovations(boxes, (clip.video.width, clip.video.height), clip.times, self._config.drift)
        overlap = overlaps(one.boxes[1:], boxes[[middle, -1]])
        track.reason = why_drifted(squared, self._config.drift) or why_inconsistent(overlap, self._config.consistency)
        return {
            "grounding_scores": [round(float(score), 6) for score in one.scores],
            "min_tracking_score": round(min(track.scores), 6),
            "max_innovation": round(float(squared.max()), 4),
            "iou_middle": round(overlap[0], 6),
            "iou_last": round(overlap[1], 6),
        }

    def _track_back(self, clip: _Clip, tracks: list[Tracked], measured: list[dict[str, Any]]) -> None:
        left = [position for position, track in enumerate(tracks) if track.reason is None]
        if not left:
            return
        first, last = (np.stack([tracks[position].boxes[end] for position in left]) for end in (0, -1))
        came_home = return_overlaps(self._parts.tracker, clip.frames(backward=True), first, last)
        for position, overlap in zip(left, came_home, strict=True):
            measured[position]["iou_back"] = round(float(overlap), 6)
            tracks[position].reason = why_lost_on_the_way_back(overlap, self._config.forward_backward)

    def _row(
        self, item: CaptionedVideo, clip: _Clip, one: Grounded, track: Tracked, measured: dict[str, Any], number: int
    ) -> Trajectory:
        return Trajectory(
            id=f"{item.id}#{number}", video_id=item.id, source=item.source, license=item.license,
            video=_written_address(item, self._config.folder), width=clip.video.width, height=clip.video.height,
            fps=clip.video.fps, frame_indices=clip.indices, timestamps=clip.times, boxes=np.stack(track.boxes),
            presence=np.ones(len(track.boxes), dtype=bool), scores=np.array(track.scores), phrase=one.phrase.text,
            caption=" ".join(item.caption.split()), provenance=self._provenance_of(item, measured),
        )  # fmt: skip

    def _provenance_of(self, item: CaptionedVideo, measured: dict[str, Any]) -> dict[str, Any]:
        given = {} if item.given is None else {"caption_before_enrichment": item.given}
        return {**self._provenance, **given, "measured": measured}


def _middle(clip: _Clip) -> int:
    return (len(clip.indices) - 1) // 2


@contextmanager
def _timed(result: VideoResult, stage: str) -> Iterator[None]:
    begun = time.perf_counter()
    try:
        yield
    finally:
        result.seconds[stage] += time.perf_counter() - begun


def _source_of(item: CaptionedVideo) -> VideoSource:
    try:
        if item.tar_offset is None:
            return open_video(item.video)
        return open_video(_member(item))
    except FileNotFoundError as error:
        raise PoisonedVideoError("video_missing", f"{item.video} does not exist") from error
    except Exception as error:
        missing = "://" not in item.video and not os.path.exists(item.video)
        raise PoisonedVideoError("video_missing" if missing else "video_unreadable", str(error)) from error


def _member(item: CaptionedVideo) -> bytes:
    with open(item.video, "rb") as tar:
        tar.seek(item.tar_offset or 0)
        return tar.read(item.tar_size or 0)


def _unpacked(item: CaptionedVideo) -> str:
    """Name, in the output folder, of a video that was in a tar."""
    ending = os.path.splitext(item.tar_member or "")[1].lower() or ".mp4"
    name = hashlib.sha256(item.id.encode()).hexdigest()[:20]
    return f"videos/{name[:2]}/{name}{ending}"


def _keep_member(item: CaptionedVideo, folder: Path) -> None:
    """Unpack a video that has trajectories, whole or not at all."""
    if item.tar_offset is None:
        return
    target = folder / _unpacked(item)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(_member(item))
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _written_address(item: CaptionedVideo, folder: Path) -> str:
    if item.tar_offset is not None:
        return _unpacked(item)
    return item.video if "://" in item.video else Path(os.path.relpath(item.video, folder)).as_posix()


def _versions() -> dict[str, str]:
    found = {}
    for name in VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
