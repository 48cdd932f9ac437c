"""Label Studio's side: what its ML-backend protocol asks, and regions of `VideoRectangle` as answers.

Frames count from 1 at the rate of the project's Video tag, numbers are per cent of the frame, a keyframe with
`enabled` false is the last of a stretch in sight (as in `adapters/my_boxes/label_studio.py`). Keyframes that this code
wrote carry `predicted`, a copy of their own numbers: one whose numbers differ from its copy, or that has none, was
drawn or corrected by an annotator. So nothing has to be remembered between two requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ..adapters.my_boxes.tracks import rotated_extent
from .keyframes import Keyframe, thin
from .propagate import OpenedVideo, Propagator, WholeTrack, opened
from .requests import BadRequestError, as_box, as_list, as_mapping, as_number, as_text, media_path

__all__ = ["LabelConfig", "answer_task", "model_version", "read_label_config"]

SHOWN = ("x", "y", "width", "height")
DECIMALS = 4  # of per cent: a hundredth of a pixel of a 10 000 pixel frame
SAME = 1e-3  # per cent; a page may round what it was given
MOST_KEYFRAMES = 100_000


@dataclass(frozen=True)
class LabelConfig:
    """What a project's labeling configuration says about its videos.

    Attributes:
        from_name: name of the `VideoRectangle` tag.
        to_name: name of its `Video` tag.
        key: key of a task's data that holds the address of the video.
        labels: values of the `Labels` tag of that video, in order.
    """

    from_name: str
    to_name: str
    key: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Clock:
    """Frames of the tool (from 1, at its rate) and of the file (from 0).

    Attributes:
        counted: frames that the tool counts in the video.
        num_frames: frames of the file.
    """

    counted: int
    num_frames: int

    def in_file(self, frame: int) -> int:
        """The file's frame that a frame of the tool shows."""
        if abs(self.counted - self.num_frames) <= 1:
            return min(frame - 1, self.num_frames - 1)
        return min(round((frame - 1) * self.num_frames / self.counted), self.num_frames - 1)

    def rows(self, track: WholeTrack, from_frame: int) -> np.ndarray:
        """For the tool's frames from `from_frame` (counted from 1) on, the row of a track; ends with the track."""
        frames = np.array([self.in_file(frame) for frame in range(from_frame, self.counted + 1)], dtype=int)
        rows = frames - track.first
        return rows[(rows >= 0) & (rows < len(track.boxes))]


def read_label_config(text: Any) -> LabelConfig:
    """Read a labeling configuration.

    Raises:
        BadRequestError: it is no XML, or has no `VideoRectangle` for a `Video`.
    """
    if not isinstance(text, str) or "<!" in text.replace("<!--", ""):
        raise BadRequestError("label_config must be the project's labeling configuration, XML without a DOCTYPE.")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise BadRequestError(f"label_config is no XML: {error}.") from error
    videos = {tag.get("name"): tag.get("value", "") for tag in root.iter("Video")}
    rectangles = [tag for tag in root.iter("VideoRectangle") if tag.get("toName") in videos]
    if not rectangles:
        raise BadRequestError(
            'label_config has no <VideoRectangle name="box" toName="video"/> for a <Video name="video" '
            'value="$video"/>; only boxes in videos are tracked.'
        )
    to_name = rectangles[0].get("toName")
    labels = [label.get("value", "") for tag in root.iter("Labels") if tag.get("toName") == to_name for label in tag]
    return LabelConfig(
        rectangles[0].get("name", "box"), to_name or "", videos[to_name].lstrip("$"), tuple(filter(None, labels))
    )


def answer_task(task: Any, config: LabelConfig, context: Any, propagator: Propagator, version: str) -> dict[str, Any]:
    """Return the prediction for one task.

    With a context (interactive annotation), the regions it holds are tracked: from the first box that an annotator
    drew or corrected on, keyframes before it stay as they are; a region without any goes on from its last keyframe.
    Without one, the words of the task's `phrase`, else every label of the project, are looked for and what is found is
    tracked.

    Args:
        task: a task of the tool.
        config: of the project.
        context: `params.context` of the request, or None.
        propagator: the models.
        version: of the model, told back.

    Raises:
        BadRequestError: task or context are wrong, or the video cannot be read or tracked.
    """
    data = as_mapping(as_mapping(task, "task").get("data"), "task.data")
    if config.key not in data:
        raise BadRequestError(f"task.data has no {config.key!r}, which label_config names; it has {sorted(data)[:8]}.")
    path = media_path(data[config.key], propagator.config.media_root)
    with opened(path) as video:
        regions = _drawn_regions(context, propagator.config.max_objects)
        if regions:
            result = [_continued(region, config, video, propagator) for region in regions]
        else:
            result = _by_words(data, config, video, propagator)
    score = float(np.mean([region["score"] for region in result])) if result else 0.0
    return {"result": result, "score": round(score, 4), "model_version": version}


def _drawn_regions(context: Any, most: int) -> list[dict[str, Any]]:
    """The boxes in videos that a context holds."""
    if context is None:
        return []
    results = as_list(as_mapping(context, "context").get("result") or [], "context.result", most)
    return [r for r in (as_mapping(one, "context.result[]") for one in results) if r.get("type") == "videorectangle"]


