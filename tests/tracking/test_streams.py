"""Cameras and generators: read ahead in a thread, and everything that can go wrong with them."""

import gc
import itertools
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from tracking_elysium.options import TrackingOptions
from tracking_elysium.pipeline_video_tracking import VideoTrackingPipeline
from tracking_elysium.queries import ObjectQuery
from tracking_elysium.read_ahead import NOT_YET, ReadAhead, StallError
from tracking_elysium.session import TrackingSession

from .oracle import PROCESSOR, Oracle, moving_box, video
from .scripted import saying, scripted_model

BOX = (3.0, 4.0, 15.0, 10.0)
SHORT = {"box": BOX, "clip_len": 4, "single_pass_up_to": 0}
STALL_S = 1.0  # long enough for a busy machine to start a thread
PATIENCE_S = 30.0
DESCRIPTORS = Path("/proc/self/fd")


class Camera:
    """Gives `count` frames and then what `end` does; counts how many were taken."""

    def __init__(self, count, end=None, pause=0.0):
        self.count, self.end, self.pause = count, end, pause
        self.taken, self.release = 0, threading.Event()

    def frames(self, path=__file__):
        with open(path, "rb"):  # a real one holds a device open
            for frame in itertools.islice(itertools.cycle(video(40)), self.count):
                time.sleep(self.pause)
                self.taken += 1
                yield frame
            if self.end is not None:
                yield from self.end(self)


def changes_size(camera):
    yield np.zeros((8, 6, 3), np.uint8)
    yield from video(9)


def breaks(camera):
    raise OSError("the camera is unplugged")
    yield


def gives_no_picture(camera):
    yield 7


def stalls(camera):
    assert camera.release.wait(PATIENCE_S)
    yield from video(3)


def wait_until(holds):
    deadline = time.monotonic() + PATIENCE_S
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("elysium-")]


def open_files():
    return len(list(DESCRIPTORS.iterdir())) if DESCRIPTORS.exists() else 0


@pytest.fixture
def nothing_left():
    """No thread that reads and no open file is left behind."""
    gc.collect()
    files = open_files()
    yield
    gc.collect()
    assert wait_until(lambda: not reading_threads())
    gc.collect()
    assert wait_until(lambda: open_files() <= files)


def collected(pipe, camera, stream, **options):
    """Frames that came, and the error and warnings that came with them."""
    found, error = [], None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            results = pipe(camera.frames(), **{**SHORT, **options}, stream=stream)
            for result in results:
                found.append(result["frame"])
        except Exception as raised:
            error = raised
    return found, error, [str(item.message) for item in caught if issubclass(item.category, UserWarning)]


# --------------------------------------------------------------------------------------------------------------
# how streams end
# --------------------------------------------------------------------------------------------------------------
# name, frames that come, what then happens, words of the error, words of the warning
ENDS = [
    ("ends within a clip", 11, None, None, None),
    ("ends with a clip", 10, None, None, None),
    ("ends after one frame", 1, None, None, None),
    (
        "changes size within a clip",
        11,
        changes_size,
        None,
        "breaks off after 11 frames (the frame size changes to 6 x 8)",
    ),
    ("changes size after a clip", 10, changes_size, None, "Resize the frames to one size"),
    ("breaks within a clip", 11, breaks, "the camera is unplugged", None),
    ("breaks after a clip", 4, breaks, "the camera is unplugged", None),
    ("breaks after one frame", 1, breaks, "the camera is unplugged", None),
    ("gives no picture", 6, gives_no_picture, "`images` holds a frame of shape ()", None),
    ("stalls within a clip", 11, stalls, None, "breaks off after 11 frames (no frame came for 1 s)"),
    ("stalls after a clip", 4, stalls, None, "Pass a longer `stall_timeout`"),
]


@pytest.mark.parametrize("single_pass_up_to", [0, 32])
@pytest.mark.parametrize(("name", "count", "end", "error", "warning"), ENDS, ids=[row[0] for row in ENDS])
def test_the_frames_before_the_end_are_tracked(
    pipe, oracle, nothing_left, name, count, end, error, warning, single_pass_up_to
):
    camera = Camera(count, end)
    options = {"stall_timeout": STALL_S, "single_pass_up_to": single_pass_up_to}
    found, raised, warned = collected(pipe, camera, True, **options)
    assert found == list(range(count))
    assert (raised is None) == (error is None) and (error is None or error in str(raised))
    assert len(warned) == (warning is not None) and (warning is None or warning in warned[0])
    camera.release.set()


@pytest.mark.parametrize(("name", "count", "end", "error", "warning"), ENDS[3::5], ids=[row[0] for row in ENDS[3::5]])
def test_a_list_of_results_has_them_too(pipe, oracle, nothing_left, name, count, end, error, warning):
    found, raised, warned = collected(pipe, Camera(count, end), False)
    assert (raised is None and found == list(range(count))) or error in str(raised)
    assert len(warned) == (warning is not None)


