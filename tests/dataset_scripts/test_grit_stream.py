"""GRIT's tars as training reads them, unpacked nowhere: the adapter's records, and what to do without one."""

import json

import numpy as np
import pytest

from dataset_scripts import streams
from dataset_scripts.adapters import Reading, open_corpus
from dataset_scripts.streams import NothingToAsk, StreamCursor, TarStream
from tests.dataset_scripts.adapters import miniatures as m


def grit_sample(key, expressions, **changes):
    """Files of a sample whose expressions are (words, box) pairs."""
    caption = " ".join(words for words, _ in expressions)
    places = [caption.index(words) for words, _ in expressions]
    pairs = zip(places, expressions, strict=True)
    rows = [[place, place + len(words), *m.unit(box), 0.9] for place, (words, box) in pairs]
    data = {"caption": caption, "url": "https://example.org", "noun_chunks": [], "ref_exps": rows, **changes}
    return {f"{key}.jpg": m.jpeg(), f"{key}.json": json.dumps(data).encode()}


def stream_of(folder, *samples):
    m.tar_of(folder / "00000.tar", {name: content for files in samples for name, content in files.items()})
    return TarStream(path=str(folder / "*.tar"), layout="grit")


def test_the_stream_gives_the_adapters_records(tmp_path):
    path, options = m.grit(tmp_path)
    (unpacked,) = open_corpus("grit-20m", path, Reading(**options))
    cursor = StreamCursor(TarStream(path=str(path / "*.tar"), layout="grit"), 0, 1, (0,))
    clip = cursor.clip(1, np.random.default_rng(0))
    whole = {**unpacked.to_json(), "frames": [0]}
    del whole["video"]
    assert clip.record.to_json() == whole
    assert clip.frames[0].shape == (m.SIZE[1], m.SIZE[0], 3)
    # The second sample lacks its picture, which is a fault of the shard.
    with pytest.raises(ValueError, match="00000.tar, sample '000000001': sample without a picture"):
        cursor.clip(1, np.random.default_rng(0))


def test_a_box_with_two_expressions_is_asked_for_by_either(tmp_path):
    stream = stream_of(tmp_path, grit_sample("0", [("a car", m.CAR), ("the red thing", m.CAR)]))
    said = set()
    for seed in range(8):
        (entry,) = stream.entries(0, 0)
        (track,) = entry.clip(1, np.random.default_rng(seed)).record.objects
        said.add(track.expression)
    assert said == {"a car", "the red thing"}


def test_a_picture_without_a_usable_box_is_passed_over(tmp_path, monkeypatch):
    """It is as published: it may not count as broken, or a few of them in a hundred would stop a run."""
    empty = [grit_sample(str(i), [("cars", m.CAR), ("cars", m.BALL)]) for i in range(3)]
    stream = stream_of(tmp_path, *empty, grit_sample("9", [("a ball", m.BALL)]))
    with pytest.raises(NothingToAsk, match="sample '0': no usable box"):
        next(stream.entries(0, 0)).clip(1, np.random.default_rng(0))
    cursor = StreamCursor(stream, 0, 1, (0,))
    assert cursor.clip(1, np.random.default_rng(0)).record.id == "00000/9-0"
    assert cursor.position == [0, 0, 4]
    monkeypatch.setattr(streams, "PASSED_OVER", 3)
    with pytest.raises(ValueError, match="3 entries in a row have nothing to ask; .*sample '2'"):
        StreamCursor(stream, 0, 1, (0,)).clip(1, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"0.json": b"{"}, "sample '0': annotation is no JSON"),
        ({"0.json": b"[]"}, "sample '0': list indices"),
        ({"0.json": b'{"caption": "a", "ref_exps": [["x"]]}'}, "sample '0': not enough values"),
        ({"0.json": b'{"caption": "a"}'}, "sample '0': 'noun_chunks'"),
        ({"0.jpg": b"torn"}, "sample '0': picture cannot be read"),
    ],
)
def test_broken_samples_are_named(tmp_path, changes, message):
    stream = stream_of(tmp_path, {**grit_sample("0", [("a car", m.CAR)]), **changes})
    with pytest.raises(ValueError, match=message) as told:
        next(stream.entries(0, 0)).clip(1, np.random.default_rng(0))
    assert not isinstance(told.value, NothingToAsk)


def test_an_unknown_layout_is_told(tmp_path):
    with pytest.raises(ValueError, match="layout is 'gritt'; give one of"):
        TarStream(path=str(tmp_path), layout="gritt")
