"""A visit, step by step, with an oracle for a model."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.tracking.oracle import moving_box
from tracking_elysium.demo import handlers as handlers_module
from tracking_elysium.demo.exports import NAMES
from tracking_elysium.demo.limits import Limits

from .conftest import HEIGHT, NUM_FRAMES, WIDTH

ANN, BOB = "ann", "bob"


def px(frame, lane=0):
    return [round(float(value), 2) for value in moving_box(frame, lane) * [WIDTH, HEIGHT, WIDTH, HEIGHT]]


def tracked(handlers, visitor=ANN):
    """Run a job to its end; its outcomes."""
    return list(handlers.track(visitor, None))


def boxes_of(outcome, number=0):
    return {
        result["frame"]: list(item["box"].values())
        for result in outcome.results
        for item in result["objects"]
        if item["id"] == number
    }


def test_from_upload_to_files(handlers, uploaded):
    session = handlers.open_upload(ANN, uploaded("my clip.mp4"))
    assert (session.clip.name, session.clip.num_frames) == ("my clip.mp4", NUM_FRAMES)
    one = handlers.add_box(ANN, 0, px(0), " the cup ", "forward")
    assert (one.id, one.label, one.start_frame) == (0, "the cup", 0)
    outcome = tracked(handlers)[-1]
    found = boxes_of(outcome)
    assert sorted(found) == list(range(NUM_FRAMES))
    np.testing.assert_allclose([found[frame] for frame in found], [px(frame) for frame in found], atol=0.5)
    assert set(outcome.files) == set(NAMES) and all(path.is_file() for path in outcome.files.values())
    assert json.loads(outcome.files["JSON"].read_text())["video"] == "my clip.mp4"
    with pytest.raises(ValueError, match="Every frame is tracked"):
        tracked(handlers)


def test_pictures_come_on_the_way(handlers, monkeypatch):
    monkeypatch.setattr(handlers_module, "LIVE_EVERY_S", 0.0)
    handlers.open_sample(ANN)
    handlers.add_box(ANN, 0, px(0), None, "forward")
    *way, writing, end = tracked(handlers)
    pictures = [Path(outcome.picture) for outcome in way]
    assert len(set(pictures)) == NUM_FRAMES, "a browser would show the one that it remembers"
    folder = handlers.sessions.of(ANN).folder
    assert sorted(folder.glob("live_*")) == sorted(pictures[-handlers_module.LIVE_KEPT :])
    assert "12 of 12 boxes" in way[-1].status and "Writing" in writing.status
    assert end.results is not None and end.picture is None


def test_boxes_and_words_together(handlers, oracle):
    oracle.lanes = {"the goose": 1, "the duck": 2}
    handlers.open_sample(ANN)
    handlers.add_box(ANN, 4, px(4), None, "both")
    goose, duck = handlers.add_words(ANN, "the goose\n\n  the duck ", 2)
    assert (goose.label, goose.start_frame, duck.id) == ("the goose", 2, 2)
    outcome = tracked(handlers)[-1]
    assert sorted(boxes_of(outcome, 0)) == list(range(NUM_FRAMES))
    assert sorted(boxes_of(outcome, 1)) == sorted(boxes_of(outcome, 2)) == list(range(2, NUM_FRAMES))
    np.testing.assert_allclose(boxes_of(outcome, 2)[7], px(7, lane=2), atol=0.5)


def test_a_correction_goes_on_from_its_frame(handlers, oracle):
    handlers.open_sample(ANN)
    handlers.add_box(ANN, 0, px(0), None, "forward")
    before = boxes_of(tracked(handlers)[-1])
    asked = len(oracle.calls)
    where = [30.0, 20.0, 50.0, 40.0]
    handlers.correct(ANN, 0, 5, where)
    after = boxes_of(tracked(handlers)[-1])
    assert after[5] == where and [after[frame] for frame in range(5)] == [before[frame] for frame in range(5)]
    assert sorted(after) == list(range(NUM_FRAMES))
    first = [frame.index for call in oracle.calls[asked:] for request in call for frame in request.frames]
    assert min(first) == 5  # nothing before is asked about again


def test_stop_keeps_what_there_is_and_track_goes_on(handlers, monkeypatch):
    monkeypatch.setattr(handlers_module, "LIVE_EVERY_S", 0.0)
    handlers.open_sample(ANN)
    handlers.add_box(ANN, 0, px(0), None, "forward")
    job = handlers.track(ANN, None)
    next(job)
    with pytest.raises(ValueError, match="A job is running"):
        handlers.add_box(ANN, 0, px(0), None, "forward")
    assert "Stopping" in handlers.stop(ANN)
    stopped = list(job)[-1]
    assert "Stopped" in stopped.status and 1 <= len(stopped.results) < NUM_FRAMES
    done = tracked(handlers)[-1]
    assert "Done" in done.status and len(done.results) == NUM_FRAMES
    assert "Nothing is running" in handlers.stop(ANN)


def test_a_job_that_waits_can_be_stopped(handlers, oracle):
    handlers.open_sample(ANN)
    handlers.add_box(ANN, 0, px(0), None, "forward")
    assert "Waiting" in handlers.wait(ANN) and "Stopping" in handlers.stop(ANN)
    (outcome,) = tracked(handlers)
    assert "Stopped before it began" in outcome.status and not oracle.calls
    handlers.wait(ANN)
    handlers.stop(ANN)
    handlers.wait(ANN)  # asked for again
    assert len(tracked(handlers)[-1].results) == NUM_FRAMES


def test_only_the_latest_files_are_kept(handlers):
    handlers.open_sample(ANN)
    handlers.add_box(ANN, 0, px(0), None, "forward")
    first = tracked(handlers)[-1].files["mp4"]
    handlers.correct(ANN, 0, 5, px(5))
    second = tracked(handlers)[-1].files["mp4"]
    assert second.exists() and first != second and not first.parent.exists()


def test_a_job_has_a_time(handlers, monkeypatch):
    monkeypatch.setattr(handlers_module.time, "monotonic", iter(range(0, 10**6, 200)).__next__)
    handlers.open_sample(ANN)
    handlers.add_box(ANN, 0, px(0), None, "forward")
    outcome = tracked(handlers)[-1]
    assert f"Stopped after {Limits().job_seconds} s" in outcome.status and len(outcome.results) < NUM_FRAMES


def test_a_job_whose_page_is_closed_ends_and_leaves_nothing(handlers, monkeypatch):
    monkeypatch.setattr(handlers_module, "LIVE_EVERY_S", 0.0)
    session = handlers.open_sample(ANN)
    handlers.add_box(ANN, 0, px(0), None, "forward")
    threads = threading.active_count()
    job = handlers.track(ANN, None)
    next(job)
    handlers.sessions.leave(ANN)
    job.close()
    assert not session.folder.exists() and not session.busy.locked()
    assert threading.active_count() <= threads


def test_visitors_do_not_see_each_other(handlers):
    handlers.open_sample(ANN)
    handlers.add_box(ANN, 0, px(0), None, "forward")
    with pytest.raises(ValueError, match="no video yet"):
        handlers.frame(BOB, 0, None)
    handlers.open_sample(BOB)
    with pytest.raises(ValueError, match="nothing to track"):
        tracked(handlers, BOB)
    with pytest.raises(ValueError, match="Choose an object"):
        handlers.remove(BOB, 0)


def test_another_video_starts_anew(handlers, uploaded):
    handlers.open_sample(ANN)
    handlers.add_box(ANN, 0, px(0), None, "forward")
    files = tracked(handlers)[-1].files
    session = handlers.open_upload(ANN, uploaded())
    assert session.objects == [] and not any(path.exists() for path in files.values())
    with pytest.raises(ValueError, match="no video that can be used"):
        handlers.open_upload(ANN, uploaded("bad.mp4", b"no video"))
    assert session.clip is None  # the old one does not pass for the new one
    assert handlers.forget(ANN).clip is None


def test_a_frame_shows_the_selected_objects_box(handlers):
    handlers.open_sample(ANN)
    handlers.add_box(ANN, 3, px(3), None, "forward")
    assert handlers.frame(ANN, 3, 0).box == tuple(px(3))
    assert handlers.frame(ANN, 4, 0).box is None and handlers.frame(ANN, 3, None).box is None
    tracked(handlers)
    np.testing.assert_allclose(handlers.frame(ANN, 4, 0).box, px(4), atol=0.5)
    assert handlers.frame(ANN, 10**9, None).index == NUM_FRAMES - 1 and handlers.frame(ANN, -5, None).index == 0


def test_describe_and_ask(handlers, oracle):
    handlers.open_sample(ANN)
    handlers.add_box(ANN, 3, px(3), None, "forward")
    assert handlers.describe(ANN, None, 0, 3).startswith("Frame 1")  # the oracle's only words
    assert handlers.ask(ANN, None, " What is it? ").startswith("Frame 1")
    assert oracle.questions[-1] == "What is it?"
    with pytest.raises(ValueError, match="no box in frame 2"):
        handlers.describe(ANN, None, 0, 2)
    with pytest.raises(ValueError, match="question is empty"):
        handlers.ask(ANN, None, "  ")


def test_the_page_says_what_the_model_cannot_do(handlers, monkeypatch):
    processor = handlers.engine.models.pipeline().processor
    monkeypatch.setattr(processor, "trained_on", {"material": "real video", "tasks": ["sot", "rsot", "video_reg"]})
    assert "**not** to **answer questions**" in handlers.abilities(None)
    handlers.open_sample(ANN)
    with pytest.warns(UserWarning, match="not trained to answer"):  # once, on the server
        answer = handlers.ask(ANN, None, "What is it?")
    assert "Do not rely on this: this checkpoint was not trained to" in answer
    monkeypatch.setattr(processor, "trained_on", None)
    assert "not" not in handlers.abilities(None)


def test_the_page_says_what_the_model_does_badly(handlers, monkeypatch):
    processor = handlers.engine.models.pipeline().processor
    handlers.open_sample(ANN)
    handlers.add_box(ANN, 3, px(3), None, "forward")
    assert "Of this model" not in handlers.describe(ANN, None, 0, 3)
    monkeypatch.setattr(processor, "trained_on", {"cautions": {"video_reg": "it knows ten names"}})
    assert "describe and answer questions. To describe: it knows ten names." in handlers.abilities(None)
    assert handlers.describe(ANN, None, 0, 3).endswith("(Of this model: it knows ten names.)")
    assert "Of this model" not in handlers.ask(ANN, None, "What is it?")


@pytest.mark.parametrize(
    "box",
    [
        [],
        [None] * 4,
        [1, 2, 3, None],
        [10, 10, 10, 20],
        [20, 10, 10, 20],
        [0, 0, float("nan"), 5],
        [900, 900, 950, 950],
    ],
    ids=str,
)
def test_what_is_no_box(handlers, box):
    handlers.open_sample(ANN)
    with pytest.raises(ValueError, match="box"):
        handlers.add_box(ANN, 0, box, None, "forward")


def test_other_wrong_steps(handlers, uploaded):
    with pytest.raises(ValueError, match="no video yet"):
        handlers.add_box(ANN, 0, px(0), None, "forward")
    handlers.open_sample(ANN)
    for step, words in (
        (lambda: handlers.add_box(ANN, 0, px(0), None, "sideways"), "none of forward, backward, both"),
        (lambda: handlers.add_box(ANN, 0, px(0), "x" * 999, "forward"), "999 characters"),
        (lambda: handlers.add_words(ANN, " \n ", 0), "Say what to follow"),
        (lambda: handlers.add_words(ANN, "a\nb\nc\nd", 0), "At most 3 objects"),
        (lambda: handlers.correct(ANN, 7, 0, px(0)), "Choose an object"),
        (lambda: tracked(handlers), "nothing to track"),
        (lambda: handlers.open_upload(ANN, "/etc/passwd"), "was not uploaded here"),
    ):
        with pytest.raises(ValueError, match=words):
            step()
    handlers.sample = None
    with pytest.raises(ValueError, match="no sample"):
        handlers.open_sample(ANN)
