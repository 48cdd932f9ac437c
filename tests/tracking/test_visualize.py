import av
import numpy as np
import pytest

from tracking_elysium.cli.output import write_overlay
from tracking_elysium.visualize import COLORS, color_of, contact_sheet, display_scale, draw_objects, write_video


def item(number=0, score=0.9, label="swan", box=(10, 20, 40, 50)):
    return {"id": number, "label": label, "score": score, "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), box))}


def result(frame=0, *objects):
    return {"frame": frame, "timestamp": frame / 10, "objects": list(objects)}


def gray(height=90, width=120):
    return np.full((height, width, 3), 128, np.uint8)


def pixels_of(picture, color):
    return np.argwhere((np.abs(picture.astype(int) - color) < 3).all(axis=-1))


def test_the_box_is_drawn_where_it_is_and_the_frame_is_left_alone():
    frame = gray()
    drawn = draw_objects(frame, [item()], scale=4.0, show_labels=False)
    assert drawn.shape == (360, 480, 3) and (frame == 128).all()
    places = pixels_of(drawn, COLORS[0])
    assert abs(places.min(axis=0) - [80, 40]).max() <= 1  # y, x
    assert abs(places.max(axis=0) - [200, 160]).max() <= 1


def test_a_filled_in_box_is_dashed():
    solid = pixels_of(draw_objects(gray(), [item()], show_labels=False), COLORS[0])
    dashed = pixels_of(draw_objects(gray(), [item(score=0.0)], show_labels=False), COLORS[0])
    assert 0.3 * len(solid) < len(dashed) < 0.8 * len(solid)


@pytest.mark.parametrize("box", [(-30, -30, 500, 500), (119, 89, 120, 90), (50, 50, 50, 50), (40, 50, 10, 20)])
@pytest.mark.parametrize("shape", [(90, 120), (1, 1), (3, 200), (2000, 30)])
def test_odd_boxes_and_frames_are_drawn_without_error(box, shape):
    drawn = draw_objects(gray(*shape), [item(box=box), item(7, 0.0, "x" * 200, box)], caption="12.3 s")
    assert drawn.dtype == np.uint8 and drawn.ndim == 3


@pytest.mark.parametrize(
    ("size", "scale"), [((112, 112), 4), ((640, 480), 1), ((3840, 2160), 0.5), ((1, 1), 480), ((30, 1900), 1)]
)
def test_display_scale(size, scale):
    assert display_scale(*size) == scale


def test_colors_repeat():
    assert color_of(0) == color_of(len(COLORS)) != color_of(1)


@pytest.mark.parametrize(("shape", "even"), [((97, 113), (98, 114)), ((90, 120), (90, 120)), ((1, 1), (2, 2))])
def test_video_plays_in_a_browser(tmp_path, shape, even):
    path = tmp_path / "out.mp4"
    pictures = [np.full((*shape, 3), 40 * n, np.uint8) for n in range(5)]
    assert write_video(path, iter(pictures), fps=29.97) == 5
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.height, stream.width) == even
        assert float(stream.average_rate) == pytest.approx(29.97, abs=1e-3)
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(decoded) == 5 and abs(int(decoded[4].mean()) - 160) < 6
    data = path.read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")  # starts playing before it is loaded


def test_writing_errors(tmp_path):
    with pytest.raises(ValueError, match="does not end in .mp4"):
        write_video(tmp_path / "out.avi", [gray()], 25)
    with pytest.raises(ValueError, match="`frames` is empty"):
        write_video(tmp_path / "out.mp4", [], 25)
    with pytest.raises(ValueError, match="1 frames and 0 results"):
        contact_sheet([gray()], [])


def test_contact_sheet_holds_every_frame():
    frames = [np.full((90, 120, 3), (0, 40 * n, 255), np.uint8) for n in range(6)]
    results = [result(n, item(), item(1, label="goose", box=(60, 20, 90, 50))) for n in range(6)]
    sheet = np.asarray(contact_sheet(frames, results, columns=4, title="sample.mp4"))
    for frame in frames:
        assert len(pixels_of(sheet, frame[0, 0])) > 300 * 225 * 0.8
    for number in (0, 1):
        assert len(pixels_of(sheet, color_of(number))) > 200


class Uneven:
    """A source whose frames come at the given seconds."""

    fps = 10.0

    def __init__(self, times):
        self.times, self.num_frames = times, len(times)
        self.timestamps = None if None in times else times

    def timestamp(self, index):
        return self.times[index]

    def chunks(self, size):
        yield [np.full((90, 120, 3), 20 * index % 255, np.uint8) for index in range(self.num_frames)]


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ([0.0, 0.1, 0.2, 0.3], [0.0, 0.1, 0.2, 0.3]),
        ([5.0, 5.1, 5.2, 6.2, 7.2, 9.2], [0.0, 0.1, 0.2, 1.2, 2.2, 4.2]),
        ([0.0, 0.5, 0.5, 1.0], [0.0, 0.1, 0.2, 0.3]),  # times that nobody can keep: the rate
        ([None, None], [0.0, 0.1]),
    ],
    ids=["even", "uneven", "repeated", "unknown"],
)
def test_the_overlay_plays_as_the_video_does(tmp_path, times, shown):
    write_overlay(tmp_path / "out.mp4", Uneven(times), [])
    with av.open(str(tmp_path / "out.mp4")) as container:
        found = [frame.time for frame in container.decode(video=0)]
    assert found == pytest.approx(shown, abs=1e-3)
