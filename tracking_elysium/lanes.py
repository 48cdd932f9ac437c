"""The objects of a session that share a start: what to ask about them clip by clip, and what the answers decide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .clips import ReadClip, read_clips, stream_frames
from .exchange import ClipAnswer, ClipRequest, VideoFrame
from .looks import agreed_on, windows_near, windows_over
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
        request: what the model is asked.
        weight: of a look, see `looks.agreed_on`.
    """

    track: Track
    windows: list[Window | None]
    request: ClipRequest
    weight: float = 1.0


@dataclass(frozen=True)
class _Look:
    """A question with its answer, as text and as boxes."""

    question: _Question
    parsed: ParsedBoxes
    answer: ClipAnswer


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
        self._first_looks: list[_Look] = []  # of the clip under way, while closer ones are taken
        self._to_ask = False  # `_questions` are closer looks, which `requests` has not returned yet
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

        Where words are looked for in windows too, those around what was found are asked about before the next clip.
        Unless `wait`, None where frames of a stream are still to come.
        """
        if self._to_ask:
            self._to_ask = False
            return [question.request for question in self._questions]
        if self._reader is not None:
            self._reader.waits = wait or not self._is_stream
        clip = next(self._clips, None)
        if clip is NOT_YET:
            return None
        self._last_clip = clip
        if clip is None:
            self.finished = True
            return []
        self._questions, parts = [], {}
        for track in self.tracks:
            # Of the first frame alone there may be nothing to ask, its box being given.
            if any(not track.is_given(step) for step in range(self.decided, self.clip_end)):
                windows, request = self._ask(track, processor)
                self._questions.append(_Question(track, windows, request))
                if self._looks_closer(self._questions[-1]):
                    height, width = request.frames[0].image.shape[:2]
                    over = windows_over(width, height, self.options.looks).items()
                    self._questions += [self._look(self._questions[-1], *look, parts) for look in over]
        return [question.request for question in self._questions]

    def _looks_closer(self, question: _Question) -> bool:
        """Return whether windows of the frame are looked at too: for words, which are found in a frame alone."""
        grounds = question.request.expression is not None and len(question.request.frames) == 1
        return grounds and self.options.zoom and self.options.looks > 1

    def _look(self, question: _Question, window: Window, weight: float, parts: dict[Window, VideoFrame]) -> _Question:
        """Ask about a window what is asked about the whole frame; `parts` are those cut for other objects."""
        (frame,) = question.request.frames
        if window not in parts:
            parts[window] = VideoFrame(frame.index, frame.timestamp, window.crop(frame.image))
        return _Question(question.track, [window], replace(question.request, frames=[parts[window]]), weight)

    def look_closer(self, answers: list[ClipAnswer], processor: Processor) -> list[ClipRequest]:
        """Ask about windows around what words found in the whole frame; the answers so far are kept for `accept`.

        Returns:
            The questions, which `requests` returns as well; empty, and nothing changed, where there are none.
        """
        if self._first_looks or not any(map(self._looks_closer, self._questions)):
            return []
        looks, near = self._answered(answers, processor), []
        for look in looks:
            if look.question.windows[0] is None and self._looks_closer(look.question) and look.parsed.valid[0]:
                height, width = look.question.request.frames[0].image.shape[:2]
                windows = windows_near(look.parsed.boxes[0], width, height)
                near += [self._look(look.question, window, 1.0, {}) for window in windows]
        if near:
            self._first_looks, self._questions, self._to_ask = looks, near, True
        return [question.request for question in near]

    def forget_looks(self) -> None:
        """Take back `look_closer`, after an error."""
        self._first_looks, self._to_ask = [], False

    def _answered(self, answers: list[ClipAnswer], processor: Processor, partial: bool = False) -> list[_Look]:
        frames = len(self._clip.frames)
        parsed = [processor.post_process_boxes(item.text, frames, partial=partial) for item in answers]
        return [_Look(*look) for look in zip(self._questions, parsed, answers, strict=True)]

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

        Nothing where closer looks come first: `requests` asks for them.

        Of `partial` answers the frames that have a box in all of them, up to the first that has not: its box may
        still come, and what stands in a gap depends on it.
        """
        clip = self._clip
        if partial and any(map(self._looks_closer, self._questions)):
            return  # which look counts is known when all are whole
        if self.look_closer(answers, processor):
            return
        looks = [*self._first_looks, *self._answered(answers, processor, partial)]
        self.forget_looks()
        told = {
            id(track): self._chosen([one for one in looks if one.question.track is track]) for track in self.tracks
        }
        first_shared = self.clip_end - max(self.options.cut[1], 1)
        first = stop = self.decided - clip.first_step
        while stop < len(clip.frames) and (not partial or self._all_tell(clip.first_step + stop, stop, told)):
            stop += 1
        for track in self.tracks:
            for frame_in_clip in range(first, stop):
                look = told[id(track)]
                said = self._said(track, frame_in_clip, look)
                window = look.question.windows[frame_in_clip] if look is not None else None
                yield clip.frames[frame_in_clip], self._decide(track, frame_in_clip, said, window)
            track.recent = {step: box for step, box in track.recent.items() if step >= first_shared}
        self.decided = clip.first_step + stop

    def _chosen(self, looks: list[_Look]) -> _Look | None:
        """Choose between the looks at one object in the clip's only frame; None where nothing was asked."""
        if len(looks) < 2:
            return looks[0] if looks else None
        size, boxes, weights = self._clip.frames[0].image.shape[1::-1], [], []
        for look in looks:
            box = look.parsed.boxes[0] if look.parsed.valid[0] else None
            boxes.append(box if box is None else _in_frame(box, look.question.windows[0], size))
            presence = look.answer.presence(0)
            weights.append(look.question.weight * (1.0 if presence is None else presence))
        return looks[agreed_on(boxes, weights) or 0]

    def _said(self, track: Track, frame_in_clip: int, look: _Look | None) -> _Said:
        """Read box, score and presence of a frame of the clip, as given or as answered."""
        if track.is_given(self._clip.first_step + frame_in_clip):
            return _Said(np.asarray(track.query.box, dtype=np.float64), 1.0)
        if look is None:
            return _Said(None, 0.0)
        said, answer = look.parsed, look.answer
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

    def _all_tell(self, step: int, frame_in_clip: int, told: dict[int, _Look | None]) -> bool:
        """Return whether every object has a box in a frame of the clip."""
        looks = [told[id(track)] for track in self.tracks if not track.is_given(step)]
        return all(look is not None and look.parsed.valid[frame_in_clip] for look in looks)


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
