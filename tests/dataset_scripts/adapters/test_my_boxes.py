"""Exports of annotation tools: the boxes, frames and words that they mean, and errors that name file and line."""

import json

import numpy as np
import pytest
from PIL import Image

from dataset_scripts.adapters import Reading, open_corpus
from dataset_scripts.adapters.my_boxes.tracks import rotated_extent
from dataset_scripts.sources import open_frames

from . import my_miniatures as my
from .miniatures import BALL, car_at, frame_of_video, save, unit, write_json, xywh

BALL_BOX = unit(BALL)


def car(frame):
    return unit(car_at(frame))


def opened(folder, make, **options):
    path, given = make(folder)
    reading = Reading(**given)
    return list(open_corpus("my-boxes", path, reading)), reading


# make -> id, frames, fps, objects (expression, caption, category, boxes, absent), skipped
EXPECTED = {
    my.mot: (
        "street",
        [0, 1, 2, 3],
        10.0,
        [
            (None, None, None, [car(0), car(1), car(2), None], [0, 0, 0, 1]),
            (None, None, None, [BALL_BOX, None, BALL_BOX, BALL_BOX], [0, 0, 0, 0]),  # an ignored row is no absence
        ],
        {"row with flag 0, which MOT ignores": 1},
    ),
    my.mot_beside_video: (
        "street",
        [0, 2],
        10.0,
        [("red car", None, "red_car", [car(0), car(2)], [0, 0])],
        {},
    ),
    my.coco_images: (
        "instances/a.jpg",
        [0],
        None,
        [
            ("car", None, "car", [[0.1, 0.5, 0.5, 0.9]], [0]),
            ("the round toy", "a blue ball", "ball", [BALL_BOX], [0]),
        ],
        {"crowd, not one object": 1, "box has no area": 1, "picture without boxes": 1},
    ),
    my.coco_video: ("train/street", [0, 1, 2], None, [("car", None, "car", [car(0), None, car(2)], [0, 1, 0])], {}),
    my.youtube_vis: (
        "instances/street",
        [0, 1, 2],
        None,
        [("car", None, "car", [car(0), None, car(2)], [0, 1, 0])],
        {},
    ),
    my.label_studio: (
        "project-1/street",
        list(range(9)),
        10.0,
        [
            (
                "Car",
                "a red car drives past",
                "Car",
                [*(car(i) for i in range(7)), None, None],
                [0] * 7 + [1, 1],
            ),
            ("Ball", None, "Ball", [None, None, *[BALL_BOX] * 7], [1, 1] + [0] * 7),
        ],
        {},
    ),
    my.label_studio_images: ("project-2/a.jpg", [0], None, [("Ball", None, "Ball", [BALL_BOX], [0])], {}),
    my.cvat: (
        "annotations/street",
        list(range(6)),
        10.0,
        [
            ("the red car", None, "car", [car(i) for i in range(6)], [0] * 6),
            ("ball", None, "ball", [None, BALL_BOX, BALL_BOX, None, None, None], [1, 0, 0, 0, 0, 0]),
        ],
        {"track of polyline, not of boxes": 1},
    ),
    my.cvat_images: (
        "annotations/a.jpg",
        [0],
        None,
        [("car", "a parked car", "car", [[0.1, 0.5, 0.5, 0.9]], [0])],
        {"picture without boxes": 1},
    ),
}


@pytest.mark.parametrize("make", EXPECTED, ids=lambda make: make.__name__)
def test_records(make, tmp_path):
    (record,), reading = opened(tmp_path, make)
    name, frames, fps, objects, skipped = EXPECTED[make]
    assert (record.id, record.frame_indices, record.fps, record.source) == (name, frames, fps, "my boxes")
    assert (record.width, record.height) == (160, 120)
    for track, (expression, caption, category, boxes, absent) in zip(record.objects, objects, strict=True):
        assert (track.expression, track.caption, track.attributes.get("category")) == (expression, caption, category)
        assert track.absent.astype(int).tolist() == absent
        wanted = np.array([row or [np.nan] * 4 for row in boxes])
        np.testing.assert_allclose(track.boxes, wanted, atol=1e-9)
    assert dict(reading.skipped.counts) == skipped
    assert len(open_frames(record)) == record.num_frames


