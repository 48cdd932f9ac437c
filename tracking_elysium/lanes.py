"""The objects of a session that share a start: what to ask about them clip by clip, and what the answers decide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .clips import ReadClip, read_clips, stream_frames
from .exchange import ClipAnswer, ClipRequest, VideoFrame
from .looks import agreed_on, windows_over
from .options import TrackingOptions
from .protocols import ParsedBoxes, Prepare, Processor, VideoSource
from .queries import ObjectQuery
from .read_ahead import NOT_YET, ReadAhead
from .trajectory import ObjectResult, Track
from .zoom import Window, ZoomState


@dataclass
class _Question:
    """What was asked of one object about the clip under way; of what words name, one question per look.

    Attributes:
        track: the object.
        windows: for every frame of the clip the window that the model sees of it, None for the whole frame.
    """

    track: Track
    windows: list[Window | None]


@dataclass(frozen=True)
class _Said:
    """What is known of one object in one frame: its box (4,) as the model saw it or None, score, presence."""

    box: np.ndarray | None
    score: float
    presence: float | None = None


class Lane:
    """Objects of one session with the same start frame and direction: they see the same clips.

    Args:
        source: the opened video.
        queries: the objects.
        backward: from the start frame to the beginning of the video.
        skip_start: do not report the start frame.
        options: see `TrackingOptions`.
        clips: the clips to ask about, in order; None reads them from the source.
    """

    def __init__(
        self,
        source: VideoSource,
        queries: list[ObjectQuery],
        backward: bool,
        skip_start: bool,
        options: TrackingOptions,
        clips: Iterator[ReadClip] | None = None,
    ):
        self.start, self.backward, self.skip_start = queries[0].start_frame, backward, skip_start
        self.tracks = [Track(query) for query in queries]
        self.options = options
        self.decided = 0  # steps whose boxes are final
        self.finished = False
        if options.zoom:
            for track in self.tracks:
                track.zoom = ZoomState(options.zoom_factor)
        self._questions: list[_Question] = []
        self._clips = read_clips(source, self.start, backward, options) if clips is None else clips
        self._last_clip: ReadClip | None = None
        self._reader: ReadAhead | None = None
        self._is_stream = source.num_frames is None

    def read_ahead(self, source: VideoSource, prepare: Prepare) -> None:
        """Let a thread read and prepare one clip ahead; a stream frame by frame, so that clips are there in time."""
        if not self._is_stream:
            self._reader = self._clips = ReadAhead(_prepared(self._clips, prepare))
            return
        frames = _prepared_frames(stream_frames(source, self.start), prepare)
        self._reader = ReadAhead(frames, self.options.cut[0], self.options.stall_timeout)
        self._clips = read_clips(source, self.start, self.backward, self.options, self._reader)

    def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.close()

    def covers(self, frame: int) -> bool:
        """Return whether this lane reports `frame` at all."""
        step = self.step_of(frame)
        return step >= (1 if self.skip_start else 0)

    def step_of(self, frame: int) -> int:
        """Return the steps from the start frame to `frame` in the direction of tracking."""
        return self.start - frame if self.backward else frame - self.start

    def requests(self, processor: Processor, wait: bool = True) -> list[ClipRequest] | None:
        """Read the next clip and ask for every object in it; empty when the video is at its end.

        Unless `wait`, None where frames of a stream are still to come.
        """
        if self._reader is not None:
            self._reader.waits = wait or not self._is_stream
        clip = next(self._clips, None)
        if clip is NOT_YET:
            return None
        self._last_clip = clip
        if clip is None:
            self.finished = True
            return []
        requests, self._questions = [], []
        parts: dict[Window, VideoFrame] = {}
        for track in self.tracks:
            # Of the first frame alone there may be nothing to ask, its box being given.
            if any(not track.is_given(step) for step in range(self.decided, self.clip_end)):
                windows, request = self._ask(track, processor)
                self._questions.append(_Question(track, windows))
                requests.append(request)
                if request.expression is not None and track.zoom is not None and len(request.frames) == 1:
                    for window, look in self._look_closer(request, parts):
                        self._questions.append(_Question(track, [window]))
                        requests.append(look)
        return requests

    def _look_closer(
        self, request: ClipRequest, parts: dict[Window, VideoFrame]
    ) -> Iterator[tuple[Window, ClipRequest]]:
        """Ask what is asked of a whole frame about windows of it too; `parts` are those cut for other objects."""
        (frame,) = request.frames
        height, width = frame.image.shape[:2]
        for window in windows_over(width, height, self.options.looks):
            if window not in parts:
                parts[window] = VideoFrame(frame.index, frame.timestamp, window.crop(frame.image))
            yield window, replace(request, frames=[parts[window]])

    def _ask(self, track: Track, processor: Processor) -> tuple[list[Window | None], ClipRequest]:
        """Ask about one object, on the whole frames of the clip or on a search window of its new frame."""
        first, frames = self._clip.first_step, self._clip.frames
        no_window: list[Window | None] = [None] * len(frames)
        box = track.start_box(first)
        grounds = track.query.expression is not None and self.options.rsot_continuation == "expression"
        if track.zoom is None or box is None or grounds:
            request = build_request(processor, track.query, box, frames, self.options)
            return no_window, replace(request, known_boxes=track.known_boxes(first))
        template = track.zoom.template or track.zoom.begin(frames[0], box)
        shown, windows = [template], no_window[:1]
        for frame in frames[1:]:
            cut, window = track.zoom.look(frame, box)
            shown.append(cut)
            windows.append(window)
        request = build_request(processor, track.query, template.reference_box, shown, self.options)
        return windows, replace(request, known_boxes=((0, template.reference_box),))

    def accept(
        self, answers: list[ClipAnswer], processor: Processor, partial: bool = False
    ) -> Iterator[tuple[VideoFrame, ObjectResult | None]]:
        """Decide what is left of the clip from one answer per question: of each object in each frame what to report.

        Of `partial` answers the frames that have a box in all of them, up to the first that has not: its box may
        still come, and what stands in a gap depends on it.
        """
        clip = self._clip
        parsed = [processor.post_process_boxes(item.text, len(clip.frames), partial=partial) for item in answers]
        looks: dict[int, list[tuple[_Question, ParsedBoxes, ClipAnswer]]] = {}
        for look in zip(self._questions, parsed, answers, strict=True):
            looks.setdefault(id(look[0].track), []).append(look)
        if partial and len(looks) < len(answers):  # which look counts is known when all are whole
            return
        chosen = {track: self._chosen(asked) for track, asked in looks.items()}
        told = {track: list(look[1:]) for track, look in chosen.items()}
        windows = {track: look[0].windows for track, look in chosen.items()}
        first_shared = self.clip_end - max(self.options.cut[1], 1)
        first = stop = self.decided - clip.first_step
        while stop < len(clip.frames) and (not partial or self._all_tell(clip.first_step + stop, stop, told)):
            stop += 1
        for track in self.tracks:
            for frame_in_clip in range(first, stop):
                said = self._said(track, frame_in_clip, *told.get(id(track), (None, None)))
                window = windows[id(track)][frame_in_clip] if id(track) in windows else None
                yield clip.frames[frame_in_clip], self._decide(track, frame_in_clip, said, window)
            track.recent = {step: box for step, box in track.recent.items() if step >= first_shared}
        self.decided = clip.first_step + stop

    def _chosen(
        self, looks: list[tuple[_Question, ParsedBoxes, ClipAnswer]]
    ) -> tuple[_Question, ParsedBoxes, ClipAnswer]:
        """Choose between the looks at one object in the clip's only frame: the one that the others agree with."""
        if len(looks) == 1:
            return looks[0]
        size, boxes = self._clip.frames[0].image.shape[1::-1], []
        for question, said, _ in looks:
            box = said.boxes[0] if said.valid[0] else None
            boxes.append(box if box is None else _in_frame(box, question.windows[0], size))
        return looks[agreed_on(boxes) or 0]

    def _said(self, track: Track, frame_in_clip: int, said: ParsedBoxes | None, answer: ClipAnswer | None) -> _Said:
        """Read box, score and presence of a frame of the clip, as given or as answered."""
        if track.is_given(self._clip.first_step + frame_in_clip):
            return _Said(np.asarray(track.query.box, dtype=np.float64), 1.0)
        if said is None or answer is None:
            return _Said(None, 0.0)
        presence = answer.presence(frame_in_clip)
        if not said.valid[frame_in_clip]:
            return _Said(None, 0.0, presence)
        return _Said(said.boxes[frame_in_clip], answer.score(*said.spans[frame_in_clip]), presence)

    def _decide(self, track: Track, frame_in_clip: int, said: _Said, window: Window | None) -> ObjectResult | None:
        """Note a frame's box, seen in a window or in the whole frame, and return what to report."""
        step, box = self._clip.first_step + frame_in_clip, said.box
        size = self._clip.frames[frame_in_clip].image.shape[1::-1]
        if window is not None and track.zoom is not None:
            last = track.start_box(self._clip.first_step)
            if last is not None:
                box = track.zoom.note(window, last, box, size, said.presence)
            elif box is not None:  # what words name was found in a part of the frame
                box = _in_frame(box, window, size)
        reported = track.decide(step, box, self.options.gap_policy)
        if reported is None:
            return None
        query, found = track.query, box is not None
        return ObjectResult(query.id, query.label, said.score if found else 0.0, reported, found, said.presence)

    @property
    def _clip(self) -> ReadClip:
        """The clip that was read last."""
        if self._last_clip is None:
            raise RuntimeError("no clip was read yet; `requests` reads one.")
        return self._last_clip

    @property
    def clip_end(self) -> int:
        """The step after the clip that was read last."""
        return self._clip.first_step + len(self._clip.frames)

    def _all_tell(self, step: int, frame_in_clip: int, told: dict[int, list[Any]]) -> bool:
        """Return whether every object has a box in a frame of the clip."""
        return all(track.is_given(step) or told[id(track)][0].valid[frame_in_clip] for track in self.tracks)


