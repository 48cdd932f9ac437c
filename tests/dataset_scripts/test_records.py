"""Records: what is written is read, what is wrong is named with its record."""

import json
from pathlib import Path

import numpy as np
import pytest

from dataset_scripts.records import ObjectTrack, VideoRecord, parse_record, read_record, read_records, write_records

ROOT = Path(__file__).resolve().parents[2]
BOXES = [[-0.1, 0, 0.5, 0.5], [0.1, 0.1, 0.25, 1]]


def track(**changes):
    fields = {"boxes": BOXES, "expression": "the cat", "absent": [False, True], "attributes": {"a": "b"}}
    return ObjectTrack(**{**fields, **changes})


def record(**changes):
    fields = {"id": "a", "source": "s", "width": 10, "height": 20, "fps": 5.0, "frame_indices": [0, 3]}
    return VideoRecord(**{**fields, "objects": [track()], **changes})


@pytest.mark.parametrize(
    "one",
    [
        record(),
        record(objects=[track(), track(boxes=[None, BOXES[1]], caption="a cat")]),  # a frame that nobody annotated
        record(video="a.mp4", timestamps=[0.0, 0.7], license="CC BY 4.0", metadata={"url": "x", "n": 3}),
        record(video=["a.jpg", "b.jpg", "c.jpg", "ü d.jpg"], fps=None),
        VideoRecord(id="image", source="s", video="a.png", objects=[track(boxes=[BOXES[0]], absent=None)]),
        VideoRecord(
            id="talk",
            source="s",
            video="a.mp4",
            messages=[{"role": "user", "content": "What?"}, {"role": "assistant", "content": "This."}],
        ),
    ],
)
def test_round_trip(tmp_path, one):
    write_records(tmp_path / "r.jsonl", [one, record(id="z", objects=[])])
    again, other = read_records(tmp_path / "r.jsonl")
    assert again.to_json() == one.to_json() and other.id == "z"
    for name in set(vars(one)) - {"objects"}:
        assert getattr(again, name) == getattr(one, name)
    for mine, theirs in zip(again.objects, one.objects, strict=True):
        np.testing.assert_allclose(mine.boxes, theirs.boxes, atol=1e-5)
        assert mine.absent.tolist() == theirs.absent.tolist() and mine.expression == theirs.expression
    assert not list(tmp_path.glob("*.part"))


def test_truth_is_not_clipped_and_gaps_are_known():
    one = track(boxes=[BOXES[0], None, BOXES[1]], absent=[0, 1, 0])
    assert one.boxes[0, 0] == -0.1 and one.clipped_boxes[0, 0] == 0
    assert one.known.tolist() == [True, False, True]
    part = record(frame_indices=[2, 5, 9], objects=[one], timestamps=[0.1, 0.2, 0.5]).at([1, 2])
    assert part.frame_indices == [5, 9] and part.timestamps == [0.2, 0.5]
    assert part.objects[0].known.tolist() == [False, True] and part.objects[0].absent.tolist() == [True, False]


def test_frames_that_go_without_saying():
    assert record(frame_indices=None).frame_indices == [0, 1]
    assert VideoRecord(id="a", source="s", video=["a.jpg", "b.jpg"]).num_frames == 2
    assert VideoRecord(id="a", source="s", video="a.mp4").num_frames is None


