"""The tracker that is pushed frame by frame: the pipeline's boxes, changes while it runs, cameras, flat memory."""

import gc
import threading
import time
import weakref
import zlib
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from processing_elysium import format_boxes
from tracking_elysium.exchange import ClipAnswer, VideoFrame
from tracking_elysium.live import LiveTracker
from tracking_elysium.options import TrackingOptions

from .oracle import PROCESSOR, SIZE, Oracle, OracleAnswerer, moving_box, question_of, tiny_pipeline, video

BOX, OTHER = (3.0, 4.0, 15.0, 10.0), (20.0, 20.0, 44.0, 36.0)
PATIENCE_S = 30.0


class Attentive(Oracle):
    """Answers that depend on all of a question, its frames' pixels included, and now and then leave a box out."""

    def answer(self, request):
        parts = []
        for number, frame in enumerate(request.frames, start=1):
            seed = zlib.crc32(repr((question_of(request), number)).encode() + frame.image.tobytes())
            rng = np.random.default_rng(seed)
            box = (*rng.uniform(0, 0.5, 2), *rng.uniform(0.55, 1, 2))
            parts.append(f"Frame {number}: nothing" if seed % 4 == 0 else format_boxes([box], first_frame=number))
        return ClipAnswer(", ".join(parts))


@pytest.fixture
def attentive(pipe, monkeypatch):
    """The pipeline answered by it; its options are those of the real one."""
    monkeypatch.setattr(pipe, "answerer", partial(OracleAnswerer, Attentive()))


def rounded(results):
    """Frame -> id -> box, to the tenth of a pixel, and score; padding of batches moves the last digits."""
    return {
        result["frame"]: {
            item["id"]: ({side: round(value, 1) for side, value in item["box"].items()}, round(item["score"], 3))
            for item in result["objects"]
        }
        for result in results
    }


def pushed(tracker, frames):
    found = []
    for frame in frames:
        assert tracker.push(frame) == tracker.objects
        found.append(tracker.last)
    return found


@pytest.mark.parametrize("zoom", [False, True], ids=["whole", "zoom"])
@pytest.mark.parametrize(
    ("subjects", "options"),
    [
        ({"box": BOX}, {}),
        ({"box": [BOX, OTHER], "labels": ["a", "b"]}, {"gap_policy": "previous_velocity"}),
        ({"expression": ["a dog", "the left cat"]}, {}),
        ({"expression": "a dog"}, {"rsot_continuation": "expression"}),
        ({"expression": "a dog"}, {"constrained": False, "gap_policy": "none"}),
    ],
    ids=["box", "boxes", "expressions", "anew", "free"],
)
def test_pushed_frames_give_what_the_pipeline_streams(pipe, attentive, subjects, options, zoom):
    frames, options = video(24), {"zoom": zoom, **options}
    streamed = list(pipe(iter(frames), **subjects, **options, frame_by_frame=True, stream=True))
    with pipe.open(**subjects, **options) as tracker:
        found = pushed(tracker, frames)
    assert rounded(found) == rounded(streamed)
    assert len({str(item) for item in rounded(found).values()}) > 4
    assert [item["label"] for item in found[-1]["objects"]] == [item["label"] for item in streamed[-1]["objects"]]


@pytest.mark.parametrize("zoom", [False, True], ids=["whole", "zoom"])
def test_the_model_says_the_same(pipe, zoom):
    frames = video(3)
    streamed = list(pipe(iter(frames), box=[BOX, OTHER], zoom=zoom, frame_by_frame=True, stream=True))
    assert rounded(pushed(pipe.open(box=[BOX, OTHER], zoom=zoom), frames)) == rounded(streamed)


@pytest.mark.parametrize("zoom", [False, True], ids=["whole", "zoom"])
def test_an_object_that_is_added_is_tracked_as_from_a_start_frame(pipe, attentive, zoom):
    frames = video(9)
    wanted = pipe(frames, box=[BOX, OTHER], start_frame=[0, 4], zoom=zoom, frame_by_frame=True)
    with pipe.open(box=BOX, zoom=zoom) as tracker:
        found = pushed(tracker, frames[:5])
        assert tracker.add(box=OTHER) == [1]
        found[-1] = tracker.last
        found += pushed(tracker, frames[5:])
    assert rounded(found) == rounded(wanted)


