"""Tracking while frames come: a tracker that is handed one frame after the other and answers each at once.

```python
with pipe.open(box=(34, 40, 120, 160)) as tracker:
    for frame in camera:
        objects = tracker.push(frame)
```

Objects are added, corrected and removed between frames. Every frame is decided when it comes, from the frame before it
and the new one (`TrackingOptions.frame_by_frame`), or in a search window per object (`zoom`); the boxes are those that
the pipeline gives for the same frames. Two frames are held, whatever the length of the video.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from .clips import ReadClip
from .exchange import ClipAnswer, ClipRequest, VideoFrame
from .lanes import Lane, build_request
from .options import TrackingOptions, check_switch
from .protocols import Answerer, Processor, VideoSource
from .queries import ObjectQuery, Subjects, make_queries
from .read_ahead import ReadAhead, StallError
from .trajectory import FrameResult, ObjectResult

Context = Callable[[], AbstractContextManager[Any]]
Begin = Callable[[VideoSource, ObjectQuery], None]


class LiveTracker:
    """Tracks objects through frames that are pushed; made by `VideoTrackingPipeline.open`.

    All methods may be called from any thread; one waits for the other.

    Args:
        processor: builds messages, reads boxes, converts frames.
        answerer: runs the model.
        options: see `TrackingOptions`; `frame_by_frame` or `zoom` has to be on.
        fps: frames per second, for the time stamps of frames that are pushed without one.
        model_context: makes the context in which the model runs, a device for example.
        begin: called with the source and an object when one begins, for a warning.
        subjects: objects to follow from the first frame on; None begins without any.

    Raises:
        ValueError: options that decide several frames together.
    """

    def __init__(
        self,
        processor: Processor,
        answerer: Answerer,
        options: TrackingOptions,
        fps: float | None = None,
        model_context: Context = nullcontext,
        begin: Begin | None = None,
        subjects: Subjects | None = None,
    ) -> None:
        if not options.one_by_one:
            raise ValueError(
                "`frame_by_frame`=False and `zoom`=False decide several frames together; a live tracker needs one of "
                "them on."
            )
        self._processor, self._answerer, self.options = processor, answerer, options
        self._fps, self._model_context, self._begin = fps, model_context, begin
        self._incoming: deque[Any] = deque()  # the frame that is being pushed, on its way through the source
        self._source: VideoSource | None = None
        self._early = subjects  # whose boxes are in pixels of the first frame
        self._followed: dict[int, _Followed] = {}
        self._frame: VideoFrame | None = None  # the last one
        self._found: dict[int, ObjectResult] = {}  # in it
        self._next_id = self._num_pushed = 0
        self._closed = False
        self._lock = threading.RLock()

    # ----------------------------------------------------------------------------------------------------------
    # frames
    # ----------------------------------------------------------------------------------------------------------
    def push(self, frame: Any, index: int | None = None, timestamp: float | None = None) -> list[dict[str, Any]]:
        """Take the next frame and find the objects in it.

        Args:
            frame: a picture as a list of frames may hold it: a uint8 array or tensor (H, W, 3) or (3, H, W), a PIL
                image, a path. All have one size.
            index: its number in the results; None counts on.
            timestamp: its time in seconds; None: by `fps`, unknown without.

        Returns:
            The objects, `{"id", "label", "score", "present", "box"}` each, boxes in pixels; without those that the gap
            policy `"none"` leaves out.

        Raises:
            ValueError: no picture, another size than before, or (with the first frame) a box that is none in it. The
                frame counts as not pushed.
        """
        with self._lock:
            image, source = self._taken(frame)
            number = self._num_pushed if index is None else index
            seconds = source.timestamp(number) if timestamp is None else timestamp
            shown = VideoFrame(number, seconds, image)
            early, self._early = self._early, None
            if early is not None:
                self._followed = self._begun(early, source, number)
            self._found = self._look(list(self._followed.values()), shown)
            self._frame = shown
            self._num_pushed += 1
            self._answerer.stats.frames += 1
            return self.objects

    def follow(
        self, source: Any, newest: bool | None = None, stall_timeout: float | None = 60.0
    ) -> Iterator[dict[str, Any]]:
        """Push the frames of a video or camera, read in a thread, and yield what was found in each.

        Args:
            source: what the pipeline takes for a video: a camera (`"camera:0"`), an address (`"rtsp://..."`), an
                iterator of frames, a file.
            newest: frames that come while the model works are left out, but for the last one, so that the results
                never fall behind by more than a frame. A file is then played at its own speed, as if it were a camera.
                None: for sources of unknown length, and not for files.
            stall_timeout: seconds that a frame is waited for, then the source counts as ended; None waits for ever.

        Yields:
            `{"frame", "timestamp", "objects", "lag", "skipped"}`: number and time in the source, the objects, seconds
            from the arrival of the frame to now, frames left out before it.

        Raises:
            ValueError: a source that cannot be opened, or a file without times that is to be played.
        """
        if newest is not None:
            check_switch("newest", newest)
        video = self._processor.open_video(source)
        is_live = video.num_frames is None
        leaves_out = is_live if newest is None else newest
        if leaves_out and not is_live and video.timestamp(0) is None:
            raise ValueError("`newest`=True plays a video at its own speed, and this one has no times; pass False.")
        arriving = ReadAhead(_arrivals(video, leaves_out and not is_live), 1, stall_timeout, newest=leaves_out)
        return self._followed_frames(video, arriving)

    def _followed_frames(self, video: VideoSource, arriving: ReadAhead) -> Iterator[dict[str, Any]]:
        expected = 0
        try:
            for index, timestamp, image, arrived in arriving:
                self.push(image, index, timestamp)
                yield {**self.last, "lag": time.monotonic() - arrived, "skipped": index - expected}
                expected = index + 1
        except StallError:
            video.break_off(expected, "no frame came in time", "Pass a longer `stall_timeout`, None to wait for ever.")
        finally:
            arriving.close()
            video.close()

    def _taken(self, frame: Any) -> tuple[Any, VideoSource]:
        """Check a frame and convert it as the pipeline converts those of an iterator; return the source it is from."""
        if self._closed:
            raise ValueError("`push` was called after `close`; open another tracker.")
        size, is_first = self._processor.open_video([frame]), self._source is None
        if self._source is None:
            self._incoming.append(frame)
            self._source = self._processor.open_video(self._arriving(), fps=self._fps)
        elif (size.width, size.height) == (self._source.width, self._source.height):
            self._incoming.append(frame)
        else:
            raise ValueError(
                f"`frame` has {size.width} x {size.height} pixels and those before have {self._source.width} x "
                f"{self._source.height}; resize it, or open another tracker."
            )
        try:
            images = self._source.read([self._source.num_read - 1 if is_first else self._source.num_read])
        finally:
            self._incoming.clear()
        if not images:  # the source has warned
            raise ValueError("`frame` could not be read; open another tracker.")
        return images[0], self._source

    def _arriving(self) -> Iterator[Any]:
        """Yield the frame that is being pushed; it is there whenever the source asks."""
        while self._incoming:
            yield self._incoming.popleft()

    # ----------------------------------------------------------------------------------------------------------
    # objects
    # ----------------------------------------------------------------------------------------------------------
    @property
    def objects(self) -> list[dict[str, Any]]:
        """The objects in the last frame, as `push` returned them or as they are since they were corrected."""
        return self.last["objects"]

    @property
    def last(self) -> dict[str, Any]:
        """The last frame in the form of the pipeline's results; `{"frame": None, ...}` before there was one."""
        with self._lock:
            if self._frame is None or self._source is None:
                return {"frame": None, "timestamp": None, "objects": []}
            found = [self._found[number] for number in self._followed if number in self._found]
            result = FrameResult(self._frame.index, self._frame.timestamp, found)
            return result.to_dict(self._source.width, self._source.height)

    @property
    def stats(self) -> dict[str, Any]:
        """What the tracker has cost so far, see `Stats.as_dict`."""
        return self._answerer.stats.as_dict()

    def add(self, *, box: Any = None, expression: Any = None, labels: Any = None) -> list[int]:
        """Follow more objects from the last frame on.

        Args:
            box: (x1, y1, x2, y2) in pixels of the last frame; a list of boxes for several objects.
            expression: what the object is called; a list for several. Exactly one of both is given.
            labels: names for the results, one per object.

        Returns:
            Their ids. An expression is looked for at once: `objects` has what was found.

        Raises:
            ValueError: both or neither of box and expression, one that is of no use, or no frame yet.
        """
        with self._lock:
            frame, source = self._last_frame("add")
            added = self._begun(Subjects(box, expression, 0, labels), source, frame.index)
            found = self._look(list(added.values()), frame)
            self._followed.update(added)
            self._found.update(found)
            return list(added)

    def correct(self, object_id: int, box: Any) -> None:
        """Say where an object is in the last frame; it is followed from there on.

        Args:
            object_id: of the results.
            box: (x1, y1, x2, y2) in pixels.

        Raises:
            ValueError: an unknown id, a box that is none, or no frame yet.
        """
        with self._lock:
            self._check_id(object_id)
            frame, source = self._last_frame("correct")
            query, *others = make_queries(source, self._processor, Subjects(box))
            if others:
                raise ValueError(f"`box` holds {len(others) + 1} boxes; pass one box, that of object {object_id}.")
            label = self._followed[object_id].query.label
            corrected = _Followed(
                replace(query, id=object_id, label=label, start_frame=frame.index), source, self.options
            )
            self._found.update(self._look([corrected], frame))
            self._followed[object_id] = corrected

    def remove(self, object_id: int) -> None:
        """Stop following an object; its id is not used again.

        Raises:
            ValueError: an unknown id.
        """
        with self._lock:
            self._check_id(object_id)
            del self._followed[object_id]
            self._found.pop(object_id, None)

    def close(self) -> None:
        """Let go of frames and objects; nothing can be pushed any more."""
        with self._lock:
            self._closed, self._frame, self._source = True, None, None
            self._followed, self._found = {}, {}

    def __enter__(self) -> LiveTracker:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    # ----------------------------------------------------------------------------------------------------------
    def _last_frame(self, method: str) -> tuple[VideoFrame, VideoSource]:
        if self._frame is None or self._source is None:
            raise ValueError(f"`{method}` needs a frame to look at; push one before, or name the objects in `open`.")
        return self._frame, self._source

    def _check_id(self, object_id: Any) -> None:
        if object_id not in self._followed:
            known = ", ".join(map(str, self._followed)) or "none"
            raise ValueError(f"`object_id`={object_id!r} is not followed; the ids are: {known}.")

    def _begun(self, subjects: Subjects, source: VideoSource, index: int) -> dict[int, _Followed]:
        """Return objects that begin in frame `index`, by their new ids."""
        begun = {}
        for query in make_queries(source, self._processor, subjects):
            number = self._next_id + query.id
            label = f"object {number}" if subjects.box is not None and subjects.labels is None else query.label
            query = replace(query, id=number, label=label, start_frame=index)
            frames: list[Any] = [None, None]
            asked = build_request(self._processor, query, query.box, frames, self.options)
            self._answerer.check_fits([asked])
            if self._begin is not None:
                self._begin(source, query)
            begun[number] = _Followed(query, source, self.options)
        self._next_id += len(begun)
        return begun

    def _look(self, followed: list[_Followed], frame: VideoFrame) -> dict[int, ObjectResult]:
        """Find objects in a frame, all with one call of the answerer; an error leaves them as they were.

        Words that are looked for in windows too take a second call, before anything is decided of any object.
        """
        given = []
        try:
            for item in followed:
                given.append(item)
                item.clips.put(self._frame, frame)
            answers = self._answers([item.lane.requests(self._processor) or [] for item in followed])
            looks = [item.lane.look_closer(own, self._processor) for item, own in zip(followed, answers, strict=True)]
            closer = self._answers(looks)
            answers = [near or own for near, own in zip(closer, answers, strict=True)]
        except BaseException:
            for item in given:
                item.clips.take_back()
                item.lane.forget_looks()
            raise
        found = {}
        for item, own in zip(followed, answers, strict=True):
            for shown, result in item.lane.accept(own, self._processor):
                if shown is frame and result is not None:
                    found[item.query.id] = result
        self._answerer.stats.boxes += len(followed)
        return found

    def _answers(self, asked: list[list[ClipRequest]]) -> list[list[ClipAnswer]]:
        """Answer the questions about all objects, with one call if there are any."""
        together = [request for requests in asked for request in requests]
        if not together:
            return [[] for _ in asked]
        with self._model_context():
            answers = iter(self._answerer(together))
        return [[next(answers) for _ in requests] for requests in asked]


