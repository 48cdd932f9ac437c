"""frames.py and video_reader.py: index maths, every kind of source, and what goes wrong with files."""

import io
import random
import warnings

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from processing_elysium import frames as frames_module
from processing_elysium import pyav_reader, video_reader
from processing_elysium.frames import even_indices, interval_indices, open_video, random_indices, sample_video
from tests.processing.tiny_videos import cut, level, turned, two_sizes, write_audio, write_video

pytestmark = pytest.mark.filterwarnings("error:.*breaks off after")
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
NUM_FRAMES = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder with every file of this module."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "ok.mp4", NUM_FRAMES)
    write_video(folder / "end.mp4", NUM_FRAMES, faststart=False)
    write_video(folder / "noisy.mp4", NUM_FRAMES, noise=60, gop=1)
    cut(folder / "noisy.mp4", folder / "cut.mp4", 0.6)
    cut(folder / "end.mp4", folder / "no_index.mp4", 0.6)
    write_video(folder / "split.mp4", NUM_FRAMES, top=200)
    turned(folder / "split.mp4", folder / "turned.mp4", 64, 48)
    write_audio(folder / "sound.m4a")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "no_images").mkdir()
    (folder / "text.mp4").write_text("this is no video " * 99)
    two_sizes(folder / "two_sizes.mjpeg")
    for index in range(3):
        Image.fromarray(np.full((48, 64, 3), level(index), np.uint8)).save(folder / f"{index}.png")
    return folder


def memory_frames(count: int = NUM_FRAMES) -> np.ndarray:
    return np.stack([np.full((48, 64, 3), level(index), np.uint8) for index in range(count)])


def levels(frames) -> list[int]:
    """The indices of the frames, read off their gray levels."""
    assert all(f.dtype == np.uint8 and f.ndim == 3 and f.shape[-1] == 3 for f in frames)
    known = [level(index) for index in range(60)]
    return [int(np.argmin([abs(float(frame.mean()) - value) for value in known])) for frame in frames]


# --------------------------------------------------------------------------------------------------------------
@patient
@given(st.integers(1, 300), st.integers(1, 60))
def test_even_indices(num_frames, count):
    indices = even_indices(num_frames, count)
    assert len(indices) == min(count, num_frames) and indices == sorted(set(indices))
    assert indices[0] >= 0 and indices[-1] < num_frames
    assert indices[0] + indices[-1] in (num_frames - 1, num_frames, num_frames - 2)  # as much before as after
    gaps = np.diff(indices)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


@patient
@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 60), st.integers(0, 2**32))
def test_random_indices(num_frames, count, max_interval, seed):
    indices = random_indices(num_frames, count, max_interval, random.Random(seed))
    assert len(indices) == min(count, num_frames) and indices[0] >= 0 and indices[-1] < num_frames
    assert len(set(np.diff(indices))) <= 1 and all(1 <= gap <= max_interval for gap in np.diff(indices))


def test_random_indices_use_all_intervals_and_starts():
    drawn = [random_indices(20, 4, 60, np.random.default_rng(seed)) for seed in range(400)]
    assert {clip[1] - clip[0] for clip in drawn} == {1, 2, 3, 4, 5, 6}
    assert {clip[0] for clip in drawn if clip[1] - clip[0] == 1} == set(range(17))