@pytest.mark.parametrize("zoom", [False, True], ids=["whole", "zoom"])
def test_a_corrected_object_goes_on_as_one_that_begins_there(pipe, attentive, zoom):
    frames = video(8)
    wanted = rounded(pipe(frames, box=OTHER, start_frame=3, zoom=zoom, frame_by_frame=True))
    with pipe.open(box=[BOX, BOX], labels=["dog", "cat"], zoom=zoom) as tracker:
        pushed(tracker, frames[:4])
        tracker.correct(0, OTHER)
        corrected = tracker.objects
        later = pushed(tracker, frames[4:])
    assert [(item["id"], item["label"]) for item in corrected] == [(0, "dog"), (1, "cat")]
    assert corrected[0]["box"] == dict(zip(("xmin", "ymin", "xmax", "ymax"), OTHER, strict=True))
    assert {frame: found[0] for frame, found in rounded(later).items()} == {n: wanted[n][0] for n in range(4, 8)}


def test_an_expression_is_looked_for_at_once(pipe, oracle):
    oracle.lanes = {"the second": 1}
    tracker = pipe.open()
    assert tracker.push(video(1)[0]) == []
    assert tracker.add(expression="the second dog") == [0]
    (found,) = tracker.objects
    assert found["label"] == "the second dog" and found["score"] == pytest.approx(0.5)
    assert found["box"]["ymin"] == pytest.approx(moving_box(0, 1)[1] * SIZE[0], abs=SIZE[0] / 100)


def test_removed_objects_are_gone_and_ids_are_not_used_again(pipe, oracle):
    frames = video(4)
    tracker = pipe.open(box=[BOX, OTHER])
    tracker.push(frames[0])
    tracker.remove(0)
    assert [item["id"] for item in tracker.objects] == [1]
    assert [item["id"] for item in tracker.push(frames[1])] == [1]
    assert tracker.add(box=[BOX, BOX], labels=["x", "y"]) == [2, 3]
    assert [(item["id"], item["label"]) for item in tracker.push(frames[2])] == [(1, "object 1"), (2, "x"), (3, "y")]
    assert tracker.add(box=BOX) == [4] and tracker.objects[-1]["label"] == "object 4"
    assert len(oracle.calls[-1]) == 3  # one call for all objects


@pytest.mark.parametrize(
    "convert",
    [Image.fromarray, torch.from_numpy, lambda a: a.transpose(2, 0, 1), lambda a: a / 255.0],
    ids=["image", "tensor", "channels first", "floats"],
)
def test_frames_of_any_kind(pipe, attentive, convert):
    frames = video(3)
    found = pushed(pipe.open(box=BOX), map(convert, frames))
    assert rounded(found) == rounded(pipe(frames, box=BOX, frame_by_frame=True))


def test_time_stamps(pipe, oracle):
    tracker = pipe.open(box=BOX, fps=10)
    assert [found["timestamp"] for found in pushed(tracker, video(3))] == pytest.approx([0, 0.1, 0.2])
    tracker.push(video(1)[0], index=17, timestamp=3.5)
    assert (tracker.last["frame"], tracker.last["timestamp"]) == (17, 3.5)
    assert tracker.stats["frames"] == 4 and tracker.stats["boxes"] == 4


# --------------------------------------------------------------------------------------------------------------
# errors
# --------------------------------------------------------------------------------------------------------------
def test_bad_frames_leave_the_tracker_as_it_was(pipe, attentive):
    frames = video(4)
    wanted = rounded(pipe(frames, box=BOX, frame_by_frame=True))
    tracker = pipe.open(box=BOX)
    tracker.push(frames[0])
    for bad, words in (
        (None, "NoneType"),
        (np.zeros((8, 6, 3), np.uint8), "`frame` has 6 x 8 pixels and those before have 60 x 40"),
        (np.zeros(7), r"shape \(7,\)"),
    ):
        with pytest.raises(ValueError, match=words):
            tracker.push(bad)
    found = [tracker.last, *pushed(tracker, frames[1:])]
    assert rounded(found) == wanted