TALK = {"id": "x7", "source": "s", "video": "a.mp4"}
GOOD = {**TALK, "objects": [{"box": BOXES}]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "a record is a JSON object"),
        ({"source": "s"}, "a record has the id None"),
        ({"id": 7, "source": "s"}, "a record has the id 7"),
        ({"id": "x7"}, "record 'x7': lacks the key 'source'"),
        ({**GOOD, "frame": [0, 1]}, r"record 'x7': has the unknown key\(s\) \['frame'\]"),  # a slip of the pen
        ({**GOOD, "frames": [0]}, "record 'x7': object 0 has 2 boxes for 1 frames"),
        ({**GOOD, "frames": [3, 1]}, "record 'x7': `frames` .* ascending"),
        ({**GOOD, "frames": "01"}, "record 'x7': `frames` is 01; expected a list"),
        ({**GOOD, "frames": [0, 1.5]}, "record 'x7': `frames`"),
        ({**GOOD, "video": []}, "record 'x7': `video` is"),
        ({**GOOD, "video": ["a.jpg"]}, "record 'x7': `frames` name frame 1, but `video` lists 1 images"),
        ({**GOOD, "fps": 0}, "record 'x7': `fps` is 0"),
        ({**GOOD, "fps": True}, "record 'x7': `fps` is True"),
        ({**GOOD, "frame_size": [640]}, "record 'x7': `frame_size`"),
        ({**GOOD, "frame_size": [0, 4]}, "record 'x7': `frame_size`"),
        ({**GOOD, "timestamps": [0.0]}, "record 'x7': 1 `timestamps` for 2 frames"),
        ({**TALK, "timestamps": [0.0]}, "record 'x7': `timestamps` belong to `frames`"),
        ({**GOOD, "license": 4}, "record 'x7': `license` is 4"),
        ({**TALK, "objects": [{"expression": "it"}]}, "record 'x7': object 0: lacks the key 'box'"),
        ({**TALK, "objects": [{"box": [[0, 0, 1]]}]}, "record 'x7': object 0: `box` must hold four numbers"),
        ({**TALK, "objects": [{"box": [["a", 0, 1, 1]]}]}, "record 'x7': object 0: `box` must hold four numbers"),
        ({**TALK, "objects": [{"box": [[0.5, 0, 0.1, 1]]}]}, "record 'x7': object 0: .* corners swapped"),
        ({**TALK, "objects": [{"box": [[0, 0, 320, 240]]}]}, "record 'x7': object 0: `box` holds 320; .* pixels"),
        ({**TALK, "objects": [{"box": [[0, 0, float("inf"), 1]]}]}, "record 'x7': object 0: .* not finite"),
        ({**TALK, "objects": [{"box": BOXES, "absent": [0]}]}, "record 'x7': object 0: .* got 2 and 1"),
        ({**TALK, "objects": [{"box": BOXES, "expression": " "}]}, "record 'x7': object 0: `expression` is ' '"),
        ({**TALK, "objects": [{"box": BOXES, "attributes": 3}]}, "record 'x7': object 0: `attributes`"),
        ({**TALK, "messages": [{"role": "user", "content": "?"}]}, "record 'x7': `messages` have the roles"),
        ({**TALK, "messages": [{"role": "human", "content": "?"}]}, "record 'x7': `messages` hold"),
        ({**TALK, "messages": [{"role": "system", "content": "?"}]}, "record 'x7': `messages` have the roles"),
    ],
)
def test_what_is_wrong_is_named(data, message):
    parse_record(GOOD)
    with pytest.raises(ValueError, match=message):
        parse_record(data)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "b"}', "line 2: record 'b': lacks the key 'source'"),  # a key is missing
        ("{not json", "line 2"),  # no JSON at all
        (json.dumps(record().to_json()), "line 2: record 'a': the id was given before"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, message):
    path = tmp_path / "r.jsonl"
    write_records(path, [record()])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=message):
        list(read_records(path))


def test_a_failure_leaves_nothing_behind(tmp_path):
    def broken():
        yield record()
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_records(tmp_path / "r.jsonl", broken())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "frames", "objects"), [("examples/sample.json", 16, 1), ("tests/fixtures/drawn_sample.json", 64, 3)]
)
def test_the_samples_are_records(path, frames, objects):
    sample = read_record(ROOT / path)
    assert (ROOT / path).with_name(sample.video).exists()
    assert sample.num_frames == frames and len(sample.objects) == objects


def test_what_is_no_record_is_named():
    with pytest.raises(ValueError, match=r"setup.py"):
        read_record(ROOT / "setup.py")


def test_what_is_written_has_the_permissions_of_any_new_file(tmp_path):
    write_records(tmp_path / "records.jsonl", [])
    (tmp_path / "plain").touch()
    assert (tmp_path / "records.jsonl").stat().st_mode == (tmp_path / "plain").stat().st_mode
