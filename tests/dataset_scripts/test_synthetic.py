"""Synthetic videos: the same every time, boxes that fit the pixels, words that fit one object."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_scripts.records import read_record, read_records
from dataset_scripts.synthetic import COLORS, SHAPES, SPLITS, SyntheticConfig, make_clip, make_video
from dataset_scripts.synthetic.language import caption, is_unique, referring_expression
from dataset_scripts.synthetic.render import SceneRenderer
from dataset_scripts.synthetic.scene import Camera, Scene, motion_word, sample_scene
from dataset_scripts.synthetic.write import main, write_video

CONFIG = SyntheticConfig(size=84)


def test_a_clip_is_a_function_of_its_number():
    first, again = (make_clip(CONFIG, "train", 7, 5) for _ in range(2))
    assert np.array_equal(first.frames, again.frames)
    assert first.record.to_json() == again.record.to_json()
    for other in (make_clip(CONFIG, "train", 8, 5), make_clip(CONFIG, "val", 7, 5)):
        assert not np.array_equal(first.frames, other.frames)
    assert not np.array_equal(first.frames, make_clip(SyntheticConfig(seed=1, size=84), "train", 7, 5).frames)


def test_irregular_gaps():
    """Same scene and first frame; later frames at other distances, which differ among themselves."""
    even, uneven = (make_clip(CONFIG, "train", 7, 8, (1, 6), irregular=flag) for flag in (False, True))
    assert np.array_equal(even.frames[0], uneven.frames[0])
    assert not np.array_equal(even.frames[1:], uneven.frames[1:])
    again = make_clip(CONFIG, "train", 7, 8, (1, 6), irregular=True)
    assert np.array_equal(uneven.frames, again.frames)
    assert make_clip(CONFIG, "train", 7, 1, irregular=True).frames.shape[0] == 1


def test_splits_do_not_meet():
    ranges = sorted((first, first + count) for first, count in SPLITS.values())
    assert all(end <= start for (_, end), (start, _) in zip(ranges, ranges[1:], strict=False))


@pytest.mark.parametrize("shape", SHAPES)
def test_box_is_the_box_of_the_pixels(shape):
    """An object alone in the frame: its owner map spans its box to within a pixel on every side."""
    rng = np.random.default_rng(3)
    item = next(
        o for _ in range(1000) for o in sample_scene(rng).objects if o.shape == shape and o.size_word == "large"
    )
    camera = Camera(pan=np.zeros(2), period=50.0, phase=np.zeros(2), zoom=0.0)
    scene = Scene((item,), camera, None, 5)
    for time in (0.0, 11.0, 30.0):
        _, owner, visible = SceneRenderer(scene, 140).frame(time)
        box = scene.boxes_at(np.array([time]))[0, 0] * 140
        y, x = np.nonzero(owner)
        found = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
        inside = np.clip(box, 0, 140)
        tips = 2.5 if shape in ("star", "diamond", "triangle", "heart") else 1.0  # a thin tip covers no whole pixel
        assert np.abs(found - inside).max() <= tips, (shape, time, found, inside)
        if (box > 0).all() and (box < 140).all():
            assert visible[0] > 0.93


@settings(max_examples=25, deadline=None)
@given(index=st.integers(0, 10_000), num_frames=st.integers(1, 6))
def test_what_every_clip_promises(index, num_frames):
    clip = make_clip(CONFIG, "test", index, num_frames)
    record = clip.record
    assert clip.frames.shape == (num_frames, 84, 84, 3) and clip.frames.dtype == np.uint8
    assert 1 <= len(record.objects) <= len(clip.scene.objects) <= 5
    looks = [item.look for item in clip.scene.objects]
    assert len(set(looks)) == len(looks)
    for track in record.objects:
        assert track.boxes.shape == (num_frames, 4)
        assert (track.boxes[:, 2:] > track.boxes[:, :2]).all()
        inside = (track.boxes >= 0).all(axis=1) & (track.boxes <= 1).all(axis=1)
        np.testing.assert_array_equal(track.clipped_boxes[inside], track.boxes[inside])
        assert not track.absent[0]
        assert track.attributes["colour"] in COLORS and track.attributes["shape"] in SHAPES


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_expression_fits_one_object_only(seed):
    """Read the words back: the attributes that an expression names pick out exactly its object."""
    rng = np.random.default_rng(seed)
    looks = [item.look for item in sample_scene(rng).objects]
    for i, look in enumerate(looks):
        words = referring_expression(rng, look, looks[:i] + looks[i + 1 :], "moving left").split()
        fits = [
            other for other in looks if all(w in other for w in words if w not in ["the", "object", "moving", "left"])
        ]
        assert fits == [look]


def test_expression_needs_a_difference():
    look = ("small", "plain", "red", "ring")
    with pytest.raises(ValueError, match="no expression is unique"):
        referring_expression(np.random.default_rng(0), look, [look])
    assert is_unique(look, [("large", "plain", "red", "ring")], (0,))
    assert caption(look, "moving up") == "a small plain red ring moving up"


@pytest.mark.parametrize(
    ("move", "word"),
    [
        ((0.3, 0.1), "moving right"),  # the larger component counts
        ((-0.3, 0.1), "moving left"),
        ((0.0, 0.2), "moving down"),  # y grows downwards
        ((0.1, -0.2), "moving up"),
        ((0.02, -0.02), "staying still"),  # below the threshold
    ],
)
def test_motion_word(move, word):
    box = np.array([0.3, 0.3, 0.5, 0.5])
    assert motion_word(np.stack([box, box + np.tile(move, 2)])) == word


def test_words_are_needed():
    """In most scenes some object shares its color or its shape with another: one word would not do."""
    scenes = [sample_scene(np.random.default_rng(i)) for i in range(200)]
    shared = [
        len({o.color for o in s.objects}) < len(s.objects) or len({o.shape for o in s.objects}) < len(s.objects)
        for s in scenes
    ]
    assert np.mean(shared) > 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dev", 0, 8), "split must be one of"),  # no such split
        (("test", -1, 8), "index must be in"),  # below the range
        (("test", 10**9, 8), "index must be in"),  # above it
        (("test", 0, 0), "num_frames >= 1"),  # no frames
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_clip(CONFIG, *arguments)


@pytest.mark.parametrize("fields", [{"size": 8}, {"min_objects": 0}, {"min_objects": 3, "max_objects": 2}])
def test_wrong_config(fields):
    with pytest.raises(ValueError, match="must|need"):
        SyntheticConfig(**fields)


def test_files(tmp_path, capsys):
    main([str(tmp_path), "--split", "val", "--count", "2", "--num-frames", "4", "--size", "64"])
    records = list(read_records(tmp_path / "val.jsonl"))
    assert [r.video for r in records] == ["val/000000.mp4", "val/000001.mp4"]
    truth = make_video(SyntheticConfig(size=64), "val", 1, 4).record
    assert records[1].objects[0].expression == truth.objects[0].expression
    assert np.abs(records[1].objects[0].boxes - truth.objects[0].boxes).max() < 1e-5
    stamp = (tmp_path / "val/000000.mp4").stat().st_mtime_ns
    main([str(tmp_path), "--split", "val", "--count", "2", "--num-frames", "4", "--size", "64"])
    assert (tmp_path / "val/000000.mp4").stat().st_mtime_ns == stamp  # kept, not written again
    main([str(tmp_path), "--split", "test", "--sample", "1006", "--num-frames", "3", "--size", "64"])
    sample = read_record(tmp_path / "sample.json")
    assert sample.num_frames == 3 and sample.video == "sample.mp4" and sample.objects[0].boxes.shape == (3, 4)
    assert not list(tmp_path.rglob("*.part"))


def test_truth_is_not_clipped():
    """A box of constant size keeps it while the object leaves the frame."""
    boxes = np.concatenate(
        [t.boxes for i in range(20) for t in make_clip(CONFIG, "train", i, 8, (4, 9)).record.objects]
    )
    assert boxes.min() < -0.01 and boxes.max() > 1.01


def test_a_written_dataset_is_a_video_folder(tmp_path, monkeypatch):
    """`load_dataset("videofolder")` gives every video its own labels, split by split."""
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "videos"
    for split, count in (("train", 3), ("test", 2)):
        main([str(folder), "--split", split, "--count", str(count), "--num-frames", "4", "--size", "64"])
    loaded = datasets.load_dataset("videofolder", data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 3, "test": 2}
    for split, rows in loaded.items():
        records = {record.id: record for record in read_records(folder / f"{split}.jsonl")}
        # Decoding needs torchcodec; the path tells which video it is.
        for row in rows.cast_column("video", datasets.Video(decode=False)):
            record = records[row["id"]]
            assert row["video"]["path"].endswith(record.video)
            assert row["frame_size"] == [64, 64] and row["license"] == record.license
            for mine, theirs in zip(row["objects"], record.objects, strict=True):
                assert mine["expression"] == theirs.expression and mine["absent"] == theirs.absent.tolist()
                np.testing.assert_allclose(mine["box"], theirs.boxes, atol=1e-5)


def test_odd_frames_are_refused(tmp_path):
    with pytest.raises(ValueError, match="even size"):
        write_video(tmp_path / "odd.mp4", np.zeros((1, 63, 64, 3), dtype=np.uint8))
    assert not list(tmp_path.iterdir())
