"""What is downloaded says what was tracked: the adapters of the repository read it back."""

import csv
import json

import av
import numpy as np
import pytest

from dataset_scripts.adapters import Reading, open_corpus
from processing_elysium.frames import open_video
from tracking_elysium.demo.exports import NAMES, coco, label_studio, mot, write_all
from tracking_elysium.demo.objects import Followed
from tracking_elysium.demo.uploads import Clip

from .conftest import HEIGHT, NUM_FRAMES, WIDTH

GONE = (5, 6)  # frames in which the second object is only held by a gap policy


def item(number, label, frame, present=True):
    left = 4.0 + frame + 20 * number
    box = {"xmin": left, "ymin": 6.0, "xmax": left + 12.5, "ymax": 30.0}
    return {"id": number, "label": label, "score": 0.75 if present else 0.0, "present": present, "box": box}


RESULTS = [
    {
        "frame": frame,
        "timestamp": frame / 10,
        "objects": [item(0, "red cup", frame)] + ([item(1, "lid", frame, frame not in GONE)] if frame >= 3 else []),
    }
    for frame in range(NUM_FRAMES)
]
OBJECTS = [Followed(0, "red cup", 0, box=(4, 6, 16.5, 30)), Followed(1, "lid", 3, expression="lid")]


@pytest.fixture
def clip(clip_file):
    return Clip(str(clip_file), "clip.mp4", WIDTH, HEIGHT, NUM_FRAMES, 10.0)


def boxes_of(folder):
    """Frame -> sorted boxes in [0, 1] of the one record that the adapters find in a folder."""
    (record,) = open_corpus("my-boxes", folder, Reading())
    found = {}
    for position, frame in enumerate(record.frame_indices or range(NUM_FRAMES)):
        rows = [one.boxes[position] for one in record.objects]
        found[frame] = sorted(tuple(row) for row in rows if not np.isnan(row).any())
    return found


def test_three_formats_are_read_back(tmp_path, clip, clip_file):
    wanted = {
        result["frame"]: sorted(
            tuple(value / side for value, side in zip(one["box"].values(), (WIDTH, HEIGHT) * 2, strict=True))
            for one in result["objects"]
            if one["present"]
        )
        for result in RESULTS
    }
    for name, text in (
        ("clip.txt", mot(RESULTS)),
        ("coco.json", json.dumps(coco(RESULTS, clip))),
        ("label_studio.json", json.dumps(label_studio(RESULTS, clip))),
    ):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / "clip.mp4").write_bytes(clip_file.read_bytes())
        (folder / name).write_text(text)
        found = boxes_of(folder)
        assert sorted(found) == sorted(wanted), name
        for frame, boxes in wanted.items():
            np.testing.assert_allclose(found[frame], boxes, atol=2e-4, err_msg=f"{name}, frame {frame}")


def test_mot_counts_from_one():
    first = mot(RESULTS).splitlines()[0]
    assert first == "1,1,5.00,7.00,12.50,24.00,0.7500,-1,-1,-1"


def test_mot_keeps_boxes_of_no_confidence():
    unsure = [{"frame": 0, "timestamp": 0.0, "objects": [{**item(0, "cup", 0), "score": 0.0}]}]
    assert mot(unsure).split(",")[6] == "0.0001"  # 0 would say that the line does not count


def test_label_studio_marks_where_an_object_is_lost(clip):
    (task,) = label_studio(RESULTS, clip)
    lid = task["annotations"][0]["result"][1]["value"]
    assert [(step["frame"], step["enabled"]) for step in lid["sequence"]] == [
        (4, True),
        (5, False),
        *((frame, frame < NUM_FRAMES) for frame in range(8, NUM_FRAMES + 1)),
    ]


def test_coco_has_a_category_per_label(clip):
    lists = coco(RESULTS, clip)
    assert lists["categories"] == [{"id": 1, "name": "red cup"}, {"id": 2, "name": "lid"}]
    assert {(one["category_id"], one["track_id"]) for one in lists["annotations"]} == {(1, 1), (2, 2)}
    assert all(one["area"] == pytest.approx(12.5 * 24) for one in lists["annotations"])


def test_all_files_are_written(tmp_path, clip):
    with open_video(clip.path) as source:
        files = write_all(tmp_path, clip, source, OBJECTS, RESULTS)
    assert set(files) == set(NAMES) and all(path.stat().st_size > 0 for path in files.values())
    document = json.loads(files["JSON"].read_text())
    assert document["video"] == "clip.mp4" and len(document["frames"]) == NUM_FRAMES
    assert document["objects"][0]["box"] == [4, 6, 16.5, 30] and document["objects"][1]["expression"] == "lid"
    with open(files["CSV"]) as file:
        assert len(list(csv.DictReader(file))) == sum(len(result["objects"]) for result in RESULTS)
    with av.open(str(files["mp4"])) as video:
        assert len(list(video.decode(video=0))) == NUM_FRAMES
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES.values())
