"""image_sequence.py: lists, folders and iterators of single images, their orientation and their range of values."""

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from transformers.image_utils import load_image

from processing_elysium.frames import open_video, sample_video
from processing_elysium.image_processing_elysium import ElysiumImageProcessor, to_rgb_array
from processing_elysium.processing_elysium import _split_videos
from tests.processing.tiny_videos import encode, number_of, numbered

ORIENTATION = 0x0112


def numbers(frames) -> list[int]:
    return [number_of(frame) for frame in frames]


@pytest.fixture
def folder(tmp_path):
    """Twelve frames as trackers' data sets have them, beside files that are none."""
    for index in range(12):
        Image.fromarray(numbered(index)).save(tmp_path / f"frame{index}.png")
    (tmp_path / "groundtruth.txt").write_text("1,2,3,4\n")
    (tmp_path / ".hidden.png").write_bytes(b"nothing")
    (tmp_path / "sub.png").mkdir()
    return tmp_path


def test_a_folder_of_images_is_one_video_in_the_order_of_numbers(folder):
    for source in (folder, str(folder)):
        video = open_video(source)
        assert (video.num_frames, video.width, video.height, video.name) == (12, 96, 64, str(folder))
        assert numbers(video) == list(range(12)) and numbers(video.read([3, 10])) == [3, 10]


def test_a_list_of_image_paths_is_one_video_for_the_processor(folder):
    paths = [folder / f"frame{index}.png" for index in (4, 2)]
    for given in (paths, tuple(map(str, paths))):
        assert _split_videos(given) == [given]
        assert numbers(open_video(given)) == [4, 2]
    assert _split_videos([paths, paths[:1]]) == [paths, paths[:1]]
    assert _split_videos(["a.mp4", "b.gif"]) == ["a.mp4", "b.gif"]


def test_the_same_iterator_twice(folder):
    frames = iter([numbered(0)])
    with pytest.raises(ValueError, match="same iterator twice"):
        _split_videos([frames, frames])


class Column:
    """What `datasets` gives for one column: counted and indexed, but no list."""

    def __init__(self, values):
        self._values = values

    def __len__(self):
        return len(self._values)

    def __getitem__(self, index):
        return self._values[index]


def test_a_column_of_images_is_a_list_of_them():
    video = open_video(Column([Image.fromarray(numbered(index)) for index in range(5)]))
    assert video.num_frames == 5 and numbers(video.read([1, 4])) == [1, 4]
    assert _split_videos(Column(["a.mp4", "b.mp4"])) == ["a.mp4", "b.mp4"]


class Capture:
    """The face of a `cv2.VideoCapture`."""

    def __init__(self, count=5, is_open=True, fps=12.5):
        self._frames, self._is_open, self._fps = [numbered(index) for index in range(count)], is_open, fps

    def isOpened(self):  # noqa: N802 - OpenCV's name
        return self._is_open

    def read(self):
        return (True, self._frames.pop(0)[:, :, ::-1]) if self._frames else (False, None)

    def retrieve(self):
        raise NotImplementedError

    def get(self, prop):
        return self._fps if prop == 5 else 0.0


def test_captures_of_opencv(tmp_path):
    capture = Capture()
    capture._frames[2][:] = (200, 10, 30)
    video = open_video(capture)
    assert video.fps == 12.5 and video.num_frames is None
    frames = list(video)
    assert numbers(frames[:2]) == [0, 1] and len(frames) == 5 and tuple(frames[2][0, 0]) == (200, 10, 30)
    assert open_video(Capture(fps=0.0)).fps is None
    with pytest.raises(ValueError, match="is not open"):
        open_video(Capture(is_open=False))
    with pytest.raises(ValueError, match="zero frames"):
        open_video(Capture(count=0))
    cv2 = pytest.importorskip("cv2")
    path = encode(tmp_path / "a.mp4", count=20)
    video = open_video(cv2.VideoCapture(str(path)))
    assert video.fps == 25 and numbers(video) == list(range(20))


# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_as_load_image_does(tmp_path, orientation):
    image = Image.fromarray(numbered(5))
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    paths = [tmp_path / "a.jpg", tmp_path / "b.png"]
    for path in paths:
        image.save(path, exif=exif)
        wanted = np.asarray(load_image(str(path)))
        opened = Image.open(path)
        for video in (open_video([path]), open_video([opened]), open_video(iter([opened]))):
            assert (video.height, video.width) == wanted.shape[:2]
            np.testing.assert_array_equal(video.read([0])[0], wanted)
    folder = open_video(tmp_path)
    assert folder.num_frames == 2 and (folder.height, folder.width) == wanted.shape[:2]
    size = {"height": 28, "width": 28}
    pixels = ElysiumImageProcessor(size=size)([opened, Image.fromarray(wanted)], return_tensors="pt")["pixel_values"]
    assert torch.equal(pixels[0], pixels[1])


LEVELS = (0.4, 60.0, 120.0, 180.0)
FLOATS = np.stack([np.full((4, 6, 3), level, np.float32) for level in LEVELS])


