"""Every reader on a miniature of its benchmark: names, frames, boxes, absence, words, attributes."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from evaluate_metrics.readers import synthetic, uav123
from evaluate_metrics.readers.items import file_name
from evaluate_metrics.readers.tasks import TASKS, load_items
from evaluate_metrics.readers.text_files import read_boxes, read_flags

from . import miniatures
from .miniatures import BOXES, MAKERS


@pytest.fixture
def load(tmp_path, monkeypatch):
    # The real ranges of frames are thousands long.
    monkeypatch.setattr(uav123, "RANGES", {"uav1": ((1, 4), (4, 6))})

    def made(task, ask=None, split=None):
        root = tmp_path / task
        if not root.exists():
            root.mkdir()
            MAKERS[task](root)
        spec = TASKS[task]
        return load_items(task, ask or spec.asks[0], split or spec.splits[0], root)

    return made


ABSENT_LASOT = [False, False, True, False, False, True]


@pytest.mark.parametrize(
    ("task", "split", "names", "counts", "absent", "words", "attributes"),
    [
        ("lasot", "test", ["cat-1", "cat-10"], [6, 6], ABSENT_LASOT, "a red cat on a wall", ("IV", "FOC")),
        ("lasot_ext", "all", ["cat-1", "cat-10"], [6, 6], ABSENT_LASOT, "a red cat on a wall", ("IV", "FOC")),
        ("uav123", "test", ["boat1", "uav1_1", "uav1_2"], [6, 4, 3], [0, 0, 1, 0, 0, 0], None, ("SV", "SOB")),
        ("otb100", "test", ["David", "Dog", "Jogging_1", "Jogging_2", "Tiger1"], [6, 6, 6, 6, 7], None, None, ()),
        ("got10k", "val", ["GOT-10k_Val_000001"], [6], [0, 0, 0, 1, 0, 0], None, ("cat", "walking")),
        ("trackingnet", "train", ["def_0"], [6], None, None, ()),
        ("elysiumtrack", "test", ["a/7"], [6], None, "the red cat", ()),
        ("tnl2k", "test", ["Cat_video_01"], [6], [0, 0, 0, 0, 1, 0], "the red cat", ("FOC",)),
        ("otb_lang", "test", ["Dog", "Jogging_2"], [6, 6], None, "the dog", ()),
        ("realdata", "val", ["clip#0"], [5], [0] * 5, "cat", ("animal", "rgb")),
    ],
)
def test_sequences(load, task, split, names, counts, absent, words, attributes):
    items = load(task, split=split)
    assert [item.name for item in items] == names
    assert [len(item) for item in items] == counts
    first = items[0]
    assert (first.absent is None) == (absent is None)
    assert absent is None or first.absent.tolist() == [bool(flag) for flag in absent]
    assert (first.words, first.attributes, first.scored) == (words, attributes, True)
    for item in items:
        with item.open() as video:
            assert (video.num_frames, video.width, video.height) == (len(item), *miniatures.SIZE)


def test_boxes_are_those_of_the_files(load):
    np.testing.assert_allclose(load("lasot")[0].boxes_xywh_px, BOXES)
    boat, first, second = load("uav123")
    assert np.isnan(boat.boxes_xywh_px[2]).all() and np.isfinite(boat.boxes_xywh_px[[0, 1, 3, 4, 5]]).all()
    np.testing.assert_allclose(second.boxes_xywh_px, BOXES[3:])
    assert first.frames[-1] == second.frames[0] and second.frames[0].endswith("000004.jpg")
    david, dog, _, jogging, tiger = load("otb100")
    assert david.frames[0].endswith("0300.jpg") and tiger.frames[0].endswith("0006.jpg")
    np.testing.assert_allclose(dog.boxes_xywh_px, BOXES)
    np.testing.assert_allclose(jogging.boxes_xywh_px, BOXES[::-1])
    np.testing.assert_allclose(load("elysiumtrack")[0].boxes_xywh_px, BOXES)
    real = load("realdata")[0]  # begins where the object is first seen
    np.testing.assert_allclose(real.boxes_xywh_px, BOXES[1:])
    with real.open() as video:  # red inside the box, which is at (6, 7)
        assert video.read([0])[0][10, 10, 0] > 150 and video.read([0])[0][2, 2, 0] < 100


@pytest.mark.parametrize(("task", "frames"), [("got10k", 6), ("trackingnet", 11)])
def test_truth_that_is_not_public(load, task, frames):
    (item,) = load(task, split="test")
    assert not item.scored and len(item) == frames
    np.testing.assert_allclose(item.boxes_xywh_px[0], BOXES[0])
    assert np.isnan(item.boxes_xywh_px[1:]).all()
    if task == "trackingnet":
        assert [path.rsplit("/", 1)[1] for path in item.frames[-2:]] == ["9.jpg", "10.jpg"]


@pytest.mark.parametrize("task", ["refcoco", "refcoco+", "refcocog"])
def test_expressions(load, task):
    items = load(task)
    assert [(item.name, item.words) for item in items] == [("ref3_0", "the red cat"), ("ref3_1", "left cat")]
    assert items[0].image.endswith("COCO_train2014_000000000042.jpg")  # not ..._16.jpg
    np.testing.assert_allclose(items[0].box_xywh_px, BOXES[0])
    (described,) = load(task, "reg")
    assert described.descriptions == ("the red cat", "left cat")


def test_expressions_as_lines(tmp_path):
    row = '{"img_path": "train2014/COCO_train2014_000000000042_16.jpg", "expression": "cat", "bbox": [4, 6, 24, 22]}'
    miniatures.text(tmp_path / "REC_refcoco_unc_val.jsonl", row + "\n")
    miniatures.text(tmp_path / "REC_refcoco+_unc_val.jsonl", row + "\n" + row + "\n")
    (item,) = load_items("refcoco", "rec", "val", tmp_path)
    assert item.image.endswith("COCO_train2014_000000000042.jpg")
    np.testing.assert_allclose(item.box_xywh_px, BOXES[0])
    assert len(load_items("refcoco+", "rec", "val", tmp_path)) == 2


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    miniatures.refcoco(tmp_path)
    (tmp_path / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match="asks for builtins.print"):
        load_items("refcoco", "rec", "val", tmp_path)


def test_pictures_are_asked_by_words_that_fit_one_object(load):
    (query,) = load("realdata", "rec")
    assert (query.name, query.words) == ("pic-cat", "cat")
    with query.open() as video:
        assert (video.num_frames, video.width) == (1, miniatures.SIZE[0])


@pytest.mark.parametrize(
    ("task", "name", "video", "question", "answer"),
    [
        ("msvd_qa", "5", "abc_0_5.avi", "what sits on a wall?", "cat"),
        ("msrvtt_qa", "6", "video7010.mp4", "who sits?", "cat"),
        ("tgif_qa", "0", "tumblr_x.gif", 'what is "red"?', "cat"),
        ("activitynet_qa", "zz_1", "v_zz.mkv", "is it a cat", "yes"),
    ],
)
def test_questions(load, task, name, video, question, answer):
    (item,) = load(task)
    assert (item.name, item.question, item.answer) == (name, question, answer)
    assert item.video.endswith(video)


def test_synthetic_needs_no_data(monkeypatch):
    clips, videos = synthetic.PARTS
    monkeypatch.setattr(synthetic, "PARTS", (replace(clips, count=2), replace(videos, count=1)))
    items = load_items("synthetic", "rsot", "val", None)
    assert len(items) == 3 and all(item.words for item in items)
    assert len(items[0]) == 8 and len(items[-1]) == 64
    with items[0].open() as video:
        assert video.num_frames == 8


def test_every_task_has_a_miniature():
    assert set(MAKERS) == set(TASKS) - {"synthetic"}


def remove(name):
    return lambda root: (root / name).unlink()


def write(name, content):
    return lambda root: miniatures.text(root / name, content)


@pytest.mark.parametrize(
    ("task", "ask", "split", "spoil", "message"),
    [
        ("lasot", "sot", "test", remove("cat/cat-1/img/00000003.jpg"), "'cat-1': 5 frames, but 6"),
        ("lasot", "sot", "test", remove("testing_set.txt"), "testing_set.txt does not exist"),
        ("lasot", "sot", "test", write("testing_set.txt", "cat-2"), "cat-2.*not exist"),
        ("lasot", "rec", "test", lambda root: None, "`--ask`='rec' is unknown for lasot; use one of sot, rsot"),
        ("lasot", "sot", "val", lambda root: None, "`--split`='val' is unknown for lasot"),
        ("lasot", "sot", "test", write("cat/cat-1/groundtruth.txt", "1,2,3,4\n1,2,x,4\n"), "line 2: '1,2,x,4' is not"),
        ("uav123", "sot", "test", write("anno/UAV123/boat1.txt", ""), "boat1.txt is empty"),
        ("elysiumtrack", "sot", "test", write("test.jsonl", '{"id": 1}'), "KeyError"),
        ("activitynet_qa", "vqa", "test", write("test_a.json", "[]"), "1 questions have no answer"),
        ("msvd_qa", "vqa", "test", remove("youtube_mapping.txt"), "video 'vid1201' is not below"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, monkeypatch, task, ask, split, spoil, message):
    monkeypatch.setattr(uav123, "RANGES", {"uav1": ((1, 4), (4, 6))})
    MAKERS[task](tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_items(task, ask, split, tmp_path)


def test_a_folder_that_is_not_there():
    with pytest.raises(ValueError, match="`--data`=nowhere does not exist"):
        load_items("lasot", "sot", "test", "nowhere")


@pytest.mark.parametrize("line", ["1,2,3,4", "1 2 3 4", "1\t2\t3\t4", " 1, 2;3 4 ", "1.0,2,3,4e0"])
def test_separators(tmp_path, line):
    miniatures.text(tmp_path / "b.txt", f"{line}\nNaN,NaN,NaN,NaN\n")
    boxes = read_boxes(tmp_path / "b.txt")
    assert boxes[0].tolist() == [1, 2, 3, 4] and np.isnan(boxes[1]).all()


def test_flags(tmp_path):
    miniatures.text(tmp_path / "f.txt", "0,1\n1")
    assert read_flags(tmp_path / "f.txt").tolist() == [False, True, True]
    miniatures.text(tmp_path / "f.txt", "0,2")
    with pytest.raises(ValueError, match="holds '2'"):
        read_flags(tmp_path / "f.txt")


def test_file_names():
    assert file_name("a/b c#1.x") == "a_b_c_1.x"


def test_lasot_s_toolkit_has_everything_but_frames(tmp_path):
    for number in (1, 10):
        miniatures.lines(tmp_path / f"annos/cat-{number}.txt", BOXES)
        miniatures.text(tmp_path / f"annos/absent/cat-{number}.txt", "0\n0\n1\n0\n0\n1\n")
        miniatures.text(tmp_path / f"annos/att/cat-{number}.txt", ",".join("1" if i == 9 else "0" for i in range(14)))
        miniatures.text(tmp_path / f"annos/nlp/cat-{number}.txt", "a red cat on a wall\n")
    miniatures.text(tmp_path / "sequence_evaluation_config/testing_set.txt", "cat-10\n")
    (item,) = load_items("lasot", "rsot", "test", tmp_path)
    assert (item.name, item.words, item.attributes) == ("cat-10", "a red cat on a wall", ("FOC",))
    assert item.absent.tolist() == [False, False, True, False, False, True]
    np.testing.assert_array_equal(item.boxes_xywh_px, BOXES)
    assert [item.name for item in load_items("lasot", "sot", "all", tmp_path)] == ["cat-1", "cat-10"]
    with pytest.raises(ValueError, match="annotations, no frames"):
        item.open()
    miniatures.text(tmp_path / "annos/absent/cat-10.txt", "0\n")
    with pytest.raises(ValueError, match="6 frames, but 1 entries in absent"):
        load_items("lasot", "sot", "test", tmp_path)
