"""What is looked at before a checkpoint is published: calibration of presence, a sheet of clips."""

import numpy as np
import pytest
import yaml

from tests.train.small.tiny_data import write_material
from tracking_elysium.visualize import write_video
from train.small.calibration import draw, reliability
from train.small.sheet import CELL_HEIGHT, COLUMNS, FOUND, TITLE, read_clips, sheet_of


@pytest.mark.parametrize(
    ("said", "truly", "expected"),
    [
        ([0.05, 0.95], [0, 1], {"ece": 0.05, "brier": 0.0025, "auc": 1.0}),
        ([0.95, 0.05], [0, 1], {"ece": 0.95, "brier": 0.9025, "auc": 0.0}),
        ([0.5] * 4, [0, 1, 0, 1], {"ece": 0.0, "brier": 0.25, "auc": 0.5}),
        ([1.0, 1.0], [1, 1], {"ece": 0.0, "brier": 0.0, "auc": float("nan")}),
    ],
)
def test_reliability(said, truly, expected):
    result = reliability(said, truly)
    assert sum(count for *_, count in result["rows"]) == len(said)
    assert {name: result[name] for name in expected} == pytest.approx(expected, nan_ok=True)


def test_reliability_of_a_calibrated_source_is_small():
    rng = np.random.default_rng(0)
    said = rng.uniform(0, 1, 20_000)
    assert reliability(said, rng.uniform(0, 1, 20_000) < said)["ece"] < 0.02
    assert reliability(said, rng.uniform(0, 1, 20_000) < said**3)["ece"] > 0.15


@pytest.mark.parametrize(("said", "truly"), [([], []), ([0.5], [1, 0]), ([[0.5]], [[1]])])
def test_reliability_needs_pairs(said, truly):
    with pytest.raises(ValueError, match="vectors of one length"):
        reliability(said, truly)


def test_the_diagram_is_the_same_twice(tmp_path):
    result = reliability([0.1, 0.2, 0.9, 0.8], [0, 1, 1, 1])
    for name in ("a.svg", "b.svg"):
        draw(result, tmp_path / name, "4 windows")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def result_of(box, present=True):
    return {"objects": [{"box": dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)), "present": present}]}


def test_a_sheet_has_a_row_per_clip(tmp_path):
    write_material(tmp_path)
    frames = [np.full((80, 120, 3), n, np.uint8) for n in range(12)]
    write_video(tmp_path / "clip.mp4", frames, 10)
    entries = [
        {"title": "a video", "video": "clip.mp4", "box": [10, 10, 40, 40], "start": 2, "frames": 4, "step": 2},
        {"title": "a row", "row": "val-clip1", "data": "."},
    ]
    (tmp_path / "clips.yaml").write_text(yaml.safe_dump(entries), encoding="utf-8")
    clips = read_clips(tmp_path / "clips.yaml")
    assert [len(clip.frames) for clip in clips] == [4, 6]
    np.testing.assert_allclose(clips[1].box, np.array([0.2, 0.3, 0.4, 0.6]) * [120, 90, 120, 90])
    assert clips[1].truth[3] is None  # the frame in which the object is absent
    tracks = [[result_of(clip.box, present=n != 3) for n in range(len(clip.frames))] for clip in clips]
    sheet = np.asarray(sheet_of(clips, tracks))
    rows = [sheet[n * len(sheet) // 2 :][: len(sheet) // 2] for n in range(2)]
    assert all((row[TITLE : TITLE + CELL_HEIGHT] == FOUND).all(-1).sum() > COLUMNS * 50 for row in rows)


@pytest.mark.parametrize(
    ("entry", "words"),
    [({"video": "clip.mp4"}, "needs `video` and `box`"), ({"row": "none", "data": "."}, "no video row 'none'")],
)
def test_a_wrong_entry_is_named(tmp_path, entry, words):
    write_material(tmp_path)
    (tmp_path / "clips.yaml").write_text(yaml.safe_dump([entry]), encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        read_clips(tmp_path / "clips.yaml")