def _continued(
    region: dict[str, Any], config: LabelConfig, video: OpenedVideo, propagator: Propagator
) -> dict[str, Any]:
    """A region of the annotator, tracked to the end."""
    name = f"region {region.get('id', '?')!s:.40}"
    value = as_mapping(region.get("value"), f"{name}: value")
    steps = [
        as_mapping(s, f"{name}: keyframe") for s in as_list(value.get("sequence"), f"{name}: sequence", MOST_KEYFRAMES)
    ]
    if not steps:
        raise BadRequestError(f"{name} has no keyframe; draw a box first.")
    counted = int(as_number(value.get("framesCount") or video.num_frames, f"{name}: framesCount", 1, 1e7))
    clock = _Clock(counted, video.num_frames)
    by_frame = {int(as_number(s.get("frame"), f"{name}: frame", 1, counted)): s for s in steps}
    changed = [frame for frame, step in sorted(by_frame.items()) if not _is_ours(step)] or [max(by_frame)]
    kept = [by_frame[frame] for frame in sorted(by_frame) if frame < changed[0]]
    given = {clock.in_file(frame): _box(by_frame[frame], f"{name}, frame {frame}") for frame in changed}
    track = propagator.track(video, given)
    rows = clock.rows(track, changed[0])
    keys = thin(
        track.boxes[rows], track.scores[rows], propagator.config.tolerance,
        frozenset(frame - changed[0] for frame in changed if frame - changed[0] < len(rows)), changed[0],
    )  # fmt: skip
    sequence = kept + [_step(key, video, clock, by_frame.get(key.frame) if key.given else None) for key in keys]
    return _region(region, config, video, clock, sequence, track.score)


def _is_ours(step: dict[str, Any]) -> bool:
    copied = step.get("predicted")
    if not isinstance(copied, list) or len(copied) != len(SHOWN):
        return False
    numbers = [step.get(name) for name in SHOWN]
    return all(
        isinstance(a, int | float) and isinstance(b, int | float) and abs(a - b) <= SAME
        for a, b in zip(numbers, copied, strict=True)
    )


def _box(step: dict[str, Any], name: str) -> np.ndarray:
    x, y, width, height = (as_number(step.get(key), f"{name}: {key}", -1e4, 1e4) / 100 for key in SHOWN)
    turn = as_number(step.get("rotation") or 0, f"{name}: rotation", -360, 360)
    return as_box(rotated_extent((x, y, x + width, y + height), turn), name)


def _step(key: Keyframe, video: OpenedVideo, clock: _Clock, drawn: dict[str, Any] | None) -> dict[str, Any]:
    """A keyframe of the tool; one that an annotator drew keeps its numbers and has no copy of them."""
    x1, y1, x2, y2 = (float(v) * 100 for v in key.box)
    numbers = [round(v, DECIMALS) for v in (x1, y1, x2 - x1, y2 - y1)]
    step: dict[str, Any] = {
        "frame": key.frame, "enabled": key.carries_on, "rotation": 0,
        "time": round(key.frame * video.num_frames / clock.counted / video.fps, 6),
        **dict(zip(SHOWN, numbers, strict=True)), "score": round(key.score, 4),
    }  # fmt: skip
    if drawn is None:
        return {**step, "predicted": numbers}
    # a box that was turned becomes the upright one around it: what is tracked is upright
    return step if drawn.get("rotation") else {**step, **{name: drawn[name] for name in SHOWN}}


def _region(
    region: dict[str, Any], config: LabelConfig, video: OpenedVideo, clock: _Clock, sequence: list[dict[str, Any]],
    score: float,
) -> dict[str, Any]:  # fmt: skip
    value = {
        **as_mapping(region.get("value") or {}, "value"),
        "framesCount": clock.counted,
        "duration": (region.get("value") or {}).get("duration") or round(video.num_frames / video.fps, 6),
        "sequence": sequence,
    }
    known = {name: region[name] for name in ("id", "meta", "parentID") if name in region}
    return {
        **known, "from_name": config.from_name, "to_name": config.to_name, "type": "videorectangle",
        "origin": "prediction", "value": value, "score": round(score, 4),
    }  # fmt: skip


def _by_words(
    data: dict[str, Any], config: LabelConfig, video: OpenedVideo, propagator: Propagator
) -> list[dict[str, Any]]:
    """A region for the task's phrase, or for every label that is found."""
    if "phrase" in data:
        labels = config.labels if len(config.labels) == 1 else ()
        asked = [(as_text(data["phrase"], "task.data.phrase"), list(labels))]
    else:
        asked = [(label.replace("_", " "), [label]) for label in config.labels[: propagator.config.max_objects]]
    clock, regions = _Clock(video.num_frames, video.num_frames), []
    found = propagator.find(video, [phrase for phrase, _ in asked])
    for number, (phrase, labels) in enumerate(asked):
        if number not in found:
            continue
        frame, box, score = found[number]
        track = propagator.track(video, {frame: box})
        track.scores[0] = score
        keys = thin(track.boxes, track.scores, propagator.config.tolerance, first=frame + 1)
        sequence = [_step(key, video, clock, None) for key in keys]
        region = {"id": f"elysium-{number}", "meta": {"text": [phrase]}, "value": {"labels": labels} if labels else {}}
        regions.append(_region(region, config, video, clock, sequence, track.score))
    return regions


def model_version(propagator: Propagator) -> str:
    """What predictions are filed under."""
    checkpoint = propagator.config.tracker.options.get("checkpoint")
    return f"elysium-{propagator.config.tracker.kind}" + (f"-{Path(str(checkpoint)).name}" if checkpoint else "")