def test_interval_indices():
    assert interval_indices(10, 3, 4, 1) == [1, 5, 9]
    assert interval_indices(10, 9, 4, 1) == [1, 5, 9]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: even_indices(0, 3), "`num_frames`=0"),
        (lambda: even_indices(3, 0), "`count`=0"),
        (lambda: interval_indices(5, 2, 0), "`interval`=0"),
        (lambda: interval_indices(5, 2, 1, 5), "a frame from 0 to 4"),
        (lambda: random_indices(5, 2, 0, random), "`max_interval`=0"),
    ],
)
def test_index_maths_refuses(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# --------------------------------------------------------------------------------------------------------------
def sources(folder) -> dict:
    """Every kind of source, all showing `memory_frames()`."""
    array = memory_frames()
    return {
        "path": str(folder / "ok.mp4"),
        "Path": folder / "end.mp4",
        "bytes": (folder / "ok.mp4").read_bytes(),
        "file object": io.BytesIO((folder / "ok.mp4").read_bytes()),
        "array": array,
        "array TCHW": array.transpose(0, 3, 1, 2),
        "tensor TCHW": torch.from_numpy(array).permute(0, 3, 1, 2),
        "tensor THWC": torch.from_numpy(array),
        "tensor bfloat16": torch.from_numpy(array).to(torch.bfloat16),
        "list of arrays": list(array),
        "list of PIL": [Image.fromarray(frame) for frame in array],
        "tuple of tensors": tuple(torch.from_numpy(array).permute(0, 3, 1, 2)),
        "generator": (frame for frame in array),
        "gray": array[..., 0],
        "RGBA": np.concatenate([array, np.full((*array.shape[:3], 1), 255, np.uint8)], axis=-1),
        "16 bit": array.astype(np.uint16) * 257,
        "float": array / 255.0,
    }


@pytest.mark.parametrize("kind", range(17))
def test_every_kind_of_source(folder, kind):
    name, source = list(sources(folder).items())[kind]
    with open_video(source) as video:
        assert (video.width, video.height) == (64, 48), name
        assert video.num_frames == (None if name == "generator" else NUM_FRAMES)
        assert levels(video.read(range(0, 8))) == list(range(8))
        assert levels(video.read([7, 9, 12])) == [7, 9, 12]  # overlapping the last clip, with gaps
        assert levels(video.read(range(20, 40))) == [20, 21, 22, 23]  # past the end
        assert video.num_frames == NUM_FRAMES
        assert video.read([30, 31]) == []


def test_files_know_their_time(folder):
    video = open_video(folder / "ok.mp4")
    assert video.fps == 25 and video.timestamp(0) == 0 and video.timestamp(10) == pytest.approx(0.4)
    assert open_video(memory_frames()).timestamp(3) is None
    assert open_video(memory_frames(), fps=10).timestamp(3) == pytest.approx(0.3)
    assert open_video(folder / "ok.mp4", fps=5).fps == 5


def test_list_of_image_paths(folder):
    video = open_video([folder / f"{index}.png" for index in range(3)])
    assert (video.width, video.num_frames) == (64, 3) and levels(video.read(range(3))) == [0, 1, 2]


def test_open_video_takes_an_open_video(folder):
    video = open_video(folder / "ok.mp4")
    assert open_video(video) is video


def test_chunks_and_iteration_hold_few_frames():
    alive = 0

    class Frame(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def camera():
        nonlocal alive
        for index in range(200):
            alive += 1
            assert alive <= 20, "frames pile up"
            yield np.full((4, 6, 3), index, np.uint8).view(Frame)

    assert sum(len(chunk) for chunk in open_video(camera()).chunks(8)) == 200
    alive = 0
    assert [int(frame[0, 0, 0]) for frame in open_video(camera())] == list(range(200))
    with pytest.raises(ValueError, match="`size`=0"):
        next(open_video(memory_frames()).chunks(0))


def test_stream_cannot_go_back():
    video = open_video(iter(memory_frames()))
    video.read(range(0, 8))
    video.read(range(7, 15))
    with pytest.raises(ValueError, match="frame 3 of <iterator of frames> has passed"):
        video.read([3])
    assert levels(video.read([14, 15])) == [14, 15]


@pytest.mark.parametrize("indices", [[3, 2], [1, 1], [-1, 0]])
def test_indices_must_ascend(indices):
    with pytest.raises(ValueError, match="ascending"):
        open_video(memory_frames()).read(indices)


# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["noisy.mp4", "ok.mp4", "end.mp4"])
@pytest.mark.parametrize("missing", ["av", "decord"])
def test_both_decoders_give_the_same_frames(folder, name, missing, monkeypatch):
    with av.open(str(folder / name)) as container:
        reference = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    monkeypatch.setattr(video_reader, missing, None)
    video = open_video(folder / name)
    assert (video.num_frames, video.fps, video.timestamp(3)) == (NUM_FRAMES, 25, pytest.approx(0.12))
    for indices in ([0, 1, 2], [2, 3, 9], [23], [5], list(range(NUM_FRAMES))):  # onwards, over gaps, and back
        np.testing.assert_array_equal(np.stack(video.read(indices)), reference[indices])
    assert np.stack(open_video((folder / name).read_bytes()).read([4])).shape == (1, 48, 64, 3)
    video.close()


def test_phone_videos_are_upright(folder):
    video = open_video(folder / "turned.mp4")
    assert (video.width, video.height) == (48, 64)
    upright = open_video(folder / "split.mp4").read([4, 5])
    np.testing.assert_array_equal(np.stack(video.read([4, 5])), np.rot90(np.stack(upright), -1, (1, 2)))


def test_pyav_seeks_over_long_gaps(folder, monkeypatch):
    monkeypatch.setattr(video_reader, "decord", None)
    monkeypatch.setattr(pyav_reader, "_SEEK_AHEAD", 2)
    video = open_video(folder / "ok.mp4")
    for indices in ([0], [13], [20, 23], [4, 11], [3]):
        assert levels(video.read(indices)) == indices


def test_truncated_video_gives_the_frames_so_far(folder):
    with pytest.warns(UserWarning, match="breaks off after .* frames") as caught:
        video = open_video(folder / "cut.mp4")
        frames = [frame for chunk in video.chunks(8) for frame in chunk]
    assert 4 < len(frames) < NUM_FRAMES and len(frames) == video.num_frames
    whole = open_video(folder / "noisy.mp4").read(range(len(frames)))
    np.testing.assert_array_equal(np.stack(frames[:-1]), np.stack(whole[:-1]))  # the last one may be damaged
    assert all("test_frames" in warning.filename for warning in caught), "the warning names the caller's line"


@pytest.mark.parametrize("missing", [None, "decord"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_a_hole_in_the_middle_of_a_file(folder, tmp_path, missing, share, monkeypatch):
    """Whatever the decoder makes of the damage, the frames before it come out and only our warning is seen."""
    if missing:
        monkeypatch.setattr(video_reader, missing, None)
    data = bytearray((folder / "noisy.mp4").read_bytes())
    start = int(len(data) * share)
    data[start : start + len(data) // 20] = bytes(len(data) // 20)
    (tmp_path / "hole.mp4").write_bytes(data)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*breaks off after", UserWarning)
        video = open_video(tmp_path / "hole.mp4")
        shown = list(video)
    whole = open_video(folder / "noisy.mp4").read(range(NUM_FRAMES))
    before = int(NUM_FRAMES * share) - 3
    assert len(shown) >= before and len(shown) == video.num_frames
    np.testing.assert_array_equal(np.stack(shown[:before]), np.stack(whole[:before]))


@pytest.mark.parametrize(
    ("suffix", "missing"),
    [
        *((suffix, missing) for suffix in ("mkv", "avi", "webm") for missing in ("av", "decord")),
        ("h264", None),
        ("gif", None),
    ],
)
def test_other_containers(tmp_path, suffix, missing, monkeypatch):
    codec = {"webm": "libvpx-vp9", "gif": "gif", "avi": "mpeg4"}.get(suffix, "libx264")
    path = write_video(tmp_path / f"a.{suffix}", 12, faststart=False, codec=codec)
    if missing:
        monkeypatch.setattr(video_reader, missing, None)
    video = open_video(path)
    assert video.num_frames == 12 and levels(video.read([0, 1, 5])) == [0, 1, 5]
    assert levels(video.read(range(3, 12))) == list(range(3, 12)) and levels(video.read([2])) == [2]


def test_frames_of_a_stream_that_change_size():
    frames = [np.zeros((4, 6, 3), np.uint8)] * 5 + [np.zeros((8, 6, 3), np.uint8)] * 3
    with pytest.warns(UserWarning, match="breaks off after 5 frames .the frame size changes to 6 x 8"):
        assert len(list(open_video(iter(frames)))) == 5


def test_frames_of_a_file_that_change_size(folder, monkeypatch):
    monkeypatch.setattr(video_reader, "decord", None)
    with pytest.warns(UserWarning, match="frame size changes to 32 x 24"):
        assert len(list(open_video(folder / "two_sizes.mjpeg"))) == 5


REFUSED = [
    ("nope.mp4", "does not exist; check the path"),
    ("no_images", "is a folder without images; pass a video file, or a folder or list of the images"),
    ("empty.mp4", r"is empty \(0 bytes\)"),
    ("text.mp4", "is not a video that can be decoded"),
    ("no_index.mp4", "it may be truncated"),
    ("sound.m4a", "holds only audio"),
]


@pytest.mark.parametrize(("name", "words"), REFUSED)
def test_bad_files(folder, name, words, capfd):
    with pytest.raises(ValueError, match=words):
        open_video(folder / name)
    assert capfd.readouterr().err == "", "decoders must not write to the terminal"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"", "is empty"),
        (b"abc", "is not a video"),
        ([], "zero frames"),
        (np.zeros((0, 4, 4, 3), np.uint8), "zero frames"),
        (iter([]), "zero frames"),
        (np.zeros((4, 4), np.uint8), r"has shape \(4, 4\)"),
        (np.zeros((2, 5, 5, 7), np.uint8), "has shape"),
        ([np.zeros((4, 6, 3), np.uint8), np.zeros((5, 6, 3), np.uint8)], "frame 0 is 6 x 4 but frame 1 is 6 x 5"),
        ([np.zeros(3, np.uint8)], "frame 0 of `video` is a ndarray of shape"),
        (["/does/not/exist.png"], "is no image"),
        (Image.new("RGB", (4, 4)), "is one image"),
        ("ftp://example.org/a.mp4", "scheme 'ftp'"),
        ("file:///etc/hostname", "scheme 'file'"),
        ("http://127.0.0.1:1/a.mp4", "could not be downloaded"),
        (3, "is of type int"),
        (None, "is of type NoneType"),
    ],
)
def test_bad_sources(source, words):
    with pytest.raises(ValueError, match=words):
        open_video(source)


@pytest.mark.parametrize("fps", [0, -1, float("nan")])
def test_bad_fps(fps):
    with pytest.raises(ValueError, match="`fps`"):
        open_video(memory_frames(), fps=fps)


def test_one_frame_and_one_pixel():
    video = open_video([np.zeros((1, 1, 3), np.uint8)])
    assert (video.width, video.height, video.num_frames) == (1, 1, 1) and video.read([0])[0].shape == (1, 1, 3)


def test_no_decoder(folder, monkeypatch):
    monkeypatch.setattr(video_reader, "av", None)
    with pytest.raises(ValueError, match="pip install av"):
        open_video(folder / "text.mp4")
    monkeypatch.setattr(video_reader, "decord", None)
    with pytest.raises(ValueError, match="pip install decord"):
        open_video(folder / "ok.mp4")


def test_closed_video(folder):
    video = open_video(folder / "ok.mp4")
    video.close()
    with pytest.raises(ValueError, match="is closed"):
        video.read([0])


# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("length", "options", "expected"),
    [
        (10, {}, list(range(10))),
        (32, {}, list(range(32))),
        (4, {"num_frames": 2}, [1, 3]),
        (10, {"num_frames": 40}, list(range(10))),
        (40, {"sampled": False}, list(range(40))),
        (10, {"fps": 5.0}, [0, 5]),
    ],
)
def test_sample_video(streamed, length, options, expected):
    frames = memory_frames(length)
    video = open_video(iter(frames) if streamed else frames, fps=25)
    assert levels(sample_video(video, **options)) == expected


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("length", "count"), [(33, None), (200, None), (200, 5), (1000, 16)])
def test_sample_long_video(streamed, length, count):
    frames = [np.full((2, 2), index, np.uint16) << 6 for index in range(length)]
    video = open_video(iter(frames) if streamed else frames)
    shown = sample_video(video, count)[:, 0, 0, 0].astype(int) * 4
    assert len(shown) == (count or frames_module.SAMPLED_FRAMES)
    gaps = np.diff(shown)
    assert gaps.min() >= 0.4 * length / len(shown) - 4 and gaps.max() <= 2.1 * length / len(shown) + 4


def test_sample_video_refuses():
    with pytest.raises(ValueError, match="exclude each other"):
        sample_video(open_video(memory_frames()), 3, 5.0)
    with pytest.raises(ValueError, match="knows its frame rate"):
        sample_video(open_video(memory_frames()), fps=5.0)