def test_a_stall_leaves_a_thread_that_ends_with_the_next_frame(pipe, oracle, nothing_left):
    camera = Camera(6, stalls)
    collected(pipe, camera, False, stall_timeout=STALL_S)
    (thread,) = reading_threads()
    assert thread.daemon  # the process may end meanwhile
    camera.release.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_stream_that_ends_or_stalls_before_the_start_frame(pipe, oracle, nothing_left):
    for end in (None, stalls):
        camera = Camera(3, end)
        _, raised, _ = collected(pipe, camera, True, start_frame=5, stall_timeout=STALL_S)
        assert isinstance(raised, ValueError) and "`start_frame`=5 is past the end" in str(raised)
        camera.release.set()


def test_a_slow_consumer_and_a_late_start_are_no_stall(pipe, oracle, nothing_left):
    stream = pipe(Camera(11).frames(), **SHORT, stream=True, stall_timeout=STALL_S)
    for number in range(3):
        assert next(stream)["frame"] == number
        time.sleep(STALL_S * 0.7)  # together longer than a stall
    assert len(list(stream)) == 8
    camera = Camera(9, pause=STALL_S / 4)
    found, raised, warned = collected(pipe, camera, True, start_frame=6, stall_timeout=STALL_S)
    assert (found, raised, warned) == ([6, 7, 8], None, [])


def test_without_a_limit_a_stream_is_waited_for(pipe, oracle, nothing_left):
    camera = Camera(6, stalls)
    timer = threading.Timer(STALL_S, camera.release.set)
    timer.start()
    found, raised, warned = collected(pipe, camera, True, stall_timeout=None)
    assert (found, raised, warned) == (list(range(9)), None, [])
    timer.join()


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "60", True])
def test_stall_timeout_is_checked(pipe, value):
    with pytest.raises(ValueError, match="`stall_timeout`=.* must be a number above 0.*pass None"):
        pipe(video(3), box=BOX, stall_timeout=value)


def test_stall_timeout_of_the_constructor_and_of_the_call(pipe, monkeypatch):
    seen = []
    monkeypatch.setattr(VideoTrackingPipeline, "preprocess", lambda self, inputs, **options: seen.append(options))
    monkeypatch.setattr(VideoTrackingPipeline, "_stream", lambda self, prepared: None)
    own = VideoTrackingPipeline(model=pipe.model, processor=PROCESSOR, device="cpu", stall_timeout=5)
    own(video(3), box=BOX, stream=True)
    own(video(3), box=BOX, stream=True, stall_timeout=None)
    assert [TrackingOptions(**options).stall_timeout for options in seen] == [5, None]


# --------------------------------------------------------------------------------------------------------------
# readers that stop
# --------------------------------------------------------------------------------------------------------------
def close(stream):
    stream.close()


def drop(stream):
    del stream


def fail(stream):
    def use():
        for _ in stream:
            raise KeyError("the consumer's own")

    with pytest.raises(KeyError):
        use()


def never_start(stream):
    del stream


@pytest.mark.parametrize("end", [None, stalls], ids=["running", "stalled"])
@pytest.mark.parametrize("stop", [close, drop, fail, never_start])
def test_a_reader_that_stops(pipe, oracle, nothing_left, stop, end):
    camera = Camera(40 if end is None else 5, end)
    stream = pipe(camera.frames(), **SHORT, stream=True)
    if stop is not never_start:
        assert next(stream)["frame"] == 0
    started = time.monotonic()
    stop(stream)
    del stream
    gc.collect()
    assert time.monotonic() - started < PATIENCE_S / 2  # a stalled camera does not hold up a reader that leaves
    camera.release.set()
    assert wait_until(lambda: not reading_threads())
    taken = camera.taken
    time.sleep(0.1)
    assert camera.taken == taken <= 4 + 4 + 2


# --------------------------------------------------------------------------------------------------------------
# reading ahead, and no further
# --------------------------------------------------------------------------------------------------------------
def test_the_next_clip_of_a_camera_is_read_while_this_one_is_answered(pipe, oracle, nothing_left):
    camera, read = Camera(1000), []

    def answer(request):
        assert wait_until(lambda: camera.taken >= request.frames[-1].index + 1 + 4 + 1)
        time.sleep(0.1)  # would it go on?
        read.append(camera.taken - request.frames[-1].index - 1)
        return Oracle.answer(oracle, request)

    oracle.answer = answer
    stream = pipe(camera.frames(), **SHORT, stream=True)
    assert [next(stream)["frame"] for _ in range(13)] == list(range(13))
    assert read == [4 + 1] * 4  # a clip in the queue and a frame in the thread's hand
    stream.close()


