"""Results as `sv.Detections` and back; what needs supervision is skipped where it is not installed."""

import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest

from tests.house.source import ROOT
from tracking_elysium.detections import from_detections, to_detections
from tracking_elysium.visualize import draw_objects

BOXES = [(10.5, 20.0, 40.0, 50.0), (30.0, 5.0, 75.0, 40.0)]


def item(number, box, **more):
    corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return {"id": number, "label": f"swan {number}", "score": 0.25, "present": True, "box": corners, **more}


def result(*objects):
    return {"frame": 0, "timestamp": 0.0, "objects": list(objects)}


@pytest.fixture
def sv():
    return pytest.importorskip("supervision")


def test_a_result_becomes_detections(sv):
    held = item(3, BOXES[1], present=False, score=0.0)
    found = to_detections(result(item(1, BOXES[0]), held))
    assert isinstance(found, sv.Detections)
    np.testing.assert_array_equal(found.xyxy, BOXES)
    assert found.confidence.tolist() == [0.25, 0.0]
    assert found.tracker_id.tolist() == [1, 3] and found.class_id.tolist() == [1, 3] and found.mask is None
    assert found.data["class_name"].tolist() == ["swan 1", "swan 3"]
    assert found[found.data["present"]].tracker_id.tolist() == [1]
    assert to_detections(result(item(0, BOXES[0]))).data["present"].tolist() == [True]


def test_class_ids_are_the_callers(sv):
    objects = [item(1, BOXES[0]), item(0, BOXES[1])]
    found = to_detections(result(*objects), classes=["duck", "swan 0", "swan 1"], ids=[70, 80])
    assert found.class_id.tolist() == [2, 1] and found.tracker_id.tolist() == [80, 70]
    with pytest.raises(ValueError, match=r"`classes`=\['duck'\] lacks the label 'swan 1'"):
        to_detections(result(*objects), classes=["duck"])
    with pytest.raises(ValueError, match="`ids` has 1 entries and the result an object 1"):
        to_detections(result(*objects), ids=[70])


def test_masks_come_along_and_an_absent_one_is_empty(sv):
    mask = np.zeros((60, 80), bool)
    mask[20:50, 10:40] = True
    found = to_detections(result(item(0, BOXES[0], mask=None), item(1, BOXES[1], mask=mask)))
    assert found.mask.shape == (2, 60, 80) and found.mask.dtype == bool
    assert not found.mask[0].any() and (found.mask[1] == mask).all()
    assert to_detections(result(item(0, BOXES[0], mask=None))).mask is None


def test_a_frame_without_objects_is_empty_and_merges_with_others(sv):
    empty = to_detections(result())
    assert len(empty) == 0 and empty.xyxy.shape == (0, 4)
    merged = sv.Detections.merge([empty, to_detections(result(item(5, BOXES[0])))])
    assert merged.tracker_id.tolist() == [5]


def test_annotators_draw_them(sv):
    picture = np.zeros((60, 80, 3), np.uint8)
    drawn = sv.BoxAnnotator(thickness=1).annotate(picture.copy(), to_detections(result(item(0, BOXES[1]))))
    ys, xs = np.nonzero(drawn.any(axis=-1))
    assert abs(xs.min() - 30) <= 1 and abs(xs.max() - 75) <= 1 and abs(ys.min() - 5) <= 1 and abs(ys.max() - 40) <= 1


def test_there_and_back(sv):
    objects = [item(4, BOXES[0]), item(2, BOXES[1])]
    begin = from_detections(to_detections(result(*objects)))
    assert begin.box == BOXES and begin.labels == ["swan 4", "swan 2"] and begin.ids == [4, 2]
    tracked = [{**one, "id": row} for row, one in enumerate(objects)]  # the pipeline counts the boxes it was given
    assert to_detections(result(*tracked), ids=begin.ids).tracker_id.tolist() == [4, 2]


def test_detections_of_a_detector_have_neither_ids_nor_names(sv):
    begin = from_detections(sv.Detections(xyxy=np.array(BOXES)))
    assert begin.ids == [0, 1] and begin.labels == ["object 0", "object 1"] and begin.box == BOXES


@pytest.mark.parametrize(
    ("detections", "message"),
    [
        ([1, 2, 3, 4], "`detections` is a list; pass the sv.Detections"),
        (SimpleNamespace(xyxy=np.zeros((0, 4)), tracker_id=None, data={}), "`detections` is empty"),
        (SimpleNamespace(xyxy=np.zeros((2, 4)), tracker_id=np.array([1, 1]), data={}), r"=\[1, 1\] holds an id twice"),
    ],
)
def test_what_is_no_beginning_is_refused(detections, message):
    with pytest.raises(ValueError, match=message):
        from_detections(detections)


def test_the_pipeline_begins_with_them(sv, pipe, oracle):
    video = np.zeros((4, 60, 80, 3), np.uint8)
    given = sv.Detections(xyxy=np.array(BOXES), tracker_id=np.array([9, 6]))
    begin = from_detections(given)
    first = to_detections(pipe(video, box=begin.box, labels=begin.labels)[0], ids=begin.ids)
    np.testing.assert_allclose(first.xyxy, given.xyxy, rtol=1e-5)
    assert first.tracker_id.tolist() == [9, 6] and first.data["class_name"].tolist() == ["object 9", "object 6"]


@pytest.mark.slow
def test_pictures_are_drawn_without_opencv_and_without_a_word(tmp_path):
    script = f"""
        import sys
        sys.modules["cv2"] = None
        import numpy as np
        from tracking_elysium.visualize import draw_objects
        box = dict(xmin=10, ymin=20, xmax=60, ymax=50)
        mask = np.zeros((90, 120), bool)
        mask[20:50, 10:60] = True
        objects = [dict(id=0, label="swan", score=0.5, box=box, mask=mask), dict(id=1, label="", score=0.0, box=box)]
        drawn = draw_objects(np.full((90, 120, 3), 128, np.uint8), objects, caption="1 s")
        np.save({str(tmp_path / "drawn.npy")!r}, drawn)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr[-2000:]
    box = dict(zip(("xmin", "ymin", "xmax", "ymax"), (10, 20, 60, 50), strict=True))
    mask = np.zeros((90, 120), bool)
    mask[20:50, 10:60] = True
    objects = [{"id": 0, "label": "swan", "score": 0.5, "box": box, "mask": mask}]
    objects.append({"id": 1, "label": "", "score": 0.0, "box": box})
    wanted = draw_objects(np.full((90, 120, 3), 128, np.uint8), objects, caption="1 s")
    assert np.abs(np.load(tmp_path / "drawn.npy").astype(int) - wanted).max() <= 2


def test_without_supervision_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match=r"pip install supervision"):
        to_detections(result())
