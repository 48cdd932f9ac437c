"""What adapters share: units of boxes, JSON by items, restricted pickles, archives."""

import collections
import json
import os
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_scripts.adapters import json_stream
from dataset_scripts.adapters.archives import samples, unpack
from dataset_scripts.adapters.common import (
    Pictures,
    Skip,
    Skipped,
    box_object,
    find_file,
    one_meaning,
    records_of,
    relative_box,
    share_out,
)
from dataset_scripts.adapters.restricted_pickle import load_plain_pickle

from .miniatures import picture, tar_of

SIZE = (200, 100)


@pytest.mark.parametrize(
    ("box", "form", "size", "expected"),
    [
        ([20, 10, 100, 60], "xyxy", SIZE, [0.1, 0.1, 0.5, 0.6]),
        ([20, 10, 80, 50], "xywh", SIZE, [0.1, 0.1, 0.5, 0.6]),
        (["20", "10", "80", "50"], "xywh", SIZE, [0.1, 0.1, 0.5, 0.6]),
        ([0.1, 0.1, 0.4, 0.5], "xywh", None, [0.1, 0.1, 0.5, 0.6]),
        ([-20, -10, 100, 60], "xyxy", SIZE, [-0.1, -0.1, 0.5, 0.6]),  # partly outside: kept as it is
        ([20, 10, 20, 60], "xyxy", SIZE, "box has no area"),
        ([20, 10, 100, -5], "xywh", SIZE, "box has no area"),
        ([100, 60, 20, 10], "xyxy", SIZE, "box has no area"),
        ([200, 10, 50, 50], "xywh", SIZE, "box is outside the frame"),
        ([-50, 10, 50, 50], "xywh", SIZE, "box is outside the frame"),
        ([20, 10, 100, 60], "xyxy", None, "box is outside the frame"),  # pixels taken for relative
        ([0, 0, 5000, 60], "xyxy", SIZE, "box reaches far outside the frame"),
        ([1, 2, 3], "xyxy", SIZE, "box is not four numbers"),
        ([1, 2, 3, float("nan")], "xyxy", SIZE, "box is not four numbers"),
        ([1, 2, 3, "wide"], "xyxy", SIZE, "box is not four numbers"),
        (None, "xyxy", SIZE, "box is not four numbers"),
    ],
)
def test_units_of_boxes(box, form, size, expected):
    if isinstance(expected, str):
        with pytest.raises(Skip, match=expected):
            relative_box(box, form, size)
    else:
        assert relative_box(box, form, size) == pytest.approx(expected)


def test_no_list_has_a_box_twice():
    one, other = [0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]
    objects = [box_object(one, "a"), box_object(one, "b"), box_object(other, "c"), box_object(one, "d")]
    assert [[t.expression for t in group] for group in share_out(objects)] == [["a", "c"], ["b"], ["d"]]


def test_words_of_two_boxes_are_dropped():
    skipped = Skipped()
    objects = [box_object([0, 0, 0.1 * i, 1], words) for i, words in ((1, "a Man"), (2, "a man"), (3, "a hat"))]
    assert [t.expression for t in one_meaning(objects, skipped, "p")] == ["a hat"]
    assert skipped.counts.total() == 2


