"""Asked frame = decoded frame, at the time that a player shows, for every container, with decord and without."""

import functools
import random

import av
import numpy as np
import pytest

from processing_elysium import video_reader
from processing_elysium.frame_index import FrameIndex
from processing_elysium.frames import open_video, sample_video
from tests.processing.tiny_videos import encode, middle, number_of, shown, trim, with_matrix

OPEN_264 = "open-gop=1:keyint=10:bframes=3:b-adapt=0:scenecut=0"
UNEVEN = [40 * i for i in range(30)] + [1200 + 1000 * i for i in range(30)]
LATE = [5000 + 40 * i for i in range(60)]
H265 = {"codec": "libx265", "count": 120, "gop": 24}
# File -> how it is encoded; or, with a string, the file that it is cut out of and from where.
FILES = {
    "plain.mp4": {},
    "plain.mkv": {},
    "plain.mov": {"b_frames": 0},
    "late.mkv": {"milliseconds": LATE},
    "uneven.mkv": {"milliseconds": UNEVEN},
    "uneven.mp4": {"milliseconds": UNEVEN},
    "trimmed.mp4": ("plain.mp4", 0.9),
    "trimmed.mkv": ("plain.mp4", 0.9),
    "long_gop.mp4": {"gop": 250},
    "trimmed_late.mp4": ("long_gop.mp4", 1.7),
    "open_264.mp4": {"params": OPEN_264},
    "open_264_trimmed.mp4": ("open_264.mp4", 1.1),
    "open_264.ts": {"params": OPEN_264},
    "open_264_piece.ts": ("open_264.ts", 0.3, 0.8),
    "open_265.mp4": H265,
    "open_265.mkv": H265,
    "open_265_trimmed.mp4": ("open_265.mp4", 2.5),
    "open_265.ts": H265,
    "open_265_piece.ts": ("open_265.ts", 0.3, 0.8),
    "refreshed.mp4": {"params": "intra-refresh=1:keyint=24:scenecut=0"},
    "refreshed.ts": {"params": "intra-refresh=1:keyint=24:scenecut=0"},
    "stream.ts": {},
    "piece.ts": ("stream.ts", 0.3, 0.8),
    "uneven.ts": {"milliseconds": UNEVEN},
    "mpeg4.avi": {"codec": "mpeg4", "b_frames": 2},
    "simple.avi": {"codec": "mpeg4", "b_frames": 0},
    "h264.avi": {},
    "mjpeg.avi": {"codec": "mjpeg"},
    "mpeg2.mpg": {"codec": "mpeg2video", "b_frames": 2},
    "mpeg1.mpg": {"codec": "mpeg1video", "b_frames": 2},
    "h264.mpg": {"b_frames": 2},
    "mpeg2.vob": {"codec": "mpeg2video", "b_frames": 2},
    "mpeg2.m2v": {"codec": "mpeg2video", "b_frames": 2},
    "raw.h264": {},
    "raw.hevc": {"codec": "libx265", "gop": 24},
    "equal_times.mkv": {"fps": 2000, "gop": 20},
    "equal_times.flv": {"fps": 1500, "gop": 20},
    "plain.flv": {},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "mpeg4.mp4": {"codec": "mpeg4", "b_frames": 2},
    "mpeg4.asf": {"codec": "mpeg4", "b_frames": 2},
}
READ_BY_DECORD = {"plain.mp4", "plain.mkv", "plain.mov", "late.mkv", "uneven.mkv", "uneven.mp4", "long_gop.mp4"}
READ_BY_DECORD |= {"trimmed.mkv"}  # Matroska has no edit list: nothing is hidden
STEADY = {"h264.avi", "raw.h264", "raw.hevc", "h264.mpg", "mpeg2.m2v"}  # no times, or wrong ones: by the frame rate


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A file of the table by its name, made once."""
    folder = tmp_path_factory.mktemp("containers")

    @functools.cache
    def make(name):
        how = FILES[name]
        if isinstance(how, dict):
            return encode(folder / name, **how)
        return (trim if len(how) == 2 else middle)(make(how[0]), folder / name, *how[1:])

    return make


@pytest.fixture(params=["decord", "no decord"])
def decoders(request, monkeypatch):
    """Both ways of reading."""
    if request.param == "no decord":
        monkeypatch.setattr(video_reader, "decord", None)
    return request.param


def numbers(frames) -> list[int]:
    return [number_of(frame) for frame in frames]


@pytest.mark.parametrize("name", FILES)
def test_frames_and_times_from_end_to_end(file, name, decoders):
    wanted, seconds = shown(file(name))
    video = open_video(file(name))
    assert video.num_frames == len(wanted)
    assert numbers(video) == wanted
    if name in STEADY:
        seconds = [index / 25 for index in range(len(wanted))]
    assert video.timestamps == pytest.approx(seconds, abs=1e-3)
    assert video.timestamp(0) == 0.0


@pytest.mark.parametrize("name", FILES)
def test_frames_after_jumps(file, name, decoders):
    wanted, _ = shown(file(name))
    rng = random.Random(name)
    jumps = [sorted(rng.sample(range(len(wanted)), rng.choice([1, 2, 5]))) for _ in range(6)]
    jumps += [[len(wanted) - 1], [0], [len(wanted) - 2, len(wanted) - 1]]
    kept = open_video(file(name))
    for indices in jumps:
        for video in (kept, open_video(file(name))):
            assert numbers(video.read(indices)) == [wanted[index] for index in indices], indices


SAYS_TOO_LITTLE = {"h264.avi", "h264.mpg", "raw.h264", "raw.hevc", "equal_times.mkv", "equal_times.flv"}


@pytest.mark.parametrize("name", FILES)
def test_the_order_is_known_without_decoding(file, name, monkeypatch):
    """Only files that say too little of times are decoded from end to end when they are opened."""
    monkeypatch.setattr(video_reader, "decord", None)
    made_anew = []
    replace = FrameIndex.replace_order
    monkeypatch.setattr(FrameIndex, "replace_order", lambda *given: (made_anew.append(name), replace(*given)))
    video = open_video(file(name))
    video.read([video.num_frames // 2])
    list(video)
    assert bool(made_anew) == (name in SAYS_TOO_LITTLE)


def test_every_frame_of_an_open_group_after_a_jump(file, decoders):
    for name in ("open_265.mp4", "open_264.mp4", "refreshed.mp4"):
        video, reference = open_video(file(name)), open_video(file(name))
        for index in range(video.num_frames - 1, -1, -5):
            pixels = open_video(file(name)).read([index])[0].astype(int)
            assert numbers([pixels]) == [index]
            assert np.abs(pixels - reference.read([index])[0]).mean() < 1.0, "no trace of a missing reference"


@pytest.mark.parametrize("name", FILES)
def test_decord_reads_what_any_reader_gets_right(file, name):
    pytest.importorskip("decord")
    video = open_video(file(name))
    assert (video._decord is not None) == (name in READ_BY_DECORD)


class OtherDecord:
    """A decord that errs in one way; the real one does the rest."""

    def __init__(self, reader, error):
        self._reader, self._error = reader, error

    def __getattr__(self, name):
        return getattr(self._reader, name)

    def __len__(self):
        return len(self._reader) - (self._error == "one frame less")

    def __getitem__(self, index):
        return self._reader[index]

    def get_frame_timestamp(self, indices):
        times = np.array(self._reader.get_frame_timestamp(indices))
        if self._error == "one frame later":
            times = np.concatenate([times[1:], times[-1:] + 0.04])
            times[0] -= 0.04
        return times + (10.0 if self._error == "another start" else 0.0)


@pytest.mark.parametrize(
    ("error", "is_used"),
    [("none", True), ("another start", True), ("one frame less", False), ("one frame later", False)],
)
def test_decord_is_dropped_where_it_differs(file, error, is_used, monkeypatch):
    decord = pytest.importorskip("decord")
    opened = decord.VideoReader
    monkeypatch.setattr(decord, "VideoReader", lambda source: OtherDecord(opened(source), error))
    video = open_video(file("plain.mp4"))
    assert (video._decord is not None) == is_used
    assert video.num_frames == 60 and numbers(video.read([58, 59])) == [58, 59]
    assert video.timestamp(59) == pytest.approx(59 / 25, abs=1e-3)


def test_times_count_from_the_first_frame_without_pyav(file, monkeypatch):
    decord = pytest.importorskip("decord")
    opened = decord.VideoReader
    monkeypatch.setattr(decord, "VideoReader", lambda source: OtherDecord(opened(source), "another start"))
    monkeypatch.setattr(video_reader, "av", None)
    video = open_video(file("plain.mp4"))
    assert video.timestamp(0) == 0.0 and video.timestamps[10] == pytest.approx(0.4, abs=1e-3)


def test_pyav_takes_over_from_a_decord_that_fails(file, monkeypatch):
    pytest.importorskip("decord")
    video = open_video(file("plain.mp4"))
    monkeypatch.setattr(video._decord, "get_batch", lambda indices: 1 / 0)
    assert numbers(video.read([7, 40])) == [7, 40] and numbers(video.read([8])) == [8]


@pytest.mark.parametrize(("name", "seconds"), [("late.mkv", 0.4), ("h264.avi", 0.4), ("plain.mp4", 0.4)])
def test_times_without_pyav(file, name, seconds, monkeypatch):
    pytest.importorskip("decord")
    monkeypatch.setattr(video_reader, "av", None)
    video = open_video(file(name))
    assert video.timestamp(0) == 0.0 and video.timestamp(10) == pytest.approx(seconds, abs=1e-3)
    assert video.num_frames == 60 and video.timestamps == sorted(video.timestamps)


def without_a_picture(source, target, hidden):
    """A copy of an mp4 in which the packet of a B-frame holds filler only, so that no frame comes of it."""
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        stream = container.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for number, packet in enumerate(container.demux(stream)):
            if packet.dts is None:
                continue
            if number == hidden:
                filler = av.Packet(b"\0\0\0\x04\x4c\x01\xff\x80")
                filler.pts, filler.dts, filler.time_base = packet.pts, packet.dts, packet.time_base
                packet = filler  # noqa: PLW2901 - muxed in its place
            packet.stream = copy
            out.mux(packet)
    return target


def test_a_packet_without_a_picture_is_noticed_on_the_way(file, tmp_path):
    """The index is made anew as soon as a decoder shows that it is wrong; frames then count as a decoder counts."""
    source = encode(tmp_path / "a.mp4", "libx265", params="bframes=3:b-pyramid=0:b-adapt=0")
    with av.open(str(source)) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.size]
    hidden = next(number for number in range(45, 60) if times[number] < times[number - 1])
    path = without_a_picture(source, tmp_path / "filler.mp4", hidden)
    wanted, _ = shown(path)
    assert len(wanted) == 59
    video = open_video(path)
    with pytest.warns(UserWarning, match="breaks off after 59 frames"):
        frames = list(video)
    assert numbers(frames) == wanted and video.num_frames == 59 == len(video.timestamps)
    assert numbers(open_video(path).read([44])) == [44]


# --------------------------------------------------------------------------------------------------------------
# what is shown, and how
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_display_matrices(file, tmp_path, turns, mirrored, decoders):
    """Turned clockwise by quarter turns; mirrored before that."""
    cosine, sine = (1, 0, -1, 0)[turns], (0, 1, 0, -1)[turns]
    a, b, c, d = cosine, sine, -sine, cosine
    matrix = (-a, -b, c, d) if mirrored else (a, b, c, d)
    path = with_matrix(file("plain.mp4"), tmp_path / "a.mp4", matrix, 96, 64)
    with av.open(str(file("plain.mp4"))) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    video = open_video(path)
    for index in (0, 21, 40):
        wanted = stored[index][:, ::-1] if mirrored else stored[index]
        np.testing.assert_array_equal(video.read([index])[0], np.rot90(wanted, -turns))
    assert (video.width, video.height) == ((96, 64) if turns % 2 == 0 else (64, 96))


def add_still(container, codec="mjpeg"):
    still = container.add_stream(codec, rate=25)
    still.width, still.height, still.pix_fmt = 48, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
    return still


def still_packets(still):
    frame = av.VideoFrame.from_ndarray(np.full((48, 48, 3), 77, np.uint8), format="rgb24")
    return [*still.encode(frame), *still.encode()]


@pytest.mark.parametrize("is_cover", [False, True])
@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_a_still_or_a_cover_before_the_video(file, tmp_path, ending, is_cover, decoders):
    path = tmp_path / f"still.{ending}"
    with av.open(str(file("plain.mp4"))) as source, av.open(str(path), "w") as out:
        still = add_still(out)
        copy = out.add_stream_from_template(source.streams.video[0])
        if is_cover:
            still.disposition = av.stream.Disposition.attached_pic
        out.mux(still_packets(still))
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    video = open_video(path)
    assert (video.width, video.height, video.num_frames) == (96, 64, 60)
    assert numbers(video.read([0, 13, 59])) == [0, 13, 59]


def test_sound_with_cover_art_is_no_video(tmp_path):
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as out:
        sound, cover = out.add_stream("aac", rate=44100), add_still(out)
        cover.disposition = av.stream.Disposition.attached_pic
        for _ in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            frame.sample_rate = 44100
            out.mux(sound.encode(frame))
        out.mux(sound.encode())
        out.mux(still_packets(cover))
    with pytest.raises(ValueError, match="holds only audio"):
        open_video(path)


@pytest.mark.parametrize("ending", ["ts", "h264"])
def test_frames_of_another_size_in_the_middle(tmp_path, ending, decoders):
    parts = [encode(tmp_path / f"{size[0]}.{ending}", count=24, size=size) for size in ((96, 64), (64, 48))]
    path = tmp_path / f"joined.{ending}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.warns(UserWarning, match="breaks off after 24 frames .the frame size changes to 64 x 48"):
        frames = list(open_video(path))
    assert numbers(frames) == list(range(24)) and {frame.shape for frame in frames} == {(64, 96, 3)}


def test_frames_of_another_size_in_an_mp4(tmp_path, decoders):
    """Headers in the packets (avc3 and the like): the container says one size only."""
    parts = [encode(tmp_path / f"{size[0]}.h264", count=24, size=size, b_frames=0) for size in ((96, 64), (64, 48))]
    path, step = tmp_path / "joined.mkv", 0
    with av.open(str(parts[0])) as first, av.open(str(path), "w") as out:
        copy = out.add_stream_from_template(first.streams.video[0])
        for part in parts:
            with av.open(str(part)) as source:
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.pts = packet.dts = step
                        packet.time_base, packet.stream, step = copy.time_base, copy, step + 40
                        out.mux(packet)
    with pytest.warns(UserWarning, match="breaks off after 24 frames .the frame size changes to 64 x 48"):
        frames = list(open_video(path))
    assert numbers(frames) == list(range(24))


def test_joined_streams_go_on_in_time(file, tmp_path):
    """Where the clock is set back, a player goes on."""
    path = tmp_path / "joined.ts"
    path.write_bytes(file("stream.ts").read_bytes() * 2)
    video = open_video(path)
    assert numbers(video) == [*range(60), *range(60)]
    assert np.diff(video.timestamps) == pytest.approx(np.full(119, 0.04), abs=1e-3)


# --------------------------------------------------------------------------------------------------------------
# names, playlists, time
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["2024-01-02T12:30:45.mp4", "pipe:0.mp4", "a b ü %20.mp4", "http:x.mp4"])
def test_names_that_look_like_addresses(file, tmp_path, name, monkeypatch, decoders):
    (tmp_path / name).write_bytes(file("plain.mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert numbers(open_video(name).read([3])) == [3]


@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:2,\nstream.ts\n", "ffconcat version 1.0\nfile stream.ts\n"])
def test_playlists_are_named(tmp_path, text):
    (tmp_path / "a.m3u8").write_text(text)
    for source in (tmp_path / "a.m3u8", text.encode(), "\ufeff".encode() + text.encode()):
        with pytest.raises(ValueError, match="is a playlist .*`ffmpeg -i PLAYLIST -c copy video.mp4"):
            open_video(source)


@pytest.mark.parametrize("name", ["uneven.mkv", "uneven.mp4", "uneven.ts"])
def test_sampling_by_seconds_goes_by_time(file, name, decoders):
    """30 frames in 1.2 seconds, then one every second."""
    chosen = numbers(sample_video(open_video(file(name)), fps=1))
    assert chosen[:2] == [0, 25] and chosen[2:] == list(range(31, 60))
    assert numbers(sample_video(open_video(file(name)), fps=0.2)) == [0, 34, 39, 44, 49, 54, 59]


def test_an_own_frame_rate_counts_time_anew(file):
    video = open_video(file("uneven.mkv"), fps=5)
    assert video.fps == 5 and video.timestamp(40) == 8.0 and video.timestamps[-1] == pytest.approx(59 / 5)