def test_an_answerer_that_fails_leaves_the_tracker_as_it_was(pipe, oracle):
    frames, works = video(6), oracle.answer
    tracker = pipe.open(box=[BOX, OTHER], zoom=True)
    tracker.push(frames[0])
    for number in (1, 2):
        oracle.answer = lambda request: 1 / 0
        with pytest.raises(ZeroDivisionError):
            tracker.push(frames[number])
        with pytest.raises(ZeroDivisionError):
            tracker.push(frames[number])
        assert tracker.last["frame"] == number - 1
        oracle.answer = works
        assert len(tracker.push(frames[number])) == 2 and tracker.last["frame"] == number


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda t: t.correct(7, BOX), "`object_id`=7 is not followed; the ids are: 0"),
        (lambda t: t.remove("0"), "`object_id`='0' is not followed"),
        (lambda t: t.correct(0, (1, 2, 3)), "box"),
        (lambda t: t.correct(0, [BOX, BOX]), "`box` holds 2 boxes; pass one box"),
        (lambda t: t.add(), "neither `box` nor `expression`"),
        (lambda t: t.add(box=BOX, expression="a"), "both `box` and `expression`"),
        (lambda t: t.add(box=(0, 0, 0, 0)), "box"),
        (lambda t: t.add(expression=" "), "is not a description"),
    ],
)
def test_changes_of_no_use(pipe, oracle, act, words):
    tracker = pipe.open(box=BOX)
    tracker.push(video(1)[0])
    before = tracker.last
    with pytest.raises(ValueError, match=words):
        act(tracker)
    assert tracker.last == before
    assert [item["id"] for item in tracker.push(video(1)[0])] == [0]


def test_changes_before_a_frame_and_pushes_after_the_end(pipe, oracle):
    tracker = pipe.open()
    assert tracker.last == {"frame": None, "timestamp": None, "objects": []}
    with pytest.raises(ValueError, match="`add` needs a frame"):
        tracker.add(box=BOX)
    with pytest.raises(ValueError, match="`object_id`=0 is not followed; the ids are: none"):
        tracker.correct(0, BOX)
    tracker.close()
    with pytest.raises(ValueError, match="after `close`"):
        tracker.push(video(1)[0])


def test_opening_with_options_of_no_use(pipe):
    with pytest.raises(ValueError, match="both `box` and `expression`"):
        pipe.open(box=BOX, expression="a")
    with pytest.raises(ValueError, match="`frame_by_frame`=False and `zoom`=False"):
        pipe.open(box=BOX, frame_by_frame=False)
    with pytest.raises(ValueError, match="`zooom` is no option"):
        pipe.open(box=BOX, zooom=True)
    with pytest.raises(ValueError, match="context holds 64"):
        tiny_pipeline(context=64).open(box=BOX).push(video(1)[0])
    tracker = pipe.open(box=(70, 30, 90, 39))
    with pytest.raises(ValueError, match="box"):
        tracker.push(video(1)[0])


# --------------------------------------------------------------------------------------------------------------
# cameras
# --------------------------------------------------------------------------------------------------------------
class Camera:
    """Gives frames when it is told to."""

    def __init__(self, frames):
        self._frames, self._go, self.given, self.asked = iter(frames), threading.Semaphore(0), 0, 0

    def __iter__(self):
        for frame in self._frames:
            self.asked += 1
            assert self._go.acquire(timeout=PATIENCE_S)
            yield frame
        self.asked += 1

    def give(self, count, wait=True):
        """Hand out frames; return when the next one is asked for, which is when these have been put aside."""
        self.given += count
        self._go.release(count)
        deadline = time.monotonic() + PATIENCE_S
        while wait and self.asked <= self.given and time.monotonic() < deadline:
            time.sleep(0.005)