def test_the_boxes_are_on_the_object(tmp_path):
    """In a frame between keyframes, inside of the box is red and around it is not."""
    (record,), _ = opened(tmp_path, my.cvat)
    frame = open_frames(record.at([3]))[0].astype(int)
    x1, y1, x2, y2 = (record.objects[0].boxes[3] * [160, 120, 160, 120]).round().astype(int)
    red = (frame[..., 0] - frame[..., 2]) > 80
    assert red[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].mean() > 0.95
    assert red.sum() < 1.15 * (y2 - y1) * (x2 - x1)


def test_frames_of_another_rate_are_converted(tmp_path):
    """Label Studio counted 22 frames of a video that has 9: its frame numbers are not the file's."""
    (record,), _ = opened(tmp_path, lambda folder: my.label_studio(folder, frames_count=22))
    np.testing.assert_allclose(record.objects[0].boxes[[0, 4, 6]], [car(0), car(4), car(6)], atol=1e-9)


def test_several_exports_in_one_folder(tmp_path):
    for name, make in (("one", my.cvat), ("two", my.coco_images), ("three", my.mot)):
        (tmp_path / name).mkdir()
        make(tmp_path / name)
    assert [record.id for record in open_corpus("my-boxes", tmp_path)] == [
        "one/annotations/street",
        "three/street",
        "two/instances/a.jpg",
    ]


def test_cvats_coco_export_of_a_video(tmp_path):
    """No videos, track_id among the attributes, frames in the order of their numbers."""
    names = ("frame_9.png", "frame_10.png")
    for i, name in enumerate(names):
        save(tmp_path / "images" / name, frame_of_video(i))
    images = [{"id": i, "file_name": name, "width": 160, "height": 120} for i, name in enumerate(names)]
    boxes = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": xywh(car_at(i)), "attributes": {"track_id": 0}}
        for i in range(2)
    ]
    data = {"categories": [{"id": 1, "name": "car"}], "images": images[::-1], "annotations": boxes}
    write_json(tmp_path / "annotations" / "instances_default.json", data)
    (record,) = open_corpus("my-boxes", tmp_path)
    assert record.video == [str(tmp_path / "images" / name) for name in names]
    np.testing.assert_allclose(record.objects[0].boxes, [car(0), car(1)])


def test_one_export_may_be_named(tmp_path):
    my.label_studio_images(tmp_path)
    my.label_studio(tmp_path)
    records = list(open_corpus("my-boxes", tmp_path / "project-1.json"))
    assert [record.id for record in records] == ["project-1/street"]


def test_a_label_of_several_objects_is_no_expression(tmp_path):
    my.youtube_vis(tmp_path)
    data = json.loads((tmp_path / "instances.json").read_text())
    data["annotations"].append({**data["annotations"][0], "id": 2})
    (tmp_path / "instances.json").write_text(json.dumps(data))
    (record,) = open_corpus("my-boxes", tmp_path)
    assert [track.expression for track in record.objects] == [None, None]


def test_partly_outside_is_kept_whole_and_outside_is_absent(tmp_path):
    my.mot_beside_video(tmp_path)
    (tmp_path / "street.txt").write_text("1,1,-32,60,64,60,1,2,1\n2,1,-80,60,64,60,1,2,1\n3,1,0,60,0,60,1,2,1\n")
    reading = Reading()
    (record,) = open_corpus("my-boxes", tmp_path, reading)
    np.testing.assert_allclose(record.objects[0].boxes[0], [-0.2, 0.5, 0.2, 1.0])
    assert record.objects[0].known.tolist() == [True, False, False]
    assert record.objects[0].absent.tolist() == [False, True, False]
    assert dict(reading.skipped.counts) == {"box is outside the frame": 1, "box has no area": 1}
    assert reading.skipped.examples["box has no area"] == [f"{tmp_path / 'street.txt'}, line 3 (frame 2)"]


