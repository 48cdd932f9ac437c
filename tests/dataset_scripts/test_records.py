"""Records: what is written is read, what is wrong is named."""

import numpy as np
import pytest

from dataset_scripts.records import ObjectTrack, VideoRecord, read_records, write_records


def record(**changes):
    fields = {
        "id": "a",
        "source": "s",
        "width": 10,
        "height": 20,
        "fps": 5.0,
        "frame_indices": [0, 3],
        "objects": [
            ObjectTrack("the cat", "a cat", [[0, 0, 0.5, 0.5], [0.1, 0.1, 0.25, 1]], [False, True], {"a": "b"})
        ],
    }
    return VideoRecord(**{**fields, **changes})


def test_round_trip(tmp_path):
    write_records(tmp_path / "r.jsonl", [record(), record(id="b", objects=[])])
    first, second = read_records(tmp_path / "r.jsonl")
    assert first.to_json() == record().to_json() and second.id == "b"
    assert first.objects[0].absent.tolist() == [False, True]
    assert not list(tmp_path.glob("*.part"))


def test_counts_must_agree():
    with pytest.raises(ValueError, match="2 boxes for 3 frames"):
        record(frame_indices=[0, 1, 2])
    with pytest.raises(ValueError, match="one entry per frame"):
        ObjectTrack("x", "x", np.zeros((2, 4)), [False])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a"}', "lacks the key 'frame_size'"),  # a key is missing
        ("{not json", "line 2"),  # no JSON at all
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