def test_what_fails_is_counted_and_the_rest_goes_on():
    def convert(name, item):
        if item == 0:
            raise Skip("zero")
        yield {"number": 10 // item}["number"] if item != 3 else {}["x"]

    skipped = Skipped()
    items = [(str(i), value) for i, value in enumerate([1, 0, 3, "x", 2])]
    assert list(records_of(items, convert, skipped)) == [10, 5]
    assert skipped.counts == {"zero": 1, "annotation is not of the published form": 2}
    assert "0 x" not in "".join(skipped.lines()) and "2 lacks 'x'" in "".join(skipped.lines())


def test_many_skips_name_the_first():
    skipped = Skipped()
    for i in range(5):
        skipped.add("gone", f"p{i}")
    assert skipped.lines() == ["5 x gone: p0, p1, p2, ..."]


def test_pictures_are_measured_as_they_are_shown(tmp_path):
    image = picture()
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert Pictures(tmp_path / "none", tmp_path).find("turned.jpg") == (str(tmp_path / "turned.jpg"), (120, 160))


def test_a_missing_file_is_told_with_what_is_there(tmp_path):
    (tmp_path / "here.json").write_text("{}")
    with pytest.raises(ValueError, match="lacks a.json or b.json; it holds here.json"):
        find_file(tmp_path, "a.json", "b.json")


# --------------------------------------------------------------------------------------------------------------
# JSON
# --------------------------------------------------------------------------------------------------------------
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(
    data=st.lists(VALUES, max_size=6) | st.dictionaries(st.text(max_size=5), VALUES, max_size=6), indent=st.booleans()
)
def test_items_are_what_json_gives(data, indent, tmp_path_factory):
    file = tmp_path_factory.mktemp("j") / "x.json"
    file.write_text(json.dumps(data, indent=1 if indent else None), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", 3)  # values and numbers are cut everywhere
        items = list(json_stream.walk(file))
    if isinstance(data, list):
        assert [item.value for item in items] == data and [item.index for item in items] == list(range(len(data)))
    else:
        assert {item.name: item.value for item in items} == data


@pytest.mark.parametrize("chunk", range(1, 9))
def test_numbers_are_read_to_their_end(chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    (tmp_path / "x.json").write_text('[0.5, 1e-3, -2.25e+10, 12345, {"a": 0.125}]')
    assert [item.value for item in json_stream.walk(tmp_path / "x.json")] == [0.5, 1e-3, -2.25e10, 12345, {"a": 0.125}]


def test_lists_inside_are_given_by_item_with_their_line(tmp_path):
    file = tmp_path / "x.json"
    file.write_text('{"info": 1,\n "images": [\n  {"id": 1},\n  {"id":\n 2}\n ], "more": [3], "none": []}')
    found = [(i.name, i.index, i.value, i.line) for i in json_stream.walk(file, inside=("images", "none"))]
    assert found == [
        ("info", None, 1, 1),
        ("images", 0, {"id": 1}, 3),
        ("images", 1, {"id": 2}, 4),
        ("more", None, [3], 6),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no JSON .*the end of the file"),
        ('{"a": 1', "line 1: no JSON .*expected , or }, found the end of the file"),
        ("[1,\n2,\n", "line 3: no JSON"),
        ("[1,\n2 3]", "line 2: no JSON .*found 3"),
        ('[\n{"a": tru}]', "line 2: no JSON"),
        ("[1] 2", "line 1: no JSON .*more follows"),
        ("{1: 2}", "line 1: no JSON"),
    ],
)
def test_broken_json_names_its_line(text, message, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        list(json_stream.walk(tmp_path / "x.json"))


@pytest.mark.parametrize("text", ['[{"a": 1}, {"a": 2}]', '{"a": 1}\n\n{"a": 2}\n', '\ufeff[{"a": 1},{"a": 2}]'])
def test_rows_of_lists_and_of_lines(text, tmp_path):
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    assert [item.value for item in json_stream.json_rows(tmp_path / "x.json")] == [{"a": 1}, {"a": 2}]


# --------------------------------------------------------------------------------------------------------------
# pickles and archives
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_are_read(protocol, tmp_path):
    data = [{"a": [1, 2.5, None, True, "é", (3, "x")], "b": {"c": {4}, "d": frozenset({5})}}]
    (tmp_path / "x.p").write_bytes(pickle.dumps(data, protocol=protocol))
    assert load_plain_pickle(tmp_path / "x.p") == data


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Harmful()), "asks for .*system"),
        (pickle.dumps([collections.OrderedDict(a=1)]), "asks for collections.OrderedDict"),
        (pickle.dumps(eval), "asks for builtins.eval"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "asks for __builtin__.eval"),
        (pickle.dumps([1, 2])[:-3], "is no pickle"),
        (b"text", "is no pickle"),
        (b"", "is no pickle"),
    ],
)
def test_other_pickles_are_refused(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.p").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_plain_pickle(tmp_path / "x.p")
    assert [file.name for file in tmp_path.iterdir()] == ["x.p"]


def test_samples_of_a_shard(tmp_path):
    tar_of(tmp_path / "a.tar", {"d/0.jpg": b"1", "d/0.JSON": b"2", "1.json": b"3", "e/1.json": b"4"})
    assert list(samples(tmp_path / "a.tar")) == [
        ("d/0", {"jpg": b"1", "json": b"2"}),
        ("1", {"json": b"3"}),
        ("e/1", {"json": b"4"}),
    ]


def test_unpacking_keeps_what_is_there(tmp_path):
    unpack(b"abc", tmp_path / "x" / "a.jpg")
    before = (tmp_path / "x" / "a.jpg").stat().st_mtime_ns
    unpack(b"abc", tmp_path / "x" / "a.jpg")
    assert (tmp_path / "x" / "a.jpg").stat().st_mtime_ns == before
    unpack(b"abcd", tmp_path / "x" / "a.jpg")
    assert [file.read_bytes() for file in (tmp_path / "x").iterdir()] == [b"abcd"]