@pytest.mark.parametrize("scale", [1.0, 1 / 255])
@pytest.mark.parametrize(
    "kind",
    [
        lambda floats: floats,
        lambda floats: list(floats),
        lambda floats: torch.from_numpy(floats).permute(0, 3, 1, 2),
        lambda floats: [torch.from_numpy(frame) for frame in floats],
        lambda floats: [floats[0, ..., 0], *floats[1:]],
        lambda floats: [Image.fromarray(frame[..., 0]) for frame in floats],
    ],
)
def test_the_range_of_a_float_video_is_decided_once(kind, scale):
    video = open_video(kind(FLOATS * np.float32(scale)))
    assert [int(frame[1, 1, 0]) for frame in video.read(range(4))] == [0, 60, 120, 180]
    assert [int(frame[1, 1, 0]) for frame in video.read([0, 1])] == [0, 60]


def test_the_image_processor_decides_once_for_arrays_as_for_tensors():
    processor = ElysiumImageProcessor(size={"height": 4, "width": 6}, do_normalize=False, do_rescale=False)
    for given in (FLOATS, list(FLOATS), torch.from_numpy(FLOATS).permute(0, 3, 1, 2)):
        pixels = processor(given, return_tensors="pt")["pixel_values"]
        assert pixels[:, 0, 1, 1].tolist() == [0, 60, 120, 180]


def test_the_range_of_a_stream_can_not_change():
    black = np.zeros((4, 6, 3))
    assert [int(f[0, 0, 0]) for f in open_video(iter([black, black + 60, black + 0.4]))] == [0, 60, 0]
    assert [int(f[0, 0, 0]) for f in open_video(iter([black, black + 0.2, black + 1]))] == [0, 51, 255]
    with pytest.raises(ValueError, match=r"frame 2 of .* floats up to 60, and those before were in \[0, 1\]"):
        list(open_video(iter([black, black + 0.4, black + 60])))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.zeros((2, 4, 6, 3), np.complex64), "complex64 values; pass real numbers"),
        ([np.zeros((4, 6, 3), complex)], "complex128 values"),
        (torch.zeros(2, 3, 4, 6, dtype=torch.complex64), "complex64 values"),
        (np.full((2, 4, 6, 3), "a"), "<U1 values"),
        ([{"image": 1, "label": 2}], "a dict with the keys 'image', 'label' .pass one column"),
        ({"image": 1}, "is of type dict"),
        (Column([{"image": 1}]), "a dict with the keys"),
        (["a.mp4", "b.mp4"], "a video file by its path alone"),
        ([[numbered(0)], [numbered(1)]], "frame 0 of `video` is a list; pass PIL images"),
    ],
)
def test_refused(source, words):
    with pytest.raises(ValueError, match=words):
        open_video(source).read([0])


def test_complex_tensors_are_refused_by_the_processor():
    with pytest.raises(ValueError, match="complex64 values; pass real numbers"):
        ElysiumImageProcessor()(torch.zeros(1, 3, 8, 8, dtype=torch.complex64))
    with pytest.raises(ValueError, match="complex64 values"):
        to_rgb_array(np.zeros((4, 4), np.complex64))


def test_a_damaged_image_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"a.png', which is damaged"):
        open_video(tmp_path).read([0])


# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(8))
def test_sampling_by_seconds_takes_the_nearest_frames(seed):
    """Against the definition: for every 1 / fps seconds the frame nearest to it, of two as near the earlier."""
    rng = random.Random(seed)
    own, wanted, count = rng.choice([10.0, 24.0, 25.0, 29.97]), rng.choice([0.7, 1.0, 10.0, 12.5, 24.0, 60.0]), 50
    times = [index / own for index in range(count)]
    marks = [step / wanted for step in range(int(times[-1] * wanted + 1e-6) + 1)]
    nearest = sorted({min(range(count), key=lambda i: (round(abs(times[i] - mark), 9), i)) for mark in marks})
    frames = [numbered(index) for index in range(count)]
    assert numbers(sample_video(open_video(frames, fps=own), fps=wanted)) == nearest
    streamed = numbers(sample_video(open_video(iter(frames), fps=own), fps=wanted))
    assert streamed[: len(nearest)] == nearest and len(streamed) <= len(nearest) + 1  # the end is not known before


@pytest.mark.parametrize("fps", [0, -1.0, float("nan"), float("inf")])
def test_sampling_refuses_a_rate(fps):
    with pytest.raises(ValueError, match="must be a positive number of frames per second"):
        sample_video(open_video([numbered(0)], fps=5), fps=fps)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_single_picture_is_turned_as_a_list_of_it_is(orientation, tmp_path):
    picture = Image.new("RGB", (60, 40))
    picture.paste((255, 0, 0), (0, 0, 30, 20))
    picture.paste((0, 255, 0), (0, 20, 30, 40))
    exif = picture.getexif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.jpg"
    picture.save(path, exif=exif, quality=95)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    sources = [str(path), [str(path)]]
    if orientation > 1:  # else the bytes may be those of a Motion JPEG stream, and FFmpeg smooths colors another way
        sources.append(path.read_bytes())
    for source in sources:
        np.testing.assert_array_equal(open_video(source).read([0])[0], expected)