def live_tracker(oracle, **options):
    answerer = OracleAnswerer(oracle, PIPE.model, PROCESSOR)
    return LiveTracker(PROCESSOR, answerer, TrackingOptions(frame_by_frame=True, **options))


PIPE = tiny_pipeline()


def test_frames_that_come_while_the_model_works_are_left_out_but_for_the_newest():
    camera = Camera(video(12))
    camera.give(1, wait=False)  # taken when the source is opened
    tracker = live_tracker(Oracle())
    results = tracker.follow(iter(camera))
    first = next(results)
    assert (first["frame"], first["skipped"], first["lag"] >= 0) == (0, 0, True)
    tracker.add(box=BOX)
    camera.give(5)
    time.sleep(0.05)
    second = next(results)
    assert (second["frame"], second["skipped"]) == (5, 4)
    assert second["lag"] >= 0.05
    camera.give(1)
    third = next(results)
    assert (third["frame"], third["skipped"]) == (6, 0) and third["objects"]
    camera.give(5)
    assert [item["frame"] for item in results] == [11]  # the last frame comes, whatever was left out


def test_all_frames_of_a_file_are_followed_unless_it_is_played_as_a_camera(pipe, oracle, files):
    with pipe.open(box=BOX) as tracker:
        found = list(tracker.follow(str(files["good"])))
    assert [item["frame"] for item in found] == list(range(12)) and not any(item["skipped"] for item in found)
    started = time.monotonic()
    with pipe.open(box=BOX) as tracker:
        played = list(tracker.follow(str(files["good"]), newest=True))
    assert time.monotonic() - started >= 1.1  # twelve frames at ten a second
    assert played[-1]["frame"] == 11 and sum(1 + item["skipped"] for item in played) == 12
    with pytest.raises(ValueError, match="has no times; pass False"):
        pipe.open(box=BOX).follow(video(3), newest=True)
    with pytest.raises(ValueError, match="`newest`=1 is unknown"):
        pipe.open(box=BOX).follow(video(3), newest=1)


def test_a_camera_that_stalls_ends_with_a_warning(pipe, oracle):
    camera = Camera(video(3))
    camera.give(2, wait=False)
    with pipe.open(box=BOX) as tracker, pytest.warns(UserWarning, match="no frame came in time"):
        assert [item["frame"] for item in tracker.follow(iter(camera), newest=False, stall_timeout=0.5)] == [0, 1]
    camera.give(1, wait=False)


def test_objects_can_be_changed_from_another_thread_while_it_runs():
    tracker, errors = live_tracker(Oracle()), []
    tracker.push(video(1)[0])

    def change():
        try:
            for _ in range(15):
                (number,) = tracker.add(box=BOX)
                tracker.correct(number, OTHER)
                tracker.remove(number)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=change) for _ in range(2)]
    for thread in threads:
        thread.start()
    for frame in video(30):
        tracker.push(frame)
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not errors and tracker.objects == [] and tracker.push(video(1)[0]) == []


# --------------------------------------------------------------------------------------------------------------
# memory
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("zoom", [False, True], ids=["whole", "zoom"])
def test_memory_is_flat(zoom, monkeypatch):
    """Frames and tensors that live do not grow with the video, real decoder included."""
    alive = weakref.WeakSet()
    made = VideoFrame.__init__
    monkeypatch.setattr(VideoFrame, "__init__", lambda self, *a, **k: (alive.add(self), made(self, *a, **k))[0])
    counts = []
    with PIPE.open(box=[BOX, OTHER], zoom=zoom) as tracker:
        for number, frame in enumerate(video(9)):
            tracker.push(frame)
            if number in (3, 8):
                gc.collect()
                counts.append((len(alive), sum(type(item) is torch.Tensor for item in gc.get_objects())))
    assert counts[0][0] == counts[1][0] <= 8
    assert counts[1][1] <= counts[0][1] + 2


def test_answerers_of_your_own(pipe, monkeypatch):
    monkeypatch.setattr(pipe, "answerer", partial(OracleAnswerer, Oracle()))
    assert pushed(pipe.open(box=BOX), video(3))[2]["objects"][0]["score"] == pytest.approx(0.5)
