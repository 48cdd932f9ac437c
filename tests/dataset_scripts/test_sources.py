"""Sources: the frames that a record names and no others, whatever its `video` is."""

import numpy as np
import pytest
from PIL import Image

from dataset_scripts.records import ObjectTrack, VideoRecord, write_records
from dataset_scripts.sources import RecordsSource, SyntheticSource, open_frames
from dataset_scripts.synthetic.write import write_video

BOX = [0.1, 0.2, 0.3, 0.4]
LENGTH = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A video and image files of frames whose gray value is ten times their number."""
    folder = tmp_path_factory.mktemp("data")
    frames = np.stack([np.full((32, 48, 3), 10 * i, np.uint8) for i in range(LENGTH)])
    write_video(folder / "v.mp4", frames, 10.0)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"f{i}.png")
    return folder


def numbers(frames):
    """The frames' numbers, read from their gray value."""
    return [round(float(frame.mean()) / 10) for frame in frames]


def record(**changes):
    fields = {"id": "r", "source": "s", "video": "v.mp4", "frame_indices": list(range(LENGTH))}
    return VideoRecord(**{**fields, **changes})


def source_of(folder, *records, **options):
    write_records(folder / "r.jsonl", records)
    return RecordsSource(path=str(folder / "r.jsonl"), **options)


def read(source, num_frames, seed=0, index=0):
    rngs = (np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1]))
    return source.read(index, num_frames, *rngs)


@pytest.mark.parametrize(
    ("video", "frames", "expected"),
    [
        ("v.mp4", [0, 4, 11], [0, 4, 11]),
        ([f"f{i}.png" for i in range(LENGTH)], [2, 3], [2, 3]),
        (["f7.png", "f1.png"], None, [7, 1]),  # the list says the order
        ("f5.png", [0], [5]),
    ],
)
def test_frames_of_a_record(folder, video, frames, expected):
    assert numbers(open_frames(record(video=video, frame_indices=frames), folder)) == expected


def test_boxes_follow_the_frames(folder):
    """Whatever frames are drawn, each box is that of its frame; clips differ and are the same every time."""
    track = ObjectTrack(boxes=[[0.01 * i, 0.1, 0.5, 0.9] for i in range(LENGTH)])
    source = source_of(folder, record(objects=[track], frame_indices=None), max_interval=4)
    drawn = set()
    for seed in range(20):
        clip = read(source, 3, seed)
        assert numbers(clip.frames) == clip.record.frame_indices
        np.testing.assert_allclose(clip.record.objects[0].boxes[:, 0] * 100, clip.record.frame_indices, atol=1e-3)
        assert read(source, 3, seed).record.frame_indices == clip.record.frame_indices
        drawn.add(tuple(clip.record.frame_indices))
    assert len(drawn) > 5 and {b - a for a, b, _ in drawn} == {1, 2, 3, 4}


def test_only_frames_of_the_clip_are_opened(folder):
    """Files of other frames may be missing: they are not looked at."""
    names = [f"f{i}.png" if i < 2 else "gone.png" for i in range(LENGTH)]
    source = source_of(folder, record(video=names, objects=[ObjectTrack(boxes=[BOX] * 2)], frame_indices=[0, 1]))
    assert numbers(read(source, 2).frames) == [0, 1]


def test_a_clip_starts_where_an_object_is_seen(folder):
    track = ObjectTrack(boxes=[BOX if i >= 8 else None for i in range(LENGTH)], absent=[i < 8 for i in range(LENGTH)])
    source = source_of(folder, record(objects=[track]), max_interval=1)
    assert all(read(source, 2, seed).record.frame_indices[0] >= 8 for seed in range(20))


def test_a_short_video_and_one_of_unknown_length(folder):
    talk = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "Gray."}]
    image = record(id="image", video="f3.png", frame_indices=None)
    source = source_of(folder, record(frame_indices=None, messages=talk), image)
    assert len(source) == 2
    assert len(read(source, 40).frames) == LENGTH  # all that it has
    assert numbers(read(source, 8, index=1).frames) == [3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video": "gone.mp4"}, "record 'r': .*gone.mp4"),
        ({"video": ["f1.png", "gone.png"], "frame_indices": [0, 1]}, "record 'r': .*gone.png"),
        ({"video": None, "frame_indices": [0]}, "record 'r': the record names no `video`"),
        ({"frame_indices": [0, 99]}, "record 'r': the annotation names frame 99"),
    ],
)
def test_what_cannot_be_read_names_its_record(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        _ = read(source_of(folder, record(**changes)), 2).frames


def test_files_that_are_no_records(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        RecordsSource(path=str(tmp_path / "none.jsonl"))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="holds no record"):
        RecordsSource(path=str(tmp_path / "empty.jsonl"))
    (tmp_path / "bad.jsonl").write_text('\n{"id": "x"}\n')
    with pytest.raises(ValueError, match="bad.jsonl, record 0: record 'x': lacks"):
        RecordsSource(path=str(tmp_path / "bad.jsonl")).record(0)


def test_the_written_dataset_is_a_source(tmp_path):
    from dataset_scripts.synthetic import SyntheticConfig, make_video
    from dataset_scripts.synthetic.write import write_dataset

    path = write_dataset(tmp_path, SyntheticConfig(size=64), "val", 2, 6)
    clip = read(RecordsSource(path=str(path)), 6, index=1)
    truth = make_video(SyntheticConfig(size=64), "val", 1, 6)
    assert np.abs(np.stack(clip.frames).astype(int) - truth.frames).mean() < 8  # as compressed
    np.testing.assert_allclose(clip.record.objects[0].boxes, truth.record.objects[0].boxes, atol=1e-5)


def test_clips_of_a_batch_have_as_many_objects():
    source = SyntheticSource(size=56, objects=(1, 4))
    counts = [[len(read(source, 1, seed, index).scene.objects) for index in range(3)] for seed in range(12)]
    assert all(len(set(row)) == 1 for row in counts) and len({row[0] for row in counts}) > 1