def test_frames_of_a_camera_are_resized_ahead(nothing_left):
    query = ObjectQuery(0, "a", box=tuple(moving_box(0)))
    options = TrackingOptions(clip_len=4, single_pass_up_to=0)
    session = TrackingSession(PROCESSOR.open_video(iter(video(9))), PROCESSOR, [query], options, read_ahead=True)
    (request,) = session.pending()
    assert all(frame.pixels is not None for frame in request.frames)
    session.close()


def test_a_clip_is_there_as_soon_as_its_frames_are(pipe, oracle, nothing_left):
    camera = Camera(4, stalls)
    stream = pipe(camera.frames(), **SHORT, stream=True, stall_timeout=None)
    assert [next(stream)["frame"] for _ in range(4)] == [0, 1, 2, 3]  # the fifth frame has not come
    camera.release.set()
    assert [result["frame"] for result in stream] == [4, 5, 6]


@pytest.mark.parametrize("limit", [None, STALL_S], ids=["waits", "gives up"])
def test_a_camera_that_stalls_holds_up_no_other(pipe, oracle, nothing_left, limit):
    late, steady = Camera(6, stalls), Camera(30)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stream = pipe([late.frames(), steady.frames()], **SHORT, stream=True, stall_timeout=limit)
        found = {0: [], 1: []}
        while len(found[1]) < 30:  # the first one has not gone on by then
            result = next(stream)
            found[result["video"]].append(result["frame"])
        if limit is None:
            late.release.set()
        for result in stream:
            found[result["video"]].append(result["frame"])
    late.release.set()
    assert found == {0: list(range(9 if limit is None else 6)), 1: list(range(30))}
    assert [item for item in caught if "no frame came for 1 s" in str(item.message)] == caught
    assert len(caught) == (limit is not None)


def test_cameras_that_are_both_late_are_waited_for(pipe, oracle, nothing_left):
    cameras = [Camera(5, pause=0.05), Camera(9, pause=0.02), Camera(1, pause=0.2)]
    found = pipe([camera.frames() for camera in cameras], **SHORT)
    assert [[result["frame"] for result in results] for results in found] == [list(range(n)) for n in (5, 9, 1)]


def test_a_reader_that_does_not_wait():
    release = threading.Event()

    def items():
        yield 1
        release.wait(PATIENCE_S)
        yield 2

    reader = ReadAhead(items(), stall_timeout=STALL_S)
    reader.waits = False
    came = (item for item in reader if item is not NOT_YET)
    assert next(came) == 1
    assert next(reader) is NOT_YET
    release.set()
    assert list(came) == [2]
    release.clear()
    late = ReadAhead(items(), stall_timeout=0.2)
    late.waits = False
    came = (item for item in late if item is not NOT_YET)
    assert next(came) == 1
    with pytest.raises(StallError):
        next(came)
    release.set()
    assert wait_until(lambda: not reading_threads())


def test_a_stalled_reader_is_over():
    release = threading.Event()

    def items():
        yield 1
        release.wait(PATIENCE_S)
        yield 2

    reader = ReadAhead(items(), stall_timeout=0.3)
    assert next(reader) == 1
    with pytest.raises(StallError):
        next(reader)
    assert list(reader) == []
    release.set()
    assert wait_until(lambda: not reading_threads())


# --------------------------------------------------------------------------------------------------------------
# models that do not track
# --------------------------------------------------------------------------------------------------------------
NONSENSE = [
    ("never stops", "Frame 1: [11,12,31,42], " * 99),
    ("digits without end", "Frame 1: [" + "12345" * 200),
    ("repeats a frame", "Frame 2: [11,12,31,42], " * 4),
    ("three digits", "Frame 1: [100,234,350,999], Frame 2: [101,234,350,999], Frame 3: [1,2,3,4]"),
    ("swapped corners", "Frame 1: [31,42,11,12], Frame 2: [31,42,11,12], Frame 3: [99,99,99,99]"),
    ("silent", ""),
]


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize(("name", "text"), NONSENSE, ids=[row[0] for row in NONSENSE])
def test_nonsense_over_a_stream_ends_with_boxes_in_the_frame(nothing_left, name, text, constrained):
    model = scripted_model(PROCESSOR, saying(PROCESSOR, lambda question: text))
    pipe = VideoTrackingPipeline(model=model, processor=PROCESSOR, task="video-tracking", device="cpu")
    short = {"clip_len": 3, "single_pass_up_to": 0, "gap_policy": "none", "constrained": constrained}
    results = list(pipe(Camera(5).frames(), box=BOX, stream=True, **short))
    assert [result["frame"] for result in results] == list(range(5))
    assert pipe.stats["answers"] == 2 and pipe.stats["forwards"] <= pipe.stats["tokens"] < 500  # cut at their budget
    for result in results:
        assert len(result["objects"]) == 1 or not constrained
        for item in result["objects"]:
            xmin, ymin, xmax, ymax = item["box"].values()
            assert 0 <= xmin < xmax <= 60 and 0 <= ymin < ymax <= 40 and 0 <= item["score"] <= 1
