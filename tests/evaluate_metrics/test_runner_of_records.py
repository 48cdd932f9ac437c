"""Records in, scores out: which frames are asked and scored, against a tracker that is known."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_scripts.records import ObjectTrack, VideoRecord, write_records
from evaluate_metrics.runners import records as runner
from evaluate_metrics.runners.records import evaluate_records

SIZE, LENGTH = (80, 40), 6
TRUTH = np.array([[0.1 + 0.05 * t, 0.25, 0.4 + 0.05 * t, 0.75] for t in range(LENGTH)])


@pytest.fixture
def folder(tmp_path):
    for index in range(LENGTH):
        Image.new("RGB", SIZE, (40 * index, 0, 0)).save(tmp_path / f"{index}.png")
    return tmp_path


def record(boxes=TRUTH, frames=None, **fields):
    track = ObjectTrack(boxes=boxes, **fields)
    return VideoRecord(
        id="r", source="made by hand", video=[f"{i}.png" for i in range(LENGTH)], frame_indices=frames, objects=[track]
    )


class Tracker:
    """A pipeline that says the true box moved by `shift` pixels, and notes what it was asked."""

    device = "cpu"
    model = SimpleNamespace(device=torch.device("meta"))

    def __init__(self, shift=0.0):
        self.shift, self.asked = shift, []

    def __call__(self, video, start_frame, **subject):
        self.asked.append((start_frame, subject))
        for frame in range(start_frame, video.num_frames):
            box = TRUTH[frame] * [*SIZE, *SIZE] + [self.shift, 0, self.shift, 0]
            yield {"frame": frame, "objects": [{"box": dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))}]}


def test_every_frame_is_scored_in_pixels(folder):
    tracker = Tracker(shift=6.0)  # of boxes of 24 x 20: 18 common columns of 30
    scores = evaluate_records(tracker, [record()], folder, convention="pytracking_unclipped")
    assert tracker.asked == [(0, {"box": pytest.approx((8, 10, 32, 30))})]
    assert scores["ao"] == pytest.approx(0.6)
    assert (scores["num_frames"], scores["names"]) == (LENGTH, ["r/0"])


def test_tracking_starts_where_the_object_is_first_seen_and_unknown_frames_are_none(folder):
    boxes = TRUTH[[0, 2, 4, 5]].copy()
    boxes[0] = np.nan
    tracker = Tracker()
    scores = evaluate_records(tracker, [record(boxes, [0, 2, 4, 5], absent=[1, 0, 0, 0])], folder)
    assert [start for start, _ in tracker.asked] == [2]
    assert scores["num_frames"] == 3 and scores["ao"] == 1.0


def test_words_are_asked_of_objects_that_have_them(folder):
    tracker = Tracker()
    records = [record(), record(expression="the red square")]
    scores = evaluate_records(tracker, records, folder, "rsot")
    assert tracker.asked == [(0, {"expression": "the red square"})] and scores["num_videos"] == 1


@pytest.mark.parametrize(
    ("records", "task", "message"),
    [
        ([record()], "rsot", "no object with a box and an expression"),
        ([], "sot", "no object with a box"),
        ([record()], "both", "`task`='both' is unknown; use one of 'sot', 'rsot'"),
        ([VideoRecord(id="x", source="s", objects=[ObjectTrack(boxes=TRUTH)])], "sot", "names no `video`"),
    ],
)
def test_what_cannot_be_scored_is_an_error(folder, records, task, message):
    with pytest.raises(ValueError, match=message):
        evaluate_records(Tracker(), records, folder, task)


def test_command_line(folder, monkeypatch, capsys):
    monkeypatch.setattr(runner, "pipeline", lambda task, model: Tracker())
    write_records(folder / "r.jsonl", [record()])
    runner.main(runner.read_records, arguments=[str(folder / "r.jsonl"), "--convention", "got10k"])
    scores = json.loads(capsys.readouterr().out)
    assert scores["convention"] == "got10k" and scores["ao"] == pytest.approx(1.0, abs=1e-3)