def _in_frame(box: np.ndarray, window: Window | None, size: tuple[int, int]) -> np.ndarray | None:
    """Map a box (4,) of a look to [0, 1] of a frame of this width and height; None where it lies outside."""
    box = box if window is None else np.clip(window.to_frame(box, *size), 0.0, 1.0)
    return box if (box[2:] > box[:2]).all() else None


def _prepared(clips: Iterator[ReadClip], prepare: Prepare) -> Iterator[ReadClip]:
    """Prepare the new frames of clips."""
    for clip in clips:
        prepare(clip.frames[clip.report_from :])
        yield clip


def _prepared_frames(frames: Iterator[VideoFrame | None], prepare: Prepare) -> Iterator[VideoFrame | None]:
    """Prepare the frames of a stream, one by one."""
    for frame in frames:
        if frame is not None:
            prepare([frame])
        yield frame


def build_request(
    processor: Processor,
    query: ObjectQuery,
    box: Sequence[float] | np.ndarray | None,
    frames: list[VideoFrame],
    options: TrackingOptions,
) -> ClipRequest:
    """Ask for one object in one clip: SOT when a box is known, RSOT when only the expression is.

    Args:
        processor: builds the messages.
        query: the object.
        box: its box (4,) in [0, 1] in the clip's first frame, or None.
        frames: the clip.
        options: continuation rule and prompt template.

    Returns:
        The request, ready for an answerer.
    """
    ground = query.expression is not None and (box is None or options.rsot_continuation == "expression")
    prompt = options.prompt
    if prompt is not None and query.expression is not None and not ground and "{box}" not in prompt:
        prompt = None  # a template for grounding says nothing about continuing from a box
    subject: dict[str, Any] = {"expression": query.expression}
    if box is not None and not ground:
        subject = {"box": [float(v) for v in box]}
    messages = processor.build_messages("RSOT" if ground else "SOT", len(frames), prompt=prompt, **subject)
    return ClipRequest(messages, frames, expression=query.expression if ground else None)
