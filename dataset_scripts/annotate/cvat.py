"""CVAT's side: a tracker as its serverless functions are, a frame at a time, and whole tracks in one request.

A frame at a time is what CVAT's page asks for (its `lambda_manager`): `{"image", "shapes", "states"}`, where a shape
without a state begins a track and a state goes on with one. States come back with the next request, so that the
function remembers nothing: a state holds the last box and the frame around it, as JPEG.

Whole tracks are asked by a script: `{"video", "frame", "shapes"}` from boxes, `{"video", "phrases"}` from words,
`{"video", "frame", "tracks"}` to go on from the box at `frame`, keyframes before it untouched. The answer's `tracks`
are those of CVAT's annotations: corners in pixels, frames from 0, `outside` from the first frame without the object.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .keyframes import thin
from .propagate import OpenedVideo, Propagator, WholeTrack, opened
from .requests import BadRequestError, ModelFailedError, as_box, as_list, as_mapping, as_number, as_text, media_path

__all__ = ["CvatFunction", "respond"]

MOST_PIXELS = 100_000_000
MOST_SHAPES = 100_000
JPEG_QUALITY = 92


@dataclass(frozen=True)
class _State:
    """What CVAT carries from frame to frame for one object."""

    box: np.ndarray
    frame: str  # base64
    legacy: bool  # shapes are corners without their type

    def plain(self) -> dict[str, Any]:
        """As JSON, for `_read_state`."""
        return {"box": [float(v) for v in self.box], "frame": self.frame, "legacy": self.legacy}


class CvatFunction:
    """Answers requests with one `Propagator`."""

    def __init__(self, propagator: Propagator) -> None:
        self._propagator = propagator

    def answer(self, body: Any) -> dict[str, Any]:
        """Answer a request: `{"shapes", "states"}` for a frame, `{"tracks"}` for a video.

        Raises:
            BadRequestError: the request is wrong.
        """
        request = as_mapping(body, "the request")
        if "video" in request and "image" in request:
            raise BadRequestError("give either image (one frame) or video (whole tracks), not both.")
        with self._propagator.lock:
            if "video" in request:
                return self._whole(request)
            if "image" in request:
                return self._frame(request)
        raise BadRequestError("the request has neither image (one frame) nor video (whole tracks).")

    # ---------------------------------------------------------------------------------------------------------------
    # a frame at a time
    # ---------------------------------------------------------------------------------------------------------------
    def _frame(self, request: dict[str, Any]) -> dict[str, Any]:
        config = self._propagator.config
        picture = _picture(request["image"], config.max_request_mb)
        size = picture.size
        shapes = as_list(request.get("shapes") or [], "shapes", config.max_objects)
        states = as_list(request.get("states") or [], "states", config.max_objects)
        count = max(len(shapes), len(states))
        shapes, states = shapes + [None] * (count - len(shapes)), states + [None] * (count - len(states))
        now = _encoded(picture, config.state_side)
        answers: list[tuple[np.ndarray | None, _State]] = []
        waiting: defaultdict[str, list[int]] = defaultdict(list)  # the frame before -> objects last seen in it
        for number, (shape, state) in enumerate(zip(shapes, states, strict=True)):
            name = f"shapes[{number}]"
            if state is None:
                box = as_box(_corners(shape, size, name), name)
                answers.append((box, _State(box, now, isinstance(shape, list))))
            else:
                before = _read_state(state, f"states[{number}]")
                answers.append((None, before))
                waiting[before.frame].append(number)
        for frame, numbers in waiting.items():
            first = _picture(frame, config.max_request_mb)
            pair = [np.asarray(first), np.asarray(picture.resize(first.size))]
            boxes = self._propagator.follow(pair, np.stack([answers[number][1].box for number in numbers]))
            for number, box in zip(numbers, boxes, strict=True):
                if not np.isnan(box).any():  # where it is lost the state stays, so that it may be found again
                    answers[number] = box, _State(box, now, answers[number][1].legacy)
        return {
            "shapes": [None if box is None else _shape(box, size, state.legacy) for box, state in answers],
            "states": [state.plain() for _, state in answers],
        }

    # ---------------------------------------------------------------------------------------------------------------
    # whole tracks
    # ---------------------------------------------------------------------------------------------------------------
    def _whole(self, request: dict[str, Any]) -> dict[str, Any]:
        asked = [name for name in ("shapes", "phrases", "tracks") if name in request]
        if len(asked) != 1:
            raise BadRequestError(f"give one of shapes, phrases, tracks beside video; found {asked or 'none'}.")
        most = self._propagator.config.max_objects
        items = as_list(request[asked[0]], asked[0], most)
        with opened(media_path(request["video"], self._propagator.config.media_root)) as video:
            if asked == ["phrases"]:
                return {"tracks": self._by_words([as_text(i, "phrases[]") for i in items], video)}
            frame = int(as_number(request.get("frame", 0), "frame", 0, video.num_frames - 1))
            if asked == ["tracks"]:
                return {"tracks": [self._continued(as_mapping(i, "tracks[]"), frame, video) for i in items]}
            corners = [_corners(item, video.size, f"shapes[{n}]") for n, item in enumerate(items)]
            boxes = [as_box(box, f"shapes[{n}]") for n, box in enumerate(corners)]
            return {"tracks": [self._written(self._propagator.track(video, {frame: b}), video) for b in boxes]}

    def _by_words(self, phrases: list[str], video: OpenedVideo) -> list[dict[str, Any]]:
        """A track for every phrase that is found, labeled with it."""
        tracks = []
        for number, (frame, box, score) in sorted(self._propagator.find(video, phrases).items()):
            track = self._propagator.track(video, {frame: box})
            track.scores[0] = score
            tracks.append({**self._written(track, video), "label": phrases[number]})
        return tracks

    def _continued(self, track: dict[str, Any], frame: int, video: OpenedVideo) -> dict[str, Any]:
        """A track with its shapes before `frame` as they are and new ones from the box at `frame` on."""
        shapes = [
            as_mapping(s, "tracks[].shapes[]") for s in as_list(track.get("shapes"), "tracks[].shapes", MOST_SHAPES)
        ]
        at = {int(as_number(s.get("frame"), "tracks[].shapes[].frame", 0, video.num_frames)): s for s in shapes}
        if frame not in at or at[frame].get("outside"):
            raise BadRequestError(f"a track has no box at frame {frame}; it has {sorted(at)[:8]}.")
        box = as_box(_corners(at[frame], video.size, f"the box at frame {frame}"), f"the box at frame {frame}")
        new = self._written(self._propagator.track(video, {frame: box}), video)
        known = {name: track[name] for name in ("label", "label_id", "group", "attributes") if name in track}
        kept = [at[f] for f in sorted(at) if f < frame]
        return {**new, **known, "frame": min([frame, *at]), "shapes": [*kept, *new["shapes"]]}

    def _written(self, track: WholeTrack, video: OpenedVideo) -> dict[str, Any]:
        keys = thin(track.boxes, track.scores, self._propagator.config.tolerance, track.given, track.first)
        shapes = []
        for key in keys:
            points = _points(key.box, video.size)
            shapes.append(_tracked(key.frame, points, False, key.score))
            if not key.carries_on and key.frame + 1 < video.num_frames:
                shapes.append(_tracked(key.frame + 1, points, True, 0.0))
        return {
            "frame": track.first, "group": 0, "source": "auto", "attributes": [], "score": round(track.score, 4),
            "shapes": shapes,
        }  # fmt: skip


def respond(function: CvatFunction, context: Any, event: Any) -> Any:
    """Answer an event of nuclio: status 200 with the answer, or 400 (500: a model failed) with `{"error": ...}`."""
    try:
        body = event.body
        status, answer = 200, function.answer(json.loads(body) if isinstance(body, bytes | str) else body)
    except (BadRequestError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        context.logger.warn(f"refused: {error}")
        status, answer = 400, {"error": str(error)}
    except ModelFailedError as error:
        context.logger.warn(f"failed: {error}")
        status, answer = 500, {"error": str(error)}
    return context.Response(body=json.dumps(answer), headers={}, content_type="application/json", status_code=status)


def _tracked(frame: int, points: list[float], outside: bool, score: float) -> dict[str, Any]:
    return {
        "type": "rectangle", "frame": frame, "points": points, "outside": outside, "occluded": False, "z_order": 0,
        "rotation": 0.0, "attributes": [], "score": round(score, 4),
    }  # fmt: skip


def _points(box: np.ndarray, size: tuple[int, int]) -> list[float]:
    return [round(float(v), 2) for v in box * np.array([*size, *size])]


def _shape(box: np.ndarray, size: tuple[int, int], legacy: bool) -> Any:
    """A shape as the request's were: corners alone, or with their type, which CVAT writes since it knows several."""
    return _points(box, size) if legacy else {"type": "rectangle", "points": _points(box, size)}