@pytest.mark.parametrize(
    ("degrees", "expected"), [(0, (10, 20, 40, 60)), (90, (-30, 20, 10, 50)), (360, (10, 20, 40, 60))]
)
def test_turned_rectangles(degrees, expected):
    np.testing.assert_allclose(rotated_extent((10, 20, 40, 60), degrees), expected, atol=1e-9)


# --------------------------------------------------------------------------------------------------------------
# errors
# --------------------------------------------------------------------------------------------------------------
def text(file, old, new):
    """Replace text in a file; the old one has to be there."""

    def edit(folder):
        content = (folder / file).read_text()
        assert old in content
        (folder / file).write_text(content.replace(old, new, 1))

    return edit


def data(file, change):
    def edit(folder):
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content, indent=1))

    return edit


def gone(file):
    def edit(folder):
        (folder / file).unlink()

    return edit


def smaller(file):
    def edit(folder):
        Image.new("RGB", (80, 60)).save(folder / file)

    return edit


GT, XML, COCO = "street/gt/gt.txt", "annotations.xml", "instances.json"
TASK = "project-1.json"


def keyframe(change):
    return data(TASK, lambda d: change(d[0]["annotations"][0]["result"][0]["value"]["sequence"]))


ERRORS = [
    (my.mot, text(GT, "3,1,", "3;1;"), r"gt.txt, line 5: expected frame,id,left,top,width,height"),
    (my.mot, text(GT, "1,2,97,", "1,2,x,"), r"gt.txt, line 2: expected frame,id.*found '1,2,x,"),
    (my.mot, text(GT, "1,1,", "0,1,"), r"gt.txt, line 1: frame 0; MOT counts frames from 1"),
    (my.mot, text(GT, "1,1,", "1,-1,"), r"gt.txt, line 1: id -1 marks a box without identity"),
    (my.mot, text(GT, "1,1,", "9,1,"), r"gt.txt, line 1: a box in frame 8 \(counted from 0\), but .* has 4 frames"),
    (my.mot, text(GT, "1,2,", "1,1,"), r"gt.txt, line 2: a second box of the same object in frame 0"),
    (my.mot, lambda folder: (folder / GT).write_text("\n"), r"gt.txt is empty; a box a line is expected"),
    (my.mot, lambda folder: (folder / "street/img1").rename(folder / "elsewhere"), r"found neither .*img1 nor one"),
    (my.mot_beside_video, lambda folder: (folder / "street.mp4").write_bytes(b"no"), r"street.mp4 cannot be read"),
    (my.coco_images, text(COCO, '"annotations"', "oops"), r"instances.json, line 1: no JSON"),
    (my.coco_images, data(COCO, lambda d: d["annotations"][0].update(bbox=[1, 2])), r", annotations\[0\]: bbox"),
    (my.coco_images, data(COCO, lambda d: d["annotations"][1].pop("bbox")), r"annotations\[1\] lacks 'bbox'; it"),
    (my.coco_images, data(COCO, lambda d: d["annotations"][1].update(image_id=7)), r"\[1\]: image_id 7 is not among"),
    (my.coco_images, data(COCO, lambda d: d["images"][0].update(file_name="c.jpg")), r"\[0\]: 'c.jpg' is not below"),
    (my.coco_images, smaller("images/a.jpg"), r"\[0\]: the export says 160 x 120 pixels, but .*a.jpg has 80 x 60"),
    (my.coco_images, lambda folder: (folder / "images/a.jpg").write_text("no"), r"a.jpg: picture cannot be read"),
    (my.coco_video, data("train.json", lambda d: d["annotations"][1].pop("instance_id")), r"\[1\] lacks track_id"),
    (my.coco_video, data("train.json", lambda d: d["videos"][0].update(id=2)), r"\[0\]: video_id 1 is not among"),
    (my.youtube_vis, data(COCO, lambda d: d["annotations"][0]["bboxes"].pop()), r"\[0\]: 2 bboxes for 3 frames"),
    (my.label_studio, gone("street.mp4"), r"project-1.json, line 1, task 3: '/data/upload/1/0a1b2c3d-street.mp4'"),
    (my.label_studio, keyframe(lambda s: s[0].update(frame=0)), r"line 2, task 3, region r1, keyframe 0: frames"),
    (my.label_studio, keyframe(lambda s: s[0].update(frame=40)), r"keyframe 40: a box in frame 39 .* has 9 frames"),
    (my.label_studio, keyframe(lambda s: s[0].pop("width")), r"task 3 lacks 'width'"),
    (my.label_studio_images, smaller("a.jpg"), r"region r1: the export says 160 x 120 pixels, but .* has 80 x 60"),
    (my.label_studio, data(TASK, lambda d: d[0]["annotations"].insert(0, 3)), r"is not what Label Studio exports"),
    (my.coco_images, data(COCO, lambda d: d["images"][0].update(width=None)), r"is not what COCO exports"),
    (my.cvat, text(XML, "</track>", "</trak>"), r"annotations.xml, line 10: no XML \(mismatched tag"),
    (my.cvat, text(XML, 'xtl="8"', 'xtl="left"'), r"annotations.xml, line 7: <box> has xtl='left'; expected a number"),
    (my.cvat, text(XML, 'frame="4"', 'frame="99"'), r"annotations.xml, line 8: a box in frame 99 .* has 9 frames"),
    (my.cvat, text(XML, "<width>160", "<width>320"), r"annotations.xml, line 5: the export says 320 x 120 pixels"),
    (my.cvat, gone("street.mp4"), r"line 2: found neither 'street.mp4' \(<source>\) or a video called 'annotations'"),
    (my.cvat, text(XML, "<annotations>", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotations>"), "line 2: declares an"),
    (my.cvat_images, gone("images/a.jpg"), r"annotations.xml, line 3: 'a.jpg' is not below"),
    (my.cvat_images, text(XML, "image", "picture"), r"holds no <track> and no <image>|no XML"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "edit", "message"), ERRORS, ids=[f"{e[0].__name__}-{i}" for i, e in enumerate(ERRORS)]
)
def test_one_clear_error(make, edit, message, tmp_path):
    make(tmp_path)
    edit(tmp_path)
    with pytest.raises(ValueError, match=message):
        list(open_corpus("my-boxes", tmp_path))


def test_a_folder_without_exports(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "export.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"holds no export that is known: .*not recognized: export.zip, notes.txt"):
        list(open_corpus("my-boxes", tmp_path))


def test_a_task_without_an_annotation_is_counted(tmp_path):
    my.label_studio(tmp_path)
    tasks = json.loads((tmp_path / "project-1.json").read_text())
    tasks += [{**tasks[0], "annotations": []}, {**tasks[0], "annotations": [{"result": None}]}]
    (tmp_path / "project-1.json").write_text(json.dumps(tasks))
    reading = Reading()
    assert len(list(open_corpus("my-boxes", tmp_path, reading))) == 1
    assert reading.skipped.counts == {"task without rectangles": 2}


def test_two_files_of_one_name(tmp_path):
    my.cvat_images(tmp_path)
    (tmp_path / "more").mkdir()
    (tmp_path / "images/a.jpg").rename(tmp_path / "more/a.jpg")
    (tmp_path / "other").mkdir()
    Image.new("RGB", (160, 120)).save(tmp_path / "other/a.jpg")
    with pytest.raises(
        ValueError, match=r"'a.jpg' may be .*more/a.jpg or .*other/a.jpg; give files names of their own"
    ):
        list(open_corpus("my-boxes", tmp_path))