class _Followed:
    """One object: its lane, and the clips that are put into it."""

    def __init__(self, query: ObjectQuery, source: VideoSource, options: TrackingOptions) -> None:
        self.query, self.clips = query, _PushedClips()
        self.lane = Lane(source, [query], False, False, options, self.clips)


class _PushedClips(Iterator[ReadClip]):
    """The clips of one object as `clips.pair_schedule` has them, each put in before it is asked for."""

    def __init__(self) -> None:
        self._steps = 0  # frames put in
        self._clip: ReadClip | None = None

    def put(self, before: VideoFrame | None, frame: VideoFrame) -> None:
        """Take the next frame and the one before it."""
        if self._steps == 0 or before is None:
            self._clip = ReadClip(0, [frame], 0)
        else:
            self._clip = ReadClip(self._steps - 1, [before, frame], 1)
        self._steps += 1

    def take_back(self) -> None:
        """Forget the last frame, which was not answered."""
        self._steps -= 1

    def __next__(self) -> ReadClip:
        """Return the clip that was put in."""
        clip, self._clip = self._clip, None
        if clip is None:
            raise StopIteration
        return clip


def _arrivals(video: VideoSource, in_real_time: bool) -> Iterator[tuple[int, float | None, Any, float]]:
    """Yield number, time, image and moment of arrival of every frame; `in_real_time`: not before its time."""
    started, index = time.monotonic(), 0
    while images := video.read([index]):
        timestamp = video.timestamp(index)
        if in_real_time and timestamp is not None:
            time.sleep(max(started + timestamp - time.monotonic(), 0.0))
        yield index, timestamp, images[0], time.monotonic()
        index += 1
