"""The state of tracking through one video: what to ask next, and what the answers decide.

The paper (section 4.3) answers a video of at most 32 frames in one piece and cuts a longer one into clips of 8 frames
that share one frame; the last predicted box of a clip starts the next. `clip_schedule` is that rule as pure index
maths, `TrackingSession` the state of one video. Nothing here reads files or knows how a box is written: the processor
does; `scheduling.py` runs sessions.
"""

from __future__ import annotations

from functools import partial as bound

from .clips import check_start_frame, clip_schedule
from .exchange import ClipAnswer, ClipRequest, VideoFrame
from .frame_encoding import resize
from .lanes import Lane
from .options import TrackingOptions
from .protocols import Prepare, Processor, VideoSource
from .queries import ObjectQuery
from .trajectory import FrameResult, ObjectResult


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
        source: VideoSource,
        processor: Processor,
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
            # Of whole frames; search windows depend on the boxes before.
            ahead = (lambda frames: None) if self.options.zoom else prepare or bound(resize, processor=processor)
            self._lanes[0].read_ahead(source, ahead)
        self._asked: list[tuple[Lane, int]] = []
        self._waiting: dict[int, FrameResult] = {}
        self._order = {query.id: number for number, query in enumerate(self.objects)}

    def _make_lanes(self) -> list[Lane]:
        if self.source.num_frames is None and len({query.start_frame for query in self.objects}) > 1:
            raise ValueError("`start_frame` differs between objects, but a stream is read once; use one start frame.")
        groups: dict[tuple[int, bool, bool], list[ObjectQuery]] = {}
        for query in self.objects:
            if query.direction in ("forward", "both"):
                groups.setdefault((query.start_frame, False, False), []).append(query)
            if query.direction == "backward" or (query.direction == "both" and query.start_frame > 0):
                groups.setdefault((query.start_frame, True, query.direction == "both"), []).append(query)
        return [Lane(self.source, group, back, skip, self.options) for (_, back, skip), group in groups.items()]

    @property
    def longest_clip(self) -> int:
        """Frames in the longest clip this session will ask about (for a stream: the longest it may)."""
        clip_len, overlap, in_one_piece = self.options.cut
        bound = max(in_one_piece, clip_len)
        if self.source.num_frames is None:
            return bound
        spans = [lane.start + 1 if lane.backward else self.source.num_frames - lane.start for lane in self._lanes]
        limits = (clip_schedule(n, clip_len, overlap, in_one_piece) for n in spans)
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
            if not lane.finished:
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
            if not lane.finished:
                self._decide(lane, [next(remaining) for _ in range(count)], partial=True)
                if lane.decided < lane.clip_end:
                    break  # frames are noted lane by lane, which is their order
        return self.flush(partial=True)

    def _decide(self, lane: Lane, answers: list[ClipAnswer], partial: bool = False) -> None:
        for frame, found in lane.accept(answers, self.processor, partial):
            self._note(lane, frame, found)

    def close(self) -> None:
        """Stop reading the video; only for a session that is given up before it is done."""
        for lane in self._lanes:
            lane.close()

    def flush(self, partial: bool = False) -> list[FrameResult]:
        """Return frames that no unfinished lane can still add to; if `partial`, up to the first that one can."""
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

    def _note(self, lane: Lane, frame: VideoFrame, found: ObjectResult | None) -> None:
        if not lane.covers(frame.index):
            return
        self.num_decided += 1
        result = self._waiting.setdefault(frame.index, FrameResult(frame.index, frame.timestamp, []))
        if found is not None:
            result.objects.append(found)