def _corners(shape: Any, size: tuple[int, int], name: str) -> tuple[float, float, float, float]:
    """The corners of a rectangle relative to the frame, from pixels."""
    if isinstance(shape, dict):
        if shape.get("type", "rectangle") != "rectangle":
            raise BadRequestError(f"{name} is a {shape['type']!r}; only rectangles are tracked.")
        if as_number(shape.get("rotation") or 0, f"{name}.rotation"):
            raise BadRequestError(f"{name} is rotated; only upright rectangles are tracked.")
        shape = shape.get("points")
    points = [as_number(v, f"{name}: a corner", -1e6, 1e6) for v in as_list(shape, f"{name}: points", 4)]
    if len(points) != 4:
        raise BadRequestError(f"{name} must have 4 numbers (left, top, right, bottom), found {len(points)}.")
    width, height = size
    return points[0] / width, points[1] / height, points[2] / width, points[3] / height


def _read_state(state: Any, name: str) -> _State:
    known = as_mapping(state, name)
    box = as_list(known.get("box"), f"{name}.box", 4)
    if len(box) != 4 or not isinstance(known.get("frame"), str):
        raise BadRequestError(f"{name} is not a state of this function; begin the track anew.")
    a, b, c, d = (as_number(v, f"{name}.box", 0, 1) for v in box)
    return _State(as_box((a, b, c, d), name), known["frame"], bool(known.get("legacy")))


def _picture(text: Any, most_mb: float) -> Image.Image:
    """Decode a picture."""
    if not isinstance(text, str) or len(text) > most_mb * 2**20:
        raise BadRequestError(f"image must be a picture as base64 text of at most {most_mb:g} MiB (`max_request_mb`).")
    try:
        picture = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
        if picture.width * picture.height > MOST_PIXELS:
            raise BadRequestError(
                f"image has {picture.width} x {picture.height} pixels, at most {MOST_PIXELS} are read."
            )
        return picture.convert("RGB")
    except BadRequestError:
        raise
    except (binascii.Error, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadRequestError(f"image cannot be read: {error}") from error


def _encoded(picture: Image.Image, longest: int) -> str:
    small, buffer = picture.copy(), io.BytesIO()
    small.thumbnail((longest, longest))
    small.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()
