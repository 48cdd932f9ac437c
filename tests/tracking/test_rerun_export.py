"""Recordings for Rerun's viewer, read back with its own reader."""

import sys

import numpy as np
import pytest

from tracking_elysium.rerun_export import write_rerun


def result(index, **more):
    box = {"xmin": 2.0, "ymin": 3.0, "xmax": 12.0, "ymax": 13.0 + index}
    return {
        "frame": index,
        "timestamp": index / 10,
        "objects": [{"id": 4, "label": "swan", "score": 0.5, "box": box, **more}],
    }


FRAMES = [np.full((20, 30, 3), 10 * number, np.uint8) for number in range(3)]


def test_a_recording_holds_frames_boxes_masks_and_scores(tmp_path):
    reader = pytest.importorskip("rerun.chunk").RrdReader
    path, mask = tmp_path / "deep" / "out.rrd", np.zeros((20, 30), bool)
    mask[3:13, 2:12] = True
    assert write_rerun(path, iter(FRAMES), (result(n, mask=mask) for n in range(3))) == 3
    held = {}
    for chunk in reader(path).stream():
        held.setdefault(chunk.entity_path, []).append(chunk.to_record_batch().to_pydict())
    assert {"/scores/4", "/video", "/video/masks", "/video/objects"} <= set(held)
    sides = {}  # a recording may hold a frame's row in any of its chunks
    for batch in held["/video/objects"]:
        (column,) = [name for name in batch if "half_sizes" in name] or [None]
        sides.update(zip(batch["frame"], batch[column], strict=True) if column else ())
    assert sides == {number: [[5.0, 5.0 + number / 2]] for number in range(3)}
    assert [entry.name for entry in path.parent.iterdir()] == ["out.rrd"]


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [("out.mp4", 3, "does not end in .rrd"), ("out.rrd", 2, "`results` ends after 2, `frames` goes on")],
)
def test_input_of_no_use_is_refused_and_nothing_is_written(tmp_path, name, count, message):
    pytest.importorskip("rerun")
    with pytest.raises(ValueError, match=message):
        write_rerun(tmp_path / name, FRAMES, map(result, range(count)))
    assert not list(tmp_path.iterdir())


def test_without_the_library_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ImportError, match="pip install rerun-sdk"):
        write_rerun(tmp_path / "out.rrd", FRAMES, map(result, range(3)))
