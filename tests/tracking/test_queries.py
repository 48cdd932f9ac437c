"""queries.py: one video or many."""

import numpy as np
import pytest
from PIL import Image

from processing_elysium import image_sequence
from tracking_elysium import queries

FRAME = np.zeros((4, 6, 3), np.uint8)


class Column:
    """A column of a data set: counted and indexed, but no list."""

    def __init__(self, values):
        self._values = values

    def __len__(self):
        return len(self._values)

    def __getitem__(self, index):
        return self._values[index]


@pytest.mark.parametrize(
    ("videos", "expected"),
    [
        ("a.mp4", False),
        ("folder", False),
        (b"bytes", False),
        (FRAME[None], False),
        ({"video": "a.mp4"}, False),
        (iter([FRAME]), False),
        ([], False),
        ([FRAME, FRAME], False),
        ([Image.fromarray(FRAME)], False),
        (["1.jpg", "2.jpg"], False),
        (("a/1.PNG",), False),
        (["http://x.org/1.jpeg", "http://x.org/2.jpeg"], False),
        (["a.mp4", "b.mp4"], True),
        (["a.gif"], True),
        (["folder1", "folder2"], True),
        ([["1.jpg"], ["2.jpg"]], True),
        ([[FRAME], [FRAME]], True),
        ([FRAME[None], FRAME[None]], True),
        ([b"bytes", b"bytes"], True),
        ([iter([FRAME]), iter([FRAME])], True),
        (Column(["a.mp4", "b.mp4"]), True),
        (Column(["1.jpg", "2.jpg"]), False),
        (Column([FRAME, FRAME]), False),
    ],
)
def test_one_video_or_many(videos, expected):
    assert queries.is_batch(videos) is expected


def test_the_same_iterator_twice():
    frames = iter([FRAME])
    with pytest.raises(ValueError, match="same iterator twice"):
        queries.is_batch([frames, iter([FRAME]), frames])


def test_both_packages_know_the_same_images():
    assert queries.IMAGE_ENDINGS == image_sequence.IMAGE_ENDINGS
