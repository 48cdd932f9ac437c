"""The state of tracking through one video: what to ask next, and what the answers decide.

The paper (section 4.3) answers a video of at most 32 frames in one piece and cuts a longer one into clips of 8 frames
that share one frame; the last predicted box of a clip starts the next. `clip_schedule` is that rule as pure index
maths, `TrackingSession` the state of one video. Nothing here reads files or knows how a box is written: the processor
does; `scheduling.py` runs sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial as bound
from typing import Any

import numpy as np

from .answering import resize
from .clips import (
    ReadClip,
    check_start_frame,
    clip_schedule,
    read_clips,
    stream_frames,
)
from .exchange import ClipAnswer, ClipRequest, VideoFrame
from .options import TrackingOptions
from .queries import ObjectQuery
from .read_ahead import NOT_YET, ReadAhead
from .trajectory import FrameResult, ObjectResult, Track

Prepare = Callable[[list[VideoFrame]], None]


# --------------------------------------------------------------------------------------------------------------
# the objects that share a start
# --------------------------------------------------------------------------------------------------------------


class _Lane:
    """Objects of one session with the same start frame and direction: they see the same clips."""

    def __init__(
        self, source: Any, queries: list[ObjectQuery], backward: bool, skip_start: bool, options: TrackingOptions
    ):
        self.start, self.backward, self.skip_start = queries[0].start_frame, backward, skip_start
        self.tracks = [Track(query) for query in queries]
        self.options = options
        self.decided = 0  # steps whose boxes are final
        self.finished = False
        self._clips = read_clips(source, self.start, backward, options)
        self._clip: ReadClip | None = None
        self._reader: ReadAhead | None = None
        self._is_stream = source.num_frames is None

    def read_ahead(self, source: Any, prepare: Prepare) -> None:
        """Let a thread read and prepare one clip ahead; a stream frame by frame, so that clips are there in time."""
        if not self._is_stream:
            self._reader = self._clips = ReadAhead(_prepared(self._clips, prepare))
            return
        frames = _prepared_frames(stream_frames(source, self.start), prepare)
        self._reader = ReadAhead(frames, self.options.clip_len, self.options.stall_timeout)
        self._clips = read_clips(source, self.start, self.backward, self.options, self._reader)

    def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.close()

    def covers(self, frame: int) -> bool:
        """Whether this lane reports `frame` at all."""
        step = self.step_of(frame)
        return step >= (1 if self.skip_start else 0)

    def step_of(self, frame: int) -> int:
        """Steps from the start frame to `frame` in the direction of tracking."""
        return self.start - frame if self.backward else frame - self.start

    def requests(self, processor: Any, wait: bool = True) -> list[ClipRequest] | None:
        """Read the next clip and ask for every object in it; empty when the video is at its end.

        Unless `wait`, None where frames of a stream are still to come.
        """
        if self._reader is not None:
            self._reader.waits = wait or not self._is_stream
        clip = next(self._clips, None)
        if clip is NOT_YET:
            return None
        self._clip = clip
        if clip is None:
            self.finished = True
            return []
        first, frames = self._clip.first_step, self._clip.frames
        requests = []
        for track in self.tracks:
            request = build_request(processor, track.query, track.start_box(first), frames, self.options)
            requests.append(replace(request, known_boxes=track.known_boxes(first)))
        return requests

    def accept(
        self, answers: list[ClipAnswer], processor: Any, partial: bool = False
    ) -> Iterator[tuple[VideoFrame, Track, float, Any]]:
        """Decide what is left of the clip from one answer per object: (frame, track, score, box or None).

        Of `partial` answers the frames that have a box in all of them, up to the first that has not: its box may
        still come, and what stands in a gap depends on it.
        """
        clip, first_shared = self._clip, self.clip_end - max(self.options.overlap, 1)
        parsed = [processor.post_process_boxes(item.text, len(clip.frames), partial=partial) for item in answers]
        first = stop = self.decided - clip.first_step
        while stop < len(clip.frames) and (not partial or self._all_tell(clip.first_step + stop, stop, parsed)):
            stop += 1
        for track, answer, said in zip(self.tracks, answers, parsed, strict=True):
            for row in range(first, stop):
                step = clip.first_step + row
                box, score = None, 0.0
                if track.is_given(step):
                    box, score = np.asarray(track.query.box, dtype=np.float64), 1.0  # given, not asked
                elif said.valid[row]:
                    box, score = said.boxes[row], answer.score(*said.spans[row])
                yield clip.frames[row], track, score, track.decide(step, box, self.options.gap_policy)
            track.recent = {step: box for step, box in track.recent.items() if step >= first_shared}
        self.decided = clip.first_step + stop

    @property
    def clip_end(self) -> int:
        """The step behind the clip that was read last."""
        return self._clip.first_step + len(self._clip.frames)

    def _all_tell(self, step: int, row: int, parsed: list[Any]) -> bool:
        """Whether every object has a box in a frame of the clip."""
        return all(track.is_given(step) or said.valid[row] for track, said in zip(self.tracks, parsed, strict=True))


def _prepared(clips: Iterator[ReadClip], prepare: Prepare) -> Iterator[ReadClip]:
    """Clips whose new frames are prepared."""
    for clip in clips:
        prepare(clip.frames[clip.report_from :])
        yield clip


def _prepared_frames(frames: Iterator[VideoFrame | None], prepare: Prepare) -> Iterator[VideoFrame | None]:
    """The same for the frames of a stream, one by one."""
    for frame in frames:
        if frame is not None:
            prepare([frame])
        yield frame


def build_request(
    processor: Any,
    query: ObjectQuery,
    box: np.ndarray | None,
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
    subject = {"expression": query.expression} if ground else {"box": [float(v) for v in box]}
    messages = processor.build_messages("RSOT" if ground else "SOT", len(frames), prompt=prompt, **subject)
    return ClipRequest(messages=messages, frames=frames, expects_boxes=True)


# --------------------------------------------------------------------------------------------------------------
# sessions
# --------------------------------------------------------------------------------------------------------------
class TrackingSession:
    """The state of tracking one or several objects through one video.

    A session is passive: `pending()` reads the next clip and says what to ask, `accept()` takes the answers and gives
    the frames that are decided; `accept_partial()` takes what there is of them before. Memory does not grow with the
    video.

    Args:
        source: the opened video (`processor.open_video`).
        processor: builds messages and reads boxes.
        objects: the objects; those with the same start frame and direction see the same clips and share features.
        options: see `TrackingOptions`.
        read_ahead: read and prepare the next clip in a thread while this one is answered; not where objects go apart
            in time. The thread ends with the session, at the latest when a stream gives its next frame.
        prepare: what the thread does with new frames; None resizes them. An answerer's `prepare` does more where the
            device can.

    Raises:
        ValueError: no object, a start frame outside the video, or backward tracking in a source of unknown length.
    """

    def __init__(
        self,
        source: Any,
        processor: Any,
        objects: list[ObjectQuery],
        options: TrackingOptions | None = None,
        read_ahead: bool = False,
        prepare: Prepare | None = None,
    ) -> None:
        self.source, self.processor = source, processor
        self.options = options if options is not None else TrackingOptions()
        self.objects = list(objects)
        if not self.objects:
            raise ValueError("`objects` is empty; pass at least one box or expression.")
        for query in self.objects:
            check_start_frame(source, query.start_frame)
            if query.direction != "forward" and source.num_frames is None:
                raise ValueError(
                    f"`direction`={query.direction!r} needs a video whose frames can be read again, and this one is a "
                    "stream; pass a file or a list of frames."
                )
        self.num_decided = 0  # (frame, object) pairs so far
        self._lanes = self._make_lanes()
        if read_ahead and len(self._lanes) == 1:
            self._lanes[0].read_ahead(source, prepare or bound(resize, processor=processor))
        self._asked: list[tuple[_Lane, int]] = []
        self._waiting: dict[int, FrameResult] = {}
        self._order = {query.id: place for place, query in enumerate(self.objects)}

    def _make_lanes(self) -> list[_Lane]:
        if self.source.num_frames is None and len({query.start_frame for query in self.objects}) > 1:
            raise ValueError("`start_frame` differs between objects, but a stream is read once; use one start frame.")
        groups: dict[tuple[int, bool, bool], list[ObjectQuery]] = {}
        for query in self.objects:
            if query.direction in ("forward", "both"):
                groups.setdefault((query.start_frame, False, False), []).append(query)
            if query.direction == "backward" or (query.direction == "both" and query.start_frame > 0):
                groups.setdefault((query.start_frame, True, query.direction == "both"), []).append(query)
        return [_Lane(self.source, group, back, skip, self.options) for (_, back, skip), group in groups.items()]

    @property
    def longest_clip(self) -> int:
        """Frames in the longest clip this session will ask about (for a stream: the longest it may)."""
        bound = max(self.options.single_pass_up_to, self.options.clip_len)
        if self.source.num_frames is None:
            return bound
        spans = [lane.start + 1 if lane.backward else self.source.num_frames - lane.start for lane in self._lanes]
        limits = (
            clip_schedule(n, self.options.clip_len, self.options.overlap, self.options.single_pass_up_to)
            for n in spans
        )
        return max(clip.stop - clip.start for clips in limits for clip in clips)

    @property
    def done(self) -> bool:
        """Whether every frame is decided."""
        return all(lane.finished for lane in self._lanes)

    def pending(self, wait: bool = True) -> list[ClipRequest] | None:
        """Read the next clip(s) and return what to ask about them; empty when the session is done.

        Args:
            wait: for the frames of a stream that is read ahead. If not, the answer is None where they are not there
                yet; ask again then. Files are always waited for.
        """
        self._asked, requests = [], []
        for lane in self._lanes:
            if not lane.finished:
                asked = lane.requests(self.processor, wait)
                if asked is None:  # a stream, which has no other lane
                    return None
                self._asked.append((lane, len(asked)))
                requests.extend(asked)
        return requests

    def accept(self, answers: list[ClipAnswer]) -> list[FrameResult]:
        """Take one answer per request of the last `pending()`, in order; return the frames now decided.

        Frames come in the order of the video when all objects go forward, outward from the start frame otherwise.
        """
        remaining = iter(answers)
        for lane, count in self._asked:
            if count:
                self._decide(lane, [next(remaining) for _ in range(count)])
        self._asked = []
        return self.flush()

    def accept_partial(self, answers: list[ClipAnswer]) -> list[FrameResult]:
        """Take what there is of the answers to the last `pending()`, in order; return the frames decided by that.

        `accept()` has to follow with the whole answers. Both together return the frames that it alone would have
        returned, in the same order.
        """
        remaining = iter(answers)
        for lane, count in self._asked:
            if count:
                self._decide(lane, [next(remaining) for _ in range(count)], partial=True)
                if lane.decided < lane.clip_end:
                    break  # frames are noted lane by lane, which is their order
        return self.flush(partial=True)

    def _decide(self, lane: _Lane, answers: list[ClipAnswer], partial: bool = False) -> None:
        for frame, track, score, box in lane.accept(answers, self.processor, partial):
            self._note(lane, frame, track.query, score, box)

    def close(self) -> None:
        """Stop reading the video; only for a session that is given up before it is done."""
        for lane in self._lanes:
            lane.close()

    def flush(self, partial: bool = False) -> list[FrameResult]:
        """Frames that no unfinished lane can still add to; if `partial`, up to the first that one can add to."""
        backward = any(lane.backward for lane in self._lanes)
        results = []
        for frame in list(self._waiting) if backward else sorted(self._waiting):
            if all(
                lane.finished or not lane.covers(frame) or lane.step_of(frame) < lane.decided for lane in self._lanes
            ):
                results.append(self._waiting.pop(frame))
            elif partial:
                break
        for result in results:
            result.objects.sort(key=lambda item: self._order[item.id])
        return results

    def _note(self, lane: _Lane, frame: VideoFrame, query: ObjectQuery, score: float, box: np.ndarray | None) -> None:
        if not lane.covers(frame.index):
            return
        self.num_decided += 1
        result = self._waiting.setdefault(frame.index, FrameResult(frame.index, frame.timestamp, []))
        if box is not None:
            result.objects.append(ObjectResult(query.id, query.label, float(score), box))
